"""The scopes of a state, put together again from the segments that a manifest names.

The newest segment comes first: its heads say which older pieces hold, and no other is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rater.engine.pieces import Entry, Head, decode_block, decode_entries, decode_frame, decode_head, decode_scope
from rater.engine.segments import Held, Known, Ledger, Limits, Place, digest_of, digest_of_series
from rater.engine.snapshot import Manifest, SnapshotError
from rater.engine.state import Frame, Scope

__all__ = ["Assembly"]

LOOK = 2_000  # bytes that are decoded in the time that an entry costs which has hardly anything in it


class _Parts(msgspec.Struct):
    """What is there of one scope."""

    head: Head
    at: Place
    scope: Scope
    in_frames: dict[int, int]
    """Segment by period begin."""
    in_blocks: dict[int, int]
    """Segment by the place of the first series."""
    frames: dict[int, tuple[Frame, Place]] = {}
    blocks: dict[int, tuple[dict[bytes, bytes], Place]] = {}
    """By the place of the first series."""


class Assembly:
    """One restore. Call `take` for the payload of each run, newest first, then `finish`; both in small steps."""

    def __init__(self, manifest: Manifest, limits: Limits | None = None) -> None:
        self.state = manifest.state
        """Whole once `finish` is through."""
        self.ledger = Ledger(limits)
        self.ledger.next_number = manifest.next_number
        self.ledger.held = {s.number: Held(s.written_at, s.size) for s in manifest.segments}
        self._missing = manifest.scopes - len(manifest.state.scopes) if manifest.version >= 3 else 0
        self._parts: dict[str, _Parts] = {}

    def take(self, segment: int, payload: bytes) -> Iterator[int]:
        """The entries of one run; yields about how many bytes each step was. Raises SnapshotError."""
        try:
            for entry in reversed(decode_entries(payload)):
                yield self._take(segment, entry) + LOOK
        except msgspec.DecodeError as fault:
            raise self._broken(f"segment {segment}: {fault}") from None

    def _take(self, segment: int, entry: Entry) -> int:
        head = decode_head(entry.head)
        parts = self._parts.get(entry.scope_id)
        if parts is None and head is not None:
            raw = bytes(entry.head)
            at = Place(segment, len(raw), digest_of(raw))
            parts = _Parts(head, at, decode_scope(head.scope), dict(head.frames), _starts(head))
            self._parts[entry.scope_id] = parts
        if parts is None:
            return 0
        size = 0
        for period_begin, piece in entry.frames:
            if parts.in_frames.get(period_begin) == segment:
                raw = bytes(piece)
                parts.frames[period_begin] = decode_frame(raw), Place(segment, len(raw), digest_of(raw))
                size += len(raw)
        for first, piece in entry.blocks:
            if parts.in_blocks.get(first) == segment:
                raw = bytes(piece)
                series = decode_block(raw)
                parts.blocks[first] = series, Place(segment, len(raw), digest_of_series(series), len(series))
                size += len(raw)
        return size

    def finish(self) -> Iterator[int]:
        """Puts the scopes into the state, as `take`. Raises SnapshotError if any piece is missing."""
        if len(self._parts) != self._missing:
            raise self._broken(f"{len(self._parts)} of {self._missing} scopes are there")
        for scope_id in self.state.scopes:  # those of an old snapshot, which lie in no segment
            self.ledger.touch(scope_id)
        for scope_id in sorted(self._parts, key=lambda scope_id: self._parts[scope_id].head.number):
            parts = self._parts.pop(scope_id)
            if len(parts.frames) < len(parts.in_frames) or len(parts.blocks) < len(parts.in_blocks):
                raise self._broken(f"pieces of scope {scope_id!r} are missing")
            known = Known(parts.head.number, parts.at, {}, [])
            for period_begin in parts.in_frames:
                parts.scope.frames[period_begin], known.frames[period_begin] = parts.frames[period_begin]
            for first in parts.in_blocks:
                series, at = parts.blocks[first]
                parts.scope.series.update(series)
                known.blocks.append(at)
            self.state.scopes[scope_id] = parts.scope
            self.ledger.enter(scope_id, known)
            yield LOOK + 50 * len(parts.scope.series)

    def _broken(self, what: str) -> SnapshotError:
        return SnapshotError(f"the snapshot of partition {self.state.partition} is broken: {what}. See `rater recover`")


def _starts(head: Head) -> dict[int, int]:
    """Segment by the place of the first series, of each block in order."""
    found = {}
    first = 0
    for segment, count in head.blocks:
        found[first] = segment
        first += count
    return found
