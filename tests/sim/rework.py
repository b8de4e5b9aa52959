"""An operator's reworks: brackets as production makes them of what the store in memory has; some are given up."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import msgspec

from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.interval import Interval
from rater.model.metric import Catalog
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage, MetricTotal, QuarantinedPoint
from rater.model.usage import QuarantinedItem
from rater.rework.brackets import bracket_of
from rater.rework.values import Bracket, Left, Material, Wanted
from rater.store import FrameRow, LineRow, UsageRow
from rater.store.blocks import LAST_INSTANT
from tests.sim.broker import Broker, LostError, Wire
from tests.sim.store import Tables

_coverage = msgspec.json.Decoder(list[MetricCoverage]).decode
_gaps = msgspec.json.Decoder(list[Gap]).decode
_points = msgspec.json.Decoder(list[QuarantinedPoint]).decode
_items = msgspec.json.Decoder(list[QuarantinedItem]).decode
_spans = msgspec.json.Decoder(list[Interval]).decode
_HEADERS = ((CONTENT_TYPE, MSGPACK.encode()),)


def bracket(tables: Tables, rng: random.Random, rework_id: str, catalog: Catalog, oldest: int) -> Bracket | Left | None:
    """A bracket for one of the frames in the store that begin at `oldest` or later; None if there is none."""
    keys = sorted(key for key in tables.rows["frames"] if key[1] >= oldest)
    if not keys:
        return None
    scope_id, begin = rng.choice(keys)
    frame = _frame(tables.rows["frames"][scope_id, begin])
    lines = [_line(row) for key, row in tables.rows["lines"].items() if key[:3] == (scope_id, begin, frame.revision)]
    usage = [
        _usage(row)
        for _, row in sorted(tables.rows["usage"].items())
        if row["scope_id"] == scope_id and row["range_begin"] < frame.period_end and row["range_end"] > begin
    ]
    wanted = Wanted(rework_id, "rerate", "operator", "again", takes_late=True)
    return bracket_of(Material(frame, lines, usage), wanted, catalog)


async def send(broker: Broker, wire: Wire, made: Bracket) -> bool:
    """Sends a bracket; False if it was given up halfway.

    As the idempotent producer of production, a record that was not confirmed is sent again, and there once.
    """
    key = made.begun.scope_id.encode()
    partition, rng = broker.home(key), broker.loop.rng
    gives_up = rng.random() < 0.1
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
