"""What a line of a usage file may say: a sample, or that the source answered completely for some time.

The format is ours and public (USAGE_FILE.md beside this file). A line is read whole or refused with a reason; nothing
is guessed: no time without offset, no number that went through a float.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

import msgspec

from rater.model.codec import quantity_fault
from rater.model.errors import RejectedError
from rater.model.labels import Labels, canonical_series
from rater.model.usagefile import CoversLine, CoversRange, UsageLine

__all__ = [
    "ALL",
    "Covered",
    "CoversLine",
    "CoversRange",
    "Item",
    "UsageLine",
    "Used",
    "instant",
    "parse",
    "used",
]

ALL = "*"  # as scope or metric of a covers line: all that the file names
LAST_INSTANT = 253_402_300_800  # the end of year 9999, the last one that a record may name
MAX_SERIES_BYTES = 500_000  # so that any sample fits into a record
_MAX_KNOWN_TIMES = 100_000


class Used(msgspec.Struct, frozen=True, gc=False):
    """A sample as read: seconds since the epoch, labels as `rater.model.labels.canonical_series`."""

    scope_id: str
    metric: str
    begin: int
    end: int
    qty: Decimal
    unit: str | None
    series: bytes


class Covered(msgspec.Struct, frozen=True, gc=False):
    """A claim of coverage as read: `[begin, end)` in seconds since the epoch."""

    scope_id: str
    metric: str
    begin: int
    end: int
    source: str | None


Item: TypeAlias = Used | Covered


_decode_usage = msgspec.json.Decoder(UsageLine).decode
_decode_covers = msgspec.json.Decoder(CoversLine).decode
_decode_any = msgspec.json.Decoder().decode


def parse(raw: bytes) -> Item:
    """What a line says. Raises RejectedError with the reason."""
    try:
        return used(_decode_usage(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        reason = str(fault)
    if b'"covers"' in raw:
        try:
            return _covered(_decode_covers(raw).covers)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            reason = str(fault)
    raise RejectedError(_unreadable(raw, reason))


def _unreadable(raw: bytes, reason: str) -> str:
    try:
        _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        return f"this is no JSON: {fault}"
    return f"this is neither a sample nor a covers line: {reason}"


def used(line: UsageLine) -> Used:
    """A sample, checked. Raises RejectedError with the reason."""
    begin = instant(line.begin, "begin")
    end = begin if line.end is None else instant(line.end, "end")
    if end < begin:
        raise RejectedError(f"end {line.end} lies before begin {line.begin}")
    fault = quantity_fault(line.qty)
    if fault:
        raise RejectedError(f"qty {fault}")
    _check_labels(line.groupby)
    _check_labels(line.metadata)
    series = canonical_series(line.groupby, line.metadata)
    if len(series) > MAX_SERIES_BYTES:
        raise RejectedError(f"the labels have {len(series)} bytes: at most {MAX_SERIES_BYTES} are taken")
    return Used(line.scope_id, line.metric, begin, end, line.qty, line.unit, series)


def _check_labels(labels: Labels) -> None:
    for name, value in labels.items():
        if type(value) is int and not -(2**63) <= value < 2**64:
            raise RejectedError(f"label {name!r} is an integer of more than 64 bits: put it in quotes")


def _covered(line: CoversRange) -> Covered:
    begin, end = instant(line.begin, "begin"), instant(line.end, "end")
    if end <= begin:
        raise RejectedError(f"covers [{line.begin}, {line.end}), which holds no time: begin must be before end")
    return Covered(line.scope_id, line.metric, begin, end, line.source)


_known_times: dict[str, int] = {}


def instant(text: str, field: str) -> int:
    """Seconds since the epoch of an ISO 8601 time with offset. Raises RejectedError; `field` is for its message."""
    known = _known_times.get(text)  # a usage file repeats its times: 0.05 µs instead of 0.5
    if known is None:
        if len(_known_times) >= _MAX_KNOWN_TIMES:
            _known_times.clear()
        known = _known_times[text] = _read_instant(text, field)
    return known


_FRACTION = re.compile(r"[.,]\d*[1-9]")


def _read_instant(text: str, field: str) -> int:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise RejectedError(f"{field} {text[:50]!r} is no time: write 2026-01-01T00:00:00Z") from None
    if read.tzinfo is None:
        raise RejectedError(f"{field} {text[:50]!r} has no offset from UTC: write …Z or …+01:00")
    if _FRACTION.search(text):
        raise RejectedError(f"{field} {text[:50]!r} has a fraction of a second: whole seconds are taken")
    seconds = int(read.timestamp())
    if not 0 <= seconds <= LAST_INSTANT:
        raise RejectedError(f"{field} {text[:50]!r} lies before 1970 or after 9999")
    return seconds
