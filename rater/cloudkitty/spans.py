"""Months and days of a place's local time, as intervals of UTC seconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from rater.model.interval import Interval
from rater.reports import month_interval

__all__ = ["days_of", "local_month"]


def local_month(text: str, zone: tzinfo) -> Interval:
    """The month written `2026-01` from its first to its last local midnight. Raises MonthError."""
    begin, end = (datetime.fromtimestamp(second, UTC).replace(tzinfo=zone) for second in month_interval(text))
    return Interval(int(begin.timestamp()), int(end.timestamp()))


def days_of(span: Interval, zone: tzinfo) -> list[Interval]:
    """`span` cut at each local midnight; a day may have 23 or 25 hours."""
    days, begin = [], span.begin
    while begin < span.end:
        today = datetime.fromtimestamp(begin, zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
        midnight = int((today + timedelta(days=1)).replace(tzinfo=zone).timestamp())
        end = min(max(midnight, begin + 1), span.end)
        days.append(Interval(begin, end))
        begin = end
    return days
