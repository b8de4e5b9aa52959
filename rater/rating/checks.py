"""The single checks that `rater.rating.validation` puts together, for it alone. Each raises RefusalError."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from rater.model.document import instant_text
from rater.model.rules import MAX_SCRIPT, MappingRule, RuleType, Script, ThresholdRule
from rater.rating.book import RuleBook
from rater.rating.compat import RawTime, read_instant
from rater.rating.hashmap import DEFAULT_GROUP
from rater.rating.pyscripts import check_script
from rater.rating.refusal import RefusalError, Refused

__all__ = [
    "check_data",
    "check_group",
    "check_name",
    "check_parent",
    "check_service",
    "check_tenant",
    "check_text",
    "check_type",
    "later_dates",
    "missing",
    "new_dates",
    "new_end",
    "new_start",
    "refuse_level",
    "refuse_name",
    "refuse_overlap",
    "refuse_ungrouped",
    "time_or_none",
]

MAX_NAME = 255
_EVER = float("inf")


def check_text(text: str | None, what: str, longest: int) -> str | None:
    """The text if it is not too long."""
    if text is not None and len(text) > longest:
        raise RefusalError(Refused.TEXT_TOO_LONG, f"{what} has {len(text)} characters: at most {longest} are taken")
    return text


def missing(what: str) -> str:
    """CloudKitty's words for what must not be left out."""
    return f"Invalid input for field/attribute {what}. Value: 'None'. Mandatory field missing."


def check_name(name: str | None) -> str:
    """A name that must be there."""
    if name is None:
        raise RefusalError(Refused.NAME_MISSING, missing("name"))
    if not name:
        raise RefusalError(Refused.TEXT_EMPTY, "name is empty: give at least one character")
    check_text(name, "name", MAX_NAME)
    return name


def check_tenant(tenant_id: str | None) -> str | None:
    """A tenant; none if the rule is for everybody."""
    if tenant_id == "":
        raise RefusalError(Refused.TEXT_EMPTY, "tenant_id is empty: leave it out if the rule is for everybody")
    return check_text(tenant_id, "tenant_id", MAX_NAME)


def check_type(kind: str | None) -> RuleType:
    """How the cost acts; flat if nothing is said."""
    try:
        return RuleType.FLAT if kind is None else RuleType(kind)
    except ValueError:
        shown = str(kind)[:50]
        raise RefusalError(
            Refused.TYPE_UNKNOWN,
            f"Invalid input for field/attribute type. Value: '{shown}'. Value should be one of: flat, rate",
        ) from None


def check_data(name: str, data: str | None) -> str:
    """The text of a script that compiles."""
    if data is None:
        raise RefusalError(Refused.DATA_MISSING, missing("data"))
    check_text(data, "data", MAX_SCRIPT)
    faults = check_script(name, data)
    if faults:
        lines = "; ".join(f"line {line}: {fault}" if line else fault for line, fault in faults)
        raise RefusalError(Refused.SYNTAX, f"script {name!r} does not compile: {lines}")
    return data


def check_service(book: RuleBook, service_id: str) -> None:
    """The service of a new field, mapping or threshold."""
    if service_id not in book.services:
        raise RefusalError(Refused.PARENT_UNKNOWN, f"No such service: None (UUID: {service_id})")
    if book.tiers_of(service_id) is not None:
        raise RefusalError(
            Refused.SERVICE_HAS_TIERS, f"service {service_id} has tiers, so it has no other rules", service_id
        )


def check_parent(book: RuleBook, service_id: str | None, field_id: str | None) -> None:
    """The one parent of a new rule."""
    if service_id is not None:
        check_service(book, service_id)
    elif field_id is not None and field_id not in book.fields:
        raise RefusalError(Refused.PARENT_UNKNOWN, f"No such field: {field_id}")


def check_group(book: RuleBook, group_id: str | None) -> None:
    """The group of a rule."""
    if group_id is not None and group_id not in book.groups:
        raise RefusalError(Refused.GROUP_UNKNOWN, f"No such group: None (UUID: {group_id})")


def new_dates(raw_start: RawTime | None, raw_end: RawTime | None, now: int, force: bool) -> tuple[int, int | None]:
    """Start and end of a new rule; it starts now unless something else is said."""
    start = now if raw_start is None else read_instant(raw_start)
    end = _end_after(start, raw_end)
    return new_start(raw_start, now, force), end


def new_start(raw_start: RawTime | None, now: int, force: bool) -> int:
    """Start of a new rule."""
    start = now if raw_start is None else read_instant(raw_start)
    if start < now and not force:
        raise RefusalError(
            Refused.START_IN_PAST,
            f"Cannot create a rule with start in the past: {instant_text(start)} lies before {instant_text(now)}; "
            "force=true creates it all the same",
        )
    return start


def later_dates(current: int, raw_start: RawTime | None, raw_end: RawTime | None, now: int) -> tuple[int, int | None]:
    """Start and end of a rule that has not started yet."""
    start = current if raw_start is None else read_instant(raw_start)
    if start < now:
        raise RefusalError(
            Refused.START_IN_PAST,
            f"Cannot update a rule with start in the past: {instant_text(start)} lies before {instant_text(now)}",
        )
    return start, _end_after(start, raw_end)


def _end_after(start: int, raw_end: RawTime | None) -> int | None:
    end = time_or_none(raw_end, end=True)
    if end is not None and end < start:
        raise RefusalError(
            Refused.END_BEFORE_START,
            f"Cannot create a rule with start after end: {instant_text(start)} lies after {instant_text(end)}",
        )
    return end


