"""The collections that a replay publishes: what was read, put together with what it covers, oldest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from collectors.parts import CollectionDraft
from collectors.replay.claims import Name, pieces
from collectors.replay.intake import Intake
from collectors.replay.spool import Group, Key
from rater.model.interval import Interval, clip, periods_of, union
from rater.model.labels import series_labels
from rater.model.usage import Sample, Series

__all__ = ["drafts"]

_NOTHING = Group([], [])
_Found: TypeAlias = tuple[Key, Group | list[Interval]]
_key_of = itemgetter(0)


def drafts(intake: Intake, source: str, period_seconds: int, attempt: int) -> Iterator[CollectionDraft]:
    """One collection for each piece of a period that is covered, or not covered and holds samples; oldest first."""
    units = intake.units
    for key, covered, group in _periods(intake, period_seconds):
        period = Interval(key.period_begin, key.period_begin + period_seconds)
        for piece in pieces(period, covered):
            held = _within(group, piece.begin, piece.end)
            if piece.covered or held.samples:
                yield CollectionDraft(
                    source=source,
                    scope_id=key.scope_id,
                    metric=key.metric,
                    begin=piece.begin,
                    end=piece.end,
                    attempt=attempt,
                    unit=units[key.metric],
                    covers=[Interval(piece.begin, piece.end)] if piece.covered else [],
                    series=[Series(*series_labels(series)) for series in held.series],
                    samples=held.samples,
                    note="replayed from a file",
                )


def _periods(intake: Intake, period_seconds: int) -> Iterator[tuple[Key, list[Interval], Group]]:
    """Each period of a scope and metric that is covered or holds samples, with both, in order of the keys.

    Two sorted streams side by side: all periods at once would not fit into memory.
    """
    found: Iterator[_Found] = heapq.merge(intake.spool.groups(), _claimed(intake, period_seconds), key=_key_of)
    for key, entries in groupby(found, key=_key_of):
        covered: list[Interval] = []
        group = _NOTHING
        for _, entry in entries:
            if isinstance(entry, Group):
                group = entry
            else:
                covered = entry
        yield key, covered, group


def _claimed(intake: Intake, period_seconds: int) -> Iterator[tuple[Key, list[Interval]]]:
    """Each period of which some is covered, with what that is."""
    claims: list[tuple[Name, list[Interval]]] = [(name, intake.claims.of(*name)) for name in intake.expected.names()]
    claimed = union(interval for _, intervals in claims for interval in intervals)
    begins = {period.begin for interval in claimed for period in periods_of(interval, period_seconds)}
    for begin in sorted(begins):
        period = Interval(begin, begin + period_seconds)
        for (scope_id, metric), intervals in claims:
            covered = clip(intervals, period)
            if covered:
                yield Key(begin, scope_id, metric), covered


def _within(group: Group, begin: int, end: int) -> Group:
    """The samples that begin within `[begin, end)`, and their series."""
    numbers: dict[int, int] = {}
    samples = [
        Sample(numbers.setdefault(sample.series, len(numbers)), sample.begin, sample.end, sample.qty)
        for sample in group.samples
        if begin <= sample.begin < end
    ]
    return Group([group.series[number] for number in numbers], samples)
