"""Which numbers can be taken: bounds that keep sums exact, in the engine and in the store."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["MAX_DECIMALS", "MAX_MAGNITUDE", "STORED_DECIMALS", "amount_fault", "decimals", "quantity_fault"]

MAX_MAGNITUDE = Decimal("1e30")  # a larger value would wrap silently in ClickHouse's sum of Decimal(76, 38)
MAX_DECIMALS = 100  # keeps exact sums within the precision of rater.engine.aggregate
STORED_DECIMALS = 38  # that the store keeps; what has more is rounded when a frame closes


def quantity_fault(qty: Decimal) -> str:
    """Why this quantity of a sample cannot be taken, as the end of a sentence; empty if it can."""
    return _fault(qty, MAX_DECIMALS)


def amount_fault(amount: Decimal) -> str:
    """The same of a quantity or price that is stored as it is, and never rounded."""
    fault = _fault(amount, STORED_DECIMALS)
    # 1e30 is the largest, and a zero may be written with any exponent
    return fault or (f"is written {amount}: write 0" if not amount and decimals(amount) < 0 else "")


def decimals(number: Decimal) -> int:
    """How many decimals a finite number is written with; less than 0 for one that ends before the point."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "only finite numbers come here"
    return -exponent


def _fault(number: Decimal, most_decimals: int) -> str:
    if not number.is_finite():
        return f"is {number}: it must be a finite number"
    if not -MAX_MAGNITUDE <= number <= MAX_MAGNITUDE:
        return f"is {number:.3E}: at most {MAX_MAGNITUDE} is taken"
    if decimals(number) > most_decimals:
        return f"has {decimals(number)} decimals: at most {most_decimals} are taken"
    return ""
