"""What a usage file claims to cover, and how a period falls into covered and uncovered pieces by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from collectors.usage_file import ALL
from rater.model.interval import Interval, clip, uncovered, union

__all__ = ["Claims", "Piece", "pieces"]

_COMPACT_AFTER = 1000


class Piece(NamedTuple):
    """A stretch within one period that is covered as a whole or not at all."""

    begin: int
    end: int
    covered: bool


class Claims:
    """The covers lines of a file. `*` stands for every scope, or every metric, that the file names."""

    def __init__(self, everywhere: Iterable[Interval] = ()) -> None:
        """`everywhere`: what is covered for all scopes and metrics, whatever the file says."""
        self._claims: dict[tuple[str, str], list[Interval]] = {}
        for interval in everywhere:
            self.add(ALL, ALL, interval)

    def add(self, scope_id: str, metric: str, interval: Interval) -> None:
        """Note a claim."""
        known = self._claims.setdefault((scope_id, metric), [])
        known.append(interval)
        if len(known) >= _COMPACT_AFTER and len(known) % _COMPACT_AFTER == 0:
            known[:] = union(known)

    def of(self, scope_id: str, metric: str) -> list[Interval]:
        """What is covered of one scope and metric, as a normal list."""
        keys = ((scope_id, metric), (scope_id, ALL), (ALL, metric), (ALL, ALL))
        return union(interval for key in keys for interval in self._claims.get(key, ()))

    def span(self) -> Interval | None:
        """From the first to the last covered instant; None if nothing is covered."""
        claimed = [interval for intervals in self._claims.values() for interval in intervals]
        if not claimed:
            return None
        return Interval(min(i.begin for i in claimed), max(i.end for i in claimed))


def pieces(period: Interval, covered: Iterable[Interval]) -> list[Piece]:
    """The period cut at the borders of what is covered, in order of time, without holes."""
    inside = clip(covered, period)
    yes = [Piece(begin, end, covered=True) for begin, end in inside]
    no = [Piece(begin, end, covered=False) for begin, end in uncovered(period, inside)]
    return sorted(yes + no)
