"""Billing months as half-open intervals of UTC seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from rater.model.errors import RaterError
from rater.model.interval import Interval

__all__ = ["MonthError", "month_interval"]

_MONTH = re.compile(r"(\d{4})-(\d{2})")


class MonthError(RaterError):
    """A text that names no month."""


def month_interval(text: str) -> Interval:
    """The interval of a month written `2026-01`. Raises MonthError."""
    match = _MONTH.fullmatch(text)
    year, month = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1970 <= year < 9999 and 1 <= month <= 12):
        raise MonthError(f"{text!r} is no month: write it as 2026-01")
    begin = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Interval(int(begin.timestamp()), int(end.timestamp()))
