"""What invariants are checked on: logs and rows as plain values, whoever read them from memory, Kafka or the store.

Everything is made of the wire structs of `rater.model`, so that the same functions judge a simulation, a chaos run and
production.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from rater.model.codec import Headers, content_type, decode_alert, decode_rated, decode_usage
from rater.model.errors import RejectedError
from rater.model.metric import Catalog
from rater.model.rated import Alert, Gap, Line, RatedFrame
from rater.model.usage import UsageRecord

__all__ = [
    "AlertEntry",
    "AlertLog",
    "Commit",
    "FrameKey",
    "RatedEntry",
    "RatedLog",
    "Setup",
    "Stored",
    "StoredFrame",
    "StoredGap",
    "StoredLine",
    "UsageEntry",
    "UsageLog",
    "alert_entry",
    "best_frames",
    "rated_entry",
    "usage_entry",
]

FrameKey: TypeAlias = tuple[str, int]
"""(scope_id, period_begin)."""


class Setup(msgspec.Struct, frozen=True):
    """What of the settings the meaning of usage depends on."""

    period: int
    """Seconds of a period."""
    catalog: Catalog
    planned: frozenset[str] = frozenset()
    """Sources with `expect: planned`; every other one without plans owes what it sent once."""
    clock_skew: int = 7200
    """Seconds by which worker and broker may differ: a plan that came later than that before a frame closed may have
    come after the frame had left the state.
    """


class UsageEntry(msgspec.Struct, frozen=True):
    """A record of topic `usage`, in the order of its partition. `refused`: the reason in `rejected`, if it is there."""

    record: UsageRecord
    partition: int = 0
    offset: int = -1
    timestamp_ms: int = 0
    refused: str = ""


class RatedEntry(msgspec.Struct, frozen=True):
    """A record of topic `rated` with its bytes."""

    frame: RatedFrame
    payload: bytes
    partition: int = 0
    offset: int = -1


class AlertEntry(msgspec.Struct, frozen=True):
    """A record of topic `alerts` with its bytes."""

    alert: Alert
    payload: bytes
    partition: int = 0
    offset: int = -1


class Commit(msgspec.Struct, frozen=True):
    """An offset of `group` as it was seen committed; observations come in the order in which they were made."""

    group: str
    topic: str
    partition: int
    offset: int


UsageLog: TypeAlias = Sequence[UsageEntry]
RatedLog: TypeAlias = Sequence[RatedEntry]
AlertLog: TypeAlias = Sequence[AlertEntry]


class StoredFrame(msgspec.Struct, frozen=True):
    """A row of table `frames`; `frame` is without lines, and its counts are columns of their own."""

    frame: RatedFrame
    line_count: int
    gap_count: int
    quarantined_count: int


class StoredLine(msgspec.Struct, frozen=True):
    """A row of table `lines`. Labels are text there."""

    scope_id: str
    period_begin: int
    revision: int
    rule_version: int
    line: Line


class StoredGap(msgspec.Struct, frozen=True):
    """A row of table `gaps`, merged. `opened` and `resolved` are (revision, second), None where no alert came."""

    scope_id: str
    period_begin: int
    gap: Gap
    opened: tuple[int, int] | None
    resolved: tuple[int, int] | None

    @property
    def is_open(self) -> bool:
        """Whether the newest alert about it says so."""
        return self.opened is not None and (self.resolved is None or self.opened[0] > self.resolved[0])


class Stored(msgspec.Struct, frozen=True):
    """Rows of the store. Rows that are equal in everything count as one, several that share a key do not.

    Of a frame all rows that are there, so more than one revision is no fault.
    """

    frames: Sequence[StoredFrame] = ()
    lines: Sequence[StoredLine] = ()
    gaps: Sequence[StoredGap] = ()


def usage_entry(
    value: bytes,
    headers: Headers = (),
    *,
    partition: int = 0,
    offset: int = -1,
    timestamp_ms: int = 0,
    refused: Mapping[tuple[int, int], str] | None = None,
) -> UsageEntry | None:
    """An entry from a record's bytes; None if they are no usage record.

    `refused` are the reasons of topic `rejected` by origin (partition, offset).
    """
    try:
        record = decode_usage(value, content_type(headers))
    except RejectedError:
        return None
    reason = (refused or {}).get((partition, offset), "")
    return UsageEntry(record, partition, offset, timestamp_ms, reason)


def rated_entry(value: bytes, headers: Headers = (), *, partition: int = 0, offset: int = -1) -> RatedEntry:
    """An entry from a record's bytes. Raises RejectedError."""
    return RatedEntry(decode_rated(value, content_type(headers)), value, partition, offset)


def alert_entry(value: bytes, headers: Headers = (), *, partition: int = 0, offset: int = -1) -> AlertEntry:
    """An entry from a record's bytes. Raises RejectedError."""
    return AlertEntry(decode_alert(value, content_type(headers)), value, partition, offset)


def best_frames(rated: Iterable[RatedEntry]) -> dict[FrameKey, RatedFrame]:
    """Of each frame the newest revision of which all parts are there, with the lines of all of them.

    Lines that vanished are repeated with zero after those that count; they are left out, as in the store.
    """
    parts: dict[FrameKey, dict[int, dict[int, RatedFrame]]] = {}
    for entry in rated:
        frame = entry.frame
        revisions = parts.setdefault((frame.scope_id, frame.period_begin), {})
        revisions.setdefault(frame.revision, {}).setdefault(frame.part, frame)
    found = {key: _whole(revisions) for key, revisions in parts.items()}
    return {key: frame for key, frame in found.items() if frame is not None}


def _whole(revisions: Mapping[int, Mapping[int, RatedFrame]]) -> RatedFrame | None:
    for revision in sorted(revisions, reverse=True):
        parts = revisions[revision]
        if 0 in parts and len(parts) == parts[0].parts:
            lines = [line for number in sorted(parts) for line in parts[number].lines]
            counted = sum(total.n for total in parts[0].totals)
            rest = [line for line in lines[counted:] if line.qty or line.price]  # none, or the count is wrong
            return msgspec.structs.replace(parts[0], lines=lines[:counted] + rest, part=0, parts=1)
    return None
