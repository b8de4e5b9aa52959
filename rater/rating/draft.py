"""One event on its way into the rule book: its changes are tried one by one and kept together or not at all.

For `rater.rating.book` alone. Here stand the invariants that every book keeps; an event that breaks one is ignored.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import msgspec

from rater.model.rules import (
    Change,
    CollectorMapped,
    CollectorSwitched,
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
    RuleEvent,
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
    cost_fault,
    level_fault,
    tiers_fault,
)
from rater.rating.tables import (
    Children,
    IgnoredReason,
    InvalidChangeError,
    MappingEntry,
    Order,
    ScriptEntry,
    Tables,
    ThresholdEntry,
)

__all__ = ["Draft"]

V = TypeVar("V")
_ABSENT: Any = object()


class Draft:
    """The tables while the changes of one event are made to them, in place: a log of a million events has to fold fast.

    What a change removes stays in its table as None until `commit`, so that `roll_back` finds its place again.
    """

    __slots__ = ("_at", "_author", "_gone", "_moves", "_tables", "_undo")

    def __init__(self, tables: Tables, event: RuleEvent) -> None:
        self._tables = tables
        self._author = event.author
        self._at = event.created_at
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []  # table, key, what stood there
        self._gone: list[tuple[dict[Any, Any], Any]] = []
        self._moves: dict[str, list[Order]] = {}  # by parent; mappings and thresholds have the same

    def commit(self) -> None:
        """Keep all changes."""
        for order in (order for orders in self._moves.values() for order in orders):
            order.commit()  # first: what is gone may be what another was moved before
        for table, key in self._gone:
            if table.get(key, _ABSENT) is None:
                del table[key]

    def roll_back(self) -> None:
        """Leave the tables as they were before the event."""
        for table, key, before in reversed(self._undo):
            if before is _ABSENT:
                del table[key]
            else:
                table[key] = before

    def change(self, change: Change) -> None:
        """Make one change. Raises InvalidChangeError: the draft is then to be rolled back."""
        match change:
            case MappingCreated(mapping):
                self._create_mapping(mapping)
            case MappingUpdated(mapping):
                self._update_mapping(mapping)
            case MappingDeleted(mapping_id):
                self._delete_mapping(mapping_id)
            case ThresholdCreated(threshold):
                self._create_threshold(threshold)
            case ThresholdUpdated(threshold):
                self._update_threshold(threshold)
            case ThresholdDeleted(threshold_id):
                self._delete_threshold(threshold_id)
            case ServiceCreated(service):
                self._create_service(service)
            case ServiceDeleted(service_id):
                self._delete_service(service_id)
            case FieldCreated(field):
                self._create_field(field)
            case FieldDeleted(field_id):
                self._delete_field(field_id)
            case GroupCreated(group):
                self._create_group(group)
            case GroupDeleted(group_id, recursive):
                self._delete_group(group_id, recursive)
            case ScriptCreated(script):
                self._create_script(script)
            case ScriptUpdated(script):
                self._update_script(script)
            case ScriptDeleted(script_id):
                self._delete_script(script_id)
            case TiersSet(tiers):
                self._set_tiers(tiers)
            case TiersDeleted(service_id):
                self._delete_tiers(service_id)
            case Moved(child_id, before):
                self._move(child_id, before)
            case CollectorMapped(service, collector):
                self._map_collector(service, collector)
            case CollectorSwitched(collector, enabled):
                self._put(self._tables.collectors, collector, enabled)
            case _:
                assert isinstance(change, ModuleSet), "every kind of change stands above"
                self._put(self._tables.modules, change.module, change)

    def _create_service(self, service: Service) -> None:
        self._take_id(self._tables.services, service.service_id)
        self._take_name("service", "", service.name, service.service_id)
        self._put(self._tables.services, service.service_id, service)

    def _delete_service(self, service_id: str) -> None:
        service = _known(self._tables.services.get(service_id), "service", service_id)
        for field_id in _present(self._tables.fields_of.get(service_id)):
            self._delete_field(field_id)
        self._delete_rules_of(service_id)
        self._drop(self._tables.tiers, service_id)
        self._drop(self._tables.fields_of, service_id)
        self._drop(self._tables.names, ("service", "", service.name))
        self._drop(self._tables.services, service_id)

    def _create_field(self, field: Field) -> None:
        self._take_id(self._tables.fields, field.field_id)
        _known(self._tables.services.get(field.service_id), "service", field.service_id)
        self._refuse_beside_tiers(field.service_id)
        self._take_name("field", field.service_id, field.name, field.field_id)
        self._put(self._tables.fields, field.field_id, field)
        self._append(self._tables.fields_of, field.service_id, field.field_id)

    def _delete_field(self, field_id: str) -> None:
        field = _known(self._tables.fields.get(field_id), "field", field_id)
        self._delete_rules_of(field_id)
        self._remove(self._tables.fields_of, field.service_id, field_id)
        self._drop(self._tables.names, ("field", field.service_id, field.name))
        self._drop(self._tables.fields, field_id)

    def _delete_rules_of(self, parent_id: str) -> None:
        """Deleted mappings go too, as in CloudKitty: what is left of them is their events in the log."""
        tables = self._tables
        for threshold_id in _present(tables.thresholds_of.get(parent_id)):
            self._regroup(threshold_id, tables.thresholds[threshold_id].rule.group_id, None)
            self._drop(tables.thresholds, threshold_id)
        for children_of in (tables.mappings_of, tables.deleted_of):
            for mapping_id in _present(children_of.get(parent_id)):
                self._regroup(mapping_id, tables.mappings[mapping_id].rule.group_id, None)
                self._drop(tables.mappings, mapping_id)
            self._drop(children_of, parent_id)
        self._drop(tables.thresholds_of, parent_id)

    def _create_group(self, group: Group) -> None:
        self._take_id(self._tables.groups, group.group_id)
        self._take_name("group", "", group.name, group.group_id)
        self._put(self._tables.groups, group.group_id, group)

    def _delete_group(self, group_id: str, recursive: bool) -> None:
        tables = self._tables
        group = _known(tables.groups.get(group_id), "group", group_id)
        for rule_id in _present(tables.in_group.get(group_id)):
            if (mapping := tables.mappings.get(rule_id)) is not None:
                ungrouped = msgspec.structs.replace(mapping.rule, group_id=None)
                self._put(tables.mappings, rule_id, msgspec.structs.replace(mapping, rule=ungrouped))
                if recursive and mapping.deleted_at is None:
                    self._delete_mapping(rule_id)
            elif recursive:
                self._delete_threshold(rule_id)
            else:
                threshold = tables.thresholds[rule_id]
                rule = msgspec.structs.replace(threshold.rule, group_id=None)
                self._put(tables.thresholds, rule_id, msgspec.structs.replace(threshold, rule=rule))
        self._drop(tables.in_group, group_id)
        self._drop(tables.names, ("group", "", group.name))
        self._drop(tables.groups, group_id)

    def _create_mapping(self, rule: MappingRule) -> None:
        self._take_id(self._tables.mappings, rule.mapping_id)
        self._check_mapping(rule)
        self._put(self._tables.mappings, rule.mapping_id, MappingEntry(rule, self._at, self._author))
        self._append(self._tables.mappings_of, rule.parent_id, rule.mapping_id)
        self._regroup(rule.mapping_id, None, rule.group_id)

    def _update_mapping(self, rule: MappingRule) -> None:
        entry = self._live_mapping(rule.mapping_id)
        self._check_mapping(rule)
        _refuse_other_parent(rule.parent_id, entry.rule.parent_id)
        entry_after = msgspec.structs.replace(entry, rule=rule, updated_at=self._at, updated_by=self._author)
        self._put(self._tables.mappings, rule.mapping_id, entry_after)
        self._regroup(rule.mapping_id, entry.rule.group_id, rule.group_id)

    def _delete_mapping(self, mapping_id: str) -> None:
        entry = self._live_mapping(mapping_id)
        entry_after = msgspec.structs.replace(entry, deleted_at=self._at, deleted_by=self._author)
        self._put(self._tables.mappings, mapping_id, entry_after)
        self._remove(self._tables.mappings_of, entry.rule.parent_id, mapping_id)
        self._append(self._tables.deleted_of, entry.rule.parent_id, mapping_id)

    def _live_mapping(self, mapping_id: str) -> MappingEntry:
        entry = _known(self._tables.mappings.get(mapping_id), "mapping", mapping_id)
        if entry.deleted_at is not None:
            _refuse(IgnoredReason.UNKNOWN, f"mapping {mapping_id} is deleted: read the rules again")
        return entry

    def _check_mapping(self, rule: MappingRule) -> None:
        self._check_rule(rule)
        if bool(rule.value) != bool(rule.field_id):
            _refuse(IgnoredReason.INVALID, "a mapping of a field needs a value, one of a service has none")
        _check_dates(rule)

    def _create_threshold(self, rule: ThresholdRule) -> None:
        self._take_id(self._tables.thresholds, rule.threshold_id)
        self._check_threshold(rule)
        self._put(self._tables.thresholds, rule.threshold_id, ThresholdEntry(rule, self._at, self._author))
        self._append(self._tables.thresholds_of, rule.parent_id, rule.threshold_id)
        self._regroup(rule.threshold_id, None, rule.group_id)

    def _update_threshold(self, rule: ThresholdRule) -> None:
        entry = _known(self._tables.thresholds.get(rule.threshold_id), "threshold", rule.threshold_id)
        self._check_threshold(rule)
        _refuse_other_parent(rule.parent_id, entry.rule.parent_id)
        entry_after = msgspec.structs.replace(entry, rule=rule, updated_at=self._at, updated_by=self._author)
        self._put(self._tables.thresholds, rule.threshold_id, entry_after)
        self._regroup(rule.threshold_id, entry.rule.group_id, rule.group_id)

    def _delete_threshold(self, threshold_id: str) -> None:
        entry = _known(self._tables.thresholds.get(threshold_id), "threshold", threshold_id)
        self._remove(self._tables.thresholds_of, entry.rule.parent_id, threshold_id)
        self._regroup(threshold_id, entry.rule.group_id, None)
        self._drop(self._tables.thresholds, threshold_id)

    def _check_threshold(self, rule: ThresholdRule) -> None:
        self._check_rule(rule)
        if fault := level_fault(rule.level):
            _refuse(IgnoredReason.INVALID, f"the level {fault}")

    def _check_rule(self, rule: MappingRule | ThresholdRule) -> None:
        if (rule.service_id is None) == (rule.field_id is None):
            _refuse(IgnoredReason.INVALID, "a rule belongs to one service or one field, not to both or none")
        if rule.service_id is not None:
            _known(self._tables.services.get(rule.service_id), "service", rule.service_id)
            self._refuse_beside_tiers(rule.service_id)
        else:
            _known(self._tables.fields.get(rule.parent_id), "field", rule.parent_id)
        if rule.group_id is not None:
            _known(self._tables.groups.get(rule.group_id), "group", rule.group_id)
        if fault := cost_fault(rule.cost):
            _refuse(IgnoredReason.INVALID, f"the cost {fault}")

    def _create_script(self, script: Script) -> None:
        self._take_id(self._tables.scripts, script.script_id)
        _check_dates(script)
        self._take_name("script", "", script.name, script.script_id)
        self._put(self._tables.scripts, script.script_id, ScriptEntry(script, self._at, self._author))
        self._append(self._tables.scripts_of, "", script.script_id)

    def _update_script(self, script: Script) -> None:
        entry = self._live_script(script.script_id)
        _check_dates(script)
        if script.name != entry.script.name:
            self._drop(self._tables.names, ("script", "", entry.script.name))
            self._take_name("script", "", script.name, script.script_id)
        entry_after = msgspec.structs.replace(entry, script=script, updated_at=self._at, updated_by=self._author)
        self._put(self._tables.scripts, script.script_id, entry_after)

    def _delete_script(self, script_id: str) -> None:
        entry = self._live_script(script_id)
        entry_after = msgspec.structs.replace(entry, deleted_at=self._at, deleted_by=self._author)
        self._put(self._tables.scripts, script_id, entry_after)
        self._remove(self._tables.scripts_of, "", script_id)
        self._drop(self._tables.names, ("script", "", entry.script.name))

    def _live_script(self, script_id: str) -> ScriptEntry:
        entry = _known(self._tables.scripts.get(script_id), "script", script_id)
        if entry.deleted_at is not None:
            _refuse(IgnoredReason.UNKNOWN, f"script {script_id} is deleted: read the rules again")
        return entry

    def _set_tiers(self, tiers: Tiers) -> None:
        service_id, tables = tiers.service_id, self._tables
        _known(tables.services.get(service_id), "service", service_id)
        if any(_present(of.get(service_id)) for of in (tables.mappings_of, tables.thresholds_of, tables.fields_of)):
            _refuse(
                IgnoredReason.INVALID,
                f"service {service_id} has mappings, thresholds or fields: delete them before it is given tiers",
            )
        if fault := tiers_fault(tiers):
            _refuse(IgnoredReason.INVALID, fault)
        self._put(tables.tiers, service_id, tiers)

    def _delete_tiers(self, service_id: str) -> None:
        if self._tables.tiers.get(service_id) is None:
            _refuse(IgnoredReason.UNKNOWN, f"service {service_id} has no tiers: read the rules again")
        self._drop(self._tables.tiers, service_id)

    def _map_collector(self, service: str, collector: str | None) -> None:
        if collector is not None:
            self._put(self._tables.collector_of, service, collector)
            return
        _known(self._tables.collector_of.get(service), "collector of service", service)
        self._drop(self._tables.collector_of, service)

    def _refuse_beside_tiers(self, service_id: str) -> None:
        if self._tables.tiers.get(service_id) is not None:
            _refuse(
                IgnoredReason.INVALID,
                f"service {service_id} has tiers: delete them before it is given mappings, thresholds or fields",
            )

    def _move(self, child_id: str, before: str | None) -> None:
        children_of, parent_id = self._place(child_id)
        children = children_of[parent_id]
        if before is not None and (before == child_id or children.get(before) is None):
            _refuse(IgnoredReason.UNKNOWN, f"{before} is no sibling of {child_id}: read the rules again")
        order = self._order_of(parent_id, children)
        if order is None:
            order = Order(children)
            self._moves.setdefault(parent_id, []).append(order)
        order.moves.append((child_id, before))

    def _order_of(self, parent_id: str, children: Children) -> Order | None:
        return next((order for order in self._moves.get(parent_id, ()) if order.children is children), None)

    def _place(self, child_id: str) -> tuple[dict[str, Children], str]:
        """Where a child stands: the table of its siblings, and its parent."""
        tables = self._tables
        if (field := tables.fields.get(child_id)) is not None:
            return tables.fields_of, field.service_id
        if (threshold := tables.thresholds.get(child_id)) is not None:
            return tables.thresholds_of, threshold.rule.parent_id
        if tables.scripts.get(child_id) is not None:
            self._live_script(child_id)
            return tables.scripts_of, ""
        return tables.mappings_of, self._live_mapping(child_id).rule.parent_id

    def _append(self, children_of: dict[str, Children], parent_id: str, child_id: str) -> None:
        children = children_of.get(parent_id)
        if children is None:
            children = {}
            self._put(children_of, parent_id, children)
        self._put(children, child_id, True)
        if self._moves and (order := self._order_of(parent_id, children)) is not None:
            order.moves.append((child_id, None))  # behind what was moved to the end before

    def _remove(self, children_of: dict[str, Children], parent_id: str, child_id: str) -> None:
        self._drop(children_of[parent_id], child_id)

    def _regroup(self, rule_id: str, before: str | None, after: str | None) -> None:
        if before == after:
            return
        if before is not None:
            self._remove(self._tables.in_group, before, rule_id)
        if after is not None:
            self._append(self._tables.in_group, after, rule_id)

    def _take_id(self, table: dict[str, V], row_id: str) -> None:
        if row_id in table:
            _refuse(IgnoredReason.DUPLICATE, f"id {row_id} is taken: ids are never used twice")

    def _take_name(self, kind: str, parent_id: str, name: str, row_id: str) -> None:
        if self._tables.names.get((kind, parent_id, name)) is not None:
            _refuse(IgnoredReason.DUPLICATE, f"a {kind} named {name!r} exists: read the rules again")
        self._put(self._tables.names, (kind, parent_id, name), row_id)

    def _put(self, table: dict[Any, Any], key: Any, row: Any) -> None:
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = row

    def _drop(self, table: dict[Any, Any], key: Any) -> None:
        """Take a row out, if there is one."""
        if table.get(key) is not None:
            self._put(table, key, None)
            self._gone.append((table, key))


def _present(children: Children | None) -> list[str]:
    """The children that the event has not removed so far."""
    return [child_id for child_id, present in children.items() if present] if children else []


def _check_dates(rule: MappingRule | Script) -> None:
    if rule.start is not None and rule.end is not None and rule.end < rule.start:
        _refuse(IgnoredReason.INVALID, f"end {rule.end} is before start {rule.start}")


def _refuse_other_parent(wanted: str, current: str) -> None:
    if wanted != current:
        _refuse(IgnoredReason.INVALID, "the parent of a rule stays the same: delete it and create another")


def _known(row: V | None, kind: str, row_id: str) -> V:
    if row is None:
        _refuse(IgnoredReason.UNKNOWN, f"there is no {kind} {row_id}: read the rules again")
    return row


def _refuse(reason: IgnoredReason, message: str) -> NoReturn:
    raise InvalidChangeError(reason, message)
