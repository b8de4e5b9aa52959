"""Frames and usage as the store has them, made of collections by the code that stores them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from rater.model.interval import Interval
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.rated import ClosedBy, CollectionRef, FrameStatus, MetricCoverage
from rater.model.usage import Collection, Sample, Series
from rater.store import FrameRow, UsageRow
from rater.store.blocks import USAGE, usage_rows

T = 1_767_225_600  # 2026-01-01T00:00:00Z
HOUR = 3600
CATALOG = Catalog([MetricSpec("cpu"), MetricSpec("net", proof=Coverage.SAMPLES)])


def a_part(begin: int = T, hours: int = 1, **changes: object) -> Collection:
    """A part with one sample per hour of each of two resources, or as `changes` say."""
    end = begin + hours * HOUR
    samples = [Sample(s, at, at + HOUR, Decimal(s + 1)) for s in range(2) for at in range(begin, end, HOUR)]
    fields: dict[str, object] = {
        "source": "test",
        "scope_id": "A",
        "metric": "cpu",
        "begin": begin,
        "end": end,
        "attempt": 1,
        "collection_id": "c1",
        "producer_id": "p",
        "sequence": 0,
        "covers": [Interval(begin, end)],
        "series": [Series({"id": "vm1"}, {"size": 4}), Series({"id": "vm2"})],
        "samples": samples,
    }
    return Collection(**{**fields, **changes})


def stored(*parts: Collection) -> list[UsageRow]:
    """The rows of table `usage` that these parts make, in the order in which it is read."""
    names = [name for name, _ in USAGE.wire_types]
    rows = [dict(zip(names, row, strict=True)) for part in parts for row in usage_rows(part)]
    key = ("scope_id", "metric", "source", "range_begin", "range_end", "attempt", "collection_id", "part", "n")
    found = []
    for row, part in _with_parts(rows, parts):
        first = row["n"] == 0
        found.append(
            (
                tuple(row[name] for name in key),
                UsageRow(
                    part.scope_id, part.metric, part.source, part.begin, part.end, part.attempt, part.collection_id,
                    part.part, part.parts, bytes(row["series"]).decode(), list(row["sample_begin"]),
                    list(row["sample_end"]), list(row["qty"]), part.unit, part.producer_id, part.sequence, part.proof,
                    first, part.covers if first else [], part.note if first else "",
                    part.quarantined if first else [],
                ),
            )
        )  # fmt: skip
    return [row for _, row in sorted(found, key=lambda item: item[0])]


def _with_parts(rows: list[dict], parts: Sequence[Collection]) -> Iterator[tuple[dict, Collection]]:
    by_part = iter(rows)
    for part in parts:
        for _ in range(max(1, len(part.series))):
            yield next(by_part), part


def a_frame_row(*references: tuple[str, CollectionRef], begin: int = T, **changes: object) -> FrameRow:
    """The frame of a period that was made of these collections, each with its metric."""
    fields: dict[str, object] = {
        "scope_id": "A",
        "period_begin": begin,
        "period_end": begin + HOUR,
        "revision": 0,
        "status": FrameStatus.RATED,
        "closed_by": ClosedBy.COMPLETE,
        "weak": False,
        "rule_version": 1,
        "closed_at": begin + 2 * HOUR,
        "expected_until": None,
        "line_count": 0,
        "totals": [],
        "coverage": [
            MetricCoverage(metric, "test", [Interval(begin, begin + HOUR)], [], "proven", [reference])
            for metric, reference in references
        ],
        "gaps": [],
        "quarantined": [],
    }
    return FrameRow(**{**fields, **changes})


def a_reference(samples: int = 2, collection_id: str = "c1", attempt: int = 1, begin: int = T) -> CollectionRef:
    """A collection of a whole period."""
    return CollectionRef(collection_id, attempt, begin, begin + HOUR, samples)
