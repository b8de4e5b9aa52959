"""What usage files claim to cover, and how a period falls into covered and uncovered pieces by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from collectors.replay.usage_file import ALL
from rater.model.interval import Interval, clip, uncovered, union

__all__ = ["Claims", "Name", "Piece", "hull", "pieces"]

_COMPACT_AFTER = 1000

Name: TypeAlias = tuple[str, str]
"""A scope and a metric."""


class Piece(NamedTuple):
    """A stretch within one period that is covered as a whole or not at all."""

    begin: int
    end: int
    covered: bool


class Claims:
    """The covers lines of usage files. `*` stands for every scope, or every metric, that the same file names."""

    def __init__(self, everywhere: Iterable[Interval] = ()) -> None:
        """`everywhere`: what is covered for all scopes and metrics that any file names."""
        self.everywhere = union(everywhere)
        self._claims: dict[Name, list[Interval]] = {}
        self._of_file: dict[Name, list[Interval]] = {}

    def add(self, scope_id: str, metric: str, interval: Interval) -> None:
        """Note a claim of the file that is being read."""
        _append(self._of_file, (scope_id, metric), interval)

    def span_of_file(self) -> Interval | None:
        """From the first to the last instant that the file being read covers; None if that is nothing."""
        return hull(interval for intervals in self._of_file.values() for interval in intervals)

    def end_file(self, names: Iterable[Name]) -> None:
        """The file was read and names these scopes and metrics: its stars are now known to mean them."""
        if not self._of_file:
            return
        for scope_id, metric in names:
            for key in ((scope_id, metric), (scope_id, ALL), (ALL, metric), (ALL, ALL)):
                for interval in self._of_file.get(key, ()):
                    _append(self._claims, (scope_id, metric), interval)
        self._of_file.clear()

    def of(self, scope_id: str, metric: str) -> list[Interval]:
        """What is covered of one scope and metric, as a normal list. Of files that were read to their end."""
        return union([*self.everywhere, *self._claims.get((scope_id, metric), ())])


def _append(claims: dict[Name, list[Interval]], name: Name, interval: Interval) -> None:
    known = claims.setdefault(name, [])
    if known and known[-1].begin <= interval.begin <= known[-1].end:  # of files in order of time
        known[-1] = Interval(known[-1].begin, max(known[-1].end, interval.end))
        return
    known.append(interval)
    if len(known) % _COMPACT_AFTER == 0:
        known[:] = union(known)


def hull(intervals: Iterable[Interval]) -> Interval | None:
    """From the first to the last instant of all of them; None if there is none."""
    known = list(intervals)
    if not known:
        return None
    return Interval(min(i.begin for i in known), max(i.end for i in known))


def pieces(period: Interval, covered: Iterable[Interval]) -> list[Piece]:
    """The period cut at the borders of what is covered, in order of time, without holes."""
    inside = clip(covered, period)
    yes = [Piece(begin, end, covered=True) for begin, end in inside]
    no = [Piece(begin, end, covered=False) for begin, end in uncovered(period, inside)]
    return sorted(yes + no)
