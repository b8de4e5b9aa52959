"""Reads closed frames from the store with their lines and usage, a bounded part of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rater.model.interval import Interval, periods_of
from rater.reports import Selection, UsageRequest, View
from rater.rework.values import Material
from rater.store import FrameRow, LineRow, ReadConflictError, UsageRow

__all__ = ["materials"]

PERIODS_AT_ONCE = 168  # frames that are read before their lines and samples are: a week of hours, about 1 MB
ROWS_AT_ONCE = 20_000  # lines or samples in memory; a single larger frame is read whole
ATTEMPTS = 4


def materials(view: View, scope_id: str, begin: int, end: int, period_seconds: int) -> Iterator[Material]:
    """The closed frames of a scope whose periods begin within `[begin, end)`, in order. Raises StoreError.

    Nothing is being read from the store while the caller works.
    """
    step = PERIODS_AT_ONCE * period_seconds
    for first in range(begin, end, step):
        for run in _runs(list(view.frames(Selection(scope_id, first, min(first + step, end))))):
            frames, lines = _with_lines(view, run)
            usage = _usage(view, frames, period_seconds)
            for frame in frames:
                yield Material(frame, lines.get(frame.period_begin, []), usage.get(frame.period_begin, []))


def _runs(frames: Iterable[FrameRow]) -> Iterator[list[FrameRow]]:
    """Frames that are read together."""
    run: list[FrameRow] = []
    rows = 0
    for frame in frames:
        samples = sum(one.samples for entry in frame.coverage for one in entry.collections)
        weight = max(frame.line_count, samples)
        if run and rows + weight > ROWS_AT_ONCE:
            yield run
            run, rows = [], 0
        run.append(frame)
        rows += weight
    if run:
        yield run


def _with_lines(view: View, frames: list[FrameRow]) -> tuple[list[FrameRow], dict[int, list[LineRow]]]:
    """The frames, again if need be, with the lines of exactly their revisions by period begin."""
    scope_id, first, last = frames[0].scope_id, frames[0].period_begin, frames[-1].period_begin
    selection = Selection(scope_id, first, last + 1)
    for _ in range(ATTEMPTS):
        lines: dict[int, list[LineRow]] = {}
        for line in view.lines(selection):
            lines.setdefault(line.period_begin, []).append(line)
        if all(_fits(frame, lines.get(frame.period_begin, [])) for frame in frames):
            return frames, lines
        frames = list(view.frames(selection))
    raise ReadConflictError(f"scope {scope_id!r}: frames from {first} on are replaced faster than they are read")


def _fits(frame: FrameRow, lines: Sequence[LineRow]) -> bool:
    return len(lines) == frame.line_count and all(line.revision == frame.revision for line in lines)


def _usage(view: View, frames: Sequence[FrameRow], period_seconds: int) -> dict[int, list[UsageRow]]:
    """What was collected for these frames, by period begin, each in the store's order."""
    begin, end = frames[0].period_begin, frames[-1].period_end
    found: dict[int, list[UsageRow]] = {}
    for row in view.usage(UsageRequest(frames[0].scope_id, begin, end)):
        bounds = Interval(max(row.range_begin, begin), min(row.range_end, end))
        for part in periods_of(bounds, period_seconds):
            found.setdefault(part.begin, []).append(row)
    return found
