"""Samples of one resource in one period become one quantity, the same in whatever order and grouping they come.

Sums are exact: 200 digits hold any sum of accepted quantities (30 integer digits, 100 decimals, 10^60 samples), so
nothing is rounded before `quantity()` does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import msgspec

from rater.model.metric import Aggregation
from rater.model.usage import Sample

__all__ = ["MAX_SCALE", "Acc", "add_samples", "canonical", "merge", "quantity"]

EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
MAX_SCALE = 38  # decimals of the store's Decimal(76, 38)
_SHORT = Context(prec=28, rounding=ROUND_HALF_EVEN)
_SHORT_LEAST = -11  # 28 digits of which the first is the 11th decimal end with the 38th
_QUANTUM = Decimal(1).scaleb(-MAX_SCALE)
_ZERO, _ONE = Decimal(0), Decimal(1)
_MEAN_DIGITS = Context(prec=28, rounding=ROUND_HALF_EVEN)


class Acc(msgspec.Struct, array_like=True, gc=False):
    """What is kept of the samples of one resource. Which fields count depends on the aggregation.

    `value` is the sum, greatest, least, first or last quantity; `other` is the first one of a delta. The begins and
    ends beside them settle which sample is first or last.
    """

    value: Decimal
    n: int = 1
    begin: int = 0
    end: int = 0
    other: Decimal | None = None
    other_begin: int = 0
    other_end: int = 0


def _sum(acc: Acc, new: Acc) -> None:
    acc.value = EXACT.add(acc.value, new.value)


def _max(acc: Acc, new: Acc) -> None:
    acc.value = max(acc.value, new.value)


def _min(acc: Acc, new: Acc) -> None:
    acc.value = min(acc.value, new.value)


def _last(acc: Acc, new: Acc) -> None:
    if (new.begin, new.end, new.value) > (acc.begin, acc.end, acc.value):
        acc.begin, acc.end, acc.value = new.begin, new.end, new.value


def _first(acc: Acc, new: Acc) -> None:
    if (new.begin, new.end, new.value) < (acc.begin, acc.end, acc.value):
        acc.begin, acc.end, acc.value = new.begin, new.end, new.value


def _delta(acc: Acc, new: Acc) -> None:
    _last(acc, new)
    assert acc.other is not None
    assert new.other is not None
    if (new.other_begin, new.other_end, new.other) < (acc.other_begin, acc.other_end, acc.other):
        acc.other_begin, acc.other_end, acc.other = new.other_begin, new.other_end, new.other


def _count(acc: Acc, new: Acc) -> None:
    """Only `n` counts, and `merge` adds it."""


_MERGE: dict[Aggregation, Callable[[Acc, Acc], None]] = {
    Aggregation.SUM: _sum,
    Aggregation.MEAN: _sum,
    Aggregation.MAX: _max,
    Aggregation.MIN: _min,
    Aggregation.LAST: _last,
    Aggregation.FIRST: _first,
    Aggregation.DELTA: _delta,
    Aggregation.COUNT: _count,
}


def merge(aggregation: Aggregation, acc: Acc, new: Acc) -> None:
    """Takes `new` into `acc`. Commutative and associative up to equal quantities."""
    _MERGE[aggregation](acc, new)
    acc.n += new.n


def add_samples(aggregation: Aggregation, acc: Acc | None, samples: Sequence[Sample]) -> Acc:
    """`acc` with more samples, at least one, all of the same resource; a new one for None."""
    if aggregation is Aggregation.SUM:  # nine in ten samples come this way
        with localcontext(EXACT):
            total = sum([s.qty for s in samples], acc.value if acc else _ZERO)
        return Acc(total, len(samples) + (acc.n if acc else 0))
    for sample in samples:
        new = _of(aggregation, sample)
        if acc is None:
            acc = new
        else:
            merge(aggregation, acc, new)
    assert acc is not None, "at least one sample"
    return acc


def _of(aggregation: Aggregation, sample: Sample) -> Acc:
    match aggregation:
        case Aggregation.LAST | Aggregation.FIRST:
            return Acc(sample.qty, 1, sample.begin, sample.end)
        case Aggregation.DELTA:
            return Acc(sample.qty, 1, sample.begin, sample.end, sample.qty, sample.begin, sample.end)
        case _:
            return Acc(sample.qty)


def quantity(aggregation: Aggregation, acc: Acc) -> Decimal:
    """The quantity of the point, canonical: at most 38 decimals, rounded half-even once.

    A mean is rounded to 28 significant digits, the precision of CloudKitty's arithmetic.
    """
    match aggregation:
        case Aggregation.COUNT:
            return Decimal(acc.n)
        case Aggregation.MEAN:
            return canonical(_MEAN_DIGITS.divide(acc.value, Decimal(acc.n)))
        case Aggregation.DELTA:
            assert acc.other is not None
            return canonical(EXACT.subtract(acc.value, acc.other))
        case _:
            return canonical(acc.value)


def canonical(value: Decimal) -> Decimal:
    """The one way a finite number is written in `rated`: no trailing zeros, no positive exponent, no minus zero.

    More than 38 decimals are rounded half-even.
    """
    assert value.is_finite(), "only finite numbers come here"
    short = _SHORT.normalize(value)
    places = short.adjusted()
    if short == value and places >= _SHORT_LEAST and (places < 1 or short != short.to_integral_value()):
        return short or _ZERO  # nearly all: few digits, so few decimals, and no zeros before the point to lose
    value = EXACT.normalize(value)
    if value == value.to_integral_value():
        return EXACT.quantize(value, _ONE) if value else _ZERO
    rounded = EXACT.quantize(value, _QUANTUM)
    return value if rounded == value else canonical(rounded)
