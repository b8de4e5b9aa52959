"""From the groups of Gnocchi's answers to what each scope is billed: one item per group, with a quantity and labels.

Pure functions. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec

from collectors.errors import SourceError
from collectors.gnocchi.answer import Group, Point
from collectors.gnocchi.args import GnocchiArgs, combination
from collectors.gnocchi.granules import combined, overlap, shared
from collectors.gnocchi.resources import Resource
from collectors.gnocchi.settings import Combine
from collectors.metrics_yml import Metric
from rater.model.interval import Interval

__all__ = [
    "Item",
    "Key",
    "Reading",
    "divided",
    "grouped",
    "latest_revisions",
    "missing_granules",
    "reading",
    "split_keys",
]

Key: TypeAlias = tuple[Any, ...]
"""The values of what is grouped by, in the order of `Reading.names`."""


class Item(msgspec.Struct, frozen=True):
    """What a group is billed."""

    key: Key
    raw: float | str
    """The quantity before factor and offset: a float as Gnocchi says it, or decimal text that was made of several."""
    begins: frozenset[int]
    """Of the granules that have a value."""
    is_whole: bool = True
    """Whether one granule made it."""


class Reading(msgspec.Struct, frozen=True):
    """How the answers for one metric are read."""

    names: tuple[str, ...]
    """What is grouped by."""
    period: Interval
    granules: Literal["all", "first"]
    how: Combine | None
    setting: str
    """The key of rater.yaml that would say `how`."""

    def key(self, values: Mapping[str, Any]) -> Key:
        """The group that attributes belong to."""
        return tuple(values.get(name) for name in self.names)


def reading(metric: Metric, args: GnocchiArgs, scope_key: str, period: Interval, granules: Literal["all", "first"],
            chosen: Mapping[str, Combine]) -> Reading:  # fmt: skip
    """How the answers for a metric are read; `chosen` by public name is how granules become one quantity."""
    names = metric.grouped_by(scope_key)
    if args.resource_key not in names:
        names = (*names, args.resource_key)
    how = chosen.get(metric.name) or combination(args)
    return Reading(names, period, granules, how, f"collect.gnocchi.combine.{metric.name}")


def grouped(groups: Iterable[Group], reading: Reading) -> list[Item]:
    """The items of groups of which each has its resources to itself, or has its share from Gnocchi.

    Raises SourceError for granules of several lengths, which would be added up, and where nobody said how.
    """
    return [item for group in groups if group.points and (item := _item(group, reading)) is not None]


def _item(group: Group, reading: Reading) -> Item | None:
    key = reading.key(group.group)
    begins = frozenset(point.begin for point in group.points)
    if reading.granules == "first":
        return Item(key, group.points[0].value, begins, len(group.points) == 1)
    values = _values(group.points, reading)
    if not values:
        return None
    ordered = [values[begin] for begin in sorted(values)]
    return Item(key, combined(ordered, _how(group.points, reading)), frozenset(values), len(values) == 1)


def _values(points: Sequence[Point], reading: Reading) -> dict[int, float]:
    """By begin; the same one comes again where a group has several resources, and Gnocchi adds those of a period."""
    if len({point.length for point in points}) > 1:
        raise SourceError("Gnocchi gives granules of several lengths, which belong to the same time: force one of them")
    values: dict[int, float] = {}
    for point in points:
        if reading.period.begin <= point.begin < reading.period.end:
            values[point.begin] = values.get(point.begin, 0.0) + point.value
    return values


def _how(points: Sequence[Point], reading: Reading) -> Combine:
    if reading.granules == "first":
        return "first"
    if points[0].length >= reading.period.end - reading.period.begin:
        return "max"  # of one
    if reading.how is None:
        raise SourceError(f"nobody says how granules become the quantity of a period: set {reading.setting}")
    return reading.how


# --- resources that several had


def split_keys(resource: Resource, reading: Reading) -> dict[Key, list[Interval]]:
    """Who had a resource in the period, and when: by group."""
    spans: dict[Key, list[Interval]] = {}
    for piece in resource.shares(reading.period):
        spans.setdefault(reading.key(piece.attributes), []).append(piece.span)
    return spans


def divided(
    groups: Iterable[Group], spans_of: Mapping[str, Mapping[Key, Sequence[Interval]]], reading: Reading
) -> list[Item]:
    """The items of resources that several groups had: `groups` by `id`, undivided; `spans_of` who had each, when.

    Raises SourceError as `grouped` does.
    """
    items = []
    for group in groups:
        values = _values(group.points, reading)
        if not values:
            continue
        how, length = _how(group.points, reading), round(group.points[0].length)
        for key, spans in spans_of.get(str(group.group.get("id")), {}).items():
            weights = {begin: overlap(begin, length, spans) for begin in values}
            begins = frozenset(begin for begin, weight in weights.items() if weight)
            if begins:
                items.append(Item(key, shared(values, weights, how), begins, len(values) == 1))
    return items


# --- use_all_resource_revisions: false


def latest_revisions(items: Sequence[Item], reading: Reading, *, like_cloudkitty: bool) -> list[Item]:
    """One item per resource: the attributes of its latest revision, and the quantities of all of them together.

    CloudKitty adds floats in the order of the answer, and only where one granule made each of them.
    """
    if "id" not in reading.names:
        return list(items)
    at, since = reading.names.index("id"), reading.names.index("revision_start")
    by_id: dict[Any, list[Item]] = {}
    for item in items:
        by_id.setdefault(item.key[at], []).append(item)
    found = []
    for of_one in by_id.values():
        latest = sorted(of_one, key=lambda item: str(item.key[since]))[-1]
        begins = frozenset(begin for item in of_one for begin in item.begins)
        raw = _floats(of_one, latest) if like_cloudkitty else _exactly(of_one)
        found.append(msgspec.structs.replace(latest, raw=raw, begins=begins))
    return found


def _exactly(items: Sequence[Item]) -> float | str:
    if len(items) == 1:
        return items[0].raw
    return format(sum((Decimal(str(item.raw)) for item in items), Decimal(0)), "f")


def _floats(items: Sequence[Item], latest: Item) -> float | str:
    if not latest.is_whole:
        return latest.raw
    total = 0.0
    for item in items:
        if item.is_whole:
            total += float(item.raw)
    return total


def missing_granules(
    wanted: Iterable[int], length: int, spans: Sequence[Interval], answered: Iterable[int]
) -> list[int]:
    """The granules that have to have a value, that the spans reach, and that have none."""
    lacking = set(wanted) - set(answered)
    return sorted(begin for begin in lacking if overlap(begin, length, spans) > 0)
