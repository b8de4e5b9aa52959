"""A change of the rules in words: what it is about, and what it was before and is after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, TypeVar

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
    number_text,
)
from rater.rating.book import RuleBook
from rater.rating.wording import date_parts, describe_module, describe_script, describe_tiers, description_parts

__all__ = ["ChangeWords", "words_of"]

R = TypeVar("R")
Sign: TypeAlias = Literal["+", "-", "~"]
Rule: TypeAlias = MappingRule | ThresholdRule | Script | Tiers | ModuleSet


class ChangeWords(NamedTuple):
    """`before` and `after` are empty where there is nothing."""

    sign: Sign
    what: str
    place: str
    before: str
    after: str


def words_of(event: RuleEvent, before: RuleBook) -> list[ChangeWords]:
    """Each change of an event in words; `before` is the book it was folded into.

    What neither the book nor the event itself knows is named by its id.
    """
    names = _Names(event, before)
    return [_words(change, names) for change in event.changes]


def _words(change: Change, names: _Names) -> ChangeWords:
    match change:
        case ServiceCreated(service):
            return ChangeWords("+", "service", service.name, "", "")
        case ServiceDeleted(service_id):
            return ChangeWords("-", "service", names.service(service_id), "with all its rules", "")
        case FieldCreated(field):
            return ChangeWords("+", "field", names.field_place(field), "", "")
        case FieldDeleted(field_id):
            return ChangeWords("-", "field", names.parent(field_id), "with all its rules", "")
        case GroupCreated(group):
            return ChangeWords("+", "group", group.name, "", "")
        case GroupDeleted(group_id, recursive):
            fate = "with its rules" if recursive else "its rules stay, without a group"
            return ChangeWords("-", "group", names.group(group_id), fate, "")
        case MappingCreated(rule) | ThresholdCreated(rule):
            return ChangeWords("+", names.kind(rule), names.place(rule), "", names.text(rule))
        case MappingUpdated(mapping):
            return names.updated(mapping, names.rules.get(mapping.mapping_id))
        case ThresholdUpdated(threshold):
            return names.updated(threshold, names.rules.get(threshold.threshold_id))
        case MappingDeleted(rule_id):
            return names.deleted("mapping", rule_id)
        case ThresholdDeleted(rule_id):
            return names.deleted("threshold", rule_id)
        case ScriptCreated(script):
            return ChangeWords("+", "script", script.name, "", names.text(script))
        case ScriptUpdated(script):
            return names.updated(script, names.rules.get(script.script_id))
        case ScriptDeleted(rule_id):
            return names.deleted("script", rule_id)
        case TiersSet(tiers):
            was = names.before.tiers_of(tiers.service_id)
            return names.updated(tiers, was) if was else ChangeWords("+", "tiers", *names.told(tiers))
        case TiersDeleted(service_id):
            was = names.before.tiers_of(service_id)
            return ChangeWords("-", "tiers", names.service(service_id), names.text(was) if was else "", "")
        case Moved(child_id, sibling):
            return ChangeWords("~", *names.moved(child_id, sibling))
        case CollectorMapped(service, collector):
            had = names.before.collector_of.get(service, "")
            return ChangeWords("~", "collector of", service, had, collector or "")
        case CollectorSwitched(collector, enabled):
            before, after = ("on" if on else "off" for on in (names.before.collectors.get(collector), enabled))
            return ChangeWords("~", "collector", collector, before, after)
        case _:  # ModuleSet, as mypy proves
            return names.updated(change, names.before.module(change.module))


class _Names:
    """What is behind the ids of an event: rows of the book before it, and those that it makes itself."""

    def __init__(self, event: RuleEvent, before: RuleBook) -> None:
        self.before = before
        self._services: dict[str, Service] = {}
        self._fields: dict[str, Field] = {}
        self._groups: dict[str, Group] = {}
        self.rules: _Rules = _Rules(before)
        for change in event.changes:
            match change:
                case ServiceCreated(service):
                    self._services[service.service_id] = service
                case FieldCreated(field):
                    self._fields[field.field_id] = field
                case GroupCreated(group):
                    self._groups[group.group_id] = group
                case MappingCreated(mapping):
                    self.rules.made[mapping.mapping_id] = mapping
                case ThresholdCreated(threshold):
                    self.rules.made[threshold.threshold_id] = threshold
                case ScriptCreated(script):
                    self.rules.made[script.script_id] = script
                case _:
                    pass

    def service(self, service_id: str) -> str:
        found = _first(service_id, self.before.services, self._services)
        return found.name if found else service_id

    def group(self, group_id: str) -> str:
        found = _first(group_id, self.before.groups, self._groups)
        return found.name if found else group_id

    def parent(self, parent_id: str) -> str:
        """The place of a service or a field."""
        found = _first(parent_id, self.before.fields, self._fields)
        return self.field_place(found) if found else self.service(parent_id)

    def field_place(self, field: Field) -> str:
        return f"{self.service(field.service_id)} / {field.name}"

    def kind(self, rule: Rule) -> str:
        return _KINDS[type(rule)]

    def place(self, rule: Rule) -> str:
        match rule:
            case MappingRule():
                return self.parent(rule.parent_id) + (f" = {rule.value}" if rule.value else "")
            case ThresholdRule():
                return f"{self.parent(rule.parent_id)} >= {number_text(rule.level)}"
            case Script():
                return rule.name
            case Tiers():
                return self.service(rule.service_id)
            case _:
                return rule.module

    def text(self, rule: Rule) -> str:
        """A rule in one line: `flat 0.01 @group [tenant] from … until …`."""
        match rule:
            case MappingRule() | ThresholdRule():
                parts = [rule.type.value, number_text(rule.cost)]
                parts += [f"@{self.group(rule.group_id)}"] if rule.group_id else []
                parts += [f"[{rule.tenant_id}]"] if rule.tenant_id else []
                return " ".join(parts + (_mapping_parts(rule) if isinstance(rule, MappingRule) else []))
            case Script():
                return describe_script(rule)
            case Tiers():
                return describe_tiers(rule)
            case _:
                return describe_module(rule)

    def told(self, rule: Rule) -> tuple[str, str, str]:
        """Of what was not there before: place, nothing, text."""
        return self.place(rule), "", self.text(rule)

    def updated(self, rule: Rule, was: Rule | None) -> ChangeWords:
        before, after = self.text(was) if was else "", self.text(rule)
        place = self.place(was) if was else self.place(rule)
        if was and self.place(was) != self.place(rule):
            after = f"{self.place(rule)} {after}"
        return ChangeWords("~", self.kind(rule), place, before, after)

    def deleted(self, what: str, rule_id: str) -> ChangeWords:
        was = self.rules.get(rule_id)
        return ChangeWords("-", what, self.place(was) if was else rule_id, self.text(was) if was else "", "")

    def moved(self, child_id: str, sibling: str | None) -> tuple[str, str, str, str]:
        what, place = self._child(child_id)
        after = "last" if sibling is None else f"before {self._child(sibling)[1]}"
        return what, place, "in another place", after

    def _child(self, child_id: str) -> tuple[str, str]:
        if (rule := self.rules.get(child_id)) is not None:
            return self.kind(rule), self.place(rule)
        return "field", self.parent(child_id)


_KINDS: Mapping[type[Rule], str] = {
    MappingRule: "mapping",
    ThresholdRule: "threshold",
    Script: "script",
    Tiers: "tiers",
    ModuleSet: "module",
}


class _Rules:
    """Mappings, thresholds and scripts by id."""

    def __init__(self, before: RuleBook) -> None:
        self._before = before
        self.made: dict[str, MappingRule | ThresholdRule | Script] = {}

    def get(self, rule_id: str) -> MappingRule | ThresholdRule | Script | None:
        if (mapping := self._before.mappings.get(rule_id)) is not None:
            return mapping.rule
        if (threshold := self._before.thresholds.get(rule_id)) is not None:
            return threshold.rule
        if (script := self._before.scripts.get(rule_id)) is not None:
            return script.script
        return self.made.get(rule_id)


def _first(key: str, before: Mapping[str, R], made: Mapping[str, R]) -> R | None:
    return before.get(key) or made.get(key)


def _mapping_parts(rule: MappingRule) -> list[str]:
    named = [f"named {rule.name!r}"] if rule.name is not None else []
    return [*date_parts(rule), *named, *description_parts(rule)]
