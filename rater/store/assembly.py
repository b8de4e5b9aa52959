"""Frames put together from the parts in which one partition of `rated` brings them.

Parts of a revision come in order, but a worker that died while publishing repeats from the first one, and the reader
may begin anywhere. A frame's row is written when its parts from the first to the last have been seen by this object;
until then `safe_offset` stays at the first of them, so that whoever reads the partition next sees them all again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from rater.log_fields import of
from rater.model.rated import RatedFrame
from rater.store.errors import UnstorableError
from rater.store.writer import Batch

__all__ = ["Assembly", "StoredRevision"]

log = logging.getLogger(__name__)

StoredRevision: TypeAlias = Callable[[str, int], int | None]
"""(scope_id, period_begin) -> the newest revision in the store, None without one."""
Key: TypeAlias = tuple[str, int]


class _Unfinished(msgspec.Struct):
    """A revision of which not all parts have been seen."""

    first_offset: int
    is_stored: bool
    """It is a repetition. One that breaks off, since a worker that was thought dead began it, never ends."""
    next_part: int = 0
    line_count: int = 0
    reported: bool = False


class Assembly:
    """What one partition has brought. Lives as long as the partition is read without interruption."""

    def __init__(self, stored: StoredRevision) -> None:
        self._stored = stored
        self.next_offset = 0
        """The offset after the last record that was taken."""
        self._unfinished: dict[tuple[Key, int], _Unfinished] = {}
        self._refused: set[tuple[Key, int]] = set()
        self._finished: set[tuple[Key, int]] = set()
        """Revisions of several parts that are in the batch, where `stored` does not see them yet."""

    @property
    def unfinished(self) -> int:
        """How many revisions wait for parts and are not in the store."""
        return sum(not waiting.is_stored for waiting in self._unfinished.values())

    @property
    def safe_offset(self) -> int:
        """From here on the partition has to be read again if this object is lost, once its batch is written."""
        needed = (waiting.first_offset for waiting in self._unfinished.values() if not waiting.is_stored)
        return min(needed, default=self.next_offset)

    def written(self) -> None:
        """Notes that the batches so far are stored."""
        self._finished.clear()

    def skip(self, offset: int) -> None:
        """Notes a record that brought nothing."""
        self.next_offset = offset + 1

    def take(self, offset: int, frame: RatedFrame, batch: Batch) -> None:
        """Adds to `batch` what this part makes writable.

        Raises UnstorableError if the frame cannot be stored, and then for each of its later parts too; StoreError if
        the store had to be asked and does not answer, and then nothing has happened and the call may be repeated.
        """
        key = (frame.scope_id, frame.period_begin)
        revision = (key, frame.revision)
        if frame.part == 0:
            self._refused.discard(revision)
        if revision in self._refused:
            self.skip(offset)
            raise UnstorableError("an earlier part of this frame was refused")
        waiting = self._unfinished.get(revision)
        is_stored = waiting is None and frame.parts > 1 and self._is_stored(frame)
        self.skip(offset)
        if waiting is None and frame.part and is_stored:
            return
        if waiting is None:
            waiting = self._unfinished[revision] = _Unfinished(offset, is_stored)
        if frame.part == waiting.next_part:
            self._add(frame, waiting, batch)
        elif frame.part > waiting.next_part and not waiting.reported:
            waiting.reported = True
            log.error(
                "revision %d of frame %s of scope %s came with part %d where part %d was due: it is not stored, and "
                "offset %d stays uncommitted; if it does not come again, collect that period again",
                frame.revision,
                frame.period_begin,
                frame.scope_id,
                frame.part,
                waiting.next_part,
                waiting.first_offset,
                extra=of(
                    scope_id=frame.scope_id,
                    period_begin=frame.period_begin,
                    revision=frame.revision,
                    offset=waiting.first_offset,
                ),
            )

    def _is_stored(self, frame: RatedFrame) -> bool:
        """Whether the part is of a repetition."""
        if ((frame.scope_id, frame.period_begin), frame.revision) in self._finished:
            return True
        newest = self._stored(frame.scope_id, frame.period_begin)
        return newest is not None and newest >= frame.revision

    def _add(self, frame: RatedFrame, waiting: _Unfinished, batch: Batch) -> None:
        revision = ((frame.scope_id, frame.period_begin), frame.revision)
        try:
            waiting.line_count += _add_lines(frame, waiting.line_count, batch)
            waiting.next_part += 1
            if waiting.next_part == frame.parts:
                _add_frame(frame, waiting.line_count, batch)
        except UnstorableError:
            del self._unfinished[revision]
            if frame.parts > 1:
                self._refused.add(revision)
            raise
        if waiting.next_part == frame.parts:
            self._forget(*revision)
            if frame.parts > 1:
                self._finished.add(revision)

    def _forget(self, key: Key, finished: int) -> None:
        """A finished revision makes the unfinished ones before it moot."""
        if len(self._unfinished) == 1:
            self._unfinished.clear()
            return
        for waiting in [other for other in self._unfinished if other[0] == key and other[1] <= finished]:
            del self._unfinished[waiting]


def _expected(frame: RatedFrame) -> int:
    return sum(total.n for total in frame.totals)


def _add_lines(frame: RatedFrame, before: int, batch: Batch) -> int:
    """Adds the lines of a part, of which `before` came with earlier parts; how many.

    What follows after as many lines as the totals count are lines that vanished, repeated with zero for consumers that
    upsert. The store needs none: the revision stands in the key.
    """
    keep = max(0, min(len(frame.lines), _expected(frame) - before))
    if any(line.qty or line.price for line in frame.lines[keep:]):
        raise UnstorableError("the frame has more lines than its totals count")
    batch.add_lines(frame, keep)
    return keep


def _add_frame(frame: RatedFrame, line_count: int, batch: Batch) -> None:
    if line_count != _expected(frame):
        raise UnstorableError(f"the frame has {line_count} lines, its totals count {_expected(frame)}")
    batch.add_frame(frame, line_count)
