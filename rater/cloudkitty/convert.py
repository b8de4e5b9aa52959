"""Makes a rule book of what a CloudKitty lists: the same prices, or a list of what stands in the way.

Pure. Times without offset are those of the server's local clock, which CloudKitty does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import TypeVar

import msgspec

from rater.cloudkitty.last_wins import last_mappings, last_thresholds
from rater.cloudkitty.listing import Listing, MappingRow, ScriptRow, ThresholdRow
from rater.model.errors import RaterError
from rater.model.rules import (
    MAX_INSTANT,
    Change,
    Field,
    FieldCreated,
    Group,
    GroupCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    RuleType,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
    cost_fault,
    level_fault,
)
from rater.rating import Ignored, RuleBook
from rater.rating.ruledoc import SECTIONS, DocumentMapping, DocumentThreshold, PlacedRule, clashes

__all__ = ["ImportRefusedError", "Imported", "Problem", "convert"]

Rule = TypeVar("Rule", MappingRule, ThresholdRule)

_DEFAULT_GROUP = "_DEFAULT_"  # CloudKitty's name for no group
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MADE_UP = re.compile(r"[0-9a-f]{24}|[0-9a-f]{32}")  # names that CloudKitty's client and server give by themselves


class Problem(msgspec.Struct, frozen=True):
    """Something that a rule document cannot hold."""

    ids: tuple[str, ...]
    """In CloudKitty: of a service, field, group, mapping, threshold or script."""
    text: str
    resolvable: bool = False
    """Whether one rule of several counts in CloudKitty, so that the others can be left out."""


class ImportRefusedError(RaterError):
    """The rules cannot be imported as they are; lists every problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  {problem.text}" for problem in self.problems)
        advice = "repair the rules in CloudKitty"
        if all(problem.resolvable for problem in self.problems):
            advice += ", or import what CloudKitty goes by: --resolve last-wins"
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"the rules of CloudKitty cannot be imported, {count}; {advice}:\n{listed}")


class Imported(msgspec.Struct, frozen=True):
    """The rules as a book at version 1, and what was left out of it because it does not count."""

    book: RuleBook
    resolved: tuple[Problem, ...]
    notes: tuple[str, ...]
    """What has no place in a rule book here, and does not touch prices by itself."""


def convert(listing: Listing, server_timezone: tzinfo, *, last_wins: bool = False) -> Imported:
    """The rules of the listing. Raises ImportRefusedError; with `last_wins` only for what no rule can win.

    Rules of one parent come in order of their creation as far as CloudKitty tells it (mappings), else as listed.
    """
    reader = _Reader(listing, server_timezone)
    mappings = [rule for row in _by_creation(listing.mappings) for rule in reader.mapping(row)]
    thresholds = [rule for row in listing.thresholds for rule in reader.threshold(row)]
    scripts = [rule for row in _by_creation(listing.scripts) for rule in reader.script(row)]
    clashing = list(reader.clashing(mappings, thresholds))
    if reader.problems or (clashing and not last_wins):
        raise ImportRefusedError([*reader.problems, *clashing])
    if clashing:
        mappings = _unique_names(reader.reduced(mappings, last_mappings))
        thresholds = reader.reduced(thresholds, last_thresholds)
    changes: list[Change] = [*reader.frame(), *(MappingCreated(rule) for rule in mappings)]
    changes += [ThresholdCreated(rule) for rule in thresholds]
    changes += [ScriptCreated(script) for script in scripts]
    book, outcome = RuleBook.empty().apply(RuleEvent(0, "import", "rules of CloudKitty", 0, tuple(changes)))
    if isinstance(outcome, Ignored):
        raise ImportRefusedError([Problem((), outcome.message)])
    return Imported(book, tuple(clashing), tuple(reader.notes))


