"""`decide`: the one place where time and rules count. Closes frames, rates them, opens and resolves gaps.

Called at the checkpoint cut. Its decisions are final bytes in `state.outbox`: they exist only if the checkpoint that
holds them is committed, so that the clock and the rules may differ between a lost decision and its repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rater.engine.alerts import batches_lost
from rater.engine.closing import Pass, close
from rater.engine.leaving import MEMORY_SECONDS, evict, leaves_at
from rater.engine.rate import look
from rater.engine.rework import abandon_overdue, ends_at
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, Frame, PartitionState, Producer, Scope
from rater.model.interval import Interval, clip, overlaps, period_of, periods_of, subtract
from rater.model.rated import ClosedBy
from rater.rating import Chain, month_begin

__all__ = ["Step", "decide", "deciding", "grace_ends", "retry_unpriced"]

SCOPE_WORK = 4  # of a scope that is decided, in lines, whatever is in it
SCOPES_PER_LINE = 50  # scopes of which nothing is due, in the time of a line
LONG_POINTS = 3_000  # of a scope: rating them takes 40 ms; then the next step is announced as long
POINTS_PER_LINE = 50  # the same of points that are looked at when a frame leaves the state


class Step(NamedTuple):
    """One step of `deciding`: a scope, or a look at many of which nothing is due."""

    scope_id: str | None
    work: int
    """What it cost, in lines: about 7 µs each."""
    revisions: int
    """How many were added to the outbox."""
    statuses: tuple[str, ...] = ()
    """Of these revisions."""
    next_is_long: bool = False
    """Nothing was done yet, and the next step is one that others should not wait for. It touches no other scope."""


def decide(state: PartitionState, now: int, rules: Chain, context: EngineContext, *, caught_up: bool = True) -> int:
    """Takes every decision that is due at `now` (seconds); returns how many revisions were added to the outbox.

    While the log is read from behind (not `caught_up`), nobody is given up for what may lie in the rest of it: what
    waits for a time without records waits by the hour of the newest record that was applied.
    A clock that goes back decides nothing new. A frame whose scripts have not run yet stays due, and the others go on.
    """
    return sum(step.revisions for step in deciding(state, now, rules, context, caught_up=caught_up))


def deciding(
    state: PartitionState, now: int, rules: Chain, context: EngineContext, *, caught_up: bool = True
) -> Iterator[Step]:
    """The same scope by scope; between the steps records may be applied. A scope that comes meanwhile is left out."""
    assert state.period == context.settings.period, "checked at restore"
    now = max(now, state.decided_at)
    state.decided_at = now
    has_new_rules = state.rule_version != rules.version
    as_of = now if caught_up else min(now, state.last_ms // 1000)
    current = Pass(state, now, as_of, rules, context)
    for number, (scope_id, scope) in enumerate(list(state.scopes.items())):
        if has_new_rules:
            _retry_unpriced(scope)
        if scope.dirty or now >= scope.wake_at:
            if _is_long(scope):
                yield Step(None, 0, 0, next_is_long=True)
            revisions, work = current.revisions, current.work
            _decide_scope(current, scope_id, scope)
            statuses, current.statuses = tuple(current.statuses), []
            yield Step(scope_id, SCOPE_WORK + current.work - work, current.revisions - revisions, statuses)
        elif number % SCOPES_PER_LINE == 0:
            yield Step(None, 1, 0)
    state.rule_version = rules.version


def _is_long(scope: Scope) -> bool:
    points = 0
    for frame in scope.frames.values():
        for sources in frame.slices.values():
            points += sum(len(held.points) for slices in sources.values() for held in slices)
            if points > LONG_POINTS:
                return True
    return False


def retry_unpriced(state: PartitionState) -> None:
    """Has frames rated again of which something has no price: the rules have changed, or what runs them."""
    for scope in state.scopes.values():
        _retry_unpriced(scope)


def _retry_unpriced(scope: Scope) -> None:
    for frame in scope.frames.values():
        if frame.unpriced:
            frame.dirty = scope.dirty = True


def _decide_scope(current: Pass, scope_id: str, scope: Scope) -> None:
    now, context = current.now, current.context
    _make_expected_frames(scope, now, current.state.period)
    abandon_overdue(current.state, scope_id, scope, current.as_of)
    waiting: set[int] = set()  # months of which a frame waits for its scripts
    for period_begin in sorted(scope.frames):
        frame = scope.frames[period_begin]
        closed_by = _due(scope, frame, current)
        if closed_by is None:
            continue
        month = month_begin(period_begin)
        if month in waiting and current.rules.has_tiers:
            continue  # an earlier frame of it says first what was used
        if not close(current, scope_id, scope, frame, closed_by):
            waiting.add(month)
    current.work += evict(scope, now, context) // POINTS_PER_LINE
    _tell_lost(current, scope_id, scope)
    _forget_producers(scope, current.as_of)
    scope.dirty = bool(waiting)
    scope.wake_at = _wake_at(scope, now, context)


def _make_expected_frames(scope: Scope, now: int, period_seconds: int) -> None:
    """Frames of a planned scope exist even when nothing came: a dead collector cannot hide."""
    horizon = period_of(now, period_seconds).begin
    if not scope.made_until or horizon <= scope.made_until:
        return
    span = Interval(scope.made_until, horizon)
    owed = [part for metrics in scope.plans.values() for parts in metrics.values() for part in parts]
    owed += [Interval(begin, FOREVER) for since in scope.seen.values() for begin in since.values()]
    owed = subtract(owed, [Interval(scope.pauses.since, FOREVER)]) if scope.pauses.is_off else owed
    wanted = (period for part in clip(owed, span) for period in periods_of(part, period_seconds))
    for period in wanted:  # not each one of the span: a plan of long ago would have all hours since then looked at
        if period.begin not in scope.frames and not any(overlaps(period, gone) for gone in scope.evicted):
            scope.frames[period.begin] = Frame(period.begin, scope.planned_ms)
    scope.made_until = horizon


def _due(scope: Scope, frame: Frame, current: Pass) -> ClosedBy | None:
    """Why the frame is to be rated now; None if it is not."""
    if frame.rework is not None and not frame.rework.ended:
        return None  # half of a rework is worth less than the revision there is
    if frame.is_closed:
        is_due = frame.dirty or 0 < frame.retry_at <= current.now
        closed_by = ClosedBy.INACTIVE if scope.pauses.holds(frame.period_begin) else ClosedBy.COMPLETE
        return closed_by if is_due else None
    if frame.forced:
        return ClosedBy.FORCED
    if current.now < frame.period_begin + current.state.period:
        return None
    if scope.pauses.holds(frame.period_begin):
        return ClosedBy.INACTIVE  # nothing more will be taken for it
    if frame.dirty:
        if look(scope, frame, current.state.period).complete:
            return ClosedBy.COMPLETE
        frame.dirty = False
    return ClosedBy.GRACE if current.as_of >= grace_ends(scope, frame, current.context) else None


def grace_ends(scope: Scope, frame: Frame, context: EngineContext) -> int:
    """The second from which on the open frame is closed though something of it is missing."""
    settings = context.settings
    quiet_since = -(-max(frame.touched_ms, scope.planned_ms if _open_ended(scope) else 0) // 1000)
    return max(
        frame.period_begin + settings.period + settings.wait_periods * settings.period, quiet_since + settings.settle
    )


def _open_ended(scope: Scope) -> bool:
    """Whether some expectation has no end: its frames are made by the clock, and its plan's hour counts for them."""
    return bool(scope.seen) or any(
        intervals and intervals[-1].end >= FOREVER for metrics in scope.plans.values() for intervals in metrics.values()
    )


