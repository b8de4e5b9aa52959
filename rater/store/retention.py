"""Whole months that are removed because nobody wants them for longer, and telling readers so.

From when on a table is whole is written into table `retention` before anything is removed. Whoever asks for it after
reading therefore never takes what was removed for what was never there. Months go by DROP PARTITION: at once, for all
scopes, at a time that is known. A TTL removes parts when they happen to be merged, in each table at another time.
"""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime

import msgspec

from rater.store.blocks import LAST_INSTANT
from rater.store.client import Column, Store
from rater.store.errors import BeyondRetentionError, StoreError, StoreSchemaError
from rater.store.settings import RetentionSettings

__all__ = ["Kept", "check_frames", "check_lines", "enforce_retention", "kept", "kept_by"]

log = logging.getLogger(__name__)

_THERE = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'retention'"
_NEWEST = "SELECT toUInt32(now()), toUInt32(max(period_end)) FROM frames"
_KEPT = "SELECT table_name, toUInt32(max(kept_from)) FROM retention GROUP BY table_name"
_MONTHS = "SELECT DISTINCT toYYYYMM({column}) AS month FROM {table} WHERE {column} < {{before:UInt32}} ORDER BY month"
SLACK_SECONDS = 35 * 86_400  # after the newest frame: of a clock that says more than that nothing is believed
_PARTITIONED = {"lines": "lines", "posted": "frames", "frames": "frames", "usage": "usage"}
"""Tables in the order in which months leave them, and what of the settings they follow: lines before their frames."""
_ROWS_OF_FRAMES = ("gaps", "accepted_gaps", "reworks")
"""Small tables, not cut into months, that say something of frames."""


class Kept(msgspec.Struct, frozen=True):
    """From when on everything is there, in seconds since the epoch, UTC; 0: nothing was ever removed."""

    frames: int = 0
    lines: int = 0
    usage: int = 0


def kept(store: Store) -> Kept:
    """What was removed so far. To be asked after what it is about was read. Raises StoreError."""
    if not store.rows(_THERE):  # tables of a release that removed nothing
        return Kept()
    found: dict[str, int] = dict(store.rows(_KEPT))
    frames = found.get("frames", 0)
    return Kept(frames, max(frames, found.get("lines", 0)), found.get("usage", 0))


def kept_by(settings: RetentionSettings, now: int) -> Kept:
    """What is to be kept at the second `now`: whole months before the running one."""
    return Kept(
        *(
            _months_before(now, months) if months else 0
            for months in (settings.frames, settings.lines or settings.frames, settings.usage)
        )
    )


def enforce_retention(store: Store, now: int) -> list[str]:
    """Removes what the settings do not keep at the second `now`; what was removed, a line for each month of a table.

    A clock that is years ahead removes no years: frames say how late it is, too. Repeating it, also by several
    processes at once, does no harm. What cannot be removed holds nothing else up. Raises StoreError.
    """
    if kept_by(store.settings.retention, now) == Kept():
        return []
    [[of_server, newest]] = store.rows(_NEWEST)
    if not newest:
        return []
    wanted = kept_by(store.settings.retention, min(now, of_server, newest + SLACK_SECONDS))
    _say(store, wanted)
    removed: list[str] = []
    faults: list[StoreError] = []
    for table, name in _PARTITIONED.items():
        before = getattr(wanted, name)
        if table == "usage" and before:  # a collection that reaches into the first month may begin in the one before
            before = _months_before(before, 1)
        for month in _months(store, table, before):
            try:
                store.command(f"ALTER TABLE {store.changing(table)} DROP PARTITION {month}")
            except StoreError as fault:
                faults.append(fault)
            else:
                removed.append(f"{table} of {str(month)[:4]}-{str(month)[4:]}")
                log.info("beyond retention: removed %s", removed[-1])
    for table in _ROWS_OF_FRAMES if wanted.frames else ():
        _delete(store, table, wanted.frames)
    if faults:
        raise faults[0]
    return removed


def check_lines(store: Store, begin: int) -> None:
    """Raises BeyondRetentionError if lines from `begin` on were asked for and not all are kept."""
    first = kept(store).lines
    if begin < first:
        raise BeyondRetentionError(
            f"lines of periods before {_day(first)} are beyond retention (store.retention.lines) and were removed: ask "
            "for time from then on; totals are there as long as frames are"
        )


def check_frames(store: Store, end: int) -> None:
    """Raises BeyondRetentionError if nothing was found of time before `end`, and all of it was removed."""
    first = kept(store).frames
    if end <= first:
        raise BeyondRetentionError(
            f"periods before {_day(first)} are beyond retention (store.retention.frames) and were removed: ask for "
            "time from then on"
        )


def _say(store: Store, wanted: Kept) -> None:
    """Tells readers from when on everything is there. Raises StoreError unless they are told now.

    Each time under a new token: had somebody deleted the row, the engine would take the next one for a repetition.
    """
    said = dict(store.rows(_KEPT))
    for name in wanted.__struct_fields__:
        kept_from = getattr(wanted, name)
        if kept_from > said.get(name, 0):
            store.insert(
                "retention",
                [Column("table_name", "LowCardinality(String)", [name]), Column("kept_from", "UInt32", [kept_from])],
                secrets.token_hex(16),
            )
    said = dict(store.rows(_KEPT))
    if any(said.get(name, 0) < getattr(wanted, name) for name in wanted.__struct_fields__):
        raise StoreSchemaError(
            f"table retention in {store.target} does not take what is to be removed, so nothing was: see its rows"
        )


def _months(store: Store, table: str, before: int) -> list[int]:
    """Those of the table that begin before, as 202601."""
    if not before:
        return []
    column = "range_begin" if table == "usage" else "period_begin"
    return [int(month) for [month] in store.rows(_MONTHS.format(column=column, table=table), {"before": before})]


def _delete(store: Store, table: str, before: int) -> None:
    asked = {"before": before}
    if store.rows(f"SELECT 1 FROM {table} WHERE period_begin < {{before:UInt32}} LIMIT 1", asked):  # noqa: S608  one of the names above
        store.command(f"DELETE FROM {store.changing(table)} WHERE period_begin < {{before:UInt32}}", asked)  # noqa: S608  as above


def _months_before(instant: int, months: int) -> int:
    """The begin of the month that is so many before the one of the instant."""
    now = datetime.fromtimestamp(min(instant, LAST_INSTANT), UTC)
    number = max(now.year * 12 + now.month - 1 - months, 1970 * 12)
    return int(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp())


def _day(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d}"
