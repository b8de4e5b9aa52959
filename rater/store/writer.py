"""Puts rows into the tables so that no reader ever sees half a frame: lines first, the frame's row after them.

One insert is one block of one month: stored wholly or not at all. Repeating a whole write, or any part of it, after a
crash changes nothing, since the keys of the tables are those of the content.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator

from rater.model.posted import PostedLines
from rater.model.rated import Alert, RatedFrame
from rater.model.usage import Collection
from rater.store.accepted import ACCEPTED, accepted_row
from rater.store.blocks import (
    FRAMES,
    GAPS,
    LINES,
    REWORKS,
    USAGE,
    LineColumns,
    Row,
    Table,
    frame_row,
    gap_row,
    month_of,
    rework_row,
    usage_rows,
)
from rater.store.client import Column, Store
from rater.store.health import SOURCE_ALERTS, source_alert_row
from rater.store.posting import POSTED, posted_rows

__all__ = ["Batch", "write"]


class Batch:
    """Rows to be written together, kept apart by table and month. Each `add_…` takes all of its rows or none."""

    def __init__(self) -> None:
        self._lines: defaultdict[int, LineColumns] = defaultdict(LineColumns)
        self._frames: defaultdict[int, list[Row]] = defaultdict(list)
        self._usage: defaultdict[int, list[Row]] = defaultdict(list)
        self._posted: defaultdict[int, list[Row]] = defaultdict(list)
        self._gaps: list[Row] = []
        self._reworks: list[Row] = []
        self._accepted: list[Row] = []
        self._sources: list[Row] = []
        self.weight = 0
        """About how many lines' worth of memory and work the batch is: a row is one, a sample a quarter."""
        self.closed_at: list[int] = []
        """When the frames of the batch were closed."""
        self.name = secrets.token_hex(16)
        """Of this object: the token of its posted lines. A thousand inserts of those may be a year, and so long the
        engine would drop those of a topic that was made anew, whose first offsets are the same, and what is read again
        because rows were deleted.
        """

    def add_lines(self, frame: RatedFrame, keep: int | None = None) -> None:
        """The lines of this part of a frame, or only its first `keep`. Raises UnstorableError."""
        lines = frame.lines if keep is None else frame.lines[:keep]
        self._lines[month_of(frame.period_begin)].add(frame, lines)
        self.weight += len(lines)

    def add_frame(self, frame: RatedFrame, line_count: int) -> None:
        """The frame's own row, which makes its `line_count` lines count: they must be in this batch or stored."""
        row = frame_row(frame, line_count)
        self._frames[month_of(frame.period_begin)].append(row)
        self.closed_at.append(frame.closed_at)
        self.weight += 1

    def add_alert(self, alert: Alert) -> bool:
        """An alert; False if it is not about a gap, a rework or a source, and not kept. Raises UnstorableError."""
        gap, rework, accepted = gap_row(alert), rework_row(alert), accepted_row(alert)
        source = source_alert_row(alert)
        if gap is not None:
            self._gaps.append(gap)
        elif accepted is not None:
            self._accepted.append(accepted)
        elif source is not None:
            self._sources.append(source)
        elif rework is not None:
            self._reworks.append(rework)
        else:
            return False
        self.weight += 1
        return True

    def add_collection(self, part: Collection) -> None:
        """One part of a collection, for the audit trail. Raises UnstorableError."""
        rows = usage_rows(part)
        self._usage[month_of(part.begin)] += rows
        self.weight += len(rows) + len(part.samples) // 4

    def add_posted(self, record: PostedLines) -> None:
        """Lines that brought their price; checked by whoever decoded them."""
        rows = posted_rows(record)
        self._posted[month_of(record.lines[0].begin)] += rows
        self.weight += len(rows)

    def blocks(self) -> Iterator[tuple[Table, int, list[Column]]]:
        """(table, month, block) in the order in which they must be inserted; none is empty."""
        for month, parts in sorted(self._usage.items()):
            yield USAGE, month, USAGE.block(zip(*parts, strict=True))
        for month, parts in sorted(self._posted.items()):
            yield POSTED, month, POSTED.block(zip(*parts, strict=True))
        for month, lines in sorted(self._lines.items()):
            if len(lines):
                yield LINES, month, lines.block()
        for month, frames in sorted(self._frames.items()):
            yield FRAMES, month, FRAMES.block(zip(*frames, strict=True))
        if self._gaps:
            yield GAPS, 0, GAPS.block(zip(*self._gaps, strict=True))
        if self._accepted:
            yield ACCEPTED, 0, ACCEPTED.block(zip(*self._accepted, strict=True))
        if self._sources:
            yield SOURCE_ALERTS, 0, SOURCE_ALERTS.block(zip(*self._sources, strict=True))
        if self._reworks:
            yield REWORKS, 0, REWORKS.block(zip(*self._reworks, strict=True))


def write(store: Store, batch: Batch, token: str = "") -> dict[str, int]:
    """Inserts the batch and returns when all of it is stored; rows by table.

    `token` names the content of the batch: an insert that is repeated with it is dropped while the engine remembers,
    which saves work and nothing else. Raises StoreError; the whole write may then be repeated.
    """
    written: Counter[str] = Counter()
    for table, month, block in batch.blocks():
        named = batch.name if table is POSTED else token
        store.insert(table.name, block, f"{named}/{month}" if named else "")
        written[table.name] += len(block[0].values)
    return written
