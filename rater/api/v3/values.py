"""What parameters and answers of several operations are made of: times, amounts, cursors, pages."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from rater.api.faults import Faults, RefusalError

__all__ = [
    "Amount",
    "CursorText",
    "Limit",
    "MetricName",
    "Reason",
    "ScopeId",
    "Time",
    "check_range",
    "cursor_of",
    "moment",
    "moment_or_none",
    "own_scopes",
    "read_cursor",
    "refused",
    "seconds",
]

LAST_SECOND = 2**32 - 1  # the store keeps times up to 2106
MAX_CURSOR = 2_000  # characters
MAX_SCOPES = 1_000
"""Of a reader who asks for all of them at once."""

ScopeId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, description="the scope")]
MetricName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, description="public name of a metric")]
Time: TypeAlias = Annotated[
    datetime, Meta(tz=True, description="ISO 8601 with offset", examples=["2026-01-01T00:00:00Z"])
]
Amount: TypeAlias = Annotated[
    str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="decimal text, exact", examples=["0.0125"])
]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=1000, description="items of one answer at most")]
CursorText: TypeAlias = Annotated[
    str,
    Meta(
        max_length=MAX_CURSOR,
        pattern="^[A-Za-z0-9_-]*$",
        description="`next` of the answer before; everything else stays as it was",
    ),
]
Reason: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2000)]


def moment(seconds_: int) -> datetime:
    """A time of the store in an answer."""
    return datetime.fromtimestamp(seconds_, UTC)


def moment_or_none(seconds_: int | None) -> datetime | None:
    """The same for one that may not be there."""
    return None if seconds_ is None else moment(seconds_)


def seconds(at: datetime) -> int:
    """A time of a request as whole seconds since the epoch, within what the store holds."""
    return min(max(int(at.timestamp()), 0), LAST_SECOND)


def check_range(begin: datetime | None, end: datetime | None, days: int = 0) -> tuple[int, int]:
    """The range that a request asks for, as seconds; without bounds all of time. `days`: at most so long; 0: any.

    Raises RefusalError 422.
    """
    first = 0 if begin is None else seconds(begin)
    last = LAST_SECOND if end is None else seconds(end)
    if first >= last:
        raise refused("query.end", "is not after begin")
    if days and last - first > days * 86_400:
        raise refused("query.end", f"is more than {days} days after begin: ask for parts")
    return first, last


def own_scopes(seen: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Scopes of a reader as they are asked for. Raises RefusalError 403 if there are more than can be."""
    if seen is not None and len(seen) > MAX_SCOPES:
        raise RefusalError(403, f"you may see {len(seen)} scopes: ask for one of them at a time")
    return seen


def cursor_of(place: Any) -> str:
    """An opaque text of a place in a list (a struct or a tuple of simple values)."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def read_cursor(text: str, kind: Any) -> Any:
    """The place, of that type, that a cursor names; None for no cursor. Raises RefusalError 422."""
    if not text:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(raw, type=kind)
    except (ValueError, msgspec.DecodeError):  # binascii.Error is a ValueError, as is what is no ASCII
        raise refused("query.cursor", "is none of ours: send `next` of the answer before") from None


def refused(place: str, message: str, status: int = 422) -> RefusalError:
    """A refusal for one fault that only a handler can find."""
    faults = Faults()
    faults.add(place, message)
    try:
        faults.refuse(status, "nothing was done")
    except RefusalError as fault:
        return fault
    raise AssertionError("refuse raises where there are faults")
