"""When nobody measured a resource that lived: the arithmetic of Gnocchi's evidence.

Pure functions. What was measured is known by granules: somebody measured within `[point, point + granularity)`, so all
of it holds to the granularity and not finer. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from math import ceil, floor
from statistics import median
from typing import NamedTuple

from collectors.evidence import FOREVER
from collectors.gnocchi.resources import Piece
from rater.model.interval import Interval, clip, overlaps, subtract, union

__all__ = ["Pace", "dark", "missing_by_scope", "off_spans", "pace_of"]

DEFAULT_INTERVAL = 300.0  # of what was measured too seldom to tell: that of Ceilometer's agents


class Pace(NamedTuple):
    """How often a metric is measured, and how closely that can be seen."""

    interval: float
    granularity: float
    slack: float

    @property
    def reach(self) -> float:
        """So far apart may two points be."""
        return self.slack * self.interval


def pace_of(points: Iterable[Sequence[int]], granularity: float, slack: float, configured: float | None) -> Pace:
    """The pace of a metric: the median distance of its points over all resources, not below the granularity."""
    distances = list(chain.from_iterable((b - a for a, b in pairwise(of_one)) for of_one in points))
    typical = configured or (float(median(distances)) if distances else DEFAULT_INTERVAL)
    return Pace(max(typical, granularity), granularity, slack)


def dark(
    points: Sequence[int], life: tuple[float, float], pace: Pace, seen: Interval, period: Interval
) -> list[Interval]:
    """The parts of the period in which a resource lived and was not measured.

    `points` in order, of what was looked at, `seen`; `life` from its start to its end. After a point it is measured for
    one interval. It is dark if two points are further apart than the pace allows, or the first from its start, or its
    end (or the end of what was seen) from the last. A period without a single point is dark as far as it lived, unless
    that is less than the pace tells.
    """
    start, end = max(life[0], seen.begin), min(life[1], seen.end)
    if start >= end:
        return []
    known = [point for point in points if point + pace.granularity > start and point < end]
    found: list[Interval] = []
    edge = start - start % pace.granularity  # a point of its first moment carries the begin of its granule
    ends = int(min(life[1], FOREVER))
    if not known:
        found = [Interval(floor(start), ends)] if end - start > pace.reach else []
    else:
        if known[0] - edge > pace.reach:
            found.append(Interval(floor(start), known[0]))
        found += [
            Interval(round(last + pace.interval), following)
            for last, following in pairwise(known)
            if following - last > pace.reach
        ]
        if end - known[-1] > pace.reach:
            found.append(Interval(round(known[-1] + pace.interval), max(ends, ceil(end))))
    lived = clip([Interval(floor(start), ceil(end))], period)
    if lived and not _any_within(known, lived[0], pace.granularity):
        length = lived[0].end - lived[0].begin
        if length >= min(pace.reach, period.end - period.begin):
            found += lived
    return union(clip([one for one in found if one.begin < one.end], period))


def _any_within(points: Iterable[int], span: Interval, granularity: float) -> bool:
    return any(overlaps(Interval(point, ceil(point + granularity)), span) for point in points)


def off_spans(states: Sequence[tuple[int, float]], off: Iterable[float], pace: Pace) -> list[Interval]:
    """When a resource was off by what a metric of its state said: from a value that means off to the next point, at
    most as far as the pace lets points lie apart."""
    meant = set(off)
    spans = []
    for number, (at, value) in enumerate(states):
        until = at + pace.reach
        if number + 1 < len(states):
            until = min(until, states[number + 1][0])
        if value in meant:
            spans.append(Interval(at, ceil(until)))
    return union(spans)


def missing_by_scope(
    holes: Iterable[Interval], pieces: Iterable[Piece], scope_key: str, known: Iterable[Interval] = ()
) -> dict[str, list[Interval]]:
    """Whose the dark time of a resource was: that of whoever had it then, without the time in which it is known."""
    missing: dict[str, list[Interval]] = {}
    dark_time = subtract(union(holes), union(known))
    for piece in pieces:
        scope_id = piece.attributes.get(scope_key)
        parts = clip(dark_time, piece.span)
        if parts and isinstance(scope_id, str) and scope_id:
            missing.setdefault(scope_id, []).extend(parts)
    return {scope_id: union(parts) for scope_id, parts in missing.items()}
