"""Graduated prices: what a unit costs depends on how much the scope has used since the begin of the month (UTC).

The price of a quantity is the difference of two sums, what the month costs with it and without it, so it does not
depend on how the quantity is cut into points, and a negative one takes back what the last units cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from rater.model.labels import LabelValue, label_text
from rater.model.rules import Tiers, TierStep

__all__ = ["PRICE_CONTEXT", "add_used", "month_begin", "tier_key", "tier_metric", "tier_parts", "tier_price"]

_ZERO = Decimal(0)
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)  # of quantities, as the engine adds them
PRICE_CONTEXT = Context(prec=28, rounding=ROUND_HALF_EVEN)  # of prices, as in hashmap
_key = msgspec.json.Encoder(order="deterministic").encode
_parts_of_key = msgspec.json.Decoder(tuple[str, list[str | None]]).decode


def month_begin(instant: int) -> int:
    """The begin of the month of an instant, both seconds since the epoch, UTC."""
    day = datetime.fromtimestamp(instant, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp())


def tier_key(
    metric: str, by: Sequence[str], groupby: Mapping[str, LabelValue], metadata: Mapping[str, LabelValue]
) -> str:
    """Names one count of a scope: the metric and the texts of the labels `by`, null for one that is not there.

    A label in both maps counts as it stands in `groupby`.
    """
    desc = {**metadata, **groupby}
    texts = [label_text(desc[name]) if name in desc else None for name in by]
    return _key((metric, texts)).decode()


def tier_metric(key: str) -> str:
    """The metric of a key."""
    metric, _ = _parts_of_key(key)
    return metric


def add_used(used: Decimal, qty: Decimal) -> Decimal:
    """The count after a quantity, exactly."""
    return _EXACT.add(used, qty)


def tier_parts(tiers: Tiers, used: Decimal, qty: Decimal) -> list[tuple[TierStep, Decimal]]:
    """How `qty` falls on the steps after `used` was used: the parts that are not zero, exactly, in order of the steps.

    What lies below zero belongs to the first step.
    """
    low, high = sorted((used, _EXACT.add(used, qty)))
    parts = []
    floor: Decimal | None = None
    for step in tiers.steps:
        begin = low if floor is None else max(low, floor)
        end = high if step.up_to is None else min(high, step.up_to)
        if begin < end:
            part = _EXACT.subtract(end, begin)
            parts.append((step, part if qty > 0 else part.copy_negate()))
        floor = step.up_to
    return parts


def tier_price(tiers: Tiers, used: Decimal, qty: Decimal, price: Decimal = _ZERO) -> Decimal:
    """`price` and what `qty` costs after `used` was used: the sum of part times cost.

    28 significant digits, half-even, after each product and each sum. Raises decimal.Overflow beyond all bounds.
    """
    for step, part in tier_parts(tiers, used, qty):
        price = PRICE_CONTEXT.add(price, PRICE_CONTEXT.multiply(part, step.cost))
    return price
