"""What has to change so that a rule book says what a rule document says.

The rules of the document become exactly those of the book, in the document's order, since order decides ties and the
last digits of sums. A changed rule is replaced for all periods: re-rating an old one goes by the new cost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID, uuid5

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
    Moved,
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
    Tiers,
    TiersDeleted,
    TiersSet,
    TierStep,
    number_text,
)
from rater.rating.book import RuleBook
from rater.rating.diff import Diff, DiffEntry, Sign, What
from rater.rating.hashmap import DEFAULT_GROUP
from rater.rating.ruledoc import (
    DocumentField,
    DocumentMapping,
    DocumentScript,
    DocumentService,
    DocumentThreshold,
    DocumentTiers,
    ModuleState,
    RuleDocument,
)
from rater.rating.wording import date_parts, describe_module, describe_script, describe_tiers, description_parts

__all__ = ["plan"]

_NAMESPACE = UUID("6f2d3b43-2c7f-5d8e-9f0e-3a1b6c5d7e90")  # of the ids that documents give; made up once, never changed

R = TypeVar("R", MappingRule, ThresholdRule, Script)


def plan(book: RuleBook, document: RuleDocument) -> Diff:
    """What has to change so that the book says what the document says.

    The same book and document give the same changes with the same ids. A rule is the same one if its value or level,
    tenant, group and start are, a script if its name is; one that differs in that is deleted and another created.
    """
    planner = _Planner(book)
    planner.run(document)
    return Diff(book.version, tuple(planner.changes), tuple(planner.entries))


class _Kind(NamedTuple, Generic[R]):
    """What differs between mappings, thresholds and scripts."""

    what: What
    id_of: Callable[[R], str]
    with_id: Callable[[R, str], R]
    key_of: Callable[[R], tuple[object, ...]]
    name_of: Callable[[R], str]
    created: Callable[[R], Change]
    updated: Callable[[R], Change]
    deleted: Callable[[str], Change]
    describe: Callable[[R], str]


class _Planner:
    def __init__(self, book: RuleBook) -> None:
        self.changes: list[Change] = []
        self.entries: list[DiffEntry] = []
        self._book = book
        self._ids = 0
        self._group_ids = {group.name: group.group_id for group in book.groups.values()}
        self._group_names = {group.group_id: group.name for group in book.groups.values()}
        self._mapping = _Kind[MappingRule](
            "mapping",
            lambda rule: rule.mapping_id,
            lambda rule, rule_id: msgspec.structs.replace(rule, mapping_id=rule_id),
            lambda rule: (rule.value, rule.tenant_id, self._group(rule.group_id) or DEFAULT_GROUP, rule.start),
            lambda rule: f"= {rule.value}" if rule.value else "",
            MappingCreated,
            MappingUpdated,
            MappingDeleted,
            self._describe,
        )
        self._threshold = _Kind[ThresholdRule](
            "threshold",
            lambda rule: rule.threshold_id,
            lambda rule, rule_id: msgspec.structs.replace(rule, threshold_id=rule_id),
            lambda rule: (rule.level, rule.tenant_id, self._group(rule.group_id) or DEFAULT_GROUP),
            lambda rule: f">= {number_text(rule.level)}",
            ThresholdCreated,
            ThresholdUpdated,
            ThresholdDeleted,
            self._describe,
        )

    def run(self, document: RuleDocument) -> None:
        self._modules(document.modules)
        for name in document.hashmap.groups:
            if name not in self._group_ids:
                group = Group(self._new_id(), name)
                self._group_ids[name] = group.group_id
                self._group_names[group.group_id] = name
                self._note("+", "group", name, "", "", GroupCreated(group))
        self._services(document.hashmap.services)
        wanted_groups = set(document.hashmap.groups)
        for group in self._book.groups.values():
            if group.name not in wanted_groups:
                self._note("-", "group", group.name, "", "", GroupDeleted(group.group_id))
        current = [entry.script for entry in self._book.scripts_in_order()]
        self._sync(_SCRIPT, "", current, [_wanted_script(script) for script in document.pyscripts.scripts])

    def _modules(self, states: dict[str, ModuleState]) -> None:
        """A module that the document does not name is off."""
        for name in (*states, *(name for name in self._book.modules if name not in states)):
            state = states.get(name, ModuleState())
            wanted, current = ModuleSet(name, state.enabled, state.priority), self._book.module(name)
            if wanted != current:
                self._note("~", "module", name, describe_module(current), describe_module(wanted), wanted)

    def _services(self, wanted: tuple[DocumentService, ...]) -> None:
        names = {service.name for service in wanted}
        for service in self._book.services.values():
            if service.name not in names:
                self._note("-", "service", service.name, "", "", ServiceDeleted(service.service_id))
                self._note_lost_rules(service.service_id, service.name)
                if (tiers := self._book.tiers_of(service.service_id)) is not None:
                    self._note("-", "tiers", service.name, describe_tiers(tiers), "", None)
                for field in self._book.fields_of(service.service_id):
                    self._note_lost_field(service.name, field)
        for described in wanted:
            known = self._book.service_named(described.name)
            if known is None:
                known = Service(self._new_id(), described.name)
                self._note("+", "service", known.name, "", "", ServiceCreated(known))
            current = self._book.tiers_of(known.service_id)
            wanted_tiers = None if described.tiers is None else _wanted_tiers(known.service_id, described.tiers)
            if current is not None and wanted_tiers is None:
                before = describe_tiers(current)
                self._note("-", "tiers", known.name, before, "", TiersDeleted(known.service_id))
            self._rules(described, known.name, service_id=known.service_id)
            self._fields(known, described.fields)
            if wanted_tiers is not None and wanted_tiers != current:
                sign: Sign = "+" if current is None else "~"
                before = "" if current is None else describe_tiers(current)
                self._note(sign, "tiers", known.name, before, describe_tiers(wanted_tiers), TiersSet(wanted_tiers))

    def _fields(self, service: Service, wanted: tuple[DocumentField, ...]) -> None:
        names = {field.name for field in wanted}
        kept: dict[str, str] = {}
        for field in self._book.fields_of(service.service_id):
            if field.name in names:
                kept[field.field_id] = _field_place(service.name, field.name)
            else:
                self._note_lost_field(service.name, field, FieldDeleted(field.field_id))
        order = []
        for described in wanted:
            known = self._book.field_named(service.service_id, described.name)
            place = _field_place(service.name, described.name)
            if known is None:
                known = Field(self._new_id(), service.service_id, described.name)
                self._note("+", "field", place, "", "", FieldCreated(known))
            order.append(known.field_id)
            self._rules(described, place, field_id=known.field_id)
        self._order("field", kept, order)

    def _rules(
        self,
        wanted: DocumentService | DocumentField,
        place: str,
        *,
        service_id: str | None = None,
        field_id: str | None = None,
    ) -> None:
        parent_id = service_id or field_id or ""
        self._sync(
            self._mapping,
            place,
            [entry.rule for entry in self._book.mappings_of(parent_id)],
            [self._wanted_mapping(rule, service_id, field_id) for rule in wanted.mappings],
        )
        self._sync(
            self._threshold,
            place,
            [entry.rule for entry in self._book.thresholds_of(parent_id)],
            [self._wanted_threshold(rule, service_id, field_id) for rule in wanted.thresholds],
        )

    def _wanted_mapping(self, rule: DocumentMapping, service_id: str | None, field_id: str | None) -> MappingRule:
        return MappingRule(
            mapping_id="",
            service_id=service_id,
            field_id=field_id,
            value=rule.value,
            cost=rule.cost,
            type=rule.type,
            group_id=None if rule.group is None else self._group_ids[rule.group],
            tenant_id=rule.tenant_id,
            start=rule.start,
            end=rule.end,
            name=rule.name,
            description=rule.description,
        )

    def _wanted_threshold(self, rule: DocumentThreshold, service_id: str | None, field_id: str | None) -> ThresholdRule:
        return ThresholdRule(
            threshold_id="",
            service_id=service_id,
            field_id=field_id,
            level=rule.level,
            cost=rule.cost,
            type=rule.type,
            group_id=None if rule.group is None else self._group_ids[rule.group],
            tenant_id=rule.tenant_id,
        )

    def _sync(self, kind: _Kind[R], place: str, current: list[R], wanted: list[R]) -> None:
        """Make the rules of one parent those that are wanted, in that order."""
        free: dict[tuple[object, ...], list[R]] = {}
        for rule in reversed(current):
            free.setdefault(kind.key_of(rule), []).append(rule)
        matches = [candidates.pop() if (candidates := free.get(kind.key_of(rule))) else None for rule in wanted]
        matched = {kind.id_of(rule) for rule in matches if rule is not None}
        kept: dict[str, str] = {}
        for rule in current:
            if kind.id_of(rule) in matched:
                kept[kind.id_of(rule)] = _rule_place(kind, place, rule)
            else:
                self._note_lost(kind, place, rule, kind.deleted(kind.id_of(rule)))
        order = []
        for rule, match in zip(wanted, matches, strict=True):
            where = _rule_place(kind, place, rule)
            if match is None:
                created = kind.with_id(rule, self._new_id())
                order.append(kind.id_of(created))
                self._note("+", kind.what, where, "", kind.describe(created), kind.created(created))
                continue
            order.append(kind.id_of(match))
            updated = kind.with_id(rule, kind.id_of(match))
            if updated != match:
                self._note("~", kind.what, where, kind.describe(match), kind.describe(updated), kind.updated(updated))
        self._order(kind.what, kept, order)

    def _order(self, what: What, kept: dict[str, str], wanted: list[str]) -> None:
        """Move what does not stand where the document has it. `kept`: id to place of what was there, in its order.

        What was created stands behind all that was kept, in the document's order.
        """
        still = _longest_rising(list(kept), [child_id for child_id in wanted if child_id in kept])
        before: str | None = None
        at_end = True  # still among the new ones that end the list: they stand right already
        for child_id in reversed(wanted):
            at_end = at_end and child_id not in kept
            if not at_end and child_id not in still:
                move = Moved(child_id, before)
                if child_id in kept:
                    after = "last" if before is None else f"before {kept.get(before, 'a new one')}"
                    self._note("~", what, kept[child_id], "in another place", after, move)
                else:
                    self.changes.append(move)
            before = child_id

    def _note_lost_field(self, service_name: str, field: Field, change: Change | None = None) -> None:
        place = _field_place(service_name, field.name)
        self._note("-", "field", place, "", "", change)
        self._note_lost_rules(field.field_id, place)

    def _note_lost_rules(self, parent_id: str, place: str) -> None:
        """The rules that go with their service or field: in the plan, without a change of their own."""
        for mapping in self._book.mappings_of(parent_id):
            self._note_lost(self._mapping, place, mapping.rule, None)
        for threshold in self._book.thresholds_of(parent_id):
            self._note_lost(self._threshold, place, threshold.rule, None)

    def _note_lost(self, kind: _Kind[R], place: str, rule: R, change: Change | None) -> None:
        self._note("-", kind.what, _rule_place(kind, place, rule), kind.describe(rule), "", change)

    def _note(self, sign: Sign, what: What, place: str, before: str, after: str, change: Change | None) -> None:
        self.entries.append(DiffEntry(sign, what, place, before, after))
        if change is not None:
            self.changes.append(change)

    def _new_id(self) -> str:
        """The next id: fixed by the version it is made for, since an event for that version applies only once."""
        self._ids += 1
        return str(uuid5(_NAMESPACE, f"{self._book.version}/{self._ids}"))

    def _group(self, group_id: str | None) -> str | None:
        return None if group_id is None else self._group_names[group_id]

    def _describe(self, rule: MappingRule | ThresholdRule) -> str:
        """A rule in one line, for people: `flat 0.01 @group [tenant] from … until …`."""
        parts = [rule.type.value, number_text(rule.cost)]
        if rule.group_id is not None:
            parts.append(f"@{self._group_names[rule.group_id]}")
        if rule.tenant_id is not None:
            parts.append(f"[{rule.tenant_id}]")
        if isinstance(rule, MappingRule):
            parts += date_parts(rule)
            if rule.name is not None:
                parts.append(f"named {rule.name!r}")
            parts += description_parts(rule)
        return " ".join(parts)


def _wanted_tiers(service_id: str, tiers: DocumentTiers) -> Tiers:
    return Tiers(service_id, tuple(TierStep(step.cost, step.up_to) for step in tiers.steps), tiers.by)


def _wanted_script(script: DocumentScript) -> Script:
    return Script("", script.name, script.data, script.start, script.end, script.description)


_SCRIPT = _Kind[Script](
    "script",
    lambda script: script.script_id,
    lambda script, script_id: msgspec.structs.replace(script, script_id=script_id),
    lambda script: (script.name,),
    lambda script: script.name,
    ScriptCreated,
    ScriptUpdated,
    ScriptDeleted,
    describe_script,
)


def _field_place(service_name: str, field_name: str) -> str:
    return f"{service_name} / {field_name}"


def _rule_place(kind: _Kind[R], place: str, rule: R) -> str:
    return f"{place} {kind.name_of(rule)}".strip()


def _longest_rising(current: list[str], wanted: list[str]) -> set[str]:
    """Members of `wanted` that can stay where they are: a longest part of it that rises in `current`'s order."""
    rank = {child_id: number for number, child_id in enumerate(current)}
    ends: list[int] = []  # lowest rank that ends a rising run of each length
    lengths = []
    for child_id in wanted:
        length = bisect_left(ends, rank[child_id])
        ends[length : length + 1] = [rank[child_id]]
        lengths.append(length)
    still: set[str] = set()
    length = len(ends) - 1
    for child_id, reached in zip(reversed(wanted), reversed(lengths), strict=True):
        if reached == length:
            still.add(child_id)
            length -= 1
    return still
