"""The rule document: all rating rules of an installation as one text that fits into git.

`parse` reads it with every check at once. The structs have the shape of the file, names in place of ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Annotated, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from rater.model.document import Node, Problems, load
from rater.model.rules import RuleType, cost_fault, level_fault, number_text
from rater.rating.hashmap import DEFAULT_GROUP

__all__ = [
    "MODULES",
    "DocumentField",
    "DocumentMapping",
    "DocumentService",
    "DocumentThreshold",
    "HashmapSection",
    "ModuleState",
    "PlacedRule",
    "RuleDocument",
    "clashes",
    "parse",
]

MODULES = ("hashmap", "pyscripts")
NOT_YET = "not supported yet by this version of rater: take it out of the document"

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
T = TypeVar("T")


class DocumentMapping(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cost of a service, or of one value of a field, within `[start, end)` in seconds UTC; None is no bound."""

    cost: Decimal
    value: Annotated[str, Meta(max_length=255)] = ""
    type: RuleType = RuleType.FLAT
    group: Name | None = None
    tenant_id: Name | None = None
    start: int | None = None
    end: int | None = None
    name: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    description: Annotated[str, Meta(max_length=256)] | None = None


class DocumentThreshold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cost from a level of the quantity, or of the number in a field, on."""

    level: Decimal
    cost: Decimal
    type: RuleType = RuleType.FLAT
    group: Name | None = None
    tenant_id: Name | None = None


class DocumentField(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rules about one label."""

    name: Name
    mappings: tuple[DocumentMapping, ...] = ()
    thresholds: tuple[DocumentThreshold, ...] = ()


