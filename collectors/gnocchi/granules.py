"""From the granules of a period to one quantity, and from one resource to those who shared it in the period.

Pure functions. A granule is what Gnocchi made of all measures within `[begin, begin + length)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from collectors.gnocchi.settings import Combine
from rater.model.interval import Interval

__all__ = ["combined", "overlap", "shared"]

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)  # sums of floats are exact in it
_QUOTIENT = Context(prec=28, rounding=ROUND_HALF_EVEN)


def combined(values: Sequence[float], how: Combine) -> float | str:
    """One quantity of the values of granules, in order of time; at least one. A single one as it is.

    Else decimal text: sums of the shortest decimals that mean the floats, exactly.
    """
    if len(values) == 1:
        return values[0]
    return shared(dict(enumerate(values)), dict.fromkeys(range(len(values)), Fraction(1)), how)


def shared(values: Mapping[int, float], weights: Mapping[int, Fraction], how: Combine) -> str:
    """The quantity of one who had a resource for a part of the period, as decimal text.

    `values` of all granules of the resource, `weights` how much of each granule was theirs, at least of one more than
    nothing. What adds up is divided by time within each granule. Of what does not (max, min, last, first) they get
    that of their own granules, for their share of all of them; so the shares of all add up to the whole, as they do
    where the granule is the period.
    """
    own = [begin for begin in sorted(values) if weights.get(begin)]
    assert own, "somebody who had nothing of it has no quantity"
    parts = [(Decimal(repr(values[begin])), weights[begin]) for begin in own]
    if how in ("sum", "mean"):
        total = sum((Fraction(value) * weight for value, weight in parts), Fraction(0))
        return _text(total / len(values) if how == "mean" else total)
    numbers = [value for value, _ in parts]
    chosen = {"max": max(numbers), "min": min(numbers), "last": numbers[-1], "first": numbers[0]}[how]
    return _text(Fraction(chosen) * sum(weight for _, weight in parts) / len(values))


def overlap(begin: int, length: int, spans: Sequence[Interval]) -> Fraction:
    """How much of the granule the spans cover; they do not overlap each other."""
    covered = sum(max(0, min(begin + length, span.end) - max(begin, span.begin)) for span in spans)
    return Fraction(covered, length)


def _text(number: Fraction) -> str:
    """All digits of a number that has an end within 60 of them, else 28."""
    context = _EXACT.copy()
    context.clear_flags()
    exact = context.divide(Decimal(number.numerator), Decimal(number.denominator))
    if Fraction(exact) == number:
        return format(exact, "f")
    return str(_QUOTIENT.divide(Decimal(number.numerator), Decimal(number.denominator)))
