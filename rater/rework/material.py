"""Reads closed frames from the store with their lines and usage, a bounded part of them at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rater.model.interval import Interval, periods_of
from rater.reports import (
    PERIODS_AT_ONCE,
    ScopeRequest,
    Selection,
    UsageRequest,
    View,
    frames_together,
    with_lines,
)
from rater.rework.values import Material
from rater.store import FrameRow, UsageRow

__all__ = ["materials"]


def materials(view: View, scope_id: str, begin: int, end: int, period_seconds: int) -> Iterator[Material]:
    """The closed frames of a scope whose periods begin within `[begin, end)`, in order. Raises StoreError.

    Nothing is being read from the store while the caller works.
    """
    step = PERIODS_AT_ONCE * period_seconds
    reused: frozenset[tuple[str, int]] | None = None
    for first in range(begin, end, step):
        found = list(view.frames(Selection(scope_id, first, min(first + step, end))))
        lines_from = view.kept().lines
        yield from (Material(frame, [], [], lines_gone=True) for frame in found if frame.period_begin < lines_from)
        for run in frames_together(frame for frame in found if frame.period_begin >= lines_from):
            frames, lines = with_lines(view, run)
            if not frames:  # they were removed meanwhile: beyond retention
                continue
            usage = _usage(view, frames, period_seconds)
            for frame in frames:
                rows = usage.get(frame.period_begin, [])
                if reused is None and _has_more(frame, rows):
                    numbers = view.reused_numbers(ScopeRequest(scope_id))
                    reused = frozenset((number.producer_id, number.sequence) for number in numbers)
                yield Material(frame, lines.get(frame.period_begin, []), rows, reused or frozenset())


def _has_more(frame: FrameRow, rows: Sequence[UsageRow]) -> bool:
    """Whether some metric has more samples of the period in the store than were rated: late ones, or refused ones."""
    rated: Counter[tuple[str, str]] = Counter()
    stored: Counter[tuple[str, str]] = Counter()
    for entry in frame.coverage:
        rated[entry.metric, entry.source] += sum(one.samples for one in entry.collections)
    for row in rows:
        stored[row.metric, row.source] += sum(frame.period_begin <= begin < frame.period_end for begin in row.begins)
    return not stored <= rated


def _usage(view: View, frames: Sequence[FrameRow], period_seconds: int) -> dict[int, list[UsageRow]]:
    """What was collected for these frames, by period begin, each in the store's order."""
    begin, end = frames[0].period_begin, frames[-1].period_end
    found: dict[int, list[UsageRow]] = {}
    for row in view.usage(UsageRequest(frames[0].scope_id, begin, end)):
        bounds = Interval(max(row.range_begin, begin), min(row.range_end, end))
        for part in periods_of(bounds, period_seconds):
            found.setdefault(part.begin, []).append(row)
    return found
