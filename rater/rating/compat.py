"""Numbers and times as CloudKitty's API reads them, for identical results.

A JSON number is a binary float there and its expansion is what counts; a JSON text is exact. The rule document reads
both exactly.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import TypeAlias

from rater.model.document import instant_text
from rater.model.rules import COST_DECIMALS, LEVEL_DECIMALS, MAX_INSTANT, NUMBER_DIGITS
from rater.rating.refusal import RefusalError, Refused

__all__ = ["RawNumber", "RawTime", "cost_of_float", "level_of_float", "read_cost", "read_instant", "read_level"]

RawNumber: TypeAlias = str | int | float | Decimal
RawTime: TypeAlias = str | int

_WIDE = Context(prec=NUMBER_DIGITS + COST_DECIMALS + 1)
_PLACES = {decimals: Decimal(1).scaleb(-decimals) for decimals in (COST_DECIMALS, LEVEL_DECIMALS)}
_END_OF_DAY = time(23, 59, 59)


def cost_of_float(number: float) -> Decimal:
    """The binary expansion, rounded half away from zero to 28 decimals: 0.98 is 0.9799999999999999822364316060.

    Raises decimal.InvalidOperation for a number that is not finite or has more than 13 digits before the point.
    """
    return _rounded(Decimal(number), COST_DECIMALS)


def level_of_float(number: float) -> Decimal:
    """The binary expansion, rounded half away from zero to 8 decimals. Raises as `cost_of_float`."""
    return _rounded(Decimal(number), LEVEL_DECIMALS)


def read_cost(raw: RawNumber) -> Decimal:
    """A cost as text (exact), or as number; what lies beyond 28 decimals is rounded. Raises RefusalError."""
    return _read(raw, COST_DECIMALS, Refused.COST_INVALID, "cost")


def read_level(raw: RawNumber) -> Decimal:
    """A level as text (exact), or as number; what lies beyond 8 decimals is rounded. Raises RefusalError."""
    return _read(raw, LEVEL_DECIMALS, Refused.LEVEL_INVALID, "level")


def read_instant(raw: RawTime, *, end: bool = False) -> int:
    """A time as seconds since the epoch. Raises RefusalError.

    Without offset it is UTC. A day alone is its begin, as `end` of something its last second. A fraction of a second
    is rounded up: a rule then counts for the same whole seconds.
    """
    if isinstance(raw, int):
        seconds = raw
    else:
        moment = _moment(raw, end)
        if moment is None:
            raise RefusalError(Refused.DATE_INVALID, f"{raw[:50]!r} is no time: write it as 2026-01-01T00:00:00")
        seconds = -(moment // timedelta(seconds=-1))
    if not 0 <= seconds <= MAX_INSTANT:
        raise RefusalError(
            Refused.DATE_INVALID,
            f"{str(raw)[:50]!r} is out of range: times up to {instant_text(MAX_INSTANT)} are taken",
        )
    return seconds


def _moment(text: str, end: bool) -> timedelta | None:
    """The time since the epoch, None for a text that is no time."""
    try:
        try:
            moment = datetime.combine(date.fromisoformat(text), _END_OF_DAY if end else time())
        except ValueError:
            moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment - datetime.fromtimestamp(0, UTC)
    except (ValueError, OverflowError):
        return None


def _read(raw: RawNumber, decimals: int, reason: Refused, what: str) -> Decimal:
    try:
        number = _rounded(Decimal(raw), decimals)
    except InvalidOperation:
        number = None
    if number is None or number.adjusted() >= NUMBER_DIGITS:
        raise RefusalError(
            reason, f"the {what} {str(raw)[:50]!r} is no number with at most {NUMBER_DIGITS} digits before the point"
        )
    return number


def _rounded(number: Decimal, decimals: int) -> Decimal:
    """Raises InvalidOperation for what does not fit; NaN passes as text but not as a number, so it is refused here."""
    if not number.is_finite():
        raise InvalidOperation
    return number.quantize(_PLACES[decimals], ROUND_HALF_UP, _WIDE)
