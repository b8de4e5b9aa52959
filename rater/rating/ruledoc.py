"""The rule document: all rating rules of an installation as one text that fits into git.

The structs say what stands in it, names in place of ids; `rater.rating.reading` makes them of a text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.rules import MAX_SCRIPT, RuleType
from rater.rating.hashmap import DEFAULT_GROUP

__all__ = [
    "SECTIONS",
    "DocumentField",
    "DocumentMapping",
    "DocumentScript",
    "DocumentService",
    "DocumentStep",
    "DocumentThreshold",
    "DocumentTiers",
    "HashmapSection",
    "ModuleState",
    "PlacedRule",
    "PyscriptsSection",
    "RuleDocument",
    "clashes",
]

SECTIONS = ("hashmap", "pyscripts")  # the modules whose rules stand in a section of their own

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]


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


class DocumentStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """What each unit costs up to a quantity of the month; `up_to` None is without bound."""

    cost: Decimal
    up_to: Decimal | None = None


class DocumentTiers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Graduated prices, one count for each combination of the values of the labels `by`."""

    steps: tuple[DocumentStep, ...]
    by: tuple[Name, ...] = ()


class DocumentService(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rules of one metric: mappings, thresholds and fields, or tiers."""

    name: Name
    mappings: tuple[DocumentMapping, ...] = ()
    thresholds: tuple[DocumentThreshold, ...] = ()
    fields: tuple[DocumentField, ...] = ()
    tiers: DocumentTiers | None = None


class HashmapSection(msgspec.Struct, frozen=True):
    """All rules of module hashmap. Groups are those listed and those that rules name, in order of appearance."""

    groups: tuple[Name, ...] = ()
    services: tuple[DocumentService, ...] = ()


class DocumentScript(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rating script, within `[start, end)` in seconds UTC; None is no bound."""

    name: Name
    data: Annotated[str, Meta(max_length=MAX_SCRIPT)]
    start: int | None = None
    end: int | None = None
    description: Annotated[str, Meta(max_length=256)] | None = None


class PyscriptsSection(msgspec.Struct, frozen=True):
    """All scripts, in the order in which they run."""

    scripts: tuple[DocumentScript, ...] = ()


class ModuleState(msgspec.Struct, frozen=True):
    """Whether a rating module takes part, and in which order: the highest priority first."""

    enabled: bool = False
    priority: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class RuleDocument(msgspec.Struct, frozen=True):
    """A document without faults. `modules` holds those of SECTIONS and what else the document names."""

    modules: dict[str, ModuleState]
    hashmap: HashmapSection = HashmapSection()
    pyscripts: PyscriptsSection = PyscriptsSection()


class PlacedRule(NamedTuple):
    """A rule and where it stands; `line` 0 where there is no text. Rules of one parent have the same `parent`."""

    parent: str
    path: str
    line: int
    rule: DocumentMapping | DocumentThreshold


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
