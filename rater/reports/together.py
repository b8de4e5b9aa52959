"""Frames of the store that are read together, with the lines of exactly their revisions, a bounded part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rater.reports.requests import Selection
from rater.reports.view import View
from rater.store import FrameRow, LineRow, ReadConflictError

__all__ = ["PERIODS_AT_ONCE", "frames_together", "with_lines"]

PERIODS_AT_ONCE = 168  # frames that are read before their lines and samples are: a week of hours, about 1 MB
ROWS_AT_ONCE = 20_000  # lines or samples in memory; a single larger frame is read whole
ATTEMPTS = 4


def frames_together(frames: Iterable[FrameRow]) -> Iterator[list[FrameRow]]:
    """Runs of frames of one scope whose lines and samples fit into memory."""
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


def with_lines(view: View, frames: list[FrameRow]) -> tuple[list[FrameRow], dict[int, list[LineRow]]]:
    """The frames, again if they were replaced meanwhile, with their lines by period begin.

    `frames` are of one scope, in order. Raises StoreError.
    """
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
