"""One event on its way into the rule book: its changes are tried on a draft and committed together or not at all.

For `rater.rating.book` alone. Here stand the invariants that every book keeps; an event that breaks one is ignored.
"""

from __future__ import annotations

from typing import NoReturn, TypeVar

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
    Moved,
    RuleEvent,
    Service,
    ServiceCreated,
    ServiceDeleted,
    ThresholdCreated,
    ThresholdDeleted,
    ThresholdRule,
    ThresholdUpdated,
    cost_fault,
    level_fault,
)
from rater.rating.tables import (
    Children,
    IgnoredReason,
    InvalidChangeError,
    MappingEntry,
    Overlay,
    Tables,
    ThresholdEntry,
)

__all__ = ["Draft"]

V = TypeVar("V")


class Draft:
    """The tables as they would be after the changes of one event."""

    def __init__(self, tables: Tables, event: RuleEvent) -> None:
        self._author = event.author
        self._at = event.created_at
        self._modules = Overlay(tables.modules)
        self._services = Overlay(tables.services)
        self._fields = Overlay(tables.fields)
        self._groups = Overlay(tables.groups)
        self._mappings = Overlay(tables.mappings)
        self._thresholds = Overlay(tables.thresholds)
        self._names = Overlay(tables.names)
        self._fields_of = Overlay(tables.fields_of)
        self._mappings_of = Overlay(tables.mappings_of)
        self._thresholds_of = Overlay(tables.thresholds_of)

    def commit(self) -> None:
        """Put all changes into the tables."""
        for part in (self._modules, self._services, self._fields, self._groups, self._mappings, self._thresholds):
            part.commit()
        self._names.commit()
        for children in (self._fields_of, self._mappings_of, self._thresholds_of):
            children.commit()

    def change(self, change: Change) -> None:
        """Try one change. Raises InvalidChangeError; the draft is then of no more use."""
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
            case Moved(child_id, before):
                self._move(child_id, before)
            case _:  # ModuleSet, as mypy proves
                self._modules[change.module] = change

    def _create_service(self, service: Service) -> None:
        self._take_id(self._services, service.service_id)
        self._take_name("service", "", service.name, service.service_id)
        self._services[service.service_id] = service

    def _delete_service(self, service_id: str) -> None:
        service = _known(self._services[service_id], "service", service_id)
        for field_id in list(self._fields_of[service_id] or ()):
            self._delete_field(field_id)
        self._delete_rules_of(service_id)
        del self._fields_of[service_id]
        del self._names["service", "", service.name]
        del self._services[service_id]

    def _create_field(self, field: Field) -> None:
        self._take_id(self._fields, field.field_id)
        _known(self._services[field.service_id], "service", field.service_id)
        self._take_name("field", field.service_id, field.name, field.field_id)
        self._fields[field.field_id] = field
        _children(self._fields_of, field.service_id).append(field.field_id)

    def _delete_field(self, field_id: str) -> None:
        field = _known(self._fields[field_id], "field", field_id)
        self._delete_rules_of(field_id)
        _children(self._fields_of, field.service_id).remove(field_id)
        del self._names["field", field.service_id, field.name]
        del self._fields[field_id]

    def _delete_rules_of(self, parent_id: str) -> None:
        """Deleted mappings go too, as in CloudKitty: what is left of them is their events in the log."""
        for threshold_id in self._thresholds_of[parent_id] or ():
            del self._thresholds[threshold_id]
        gone = [key for key, entry in self._mappings.rows() if entry.rule.parent_id == parent_id]
        for mapping_id in gone:
            del self._mappings[mapping_id]
        del self._thresholds_of[parent_id]
        del self._mappings_of[parent_id]

    def _create_group(self, group: Group) -> None:
        self._take_id(self._groups, group.group_id)
        self._take_name("group", "", group.name, group.group_id)
        self._groups[group.group_id] = group

    def _delete_group(self, group_id: str, recursive: bool) -> None:
        group = _known(self._groups[group_id], "group", group_id)
        mappings = [entry for _, entry in self._mappings.rows() if entry.rule.group_id == group_id]
        for mapping in mappings:
            rule = msgspec.structs.replace(mapping.rule, group_id=None)
            self._mappings[rule.mapping_id] = msgspec.structs.replace(mapping, rule=rule)
            if recursive and mapping.deleted_at is None:
                self._delete_mapping(rule.mapping_id)
        thresholds = [entry for _, entry in self._thresholds.rows() if entry.rule.group_id == group_id]
        for threshold in thresholds:
            if recursive:
                self._delete_threshold(threshold.rule.threshold_id)
            else:
                ungrouped = msgspec.structs.replace(threshold.rule, group_id=None)
                self._thresholds[ungrouped.threshold_id] = msgspec.structs.replace(threshold, rule=ungrouped)
        del self._names["group", "", group.name]
        del self._groups[group_id]

    def _create_mapping(self, rule: MappingRule) -> None:
        self._take_id(self._mappings, rule.mapping_id)
        self._check_mapping(rule)
        self._mappings[rule.mapping_id] = MappingEntry(rule, self._at, self._author)
        _children(self._mappings_of, rule.parent_id).append(rule.mapping_id)

    def _update_mapping(self, rule: MappingRule) -> None:
        entry = self._live_mapping(rule.mapping_id)
        self._check_mapping(rule)
        if rule.parent_id != entry.rule.parent_id:
            _refuse(IgnoredReason.INVALID, "the parent of a rule stays the same: delete it and create another")
        self._mappings[rule.mapping_id] = msgspec.structs.replace(
            entry, rule=rule, updated_at=self._at, updated_by=self._author
        )

    def _delete_mapping(self, mapping_id: str) -> None:
        entry = self._live_mapping(mapping_id)
        self._mappings[mapping_id] = msgspec.structs.replace(entry, deleted_at=self._at, deleted_by=self._author)
        _children(self._mappings_of, entry.rule.parent_id).remove(mapping_id)

    def _live_mapping(self, mapping_id: str) -> MappingEntry:
        entry = _known(self._mappings[mapping_id], "mapping", mapping_id)
        if entry.deleted_at is not None:
            _refuse(IgnoredReason.UNKNOWN, f"mapping {mapping_id} is deleted: read the rules again")
        return entry

    def _check_mapping(self, rule: MappingRule) -> None:
        self._check_rule(rule)
        if bool(rule.value) != bool(rule.field_id):
            _refuse(IgnoredReason.INVALID, "a mapping of a field needs a value, one of a service has none")
        if rule.start is not None and rule.end is not None and rule.end < rule.start:
            _refuse(IgnoredReason.INVALID, f"end {rule.end} is before start {rule.start}")

    def _create_threshold(self, rule: ThresholdRule) -> None:
        self._take_id(self._thresholds, rule.threshold_id)
        self._check_threshold(rule)
        self._thresholds[rule.threshold_id] = ThresholdEntry(rule, self._at, self._author)
        _children(self._thresholds_of, rule.parent_id).append(rule.threshold_id)

    def _update_threshold(self, rule: ThresholdRule) -> None:
        entry = _known(self._thresholds[rule.threshold_id], "threshold", rule.threshold_id)
        self._check_threshold(rule)
        if rule.parent_id != entry.rule.parent_id:
            _refuse(IgnoredReason.INVALID, "the parent of a rule stays the same: delete it and create another")
        self._thresholds[rule.threshold_id] = msgspec.structs.replace(
            entry, rule=rule, updated_at=self._at, updated_by=self._author
        )

    def _delete_threshold(self, threshold_id: str) -> None:
        entry = _known(self._thresholds[threshold_id], "threshold", threshold_id)
        _children(self._thresholds_of, entry.rule.parent_id).remove(threshold_id)
        del self._thresholds[threshold_id]

    def _check_threshold(self, rule: ThresholdRule) -> None:
        self._check_rule(rule)
        if fault := level_fault(rule.level):
            _refuse(IgnoredReason.INVALID, f"the level {fault}")

    def _check_rule(self, rule: MappingRule | ThresholdRule) -> None:
        if (rule.service_id is None) == (rule.field_id is None):
            _refuse(IgnoredReason.INVALID, "a rule belongs to one service or one field, not to both or none")
        if rule.service_id is not None:
            _known(self._services[rule.service_id], "service", rule.service_id)
        else:
            _known(self._fields[rule.parent_id], "field", rule.parent_id)
        if rule.group_id is not None:
            _known(self._groups[rule.group_id], "group", rule.group_id)
        if fault := cost_fault(rule.cost):
            _refuse(IgnoredReason.INVALID, f"the cost {fault}")

    def _move(self, child_id: str, before: str | None) -> None:
        order = self._siblings(child_id)
        if before is not None and (before == child_id or before not in order):
            _refuse(IgnoredReason.UNKNOWN, f"{before} is no sibling of {child_id}: read the rules again")
        order.remove(child_id)
        order.insert(len(order) if before is None else order.index(before), child_id)

    def _siblings(self, child_id: str) -> Children:
        if (field := self._fields[child_id]) is not None:
            return _children(self._fields_of, field.service_id)
        if (threshold := self._thresholds[child_id]) is not None:
            return _children(self._thresholds_of, threshold.rule.parent_id)
        return _children(self._mappings_of, self._live_mapping(child_id).rule.parent_id)

    def _take_id(self, table: Overlay[str, V], row_id: str) -> None:
        if table.used(row_id):
            _refuse(IgnoredReason.DUPLICATE, f"id {row_id} is taken: ids are never used twice")

    def _take_name(self, kind: str, parent_id: str, name: str, row_id: str) -> None:
        if self._names[kind, parent_id, name] is not None:
            _refuse(IgnoredReason.DUPLICATE, f"a {kind} named {name!r} exists: read the rules again")
        self._names[kind, parent_id, name] = row_id


def _children(table: Overlay[str, Children], parent_id: str) -> Children:
    """The children of a parent as the draft's own list."""
    own = table.changed.get(parent_id)
    if own is None:
        own = table[parent_id] = list(table[parent_id] or ())
    return own


def _known(row: V | None, kind: str, row_id: str) -> V:
    if row is None:
        _refuse(IgnoredReason.UNKNOWN, f"there is no {kind} {row_id}: read the rules again")
    return row


def _refuse(reason: IgnoredReason, message: str) -> NoReturn:
    raise InvalidChangeError(reason, message)
