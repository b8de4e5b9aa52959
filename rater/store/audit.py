"""Rows as an audit needs them: all that share a key, also where readers would see one of them.

Rows that are equal in every column count as one, since repeating an insert is no fault. Everything comes in the order
of its key and in bounded runs; whoever asks says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import msgspec

from rater.model.interval import Interval
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage, MetricTotal, QuarantinedPoint
from rater.model.usage import QuarantinedItem
from rater.store.blocks import LAST_INSTANT
from rater.store.client import Store
from rater.store.errors import StoreError
from rater.store.rows import FrameRow, LineRow

__all__ = [
    "AuditMonth",
    "RawFrame",
    "RawUsage",
    "RuleText",
    "audit_frames",
    "audit_lines",
    "audit_months",
    "audit_usage",
    "rule_texts",
]


class AuditMonth(msgspec.Struct, frozen=True):
    """A scope's month and how many rows of frames it has; `[begin, end)` bounds what was asked for of it."""

    scope_id: str
    begin: int
    end: int
    frames: int


class RawFrame(msgspec.Struct, frozen=True):
    """A row of table `frames`, of whatever revision, with the counts that readers do not look at."""

    row: FrameRow
    gap_count: int
    quarantined_count: int


class RawUsage(msgspec.Struct, frozen=True):
    """A row of table `usage`, with the samples that begin within the time that was asked for."""

    scope_id: str
    metric: str
    source: str
    range_begin: int
    range_end: int
    attempt: int
    collection_id: str
    part: int
    parts: int
    n: int
    producer_id: str
    sequence: int
    unit: str
    proof: Literal["proven", "weak"]
    covers: list[Interval]
    quarantined: list[QuarantinedItem]
    series: str
    begins: list[int]
    ends: list[int]
    qty: list[str]


class RuleText(msgspec.Struct, frozen=True):
    """A version of the rules as table `rule_events` has it."""

    version: int
    event: str


_SPAN = "scope_id = {scope_id:String} AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}"

MONTHS = """
SELECT scope_id, toUInt32(toDateTime(toStartOfMonth(period_begin), 'UTC')) AS month_begin, uniqExact(period_begin)
FROM frames
WHERE ({scope_id:String} = '' OR scope_id = {scope_id:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
GROUP BY scope_id, month_begin
ORDER BY scope_id, month_begin
"""

RECENT = """
SELECT scope_id, toUInt32(min(period_begin)), toUInt32(max(period_end)), uniqExact(period_begin)
FROM frames
WHERE closed_at >= {closed_from:UInt32} AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
    AND ({scope_id:String} = '' OR scope_id = {scope_id:String})
GROUP BY scope_id, toYYYYMM(period_begin)
ORDER BY scope_id, min(period_begin)
"""

FRAMES = f"""
SELECT DISTINCT scope_id, toUInt32(period_begin) AS begins, toUInt32(period_end), revision, status, closed_by, weak,
    rule_version, toUInt32(closed_at), toUInt32(expected_until), line_count, totals.metric, totals.unit,
    arrayMap(x -> toString(x), totals.qty),
    arrayMap(x -> toString(x), totals.price), totals.n, coverage, gaps, quarantined, failure, digest, rework_id,
    gap_count, quarantined_count
FROM frames
WHERE {_SPAN}
ORDER BY scope_id, begins, revision
"""  # noqa: S608  the only thing put in is the constant above

LINES = f"""
SELECT DISTINCT scope_id, toUInt32(period_begin) AS begins, revision, metric, lower(hex(line_id)) AS id,
    toString(qty), toString(price), unit, groupby, metadata, rule_version
FROM lines
WHERE {_SPAN}
ORDER BY scope_id, begins, revision, metric, id
"""  # noqa: S608  the only thing put in is the constant above

USAGE = """
SELECT DISTINCT scope_id, metric, source, toUInt32(range_begin) AS begins, toUInt32(range_end) AS ends, attempt,
    collection_id, part, parts, n, producer_id, sequence, unit, proof, covers, quarantined, series,
    arrayFilter((x, b) -> b >= {begin:UInt32} AND b < {end:UInt32}, arrayMap(x -> toUInt32(x), sample_begin),
        sample_begin) AS sample_begins,
    arrayFilter((x, b) -> b >= {begin:UInt32} AND b < {end:UInt32}, arrayMap(x -> toUInt32(x), sample_end),
        sample_begin),
    arrayFilter((x, b) -> b >= {begin:UInt32} AND b < {end:UInt32}, qty, sample_begin)
FROM usage
WHERE scope_id = {scope_id:String} AND range_begin < {end:UInt32} AND range_end > {begin:UInt32}
ORDER BY scope_id, metric, source, begins, ends, attempt, collection_id, part, n
"""

