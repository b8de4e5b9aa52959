"""From what a source answers to a quantity: `mutate(raw * factor + offset)`.

`numbers: cloudkitty` repeats CloudKitty's arithmetic for the source to the last digit, `numbers: exact` keeps what the
source said.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from typing import Literal, TypeAlias

import msgspec

from collectors.metrics_yml import MapEntry, Metric, Mutate
from rater.model.codec import MAX_MAGNITUDE, quantity_fault

__all__ = ["GNOCCHI", "PROMETHEUS", "Arithmetic", "Numbers", "QuantityError", "quantity"]

Numbers: TypeAlias = Literal["cloudkitty", "exact"]


class Arithmetic(msgspec.Struct, frozen=True):
    """What CloudKitty computes with for one kind of source."""

    context: Context
    rounds_raw: bool = False
    """What the source says is rounded to the context before factor and offset come, and not only after them."""
    is_binary: bool = False
    """What the source says is read as a binary float, of which all digits count."""


PROMETHEUS = Arithmetic(Context(prec=9, rounding=ROUND_HALF_UP), rounds_raw=True)
GNOCCHI = Arithmetic(Context(prec=28, rounding=ROUND_HALF_EVEN), is_binary=True)

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)  # 17 digits of a float times any factor one writes by hand
_QUOTIENT = Context(prec=28, rounding=ROUND_HALF_EVEN)  # of a division that has no end


class QuantityError(ValueError):
    """An item of an answer that has no usable quantity; the message ends the sentence 'its value …'."""


def quantity(raw: str | float, metric: Metric, numbers: Numbers, arithmetic: Arithmetic) -> Decimal:
    """The quantity of an item; `raw` is the text of the answer, or the float that its JSON was read as.

    `exact` takes a float as the shortest decimal text that means it, which is what the source wrote. Raises
    QuantityError for what is no finite number, before or after the conversion, whatever `mutate` would make of it:
    CloudKitty counts NaN as "on", or stops for ever.
    """
    text = str(raw)
    try:
        value = Decimal(text)
        if numbers == "cloudkitty" and arithmetic.is_binary:
            value = Decimal(float(value))
    except InvalidOperation:
        raise QuantityError(f"is {text[:100]!r}, not a number") from None
    if not value.is_finite():
        raise QuantityError(f"is {text[:100]}: it must be a finite number")
    try:
        mutated = _like_cloudkitty(value, metric, arithmetic) if numbers == "cloudkitty" else _exactly(value, metric)
    except (InvalidOperation, Overflow):
        raise QuantityError(f"{text[:100]} is too large for factor and offset") from None
    fault = quantity_fault(mutated)
    if fault:
        raise QuantityError(f"{text[:100]} {fault} after factor and offset")
    return mutated


def _like_cloudkitty(value: Decimal, metric: Metric, arithmetic: Arithmetic) -> Decimal:
    with localcontext(arithmetic.context):
        if arithmetic.rounds_raw:
            value = +value
        converted = value * metric.factor.binary + metric.offset.binary
        return _mutate(converted, metric, exact=False)


def _exactly(value: Decimal, metric: Metric) -> Decimal:
    factor, offset = metric.factor.exact, metric.offset.exact
    product = _EXACT.multiply(value, Decimal(factor.numerator))
    converted = _EXACT.add(_divide(product, factor.denominator), _divide(Decimal(offset.numerator), offset.denominator))
    return _mutate(converted, metric, exact=True)


def _divide(value: Decimal, denominator: int) -> Decimal:
    if denominator == 1:
        return value
    context = _EXACT.copy()
    context.clear_flags()
    quotient = context.divide(value, Decimal(denominator))
    endless = context.flags[Inexact]
    return _QUOTIENT.divide(value, Decimal(denominator)) if endless else quotient


def _mutate(value: Decimal, metric: Metric, *, exact: bool) -> Decimal:
    match metric.mutate:
        case Mutate.NUMBOOL:
            return Decimal("1.0") if value != 0 else Decimal("0.0")
        case Mutate.NOTNUMBOOL:
            return Decimal("0.0") if value != 0 else Decimal("1.0")
        case Mutate.FLOOR if abs(value) <= MAX_MAGNITUDE:
            return Decimal(math.floor(value))
        case Mutate.CEIL if abs(value) <= MAX_MAGNITUDE:
            return Decimal(math.ceil(value))
        case Mutate.MAP:
            return _mapped(value, metric.mutate_map, exact=exact)
    return value  # as it is, or refused by the caller because it is too large


def _mapped(value: Decimal, entries: tuple[MapEntry, ...], *, exact: bool) -> Decimal:
    """The value of the entry whose key is the same number, else 0. To CloudKitty a key `0.1` is a binary float."""
    for entry in entries:
        if (Fraction(value) == entry.key.exact) if exact else (value == entry.key.binary):
            return entry.value
    return Decimal("0.0")
