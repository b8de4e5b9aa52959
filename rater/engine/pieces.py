"""The wire of segments: entries of a scope's frames, its series in blocks, and its head, which says which of them hold.

A segment is read from its end: an entry's pieces stand before the head that names them, as do older segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rater.engine.state import Frame, Scope

__all__ = [
    "Entry",
    "Head",
    "decode_block",
    "decode_entries",
    "decode_frame",
    "decode_head",
    "decode_scope",
    "encode_block",
    "encode_entries",
    "encode_entry",
    "encode_frame",
    "encode_head",
]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Some pieces of one scope."""

    scope_id: str
    frames: list[tuple[int, msgspec.Raw]] = []
    """With their period begins."""
    blocks: list[tuple[int, msgspec.Raw]] = []
    """With the place of their first series among all of the scope."""
    head: msgspec.Raw = msgspec.Raw(b"\xc0")
    """Nil in all but the last entry of the scope in its segment."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """A scope without its frames and series, and where those lie."""

    number: int
    """Scopes are kept in the order of these numbers."""
    frames: list[tuple[int, int]]
    """Period begin and segment, in their order."""
    blocks: list[tuple[int, int]]
    """Segment and count of series, in their order."""
    scope: msgspec.Raw


_encode = msgspec.msgpack.Encoder().encode
decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
decode_head = msgspec.msgpack.Decoder(Head | None).decode
decode_scope = msgspec.msgpack.Decoder(Scope).decode
decode_frame = msgspec.msgpack.Decoder(Frame).decode
decode_block = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode


def encode_frame(frame: Frame) -> bytes:
    """One piece."""
    return _encode(frame)


def encode_block(series: dict[bytes, bytes]) -> bytes:
    """One piece: canonical series by line id."""
    return _encode(series)


def encode_head(number: int, frames: list[tuple[int, int]], blocks: list[tuple[int, int]], scope: Scope) -> bytes:
    """One piece: all of the scope that is in no other."""
    rest = msgspec.structs.replace(scope, frames={}, series={})
    return _encode(Head(number, frames, blocks, msgspec.Raw(_encode(rest))))


def encode_entry(
    scope_id: str, frames: list[tuple[int, bytes]], blocks: list[tuple[int, bytes]], head: bytes | None
) -> bytes:
    """Pieces that go into the segment together."""
    return _encode(
        Entry(
            scope_id,
            [(period_begin, msgspec.Raw(raw)) for period_begin, raw in frames],
            [(first, msgspec.Raw(raw)) for first, raw in blocks],
            msgspec.Raw(head) if head is not None else msgspec.Raw(b"\xc0"),
        )
    )


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """What `decode_entries` reads."""
    return _encode([msgspec.Raw(entry) for entry in entries])
