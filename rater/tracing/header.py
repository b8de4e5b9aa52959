"""The header `traceparent` (W3C Trace Context, version 00), by which a span is named on topics and in requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["TRACEPARENT", "Place", "read_place", "sampled_header", "written"]

TRACEPARENT = "traceparent"
_SAMPLED = 0x01
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_BYTES = 200  # a header that is longer is none of the known versions


class Place(NamedTuple):
    """A span of some trace."""

    trace_id: int
    span_id: int
    is_sampled: bool


def read_place(text: str) -> Place | None:
    """What a header says; None for one that is no header of this kind. Later versions may have more at the end."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return Place(trace_id, span_id, bool(int(found[4], 16) & _SAMPLED)) if trace_id and span_id else None


def written(trace_id: int, span_id: int) -> str:
    """The header of a span that is recorded."""
    return f"00-{trace_id:032x}-{span_id:016x}-01"


def sampled_header(headers: Iterable[tuple[str, bytes]]) -> str:
    """The traceparent of a record, if its span is recorded; else empty. Anybody may have written it."""
    for name, value in headers:
        if name.lower() == TRACEPARENT and len(value) <= _BYTES:
            text = bytes(value).decode("ascii", "replace")
            place = read_place(text)
            return text if place is not None and place.is_sampled else ""
    return ""
