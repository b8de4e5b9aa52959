"""Times as CloudKitty's API reads and writes them."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, tzinfo

from rater.reports import PointRow

__all__ = ["calendar", "month_bounds", "naive_text", "read_time", "seconds", "zoned_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 2**32 - 1  # of what the store can hold: in 2106


def read_time(text: str) -> datetime:
    """A time in ISO 8601, also in its basic format; without offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    if not MINYEAR < moment.year < MAXYEAR:
        raise ValueError("another time zone may have no such time")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds(moment: datetime) -> int:
    """Seconds since the epoch, fractions rounded up, within what the store can hold.

    Periods begin on whole seconds, so `begin <= T < end` says the same of the rounded bounds.
    """
    return min(max(-((moment - _EPOCH) // timedelta(seconds=-1)), 0), _LAST)


def month_bounds(now: datetime) -> tuple[datetime, datetime]:
    """The first instants of the month and of the next one, in the time zone of `now`."""
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    year, month = (begin.year, begin.month + 1) if begin.month < 12 else (begin.year + 1, 1)
    return begin, begin.replace(year=year, month=month)


def naive_text(instant: datetime | int) -> str:
    """As version 1 writes a time: UTC without offset."""
    moment = datetime.fromtimestamp(instant, UTC) if isinstance(instant, int) else instant.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat()


def zoned_text(instant: datetime | int, zone: tzinfo) -> str:
    """As version 2 writes a time: local with offset."""
    moment = datetime.fromtimestamp(instant, zone) if isinstance(instant, int) else instant.astimezone(zone)
    return moment.isoformat()


def calendar(row: PointRow, zone: tzinfo) -> dict[str, str]:
    """The four attributes of time that CloudKitty gives each point."""
    begin = datetime.fromtimestamp(row.period_begin, zone)
    return {
        "week_of_the_year": begin.strftime("%U"),
        "day_of_the_year": str(begin.timetuple().tm_yday),
        "month": str(begin.month),
        "year": str(begin.year),
    }
