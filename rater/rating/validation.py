"""Which changes of rules may be made, by CloudKitty's rules of dates, parents and conflicts, for the API to ask.

Each function answers with the changes to write (none: it is so already, since clients repeat what they send) or with
the reason why not, which names all faults at once. Pure: `now` is an argument, so are new ids. Where CloudKitty does
otherwise: docs/differences-from-cloudkitty.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import Decimal
from functools import wraps
from typing import ParamSpec, TypeAlias

import msgspec

from rater.model.rules import (
    Change,
    Field,
    FieldCreated,
    FieldDeleted,
    Group,
    GroupCreated,
    GroupDeleted,
    MappingCreated,
    MappingDeleted,
    MappingRule,
    MappingUpdated,
    ModuleSet,
    Script,
    ScriptCreated,
    ScriptDeleted,
    ScriptUpdated,
    Service,
    ServiceCreated,
    ServiceDeleted,
    ThresholdCreated,
    ThresholdDeleted,
    ThresholdRule,
    ThresholdUpdated,
)
from rater.rating.book import RuleBook
from rater.rating.checks import (
    check_data,
    check_group,
    check_name,
    check_parent,
    check_service,
    check_tenant,
    check_text,
    check_type,
    later_dates,
    missing,
    new_dates,
    new_end,
    new_start,
    refuse_level,
    refuse_name,
    refuse_overlap,
    refuse_ungrouped,
    time_or_none,
)
from rater.rating.compat import RawNumber, read_cost, read_level
from rater.rating.inputs import MappingInput, ScriptInput, ThresholdInput
from rater.rating.refusal import Refusal, RefusalError, Refused, refuse_all

__all__ = [
    "Answer",
    "MappingInput",
    "Refusal",
    "Refused",
    "ScriptInput",
    "ThresholdInput",
    "create_field",
    "create_group",
    "create_mapping",
    "create_script",
    "create_service",
    "create_threshold",
    "delete_field",
    "delete_group",
    "delete_mapping",
    "delete_script",
    "delete_service",
    "delete_threshold",
    "set_module",
    "update_mapping",
    "update_script",
    "update_threshold",
]

NOOP = "noop"
MAX_PRIORITY = 1_000_000

Answer: TypeAlias = tuple[Change, ...] | Refusal
P = ParamSpec("P")


def _answers(check: Callable[P, tuple[Change, ...]]) -> Callable[P, Answer]:
    """Makes the refusal that a check raises its answer."""

    @wraps(check)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return check(*args, **kwargs)
        except RefusalError as refused:
            return refused.refusal

    return answer


@_answers
def create_service(book: RuleBook, name: str, service_id: str) -> tuple[Change, ...]:
    """A service of that metric."""
    check_name(name)
    if (other := book.service_named(name)) is not None:
        raise RefusalError(
            Refused.NAME_TAKEN, f"Service {name} already exists (UUID: {other.service_id})", other.service_id
        )
    return (ServiceCreated(Service(service_id, name)),)


@_answers
def delete_service(book: RuleBook, service_id: str) -> tuple[Change, ...]:
    """The service with all that belongs to it."""
    if service_id not in book.services:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such service: None (UUID: {service_id})")
    return (ServiceDeleted(service_id),)


@_answers
def create_field(book: RuleBook, service_id: str, name: str, field_id: str) -> tuple[Change, ...]:
    """A field of a service."""
    refuse_all(lambda: check_name(name), lambda: check_service(book, service_id))
    if (other := book.field_named(service_id, name)) is not None:
        raise RefusalError(Refused.NAME_TAKEN, f"Field {name} already exists (UUID: {other.field_id})", other.field_id)
    return (FieldCreated(Field(field_id, service_id, name)),)


@_answers
def delete_field(book: RuleBook, field_id: str) -> tuple[Change, ...]:
    """The field with its rules."""
    if field_id not in book.fields:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such field: {field_id}")
    return (FieldDeleted(field_id),)


@_answers
def create_group(book: RuleBook, name: str, group_id: str) -> tuple[Change, ...]:
    """A group."""
    check_name(name)
    if (other := book.group_named(name)) is not None:
        raise RefusalError(Refused.NAME_TAKEN, f"Group {name} already exists (UUID: {other.group_id})", other.group_id)
    return (GroupCreated(Group(group_id, name)),)


@_answers
def delete_group(book: RuleBook, group_id: str, *, recursive: bool = False) -> tuple[Change, ...]:
    """The group, with its rules if `recursive`; else they stay without group, unless two would then be alike."""
    if group_id not in book.groups:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such group: None (UUID: {group_id})")
    if not recursive:
        refuse_ungrouped(book, group_id)
    return (GroupDeleted(group_id, recursive),)


@_answers
def create_mapping(
    book: RuleBook, wanted: MappingInput, mapping_id: str, now: int, *, force: bool = False
) -> tuple[Change, ...]:
    """A mapping; `start` is `now` unless given, `name` made of the id. `force` lets it start in the past."""
    refuse_all(
        lambda: _cost(wanted.cost),
        lambda: check_type(wanted.type),
        lambda: new_start(wanted.start, now, force),
        lambda: new_dates(wanted.start, wanted.end, now, force),
        lambda: _one_parent(wanted),
        lambda: _value_of_parent(wanted),
        lambda: check_text(wanted.value, "value", 255),
        lambda: check_parent(book, wanted.service_id, wanted.field_id),
        lambda: check_group(book, wanted.group_id),
        lambda: check_tenant(wanted.tenant_id),
        lambda: check_text(wanted.name, "name", 32),
        lambda: check_text(wanted.description, "description", 256),
    )
    start, end = new_dates(wanted.start, wanted.end, now, force)
    rule = MappingRule(
        mapping_id,
        _cost(wanted.cost),
        check_type(wanted.type),
        wanted.value or "",
        wanted.service_id,
        wanted.field_id,
        wanted.group_id,
        wanted.tenant_id,
        start,
        end,
        wanted.name or mapping_id.replace("-", ""),
        wanted.description,
    )
    refuse_name(book, rule)
    refuse_overlap(book, rule)
    return (MappingCreated(rule),)


@_answers
def update_mapping(book: RuleBook, mapping_id: str, wanted: MappingInput, now: int) -> tuple[Change, ...]:
    """Of a mapping that has started only the end, once; of one to come the cost, dates and description."""
    entry = book.mappings.get(mapping_id)
    if entry is None or entry.deleted_at is not None:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such mapping: {mapping_id}")
    rule = entry.rule
    if rule.start is not None and rule.start >= now:
        planned = rule.start
        refuse_all(
            lambda: wanted.cost is None or read_cost(wanted.cost),
            lambda: later_dates(planned, wanted.start, wanted.end, now),
            lambda: check_text(wanted.description, "description", 256),
        )
        start, end = later_dates(planned, wanted.start, wanted.end, now)
        cost = rule.cost if wanted.cost is None else read_cost(wanted.cost)
        changed = msgspec.structs.replace(rule, cost=cost, start=start, end=end, description=wanted.description)
        refuse_overlap(book, changed)
    else:
        changed = msgspec.structs.replace(rule, end=new_end(rule, wanted.end, _others(rule, wanted), now))
    return () if changed == rule else (MappingUpdated(changed),)


@_answers
def delete_mapping(book: RuleBook, mapping_id: str) -> tuple[Change, ...]:
    """The mapping, which is kept for audit."""
    entry = book.mappings.get(mapping_id)
    if entry is None or entry.deleted_at is not None:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such mapping: {mapping_id}")
    return (MappingDeleted(mapping_id),)


@_answers
def create_threshold(book: RuleBook, wanted: ThresholdInput, threshold_id: str) -> tuple[Change, ...]:
    """A threshold, for every period."""
    refuse_all(
        *_numbers(book, wanted),
        lambda: _one_parent(wanted),
        lambda: check_parent(book, wanted.service_id, wanted.field_id),
    )
    rule = ThresholdRule(
        threshold_id,
        _level(wanted.level),
        _cost(wanted.cost),
        check_type(wanted.type),
        wanted.service_id,
        wanted.field_id,
        wanted.group_id,
        wanted.tenant_id,
    )
    refuse_level(book, rule)
    return (ThresholdCreated(rule),)


@_answers
def update_threshold(book: RuleBook, threshold_id: str, wanted: ThresholdInput) -> tuple[Change, ...]:
    """Level, cost, type and tenant as they are sent: what is left out is flat and for everybody. The group stays
    unless another is given."""
    entry = book.thresholds.get(threshold_id)
    if entry is None:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such threshold: {threshold_id}")
    refuse_all(*_numbers(book, wanted))
    changed = msgspec.structs.replace(
        entry.rule,
        level=_level(wanted.level),
        cost=_cost(wanted.cost),
        type=check_type(wanted.type),
        tenant_id=wanted.tenant_id,
        group_id=wanted.group_id or entry.rule.group_id,
    )
    refuse_level(book, changed)
    return () if changed == entry.rule else (ThresholdUpdated(changed),)


@_answers
def delete_threshold(book: RuleBook, threshold_id: str) -> tuple[Change, ...]:
    """The threshold."""
    if threshold_id not in book.thresholds:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such threshold: {threshold_id}")
    return (ThresholdDeleted(threshold_id),)


@_answers
def create_script(
    book: RuleBook, wanted: ScriptInput, script_id: str, now: int, *, force: bool = False
) -> tuple[Change, ...]:
    """A script that compiles; `start` is `now` unless given. `force` lets it start in the past."""
    name, data = wanted.name or "", wanted.data or ""
    refuse_all(
        lambda: check_name(wanted.name),
        lambda: check_data(name, wanted.data),
        lambda: new_start(wanted.start, now, force),
        lambda: new_dates(wanted.start, wanted.end, now, force),
        lambda: check_text(wanted.description, "description", 256),
    )
    start, end = new_dates(wanted.start, wanted.end, now, force)
    if (other := book.script_named(name)) is not None:
        other_id = other.script.script_id
        raise RefusalError(Refused.NAME_TAKEN, f"Script {name} already exists (UUID: {other_id})", other_id)
    return (ScriptCreated(Script(script_id, name, data, start, end, wanted.description)),)


@_answers
def update_script(book: RuleBook, script_id: str, wanted: ScriptInput, now: int) -> tuple[Change, ...]:
    """Of a script that has started only the end, once; of one to come the data, dates and description."""
    entry = book.scripts.get(script_id)
    if entry is None or entry.deleted_at is not None:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such script: None (UUID: {script_id})")
    script = entry.script
    if script.start is not None and script.start >= now:
        planned, name = script.start, script.name
        refuse_all(
            lambda: check_data(name, wanted.data),
            lambda: later_dates(planned, wanted.start, wanted.end, now),
            lambda: check_text(wanted.description, "description", 256),
        )
        start, end = later_dates(planned, wanted.start, wanted.end, now)
        changed = msgspec.structs.replace(
            script, data=wanted.data or "", start=start, end=end, description=wanted.description
        )
    else:
        others = [
            ("name", wanted.name, script.name),
            ("data", wanted.data, script.data),
            ("start", time_or_none(wanted.start), script.start or 0),  # shown as 1970 where there is none
            ("description", wanted.description, script.description),
        ]
        changed = msgspec.structs.replace(script, end=new_end(script, wanted.end, others, now))
    return () if changed == script else (ScriptUpdated(changed),)


@_answers
def delete_script(book: RuleBook, script_id: str) -> tuple[Change, ...]:
    """The script, which is kept for audit."""
    entry = book.scripts.get(script_id)
    if entry is None or entry.deleted_at is not None:
        raise RefusalError(Refused.RULE_UNKNOWN, f"No such script: None (UUID: {script_id})")
    return (ScriptDeleted(script_id),)


@_answers
def set_module(
    book: RuleBook, name: str, known: Collection[str], *, enabled: bool | None = None, priority: int | None = None
) -> tuple[Change, ...]:
    """Switch and priority of a module; None leaves it. Priority 0 is 1; what is said of `noop` changes nothing."""
    if name not in known:
        raise RefusalError(Refused.MODULE_UNKNOWN, f"Module not found: {name!r} is none of {', '.join(sorted(known))}")
    if priority is not None and not 0 <= priority <= MAX_PRIORITY:
        raise RefusalError(Refused.PRIORITY_INVALID, f"priority {priority}: 0 to {MAX_PRIORITY} are taken")
    if name == NOOP:
        return ()
    current = book.module(name)
    changed = ModuleSet(
        name,
        current.enabled if enabled is None else enabled,
        current.priority if priority is None else priority or 1,
    )
    return () if changed == current else (changed,)


def _cost(raw: RawNumber | None) -> Decimal:
    if raw is None:
        raise RefusalError(Refused.COST_MISSING, missing("cost"))
    return read_cost(raw)


def _level(raw: RawNumber | None) -> Decimal:
    if raw is None:
        raise RefusalError(Refused.LEVEL_MISSING, missing("level"))
    return read_level(raw)


def _numbers(book: RuleBook, wanted: ThresholdInput) -> tuple[Callable[[], object], ...]:
    """The checks of a threshold, old or new."""
    return (
        lambda: _level(wanted.level),
        lambda: _cost(wanted.cost),
        lambda: check_type(wanted.type),
        lambda: check_group(book, wanted.group_id),
        lambda: check_tenant(wanted.tenant_id),
    )


def _one_parent(wanted: MappingInput | ThresholdInput) -> None:
    if wanted.service_id is not None and wanted.field_id is not None:
        raise RefusalError(Refused.TWO_PARENTS, "You can only specify one parent.")
    if wanted.service_id is None and wanted.field_id is None:
        raise RefusalError(Refused.NO_PARENT, "You must specify one parent.")


def _value_of_parent(wanted: MappingInput) -> None:
    if wanted.service_id is not None and wanted.field_id is not None:
        return  # which says what to do first
    if wanted.value and wanted.service_id is not None:
        raise RefusalError(Refused.VALUE_WITH_SERVICE, "You can't specify a value and a service_id.")
    if not wanted.value and wanted.field_id is not None:
        raise RefusalError(Refused.VALUE_MISSING, "You must specify a value for a field mapping.")


def _others(rule: MappingRule, wanted: MappingInput) -> list[tuple[str, object, object]]:
    """All but the end of a mapping: name, as it is sent, as it is."""
    return [
        ("cost", None if wanted.cost is None else read_cost(wanted.cost), rule.cost),
        ("type", wanted.type, rule.type.value),
        ("value", wanted.value, rule.value),
        ("service_id", wanted.service_id, rule.service_id),
        ("field_id", wanted.field_id, rule.field_id),
        ("group_id", wanted.group_id, rule.group_id),
        ("tenant_id", wanted.tenant_id, rule.tenant_id),
        ("start", time_or_none(wanted.start), rule.start or 0),  # shown as 1970 where there is none
        ("name", wanted.name, rule.name),
        ("description", wanted.description, rule.description),
    ]