def _tell_lost(current: Pass, scope_id: str, scope: Scope) -> None:
    """Holes in the sequence numbers of producers, when those who were only late have had their time."""
    for producer_id, known in scope.producers.items():
        if not known.hole_ms or current.as_of < _told_at(known, current.context):
            continue
        noticed_at = known.hole_ms // 1000
        period_begin = period_of(noticed_at, current.state.period).begin
        for hole in subtract([Interval(known.told_until, known.seen[-1].end)], [*known.seen, *known.refused]):
            current.state.outbox.append(
                batches_lost(scope_id, producer_id, hole, period_begin, noticed_at, current.now)
            )
        known.told_until, known.hole_ms = known.seen[-1].end, 0


def _told_at(known: Producer, context: EngineContext) -> int:
    return -(-known.hole_ms // 1000) + context.settings.settle


def _forget_producers(scope: Scope, as_of: int) -> None:
    """By the hour that the log has reached: what is read from behind holds repetitions of what was just read."""
    for producer_id in [p for p, known in scope.producers.items() if known.last_ms < (as_of - MEMORY_SECONDS) * 1000]:
        del scope.producers[producer_id]


def _wake_at(scope: Scope, now: int, context: EngineContext) -> int:
    """The next second at which the clock alone may change something: never later than the next period's begin."""
    period = context.settings.period
    wake = period_of(now, period).end
    for producer in scope.producers.values():
        wake = min(wake, _told_at(producer, context)) if producer.hole_ms else wake
    for frame in scope.frames.values():
        if frame.rework is not None and not frame.rework.ended:
            wake = min(wake, ends_at(frame.rework))
        if frame.is_closed:
            leaving_at = leaves_at(frame, context)
            wake = min(wake, leaving_at) if leaving_at > now else wake  # else an earlier one of its month holds it
            wake = min(wake, frame.retry_at) if frame.retry_at else wake
        elif now >= frame.period_begin + period:
            wake = min(wake, grace_ends(scope, frame, context))
    return wake
