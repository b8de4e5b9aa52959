"""Closed frames leave the state in time, and what is remembered of them after that is forgotten in time, too."""

from __future__ import annotations

from rater.engine.rework import keep_use
from rater.engine.settings import EngineContext
from rater.engine.state import Frame, Scope
from rater.model.interval import Interval, union
from rater.rating import month_begin

__all__ = ["MEMORY_SECONDS", "evict", "leaves_at"]

MEMORY_SECONDS = 7 * 24 * 3600  # of batches and evicted revisions: asked for within minutes, and usage is kept a week
MONTH_AND_MORE = 32 * 24 * 3600  # after the begin of a month: in the next one
UNUSED_SHARE = 4  # a quarter of the series has to be unused before they are dropped: a checkpoint writes the rest anew


def leaves_at(frame: Frame, context: EngineContext) -> int:
    """When a closed frame may leave the state."""
    settings = context.settings
    kept = settings.gap_horizon_periods if frame.gaps or frame.unpriced else settings.late_horizon_periods
    return frame.closed_at + max(kept, settings.late_horizon_periods) * settings.period


def _leaving(scope: Scope, now: int, context: EngineContext) -> list[Frame]:
    """The frames that may leave the state.

    One with graduated prices stays as long as an earlier frame of its month is there, which could still move them.
    """
    gone: list[Frame] = []
    months: set[int] = set()
    for period_begin in sorted(scope.frames):
        frame = scope.frames[period_begin]
        month = month_begin(period_begin)
        # for its scripts, or the end of a rework: what came in is not rated yet
        waits = frame.dirty or frame.retry_at > 0 or frame.rework is not None
        if not frame.is_closed or waits or now < leaves_at(frame, context) or (frame.used and month in months):
            months.add(month)
        else:
            gone.append(frame)
    return gone


def evict(scope: Scope, now: int, context: EngineContext) -> int:
    """Drops the frames that may leave, and the series that no other needs; returns how many series were looked at."""
    period = context.settings.period
    leaving = _leaving(scope, now, context)
    _forget_months(scope, now, context)
    if not leaving:
        return 0
    for frame in leaving:
        del scope.frames[frame.period_begin]
        keep_use(scope, frame, now)
        if frame.revision:
            scope.revised[frame.period_begin] = (frame.revision, now)
    scope.revised = {begin: kept for begin, kept in scope.revised.items() if kept[1] >= now - MEMORY_SECONDS}
    gone = [frame.period_begin for frame in leaving]
    scope.evicted = union([*scope.evicted, *(Interval(begin, begin + period) for begin in gone)])
    used = {
        identity
        for frame in scope.frames.values()
        for sources in frame.slices.values()
        for slices in sources.values()
        for held in slices
        for identity in held.points
    }
    used.update(identity for frame in scope.frames.values() for ids in frame.emitted.values() for identity in ids)
    if len(scope.series) - len(used) >= len(scope.series) / UNUSED_SHARE:
        scope.series = {identity: series for identity, series in scope.series.items() if identity in used}
    return len(scope.series)


def _forget_months(scope: Scope, now: int, context: EngineContext) -> None:
    """Drops the counts of months that are over and of which nothing has come for as long as a gap is waited for."""
    kept = context.settings.gap_horizon_periods * context.settings.period
    alive = {month_begin(period_begin) for period_begin in scope.frames}
    for month, use in list(scope.months.items()):
        over = month_begin(month + MONTH_AND_MORE)
        if month not in alive and now >= max(use.evicted_at, over) + kept:
            del scope.months[month]
            scope.forgotten.append(month)
