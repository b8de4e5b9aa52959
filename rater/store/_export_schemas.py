"""The columns of exported files, as Arrow schemas: JSON lines and CSV follow the same ones."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["AMOUNT", "FRAMES", "GAPS", "LINES", "TIME"]

TIME = pa.timestamp("s", tz="UTC")
AMOUNT = pa.decimal256(76, 38)
_LABELS = pa.map_(pa.string(), pa.string())
_INTERVALS = pa.list_(pa.struct([("begin", TIME), ("end", TIME)]))

LINES = pa.schema(
    [
        ("scope_id", pa.string()),
        ("period_begin", TIME),
        ("revision", pa.uint32()),
        ("metric", pa.string()),
        ("line_id", pa.string()),
        ("qty", AMOUNT),
        ("price", AMOUNT),
        ("unit", pa.string()),
        ("groupby", _LABELS),
        ("metadata", _LABELS),
        ("rule_version", pa.uint32()),
    ]
)

_TOTALS = pa.list_(
    pa.struct([("metric", pa.string()), ("unit", pa.string()), ("qty", AMOUNT), ("price", AMOUNT), ("n", pa.uint32())])
)
_COLLECTIONS = pa.list_(
    pa.struct(
        [
            ("collection_id", pa.string()),
            ("attempt", pa.uint64()),
            ("begin", TIME),
            ("end", TIME),
            ("samples", pa.uint64()),
        ]
    )
)
_COVERAGE = pa.list_(
    pa.struct(
        [
            ("metric", pa.string()),
            ("source", pa.string()),
            ("proof", pa.string()),
            ("expected", _INTERVALS),
            ("covered", _INTERVALS),
            ("collections", _COLLECTIONS),
        ]
    )
)
_HOLES = pa.list_(
    pa.struct(
        [
            ("gap_id", pa.string()),
            ("metric", pa.string()),
            ("source", pa.string()),
            ("begin", TIME),
            ("end", TIME),
            ("reason", pa.string()),
        ]
    )
)
_QUARANTINED = pa.list_(
    pa.struct(
        [
            ("metric", pa.string()),
            ("source", pa.string()),
            ("value", pa.string()),
            ("reason", pa.string()),
            ("groupby", _LABELS),
            ("metadata", _LABELS),
        ]
    )
)

FRAMES = pa.schema(
    [
        ("scope_id", pa.string()),
        ("period_begin", TIME),
        ("period_end", TIME),
        ("revision", pa.uint32()),
        ("status", pa.string()),
        ("closed_by", pa.string()),
        ("weak", pa.bool_()),
        ("rule_version", pa.uint32()),
        ("closed_at", TIME),
        ("expected_until", TIME),
        ("line_count", pa.uint32()),
        ("totals", _TOTALS),
        ("coverage", _COVERAGE),
        ("gaps", _HOLES),
        ("quarantined", _QUARANTINED),
        ("failure", pa.string()),
    ]
)

GAPS = pa.schema(
    [
        ("scope_id", pa.string()),
        ("period_begin", TIME),
        ("metric", pa.string()),
        ("source", pa.string()),
        ("begin", TIME),
        ("end", TIME),
        ("gap_id", pa.string()),
        ("is_open", pa.bool_()),
        ("opened_revision", pa.uint32()),
        ("opened_at", TIME),
        ("reason", pa.string()),
        ("resolved_revision", pa.uint32()),
        ("resolved_at", TIME),
        ("resolution", pa.string()),
    ]
)
