"""Which collections hold, what they prove, and what was expected: the arithmetic of completeness.

Several collections of one source may reach into the same time. The choice among them depends only on the set of
complete collections, never on the order in which they came.
"""

from __future__ import annotations

from rater.engine.state import FOREVER, Scope, Slice
from rater.model.interval import Interval, clip, overlaps, union

__all__ = ["covered", "expectations", "expected_until", "winners"]


def winners(slices: list[Slice]) -> list[Slice]:
    """The collections of one source that hold, in order of time: no instant is taken from two of them.

    Wider ranges come first, then higher attempts; one that conflicts with an earlier choice is left out. Two
    ranges that overlap do not conflict as long as one of them proves and holds nothing inside the other: so a missing
    stretch may be collected on its own.
    """
    chosen: list[Slice] = []
    for candidate in sorted((s for s in slices if s.complete), key=_preference, reverse=True):
        if not any(_conflict(candidate, other) for other in chosen):
            chosen.append(candidate)
    return sorted(chosen, key=lambda s: (s.begin, s.end, s.collection_id))


def _preference(candidate: Slice) -> tuple[int, int, str, int]:
    return candidate.end - candidate.begin, candidate.attempt, candidate.collection_id, -candidate.begin


def _conflict(one: Slice, other: Slice) -> bool:
    if not overlaps(Interval(one.begin, one.end), Interval(other.begin, other.end)):
        return False
    if (one.begin, one.end) == (other.begin, other.end):
        return True
    return _reaches_into(one, other) and _reaches_into(other, one)


def _reaches_into(one: Slice, other: Slice) -> bool:
    strays = Interval(one.first_stray, one.last_stray + 1)
    within = Interval(other.begin, other.end)
    return overlaps(strays, within) or any(overlaps(part, within) for part in one.covers)


def covered(chosen: list[Slice]) -> list[Interval]:
    """What the chosen collections prove together, as a normal list."""
    return union(part for chosen_slice in chosen for part in chosen_slice.covers)


def expected_until(scope: Scope, otherwise: int) -> int:
    """The end of everything that is expected of the scope, FOREVER if there is none; `otherwise` if nothing is."""
    if any(scope.seen.values()):
        return scope.pauses.since
    ends = [parts[-1].end for metrics in scope.plans.values() for parts in metrics.values() if parts]
    return min(max(ends, default=otherwise), scope.pauses.since)


def expectations(scope: Scope, period: Interval) -> dict[tuple[str, str], list[Interval]]:
    """What is expected within `period`, by (metric, source): normal lists, none of them empty. Sorted by key."""
    if scope.pauses.holds(period.begin):
        return {}
    found: dict[tuple[str, str], list[Interval]] = {}
    for source, metrics in scope.plans.items():
        for metric, intervals in metrics.items():
            inside = clip(intervals, period)
            if inside:
                found[metric, source] = inside
    for source, since in scope.seen.items():
        for metric, begin in since.items():
            inside = clip([Interval(begin, FOREVER)], period)
            if inside:
                found[metric, source] = inside
    return dict(sorted(found.items()))