RULES = """
SELECT version, event FROM rule_events FINAL WHERE version > {after:UInt32} ORDER BY version LIMIT 1000
"""

_coverage = msgspec.json.Decoder(list[MetricCoverage]).decode
_gaps = msgspec.json.Decoder(list[Gap]).decode
_quarantined = msgspec.json.Decoder(list[QuarantinedPoint]).decode
_items = msgspec.json.Decoder(list[QuarantinedItem]).decode
_covers = msgspec.json.Decoder(list[Interval]).decode


def audit_months(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None, closed_from: int = 0
) -> list[AuditMonth]:
    """What there is to look at, by scope and month. `closed_from`: only around frames closed since that second."""
    first, last = max(begin or 0, 0), LAST_INSTANT if end is None else min(end, LAST_INSTANT)
    asked = {"scope_id": scope_id or "", "begin": first, "end": last, "closed_from": closed_from}
    if closed_from:
        return [AuditMonth(*row) for row in store.rows(RECENT, asked)]
    del asked["closed_from"]
    found = store.rows(MONTHS, asked)
    months = []
    for number, (scope, month_begin, count) in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else ("", 0, 0)
        until = min(after[1], last) if after[0] == scope else last
        months.append(AuditMonth(scope, max(month_begin, first), until, count))
    return months


def audit_frames(store: Store, scope_id: str, begin: int, end: int) -> Iterator[RawFrame]:
    """The rows of frames whose periods begin within `[begin, end)`, by period and revision. Raises StoreError."""
    for row in store.rows(FRAMES, {"scope_id": scope_id, "begin": begin, "end": end}):
        try:
            yield _raw_frame(row)
        except (msgspec.DecodeError, ValueError) as fault:
            raise StoreError(
                f"the row of table frames of scope {scope_id!r}, period_begin {row[1]}, revision {row[3]} cannot be "
                f"read: {fault}. It was changed by hand or is damaged: rate the frame again with `rater rerate`"
            ) from fault


def _raw_frame(row: tuple[Any, ...]) -> RawFrame:
    (
        *head,
        metric,
        unit,
        qty,
        price,
        n,
        coverage,
        gaps,
        quarantined,
        failure,
        digest,
        rework_id,
        of_gaps,
        of_points,
    ) = row
    scope_id, begin, end, revision, status, closed_by, weak, rule_version, closed_at, until, line_count = head
    frame = FrameRow(
        scope_id=scope_id,
        period_begin=begin,
        period_end=end,
        revision=revision,
        status=FrameStatus(status),
        closed_by=ClosedBy(closed_by),
        weak=bool(weak),
        rule_version=rule_version,
        closed_at=closed_at,
        expected_until=None if until == LAST_INSTANT else until,
        line_count=line_count,
        totals=[
            MetricTotal(name, of, Decimal(amount), Decimal(money), count)
            for name, of, amount, money, count in zip(metric, unit, qty, price, n, strict=True)
        ],
        coverage=_coverage(coverage),
        gaps=_gaps(gaps),
        quarantined=_quarantined(quarantined),
        failure=failure,
        digest=digest,
        rework_id=rework_id,
    )
    return RawFrame(frame, of_gaps, of_points)


def audit_lines(store: Store, scope_id: str, begin: int, end: int) -> Iterator[LineRow]:
    """The rows of lines of these periods, of every revision, by key. Raises StoreError."""
    for row in store.rows(LINES, {"scope_id": scope_id, "begin": begin, "end": end}):
        scope, period_begin, revision, metric, line_id, qty, price, *rest = row
        yield LineRow(scope, period_begin, revision, metric, line_id, Decimal(qty), Decimal(price), *rest)


def audit_usage(store: Store, scope_id: str, begin: int, end: int) -> Iterator[RawUsage]:
    """The rows of usage whose range reaches into `[begin, end)`, with the samples that begin there. By key."""
    for row in store.rows(USAGE, {"scope_id": scope_id, "begin": begin, "end": end}):
        *head, covers, quarantined, series, begins, ends, qty = row
        said = [_covers(covers) if covers else [], _items(quarantined) if quarantined else [], series]
        values: list[Any] = [*head, *said, list(begins), list(ends), list(qty)]
        yield RawUsage(*values)


def rule_texts(store: Store) -> Iterator[RuleText]:
    """The history of the rules, by version."""
    after = 0
    while rows := store.rows(RULES, {"after": after}):
        for version, event in rows:
            yield RuleText(version, event)
        after = rows[-1][0]