class DocumentService(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rules of one metric."""

    name: Name
    mappings: tuple[DocumentMapping, ...] = ()
    thresholds: tuple[DocumentThreshold, ...] = ()
    fields: tuple[DocumentField, ...] = ()


class HashmapSection(msgspec.Struct, frozen=True):
    """All rules of module hashmap. Groups are those listed and those that rules name, in order of appearance."""

    groups: tuple[Name, ...] = ()
    services: tuple[DocumentService, ...] = ()


class ModuleState(msgspec.Struct, frozen=True):
    """Whether a rating module takes part, and in which order: the highest priority first."""

    enabled: bool = False
    priority: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class RuleDocument(msgspec.Struct, frozen=True):
    """A document without faults. `modules` holds every module of MODULES."""

    modules: dict[str, ModuleState]
    hashmap: HashmapSection = HashmapSection()


class PlacedRule(NamedTuple):
    """A rule and where it stands; `line` 0 where there is no text. Rules of one parent have the same `parent`."""

    parent: str
    path: str
    line: int
    rule: DocumentMapping | DocumentThreshold


def parse(text: str, name: str) -> RuleDocument:
    """The rules of a YAML or JSON text; `name` is the file name for messages.

    Raises DocumentError that lists every fault with line and path.
    """
    problems = Problems(name)
    document = _Reader(problems).document(load(text, name))
    problems.refuse()
    return document


def clashes(rules: Iterable[PlacedRule]) -> Iterator[tuple[PlacedRule, PlacedRule, str]]:
    """Pairs of rules that cannot both stand, the later one first, and the reason.

    Rules of the same parent, value or level, tenant and group must not be valid at the same time, since only their
    order would decide; and the name of a mapping is given once.
    """
    names: dict[str, PlacedRule] = {}
    alike: dict[tuple[object, ...], list[tuple[int, PlacedRule]]] = defaultdict(list)
    for number, placed in enumerate(rules):
        rule = placed.rule
        distinct = rule.value if isinstance(rule, DocumentMapping) else rule.level
        group = rule.group or DEFAULT_GROUP
        alike[placed.parent, distinct, rule.tenant_id, group].append((number, placed))
        if isinstance(rule, DocumentMapping) and rule.name is not None:
            first = names.setdefault(rule.name, placed)
            if first is not placed:
                yield placed, first, f"has the name {rule.name!r} of another mapping"
    for candidates in alike.values():
        if len(candidates) > 1:
            yield from _overlaps(candidates)


def _overlaps(candidates: list[tuple[int, PlacedRule]]) -> Iterator[tuple[PlacedRule, PlacedRule, str]]:
    by_start = sorted((*_validity(placed.rule), number, placed) for number, placed in candidates)
    reach: tuple[float, int, PlacedRule] | None = None
    for start, end, number, placed in by_start:
        if start >= end:
            continue
        if reach is not None and start < reach[0]:
            (_, first), (_, second) = sorted([(reach[1], reach[2]), (number, placed)], key=lambda pair: pair[0])
            yield second, first, "is a duplicate: same value or level, tenant and group, valid at the same time"
        if reach is None or end > reach[0]:
            reach = (end, number, placed)


def _validity(rule: DocumentMapping | DocumentThreshold) -> tuple[float, float]:
    ever = float("inf")
    if isinstance(rule, DocumentThreshold):
        return -ever, ever
    return -ever if rule.start is None else rule.start, ever if rule.end is None else rule.end


class _Reader:
    """Reads the nodes of one document; what has a fault is noted and left out."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._groups: dict[str, None] = {}
        self._placed: list[PlacedRule] = []

    def document(self, root: Node) -> RuleDocument:
        sections = self._problems.members(root, ("modules", "hashmap", "pyscripts"))
        modules = self._modules(sections)
        if (pyscripts := _given(sections, "pyscripts")) is not None:
            scripts = self._problems.members(pyscripts, ("scripts",)).get("scripts")
            for script in self._problems.items(scripts):
                self._problems.add(script, f"pyscripts are {NOT_YET}")
        hashmap = _given(sections, "hashmap")
        services = () if hashmap is None else self._hashmap(hashmap)
        for later, first, reason in clashes(self._placed):
            place = f"{first.path} on line {first.line}"
            self._problems.add(Node("map", later.path, later.line), f"{reason}; see {place}")
        return RuleDocument(modules, HashmapSection(tuple(self._groups), services))

    def _modules(self, sections: dict[str, Node]) -> dict[str, ModuleState]:
        given = _given(sections, "modules")
        nodes = {} if given is None else self._problems.members(given, MODULES)
        states = {}
        for module in MODULES:
            enabled, priority = module in sections, 1
            if (node := _given(nodes, module)) is not None:
                keys = self._problems.members(node, ("enabled", "priority"))
                if "enabled" in keys:
                    enabled = bool(self._problems.boolean(keys["enabled"]))
                if "priority" in keys:
                    priority = self._problems.integer(keys["priority"], 1, 1_000_000) or 1
            states[module] = ModuleState(enabled, priority)
        return states

    def _hashmap(self, node: Node) -> tuple[DocumentService, ...]:
        keys = self._problems.members(node, ("groups", "services"))
        for item in self._problems.items(keys.get("groups")):
            group = self._problems.text(item)
            if group in self._groups:
                self._problems.add(item, f"group {group!r} is listed twice")
            elif group is not None:
                self._groups[group] = None
        return self._named(keys.get("services"), "service", self._service)

    def _named(self, node: Node | None, what: str, read: Callable[[Node], tuple[Node | None, T]]) -> tuple[T, ...]:
        """The services or fields of a list; a name that was given before is a fault."""
        first: dict[str, Node] = {}
        found = []
        for item in self._problems.items(node):
            name, value = read(item)
            if name is not None and name.text and first.setdefault(name.text, name) is not name:
                line = first[name.text].line
                self._problems.add(
                    name, f"a second {what} named {name.text!r}: first on line {line}, put them together"
                )
            found.append(value)
        return tuple(found)

    def _service(self, node: Node) -> tuple[Node | None, DocumentService]:
        keys = self._problems.members(node, ("name", "mappings", "thresholds", "fields", "tiers"), ("name",))
        tiers = _given(keys, "tiers")
        if tiers is not None and (tiers.kind != "map" or tiers.entries):
            self._problems.add(tiers, f"tiers are {NOT_YET}")
        return keys.get("name"), DocumentService(
            self._name(keys),
            self._mappings(node, keys.get("mappings"), of_field=False),
            self._thresholds(node, keys.get("thresholds")),
            self._named(keys.get("fields"), "field", self._field),
        )

    def _field(self, node: Node) -> tuple[Node | None, DocumentField]:
        keys = self._problems.members(node, ("name", "mappings", "thresholds"), ("name",))
        return keys.get("name"), DocumentField(
            self._name(keys),
            self._mappings(node, keys.get("mappings"), of_field=True),
            self._thresholds(node, keys.get("thresholds")),
        )

    def _name(self, keys: dict[str, Node]) -> str:
        return self._problems.text(keys["name"]) or "" if "name" in keys else ""

    def _mappings(self, parent: Node, node: Node | None, *, of_field: bool) -> tuple[DocumentMapping, ...]:
        found = []
        for item in self._problems.items(node):
            rule = self._mapping(item, of_field=of_field)
            if rule is not None:
                self._placed.append(PlacedRule(parent.path, item.path, item.line, rule))
                found.append(rule)
        return tuple(found)

    def _mapping(self, node: Node, *, of_field: bool) -> DocumentMapping | None:
        known = ("value", "cost", "type", "group", "tenant_id", "start", "end", "name", "description")
        before = len(self._problems.found)
        keys = self._problems.members(node, known, ("value", "cost") if of_field else ("cost",))
        text, instant = self._problems.text, self._problems.instant
        value = _given(keys, "value")
        if value is not None and not of_field:
            self._problems.add(value, "a mapping of a service has no value: put it under a field, or drop the value")
        elif value is None and "value" in keys and of_field:
            self._problems.text(keys["value"])  # notes that it is null
        rule = DocumentMapping(
            self._number(keys, "cost", cost_fault),
            (text(value) or "") if value is not None and of_field else "",
            self._type(keys),
            self._group(keys),
            self._optional(keys, "tenant_id", text),
            self._optional(keys, "start", instant),
            self._optional(keys, "end", instant),
            self._optional(keys, "name", lambda name: text(name, 32)),
            self._optional(keys, "description", lambda description: text(description, 256, empty=True)),
        )
        if rule.start is not None and rule.end is not None and rule.end < rule.start:
            self._problems.add(keys["end"], "end is before start")
        return rule if len(self._problems.found) == before else None

    def _thresholds(self, parent: Node, node: Node | None) -> tuple[DocumentThreshold, ...]:
        found = []
        for item in self._problems.items(node):
            before = len(self._problems.found)
            keys = self._problems.members(item, ("level", "cost", "type", "group", "tenant_id"), ("level", "cost"))
            rule = DocumentThreshold(
                self._number(keys, "level", level_fault),
                self._number(keys, "cost", cost_fault),
                self._type(keys),
                self._group(keys),
                self._optional(keys, "tenant_id", self._problems.text),
            )
            if len(self._problems.found) == before:
                self._placed.append(PlacedRule(parent.path, item.path, item.line, rule))
                found.append(rule)
        return tuple(found)

    def _number(self, keys: dict[str, Node], key: str, fault_of: Callable[[Decimal], str]) -> Decimal:
        number = self._problems.decimal(keys[key]) if key in keys else None
        if number is None:
            return Decimal(0)
        if fault := fault_of(number):
            self._problems.add(keys[key], fault)
            return Decimal(0)
        return Decimal(number_text(number))

    def _type(self, keys: dict[str, Node]) -> RuleType:
        word = self._optional(keys, "type", lambda node: self._problems.choice(node, [kind.value for kind in RuleType]))
        return RuleType.FLAT if word is None else RuleType(word)

    def _group(self, keys: dict[str, Node]) -> str | None:
        group = self._optional(keys, "group", self._problems.text)
        if group is not None:
            self._groups.setdefault(group)
        return group

    @staticmethod
    def _optional(keys: dict[str, Node], key: str, read: Callable[[Node], T | None]) -> T | None:
        node = _given(keys, key)
        return None if node is None else read(node)


def _given(keys: dict[str, Node], key: str) -> Node | None:
    """The member of that key unless it is absent or null."""
    node = keys.get(key)
    return None if node is None or node.kind == "null" else node
