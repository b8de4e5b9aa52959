"""Measures without a number: Gnocchi counts NaN and infinities, and leaves their granules out of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collectors.gnocchi_args import GnocchiArgs
from collectors.gnocchi_items import Item, Key, Reading, missing_granules, split_keys
from collectors.gnocchi_judgement import Judged, Measured, Watched, granularity_of
from collectors.times import iso
from rater.model.interval import Interval

__all__ = ["Lost", "lost_values"]


class Lost(NamedTuple):
    """Why an item is no quantity."""

    reason: str


def lost_values(
    judged: Judged, items: Iterable[Item], args: GnocchiArgs, reading: Reading, scope_key: str, scope_id: str
) -> dict[Key, Lost]:
    """The groups of a scope of which a granule has measures and no value, by what was counted."""
    answered: dict[Key, set[int]] = {}
    for item in items:
        answered.setdefault(item.key, set()).update(item.begins)
    barred = set(judged.barred)
    at = reading.names.index(scope_key)
    lost: dict[Key, Lost] = {}
    for watched in judged.watched:
        if watched.resource.resource_id in barred:
            continue
        spans_of = {key: spans for key, spans in split_keys(watched.resource, reading).items() if key[at] == scope_id}
        for key, spans in spans_of.items():
            known = answered.get(key, set())
            lacking = _lacking(watched, args, reading.period, spans, known)
            if not lacking:
                continue
            looked_at = reading.granules == "all" or not known
            # Else at the first one alone; where a revision begins, Gnocchi has a difference for its second at best.
            if looked_at or (not args.is_rate_of_groups and lacking[0] < min(known)):
                shown = ", ".join(iso(begin) for begin in lacking[:3])
                lost[key] = Lost(f"its granules of {shown} have measures and no finite number")
    return lost


def _lacking(
    watched: Watched, args: GnocchiArgs, period: Interval, spans: Sequence[Interval], answered: set[int]
) -> list[int]:
    found: set[int] = set()
    for measured in watched.metrics:
        definition = granularity_of(measured.policy, args)
        if definition is None or definition.granularity < 1:
            continue
        length = round(definition.granularity)
        counted = [point for point in sorted(measured.points) if period.begin <= point < period.end]
        lacking = missing_granules(counted, length, spans, answered)
        found.update(begin for begin in lacking if _has_value(measured, args, begin, length, period))
    return sorted(found)


def _has_value(measured: Measured, args: GnocchiArgs, begin: int, length: int, period: Interval) -> bool:
    """Whether numbers in the granule would have made a value of it."""
    before = [point for point in measured.points if point < begin]
    inside = sum(count for point, count in measured.points.items() if begin <= point < begin + length)
    if args.is_rate_of_groups:  # a difference to the granule before, as far back as is asked
        return any(point >= period.begin - length for point in before)
    text = f"{args.aggregation_method} {args.custom_query}"
    if "rate" in text:  # a difference to the measure before
        return bool(before) or inside > 1
    return "std" not in text or inside > 1