class _Reader:
    """Reads rows one by one; what is wrong with a row is noted and the row left out."""

    def __init__(self, listing: Listing, server_timezone: tzinfo) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._listing = listing
        self._timezone = server_timezone
        self._groups = {row.group_id: row.name for row in listing.groups}
        services = {row.service_id: row.name for row in listing.services}
        self._places = {row.service_id: f"service {row.name!r}" for row in listing.services} | {
            row.field_id: f"field {row.name!r} of service {services.get(row.service_id)!r}" for row in listing.fields
        }
        named = [(row.service_id, "service", row.name) for row in listing.services]
        named += [(row.field_id, "field", row.name) for row in listing.fields]
        named += [(row.group_id, "group", row.name) for row in listing.groups]
        named += [(row.script_id, "script", row.name) for row in listing.scripts]
        self.problems += [Problem((id_,), f"{kind} {id_} has an empty name") for id_, kind, name in named if not name]

    def frame(self) -> Iterator[Change]:
        """Modules, groups, services and fields."""
        for module in self._listing.modules:
            if module.module_id in SECTIONS:
                yield ModuleSet(module.module_id, module.enabled, module.priority or 1)
            elif module.enabled and module.module_id != "noop":
                self.notes.append(f"module {module.module_id!r} is on in CloudKitty and was not imported")
        yield from (GroupCreated(Group(row.group_id, row.name)) for row in self._listing.groups)
        yield from (ServiceCreated(Service(row.service_id, row.name)) for row in self._listing.services)
        yield from (FieldCreated(Field(row.field_id, row.service_id, row.name)) for row in self._listing.fields)

    def mapping(self, row: MappingRow) -> Iterator[MappingRule]:
        """The rule, unless something is wrong with it or it can never be valid."""
        name = f"mapping {row.mapping_id} of {self._place(row)}"
        validity = self._validity(name, row)
        if validity is None:
            return
        rule = MappingRule(
            row.mapping_id,
            Decimal(str(row.cost)),
            self._type(row.type, name, row.mapping_id),
            row.value or "",
            row.service_id,
            row.field_id,
            row.group_id,
            row.tenant_id,
            *validity,
            None if not row.name or _MADE_UP.fullmatch(row.name) else row.name,
            row.description or None,
        )
        if row.service_id and row.value:
            self.problems.append(Problem((row.mapping_id,), f"{name} has a value: CloudKitty fails on it"))
        elif self._is_readable(name, row.mapping_id, rule, cost_fault(rule.cost)):
            yield rule

    def threshold(self, row: ThresholdRow) -> Iterator[ThresholdRule]:
        """The rule, unless something is wrong with it."""
        name = f"threshold {row.threshold_id} of {self._place(row)}"
        if row.level is None:
            self.problems.append(Problem((row.threshold_id,), f"{name} has no level: CloudKitty fails on it"))
            return
        rule = ThresholdRule(
            row.threshold_id,
            Decimal(str(row.level)),
            Decimal(str(row.cost)),
            self._type(row.type, name, row.threshold_id),
            row.service_id,
            row.field_id,
            row.group_id,
            row.tenant_id,
        )
        if self._is_readable(name, row.threshold_id, rule, cost_fault(rule.cost) or level_fault(rule.level)):
            yield rule

    def script(self, row: ScriptRow) -> Iterator[Script]:
        """The script, unless it can never be valid. Whether it compiles is for those to say who apply the document."""
        validity = self._validity(f"script {row.name!r} ({row.script_id})", row)
        if validity is not None:
            yield Script(row.script_id, row.name, row.data, *validity, row.description or None)

    def clashing(self, mappings: list[MappingRule], thresholds: list[ThresholdRule]) -> Iterator[Problem]:
        """Rules of which only one counts at a time."""
        placed = [
            *(PlacedRule(r.parent_id, f"mapping {r.mapping_id}", 0, self._document(r)) for r in mappings),
            *(PlacedRule(r.parent_id, f"threshold {r.threshold_id}", 0, self._document(r)) for r in thresholds),
        ]
        for later, first, reason in clashes(placed):
            place = self._places.get(later.parent, "a parent that is not listed")
            ids = tuple(rule.path.split()[1] for rule in (later, first))
            yield Problem(ids, f"{later.path} of {place} {reason}; see {first.path}", resolvable=True)

    def reduced(
        self, rules: list[Rule], reduce: Callable[[list[Rule], Callable[[Rule], str]], list[Rule]]
    ) -> list[Rule]:
        """Of each parent and tenant the rules that count, in order."""
        apart: dict[tuple[str, str | None], list[Rule]] = {}
        for rule in rules:
            apart.setdefault((rule.parent_id, rule.tenant_id), []).append(rule)
        return [rule for alike in apart.values() for rule in reduce(alike, self._group)]

    def _group(self, rule: MappingRule | ThresholdRule) -> str:
        return _DEFAULT_GROUP if rule.group_id is None else self._groups[rule.group_id]

    def _document(self, rule: MappingRule | ThresholdRule) -> DocumentMapping | DocumentThreshold:
        group = self._group(rule)
        if isinstance(rule, ThresholdRule):
            return DocumentThreshold(rule.level, rule.cost, rule.type, group, rule.tenant_id)
        dates = (rule.start, rule.end)
        return DocumentMapping(rule.cost, rule.value, rule.type, group, rule.tenant_id, *dates, rule.name)

    def _place(self, row: MappingRow | ThresholdRow) -> str:
        return self._places.get(row.service_id or row.field_id or "", "a parent that is not listed")

    def _type(self, type_: str, name: str, id_: str) -> RuleType:
        try:
            return RuleType(type_)
        except ValueError:
            self.problems.append(Problem((id_,), f"{name} has type {type_!r}, which is neither flat nor rate"))
            return RuleType.FLAT

    def _is_readable(self, name: str, id_: str, rule: MappingRule | ThresholdRule, number_fault: str) -> bool:
        fault = number_fault and f"a number of it {number_fault}"
        if rule.parent_id not in self._places:
            fault = "its service or field is not listed"
        elif rule.group_id is not None and rule.group_id not in self._groups:
            fault = "its group is not listed"
        elif rule.tenant_id == "":
            fault = "its tenant is an empty text"
        if fault:
            self.problems.append(Problem((id_,), f"{name}: {fault}"))
        return not fault

    def _validity(self, name: str, row: MappingRow | ScriptRow) -> tuple[int | None, int | None] | None:
        """Start and end in seconds UTC; None, and a note or problem, if the rule can never be valid.

        A fraction of a second counts as the next whole one, which is the same for periods that begin at whole seconds.
        """
        row_id = row.mapping_id if isinstance(row, MappingRow) else row.script_id
        try:
            start, end = (None if text is None else _seconds(text, self._timezone) for text in (row.start, row.end))
        except ValueError as fault:
            self.problems.append(Problem((row_id,), f"{name}: {fault}"))
            return None
        if end is not None and (end <= 0 or end < (start or 0)):
            self.notes.append(f"{name} ended before 1970 or before it began: left out")
            return None
        start = min(start, MAX_INSTANT) if start and start > 0 else None
        return start, None if end is None or end > MAX_INSTANT else end


def _seconds(text: str, timezone: tzinfo) -> int:
    moment = datetime.fromisoformat(text)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=timezone)) - _EPOCH
    return since.days * 86_400 + since.seconds + bool(since.microseconds)


Row = TypeVar("Row", MappingRow, ScriptRow)


def _by_creation(rows: list[Row]) -> list[Row]:
    """Times of one server, all written alike, sort as texts; rows of an old CloudKitty, without, stay as listed."""
    return sorted(rows, key=lambda row: row.created_at or "")


def _unique_names(mappings: list[MappingRule]) -> list[MappingRule]:
    """Names decide nothing; of several mappings with one name the first keeps it."""
    seen: set[str | None] = set()
    result = []
    for rule in mappings:
        result.append(msgspec.structs.replace(rule, name=None) if rule.name in seen else rule)
        seen.add(rule.name)
    return result
