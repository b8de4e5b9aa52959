"""A rating module for rater: ten percent more at night."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from rater.rating import RatingFrame, RatingPoint, RuleBook

FACTOR = Decimal("1.1")
EXACT = Context(prec=28, rounding=ROUND_HALF_EVEN)  # of our own: a price must not hang on the context of the caller


def surcharge(frame: RatingFrame, rules: RuleBook) -> Iterable[RatingPoint]:
    """The points of the frame, dearer by ten percent if it begins from 22:00 to 06:00 UTC."""
    hour = frame.period_begin // 3600 % 24
    if 6 <= hour < 22:
        return frame.points
    return [msgspec.structs.replace(point, price=EXACT.multiply(point.price, FACTOR)) for point in frame.points]
