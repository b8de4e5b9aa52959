"""Rows of the store as the values that invariants are functions of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby

from rater.audit.facts import StoredFrame, StoredGap, StoredLine
from rater.model.labels import series_labels
from rater.model.rated import Gap, Line, RatedFrame
from rater.model.usage import Collection, Sample, Series
from rater.store import FrameRow, GapRow, LineRow
from rater.store.audit import RawFrame, RawUsage

__all__ = ["collections_of", "newest_of", "stored_frame", "stored_gap", "stored_line"]


def newest_of(rows: Iterable[RawFrame]) -> list[FrameRow]:
    """The rows that FINAL shows, by period."""
    newest: dict[int, FrameRow] = {}
    for raw in rows:
        known = newest.get(raw.row.period_begin)
        if known is None or known.revision <= raw.row.revision:
            newest[raw.row.period_begin] = raw.row
    return [newest[begin] for begin in sorted(newest)]


def stored_frame(raw: RawFrame) -> StoredFrame:
    """The row as invariants take it."""
    row = raw.row
    said = {name: getattr(row, name) for name in row.__struct_fields__ if name != "line_count"}
    return StoredFrame(
        RatedFrame(**said, part=0, parts=1, lines=[]), row.line_count, raw.gap_count, raw.quarantined_count
    )


def stored_line(row: LineRow) -> StoredLine:
    """The row as invariants take it."""
    line = Line(row.line_id, row.metric, row.unit, row.qty, row.price, dict(row.groupby), dict(row.metadata))
    return StoredLine(row.scope_id, row.period_begin, row.revision, row.rule_version, line)


def stored_gap(row: GapRow) -> StoredGap:
    """The row as invariants take it."""
    gap = Gap(row.gap_id, row.metric, row.source, row.begin, row.end, row.reason)
    opened = None if row.opened_revision is None else (row.opened_revision, row.opened_at or 0)
    resolved = None if row.resolved_revision is None else (row.resolved_revision, row.resolved_at or 0)
    return StoredGap(row.scope_id, row.period_begin, gap, opened, resolved)


def collections_of(rows: Iterable[RawUsage]) -> Iterator[Collection]:
    """The parts of collections that these rows, ordered by key, are of. Rows that share a key and differ count both."""
    for _, of_part in groupby(rows, lambda row: (row.metric, row.source, row.range_begin, row.range_end, row.attempt,
                                                 row.collection_id, row.part)):  # fmt: skip
        yield _collection(list(of_part))


def _collection(rows: Sequence[RawUsage]) -> Collection:
    first = rows[0]
    series = [Series()] * (rows[-1].n + 1)
    samples: list[Sample] = []
    for row in rows:
        if row.series:
            series[row.n] = Series(*series_labels(row.series.encode()))
        samples += [Sample(row.n, b, e, Decimal(qty)) for b, e, qty in zip(row.begins, row.ends, row.qty, strict=True)]
    return Collection(
        source=first.source,
        scope_id=first.scope_id,
        metric=first.metric,
        begin=first.range_begin,
        end=first.range_end,
        attempt=first.attempt,
        collection_id=first.collection_id,
        producer_id=first.producer_id,
        sequence=first.sequence,
        unit=first.unit,
        part=first.part,
        parts=first.parts,
        covers=first.covers,
        proof=first.proof,
        series=series,
        samples=samples,
        quarantined=first.quarantined,
    )
