"""From the text that a source answers to a quantity: `mutate(raw * factor + offset)`.

`numbers: cloudkitty` repeats CloudKitty's arithmetic for the source to the last digit, `numbers: exact` keeps what the
source said.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from typing import Literal, TypeAlias

from collectors.metrics_yml import MapEntry, Metric, Mutate
from rater.model.codec import MAX_MAGNITUDE, quantity_fault

__all__ = ["PROMETHEUS_CONTEXT", "Numbers", "QuantityError", "quantity"]

Numbers: TypeAlias = Literal["cloudkitty", "exact"]

PROMETHEUS_CONTEXT = Context(prec=9, rounding=ROUND_HALF_UP)
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)  # 17 digits of a float times any factor one writes by hand
_QUOTIENT = Context(prec=28, rounding=ROUND_HALF_EVEN)  # of a division that has no end


class QuantityError(ValueError):
    """An item of an answer that has no usable quantity; the message ends the sentence 'its value …'."""


def quantity(raw: str, metric: Metric, numbers: Numbers, context: Context) -> Decimal:
    """The quantity of an item; `context` is the arithmetic that CloudKitty uses for this source.

    Raises QuantityError for what is no finite number, before or after the conversion, whatever `mutate` would make
    of it: CloudKitty counts NaN as "on", or stops for ever.
    """
    try:
        value = Decimal(raw)
    except InvalidOperation:
        raise QuantityError(f"is {raw[:100]!r}, not a number") from None
    if not value.is_finite():
        raise QuantityError(f"is {raw[:100]}: it must be a finite number")
    try:
        mutated = _like_cloudkitty(value, metric, context) if numbers == "cloudkitty" else _exactly(value, metric)
    except (InvalidOperation, Overflow):
        raise QuantityError(f"{raw[:100]} is too large for factor and offset") from None
    fault = quantity_fault(mutated)
    if fault:
        raise QuantityError(f"{raw[:100]} {fault} after factor and offset")
    return mutated


def _like_cloudkitty(value: Decimal, metric: Metric, context: Context) -> Decimal:
    with localcontext(context):
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
