"""What of each scope and metric a source has proven so far: derived from what was published, kept nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from rater.model.interval import Interval, clip, periods_of, uncovered, union

__all__ = ["CollectionHead", "Progress"]


class CollectionHead(msgspec.Struct, frozen=True, tag_field="type", tag="collection"):
    """What a part of a collection says of the whole; see `rater.model.usage.Collection`."""

    source: str
    scope_id: str
    metric: str
    begin: int
    end: int
    attempt: int
    collection_id: str
    part: int = 0
    parts: int = 1
    covers: list[Interval] = []
    rework_id: str = ""


class _Partial(NamedTuple):
    attempt: int
    covers: list[Interval]


class _Track:
    """One scope and metric: whole periods that are proven, and those of which a part is."""

    __slots__ = ("partial", "whole")

    def __init__(self) -> None:
        self.whole: list[Interval] = []
        self.partial: dict[int, _Partial] = {}


class Progress:
    """The coverage of one source. Of two attempts at one period the later one counts, as for the worker."""

    def __init__(self, period_seconds: int) -> None:
        self._period = period_seconds
        self._tracks: dict[tuple[str, str], _Track] = {}
        self._parts: dict[str, set[int]] = {}
        self.reached = 0
        """The end of the latest period of which anything was published, 0 if nothing was."""
        self.proven_until = 0
        """The latest instant that was proven of anything, 0 if nothing was."""

    def take(self, head: CollectionHead) -> None:
        """Note a part of a collection; it counts when all parts are there."""
        if head.parts > 1:
            seen = self._parts.setdefault(head.collection_id, set())
            seen.add(head.part)
            if len(seen) < head.parts:
                return
            del self._parts[head.collection_id]
        self.note(head.scope_id, head.metric, Interval(head.begin, head.end), head.attempt, head.covers)

    def note(self, scope_id: str, metric: str, span: Interval, attempt: int, covers: list[Interval]) -> None:
        """Note a complete collection."""
        track = self._tracks.setdefault((scope_id, metric), _Track())
        self.reached = max(self.reached, span.end)
        self.proven_until = max([self.proven_until, *(cover.end for cover in covers)])
        for period in periods_of(span, self._period):
            known = track.partial.get(period.begin)
            if known is not None and known.attempt > attempt:
                continue
            inside = clip(covers, period)
            if not uncovered(period, inside):
                track.whole = union([*track.whole, period])
                track.partial.pop(period.begin, None)
            else:
                track.partial[period.begin] = _Partial(attempt, inside)

    def forget(self, is_wanted: Callable[[str], bool]) -> None:
        """Keep only what is known of the scopes that are wanted; `reached` stays."""
        self._tracks = {key: track for key, track in self._tracks.items() if is_wanted(key[0])}

    def add(self, other: Progress) -> None:
        """Take over what another one knows of scopes of which nothing is known here."""
        self._tracks.update(other._tracks)
        self.reached = max(self.reached, other.reached)
        self.proven_until = max(self.proven_until, other.proven_until)

    def covered(self, scope_id: str, metric: str, period: Interval) -> list[Interval]:
        """What is proven of a period, as a normal list."""
        track = self._tracks.get((scope_id, metric))
        if track is None:
            return []
        partial = track.partial.get(period.begin)
        return clip([*track.whole, *(partial.covers if partial else [])], period)

    def missing(self, scope_id: str, metric: str, span: Interval) -> list[Interval]:
        """The whole periods within `span` that are not proven whole, oldest first. `span` begins and ends with one."""
        track = self._tracks.get((scope_id, metric))
        holes = uncovered(span, track.whole if track else [])
        return [period for hole in holes for period in periods_of(hole, self._period)]

    def is_known(self, scope_id: str, metric: str, period: Interval) -> bool:
        """Whether anything was published for the period, proven or not."""
        track = self._tracks.get((scope_id, metric))
        return track is not None and (period.begin in track.partial or not uncovered(period, track.whole))
