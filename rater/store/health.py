"""How collecting and auditing go: what collectors said of their sources, when each was last heard, the last audit."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rater.model.codec import encode_json
from rater.model.rated import Alert, AlertKind
from rater.store.blocks import LAST_INSTANT, Row, Table
from rater.store.client import Store
from rater.store.errors import UnstorableError

__all__ = [
    "MAX_VIOLATIONS",
    "SOURCE_ALERTS",
    "AuditRow",
    "SilentSource",
    "SourceMetric",
    "SourceRequest",
    "StoredViolation",
    "last_audit",
    "silent_sources",
    "source_alert_row",
    "source_metrics",
    "write_audit",
]

MAX_VIOLATIONS = 1000
"""Of one audit that are kept with their texts."""
SOURCE_ALERTS = Table(
    "source_alerts",
    (
        ("source", "LowCardinality(String)"),
        ("alert_id", "FixedString(16)"),
        ("kind", "LowCardinality(String)"),
        ("silent_from", "UInt32"),
        ("raised_at", "UInt32"),
        ("reason", "String"),
    ),
)
_AUDITS = Table(
    "audits",
    (
        ("began_at", "UInt32"),
        ("seconds", "Float64"),
        ("closed_from", "UInt32"),
        ("frames", "UInt64"),
        ("waiting_samples", "UInt64"),
        ("unchecked", "Map(String, UInt64)"),
        ("violation_count", "UInt64"),
        ("violations", "String"),
    ),
)
_LAST_AUDIT = """
SELECT toUInt32(began_at), seconds, toUInt32(closed_from), frames, waiting_samples, unchecked, violation_count,
    violations
FROM audits
ORDER BY began_at DESC
LIMIT 1
"""
_SILENT = """
SELECT source, toUInt32(silent_from), toUInt32(raised_at), reason
FROM source_alerts FINAL
WHERE kind = 'source_silent' AND raised_at >= {since:UInt32}
ORDER BY source, raised_at
"""
_HEARD = """
SELECT source, metric, toUInt32(max(range_end)), uniqExact(scope_id)
FROM usage
WHERE range_begin >= {since:UInt32}
GROUP BY source, metric
"""
_MISSING = """
SELECT source, metric, count(), sum(toUInt32(gap_end) - toUInt32(gap_begin))
FROM gaps FINAL
WHERE period_begin >= {since:UInt32} AND is_open AND gap_id NOT IN (SELECT gap_id FROM accepted_gaps)
GROUP BY source, metric
"""


class SourceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was heard of sources since that second."""

    since: int


class SilentSource(msgspec.Struct, frozen=True):
    """A collector says that its source has proven nothing since `silent_from` (0: ever)."""

    source: str
    silent_from: int
    raised_at: int
    reason: str


class SourceMetric(msgspec.Struct, frozen=True):
    """What is known of one metric from one source."""

    source: str
    metric: str
    collected_until: int | None
    """Where the newest collection ends; None if there is none, or usage is not stored."""
    scopes: int
    """Of which there are collections."""
    open_gaps: int
    missing_seconds: int
    """In those gaps."""


class StoredViolation(msgspec.Struct, frozen=True):
    """Something that must hold and does not. `period_begin` is -1 where none applies."""

    invariant: str
    scope_id: str
    period_begin: int
    metric: str
    expected: str
    found: str
    rows: list[str]


class AuditRow(msgspec.Struct, frozen=True):
    """An audit that came to its end."""

    began_at: int
    seconds: float
    closed_from: int
    """It looked at the frames closed since."""
    frames: int
    waiting_samples: int
    unchecked: Mapping[str, int]
    violation_count: int
    violations: list[StoredViolation]
    """The first MAX_VIOLATIONS of them."""


_violations = msgspec.json.Decoder(list[StoredViolation]).decode


def source_alert_row(alert: Alert) -> Row | None:
    """The row of SOURCE_ALERTS for what a collector says of its source; None for every other alert.

    Raises UnstorableError.
    """
    if alert.kind not in (AlertKind.SOURCE_SILENT, AlertKind.SOURCE_BACK):
        return None
    for instant in (alert.begin, alert.raised_at):
        if not 0 <= instant <= LAST_INSTANT:
            raise UnstorableError(f"the instant {instant} cannot be stored: only those from 1970 to 2106 can")
    key = (alert.source, bytes.fromhex(alert.alert_id), alert.kind.value)
    return (*key, alert.begin, alert.raised_at, alert.reason)


def silent_sources(store: Store, request: SourceRequest) -> list[SilentSource]:
    """What collectors said of their sources since then and have not taken back."""
    return [SilentSource(*row) for row in store.rows(_SILENT, {"since": request.since})]


def source_metrics(store: Store, request: SourceRequest) -> list[SourceMetric]:
    """By source and metric, whatever was collected or is missing since then."""
    asked = {"since": request.since}
    heard = {(row[0], row[1]): row[2:] for row in store.rows(_HEARD, asked)}
    missing = {(row[0], row[1]): row[2:] for row in store.rows(_MISSING, asked)}
    found = []
    for key in sorted({*heard, *missing}):
        until, scopes = heard.get(key, (None, 0))
        gaps, seconds = missing.get(key, (0, 0))
        found.append(SourceMetric(*key, until, scopes, gaps, seconds))
    return found


def write_audit(store: Store, audit: AuditRow) -> None:
    """Keeps an audit. Raises StoreError."""
    values = msgspec.structs.asdict(audit) | {"violations": encode_json(audit.violations[:MAX_VIOLATIONS])}
    row = [[values[name]] for name, _ in _AUDITS.wire_types]
    store.insert(_AUDITS.name, _AUDITS.block(row))


def last_audit(store: Store) -> AuditRow | None:
    """The newest; None if there was none."""
    found = store.rows(_LAST_AUDIT)
    if not found:
        return None
    began_at, seconds, closed_from, frames, waiting, unchecked, count, violations = found[0]
    return AuditRow(began_at, seconds, closed_from, frames, waiting, unchecked, count, _violations(violations))