def time_or_none(raw: RawTime | None, *, end: bool = False) -> int | None:
    """A time that may be left out."""
    return None if raw is None else read_instant(raw, end=end)


def new_end(
    rule: MappingRule | Script, raw_end: RawTime | None, others: Iterable[tuple[str, object, object]], now: int
) -> int:
    """The end of a rule that has started: it is set once, and nothing else changes.

    `others`: name, what is sent and what is so of all else; what is not sent (None, an empty text) is not looked at.
    """
    end = time_or_none(raw_end, end=True)
    different = [name for name, sent, current in others if sent not in (None, "") and sent != current]
    if rule.end is not None and (different or end != rule.end):  # else it was sent again, as clients do
        raise RefusalError(
            Refused.ALREADY_ENDED, "Cannot update a rule that was already processed and has a defined end date."
        )
    if different:
        raise RefusalError(
            Refused.ONLY_END_MAY_CHANGE,
            "You are allowed to update only the attribute [end] of a rule that was already processed: "
            f"{', '.join(different)} would change",
        )
    if end is None:
        raise RefusalError(Refused.END_MISSING, "a rule that was already processed can only be given an end: give one")
    if rule.end is None and end < now:
        raise RefusalError(
            Refused.END_IN_PAST, f"Cannot end a rule in the past: {instant_text(end)} lies before {instant_text(now)}"
        )
    return end


def refuse_name(book: RuleBook, rule: MappingRule) -> None:
    """The name of a mapping is given once."""
    for entry in book.mappings.values():
        if entry.deleted_at is None and entry.rule.name == rule.name:
            raise RefusalError(
                Refused.NAME_TAKEN, f"{_exists(rule)}: there is one named {rule.name!r}", entry.rule.mapping_id
            )


def refuse_overlap(book: RuleBook, rule: MappingRule) -> None:
    """Two mappings of the same value, tenant, parent and group are not valid at the same time."""
    others = [entry.rule for entry in book.mappings_of(rule.parent_id)]
    ids = [other.mapping_id for other in others if _alike(book, rule, other) and _overlap(rule, other)]
    if ids:
        raise RefusalError(Refused.VALIDITY_OVERLAPS, _exists(rule), *ids)


def _exists(rule: MappingRule) -> str:
    kind = "service" if rule.service_id else "field"
    return f"Mapping '{rule.value}' already exists for {kind} '{rule.parent_id}', tenant: '{rule.tenant_id}'"


def refuse_level(book: RuleBook, rule: ThresholdRule) -> None:
    """Two thresholds of the same level, tenant, parent and group would be decided by their order alone."""
    for entry in book.thresholds_of(rule.parent_id):
        other = entry.rule
        same = other.threshold_id != rule.threshold_id and other.level == rule.level
        if same and other.tenant_id == rule.tenant_id and _group(book, other) == _group(book, rule):
            kind = "service" if rule.service_id else "field"
            raise RefusalError(
                Refused.LEVEL_TAKEN,
                f"Threshold '{rule.level}' already exists for {kind} '{rule.parent_id}', tenant: '{rule.tenant_id}'",
                other.threshold_id,
            )


def refuse_ungrouped(book: RuleBook, group_id: str) -> None:
    """The rules of a group can stay without it unless two would then be alike."""
    alike: dict[tuple[object, ...], list[MappingRule | ThresholdRule]] = {}
    rules: list[MappingRule | ThresholdRule] = [
        *(entry.rule for entry in book.mappings.values() if entry.deleted_at is None),
        *(entry.rule for entry in book.thresholds.values()),
    ]
    for rule in rules:
        if rule.group_id == group_id or _group(book, rule) == DEFAULT_GROUP:
            distinct = rule.value if isinstance(rule, MappingRule) else rule.level
            alike.setdefault((rule.parent_id, distinct, rule.tenant_id), []).append(rule)
    for together in alike.values():
        for first, second in combinations(together, 2):
            if group_id in (first.group_id, second.group_id) and _group(book, first) != _group(book, second):
                _refuse_pair(first, second)


def _refuse_pair(first: MappingRule | ThresholdRule, second: MappingRule | ThresholdRule) -> None:
    if isinstance(first, MappingRule) and isinstance(second, MappingRule) and not _overlap(first, second):
        return
    ids = [rule.mapping_id if isinstance(rule, MappingRule) else rule.threshold_id for rule in (first, second)]
    raise RefusalError(
        Refused.UNGROUPED_OVERLAPS,
        f"rules {ids[0]} and {ids[1]} would be alike without the group: delete one of them, or the group with "
        "its rules (recursive)",
        *ids,
    )


def _alike(book: RuleBook, rule: MappingRule, other: MappingRule) -> bool:
    same = other.mapping_id != rule.mapping_id and other.value == rule.value and other.tenant_id == rule.tenant_id
    return same and _group(book, other) == _group(book, rule)


def _group(book: RuleBook, rule: MappingRule | ThresholdRule) -> str:
    """Rules without a group share it with a group of that name."""
    return DEFAULT_GROUP if rule.group_id is None else book.groups[rule.group_id].name


def _overlap(first: MappingRule, second: MappingRule) -> bool:
    (begin, end), (other_begin, other_end) = _validity(first), _validity(second)
    return begin < other_end and other_begin < end and begin < end and other_begin < other_end


def _validity(rule: MappingRule) -> tuple[float, float]:
    return -_EVER if rule.start is None else rule.start, _EVER if rule.end is None else rule.end
