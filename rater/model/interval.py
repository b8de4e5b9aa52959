"""Half-open intervals of UTC time and the arithmetic that coverage is made of.

All times are integer seconds since the epoch. A *normal* list of intervals is sorted, without empty members, and no
two members overlap or touch; every function here returns normal lists, whatever it was given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

__all__ = [
    "Interval",
    "clip",
    "holds",
    "overlaps",
    "period_of",
    "periods_of",
    "seconds",
    "subtract",
    "uncovered",
    "union",
]


_begin = attrgetter("begin")


class Interval(NamedTuple):
    """`[begin, end)` in seconds since the epoch, UTC. On the wire an array of two integers."""

    begin: int
    end: int


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same set of instants as a normal list."""
    merged: list[Interval] = []
    for part in sorted(intervals):
        if part.end <= part.begin:
            continue
        if merged and part.begin <= merged[-1].end:
            if part.end > merged[-1].end:
                merged[-1] = Interval(merged[-1].begin, part.end)
        else:
            merged.append(Interval(*part))
    return merged


def uncovered(period: Interval, covered: Iterable[Interval]) -> list[Interval]:
    """The parts of `period` that no interval of `covered` reaches, in order. `covered` may be in any order."""
    holes: list[Interval] = []
    reached = period.begin
    for part in union(covered):
        if part.begin >= period.end:
            break
        if part.begin > reached:
            holes.append(Interval(reached, part.begin))
        reached = max(reached, part.end)
    if reached < period.end:
        holes.append(Interval(reached, period.end))
    return holes


def subtract(whole: Iterable[Interval], removed: Iterable[Interval]) -> list[Interval]:
    """What is left of `whole` without `removed`."""
    gone = union(removed)
    return [hole for part in union(whole) for hole in uncovered(part, gone)]


def clip(intervals: Iterable[Interval], bounds: Interval) -> list[Interval]:
    """The parts of `intervals` inside `bounds`."""
    return union(Interval(max(begin, bounds.begin), min(end, bounds.end)) for begin, end in intervals)


def holds(normal: Sequence[Interval], instant: int) -> bool:
    """Whether an interval of a normal list holds `instant`."""
    before = bisect_right(normal, instant, key=_begin)
    return before > 0 and instant < normal[before - 1].end


def overlaps(one: Interval, other: Interval) -> bool:
    """Whether both hold at least one common instant."""
    return max(one.begin, other.begin) < min(one.end, other.end)


def seconds(intervals: Iterable[Interval]) -> int:
    """How many seconds the intervals hold together, each instant counted once."""
    return sum(end - begin for begin, end in union(intervals))


def period_of(instant: int, period_seconds: int) -> Interval:
    """The processing period that holds `instant`; periods are aligned to the epoch, as CloudKitty's are."""
    begin = instant - instant % period_seconds
    return Interval(begin, begin + period_seconds)


def periods_of(span: Interval, period_seconds: int) -> Iterator[Interval]:
    """The processing periods that `span` touches, oldest first; none for an empty span."""
    if span.end <= span.begin:
        return
    for begin in range(period_of(span.begin, period_seconds).begin, span.end, period_seconds):
        yield Interval(begin, begin + period_seconds)
