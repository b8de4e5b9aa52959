"""An operator's reworks: brackets as production makes them of what the store in memory has; some are given up."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import msgspec

from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.interval import Interval
from rater.model.labels import series_labels
from rater.model.metric import Catalog
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage, MetricTotal, QuarantinedPoint
from rater.model.usage import Collection, QuarantinedItem, Sample, Series
from rater.rework.brackets import bracket_of
from rater.rework.values import Bracket, Left, Material, Wanted
from rater.store import FrameRow, LineRow, UsageRow
from rater.store.blocks import LAST_INSTANT
from tests.sim.broker import Broker, LostError, Wire
from tests.sim.store import Tables
from tests.sim.truth import PUSHED

_coverage = msgspec.json.Decoder(list[MetricCoverage]).decode
_gaps = msgspec.json.Decoder(list[Gap]).decode
_points = msgspec.json.Decoder(list[QuarantinedPoint]).decode
_items = msgspec.json.Decoder(list[QuarantinedItem]).decode
_spans = msgspec.json.Decoder(list[Interval]).decode
_HEADERS = ((CONTENT_TYPE, MSGPACK.encode()),)


def bracket(
    tables: Tables, rng: random.Random, rework_id: str, catalog: Catalog, oldest: int, asked_again: random.Random | None
) -> Bracket | Left | None:
    """A bracket for one of the frames in the store that begin at `oldest` or later; None if there is none.

    By `asked_again` its source answers anew, as in a reprocess.
    """
    keys = sorted(key for key in tables.rows["frames"] if key[1] >= oldest)
    if not keys:
        return None
    wanted = Wanted(rework_id, "rerate" if asked_again is None else "reprocess", "operator", "again", takes_late=True)
    return bracket_for(tables, rng.choice(keys), wanted, catalog, asked_again)


def bracket_for(
    tables: Tables, key: tuple[str, int], wanted: Wanted, catalog: Catalog, asked_again: random.Random | None = None
) -> Bracket | Left:
    """A bracket for this frame, which is in the store."""
    scope_id, begin = key
    frame = _frame(tables.rows["frames"][scope_id, begin])
    lines = [_line(row) for key, row in tables.rows["lines"].items() if key[:3] == (scope_id, begin, frame.revision)]
    usage = [
        _usage(row)
        for _, row in sorted(tables.rows["usage"].items())
        if row["scope_id"] == scope_id and row["range_begin"] < frame.period_end and row["range_end"] > begin
    ]
    fresh = [] if asked_again is None else _answers(frame, usage, wanted.rework_id, catalog, asked_again)
    return bracket_of(Material(frame, lines, usage), wanted, catalog, fresh)


def _answers(
    frame: FrameRow, usage: list[UsageRow], rework_id: str, catalog: Catalog, rng: random.Random
) -> list[Collection]:
    """What a source says now of some of the frame's metrics: all of the period, half of it or nothing is proven."""
    fresh: list[Collection] = []
    begin, end = frame.period_begin, frame.period_end
    for entry in frame.coverage:
        spec = catalog.get(entry.metric)
        if spec is None or entry.metric in PUSHED or rng.random() < 0.5:
            continue
        known = sorted({row.series for row in usage if row.metric == entry.metric and row.series})[:2]
        series = [Series(*series_labels(text.encode())) for text in known] or [Series({"id": "fresh"})]
        covers = rng.choice([[Interval(begin, end)], [Interval(begin, (begin + end) // 2)], []])
        parts = rng.choice([1, 1, 2])
        for part in range(parts):
            moments = [begin + 60 * (number + 5 * part) for number in range(len(series))]
            fresh.append(
                Collection(
                    source=entry.source,
                    scope_id=frame.scope_id,
                    metric=entry.metric,
                    begin=begin,
                    end=end,
                    attempt=2**50 + int(rework_id[1:]),  # later than whatever was collected before
                    collection_id=f"{rework_id}/{entry.metric}/{begin}",
                    producer_id=rework_id,
                    sequence=0,
                    unit=spec.unit,
                    part=part,
                    parts=parts,
                    covers=covers,
                    series=series,
                    samples=[Sample(n, at, at, Decimal(rng.randint(1, 9))) for n, at in enumerate(moments)],
                    rework_id=rework_id,
                )
            )
    return fresh


async def send(broker: Broker, wire: Wire, made: Bracket, *, may_give_up: bool = True) -> bool:
    """Sends a bracket; False if it was given up halfway.

    As the idempotent producer of production, a record that was not confirmed is sent again, and there once.
    """
    key = made.begun.scope_id.encode()
    partition, rng = broker.home(key), broker.loop.rng
    gives_up = may_give_up and rng.random() < 0.1
    for record in made.records(f"rework-{made.begun.rework_id}", 0):
        value = encode_msgpack(record)
        offsets: list[int] = []

        def append(value: bytes = value, offsets: list[int] = offsets) -> None:
            if not offsets:
                offsets.append(broker.append("usage", partition, key, value, _HEADERS))

        while True:
            try:
                await wire.call("rework", append)
                break
            except LostError:
                await asyncio.sleep(5)
        if gives_up and rng.random() < 0.4:
            return False
    return True


def _frame(row: dict[str, Any]) -> FrameRow:
    names = ("totals.metric", "totals.unit", "totals.qty", "totals.price", "totals.n")
    return FrameRow(
        **{
            name: row[name]
            for name in (
                "scope_id", "period_begin", "period_end", "revision", "weak", "rule_version", "closed_at", "line_count",
                "failure", "digest", "rework_id",
            )
        },
        status=FrameStatus(row["status"]),
        closed_by=ClosedBy(row["closed_by"]),
        expected_until=None if row["expected_until"] == LAST_INSTANT else row["expected_until"],
        totals=[
            MetricTotal(metric, unit, Decimal(qty), Decimal(price), n)
            for metric, unit, qty, price, n in zip(*(row[name] for name in names), strict=True)
        ],
        coverage=_coverage(row["coverage"]),
        gaps=_gaps(row["gaps"]),
        quarantined=_points(row["quarantined"]),
    )  # fmt: skip


def _line(row: dict[str, Any]) -> LineRow:
    values = {**row, "line_id": row["line_id"].hex(), "qty": Decimal(row["qty"]), "price": Decimal(row["price"])}
    return LineRow(**values)


def _usage(row: dict[str, Any]) -> UsageRow:
    values = {name: row[name] for name in UsageRow.__struct_fields__ if name in row}
    first = row["n"] == 0
    values |= {
        "series": bytes(row["series"]).decode(),
        "begins": list(row["sample_begin"]),
        "ends": list(row["sample_end"]),
        "qty": list(row["qty"]),
        "is_first": first,
        "covers": _spans(row["covers"]) if first else [],
        "quarantined": _items(row["quarantined"]) if first else [],
    }
    return UsageRow(**values)
