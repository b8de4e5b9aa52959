"""A closed frame is rated again: its usage comes once more, between the begin and the end of a rework.

What lies between them counts at once or not at all, so that no reader ever sees a frame that is half collected: of a
frame that is in the state, collections are held back until the end. A frame that has left the state is opened again
from what the store knows of its last revision; until the rework ends, whatever else comes for it is late, as it was
before.
"""

from __future__ import annotations

from rater.engine.alerts import rework_alert
from rater.engine.pieces import decode_frame, encode_frame
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, Frame, MonthUse, PartitionState, Record, Rework, Scope, Slice
from rater.engine.take import (
    add_part,
    check_part,
    is_repetition,
    metric_of,
    register,
    slice_for,
    touch,
)
from rater.model.errors import RejectedError
from rater.model.interval import Interval, overlaps, period_of, subtract, union
from rater.model.labels import canonical_series
from rater.model.metric import Coverage, MetricSpec
from rater.model.rated import AlertKind, ReworkResult
from rater.model.usage import Collection, ReworkBegun, ReworkEnded, ReworkLines
from rater.rating import month_begin

__all__ = [
    "REWORK_SECONDS",
    "abandon_overdue",
    "ends_at",
    "keep_use",
    "result_of",
    "take_begun",
    "take_ended",
    "take_lines",
    "take_reworked",
]

REWORK_SECONDS = 900  # from begin to end: a bracket is sent at once, when all that belongs into it was collected


def take_begun(state: PartitionState, record: Record, begun: ReworkBegun) -> None:
    """Opens the frame. Raises RejectedError, and alerts whoever wanted it, if it cannot be reworked now."""
    scope = state.scopes.get(begun.scope_id)
    refusal = _refusal(scope, begun, state.period)
    if refusal:
        _answer_refusal(state, record, begun, refusal)
        raise RejectedError(refusal, "rework")
    assert scope is not None, "else it is refused"
    frame = scope.frames.get(begun.period_begin)
    reopened = frame is None or (frame.rework is not None and frame.rework.reopened)
    if frame is not None and frame.rework is not None and reopened:  # begun anew by the same rework
        _close_again(scope, frame, state.period)
        frame = None
    if frame is None:
        frame = _reopen(scope, begun, record.timestamp_ms, state.period)
    frame.rework = Rework(
        begun.rework_id,
        begun.kind,
        begun.author,
        begun.reason,
        record.timestamp_ms,
        reopened,
        frame.revision,
        frame.rule_version,
        frame.totals,
    )
    for metric, sources in frame.slices.items() if not reopened else ():
        for source, slices in sources.items():
            _count(frame.rework, metric, source, -sum(held.samples for held in slices if held.parts == 0))
    scope.dirty = True


def _refusal(scope: Scope | None, begun: ReworkBegun, period_seconds: int) -> str:
    """Why the frame cannot be reworked now; empty if it can."""
    if begun.period_begin % period_seconds:
        return f"period_begin {begun.period_begin} is not the begin of a period of {period_seconds} s"
    if scope is None:
        return f"nothing was ever collected or planned of scope {begun.scope_id!r}"
    frame = scope.frames.get(begun.period_begin)
    period = Interval(begun.period_begin, begun.period_begin + period_seconds)
    if frame is None and not any(overlaps(part, period) for part in scope.evicted):
        return "nothing was ever collected or planned of this period: send its usage, no rework is needed"
    if frame is not None and frame.rework is not None and frame.rework.rework_id != begun.rework_id:
        return f"rework {frame.rework.rework_id} of {frame.rework.author} is under way: {frame.rework.reason}"
    if frame is not None and not frame.is_closed:
        return "the frame is not closed yet: whatever comes for it counts when it closes"
    known = frame.revision if frame is not None else scope.revised.get(begun.period_begin, (0, 0))[0]
    if begun.base.revision < known or (frame is not None and begun.base.revision > known):
        return f"it is based on revision {begun.base.revision} and the frame has revision {known}: ask again"
    if frame is None and month_begin(begun.period_begin) in scope.forgotten:
        return (
            "its month has graduated prices, and what was used before it is no longer counted "
            "(engine.gap_horizon_periods after the month's end)"
        )
    return ""


def _answer_refusal(state: PartitionState, record: Record, begun: ReworkBegun, refusal: str) -> None:
    base = begun.base
    result = ReworkResult(
        rework_id=begun.rework_id,
        kind=begun.kind,
        author=begun.author,
        requested=begun.reason,
        base_revision=base.revision,
        revision=base.revision,
        rule_version_before=base.rule_version,
        rule_version_after=base.rule_version,
        before=base.totals,
        after=base.totals,
    )
    period = Interval(begun.period_begin, begun.period_begin + state.period)
    raised_at = record.timestamp_ms // 1000
    state.outbox.append(rework_alert(AlertKind.REWORK_REFUSED, begun.scope_id, period, result, refusal, raised_at))


def _reopen(scope: Scope, begun: ReworkBegun, timestamp_ms: int, period_seconds: int) -> Frame:
    """The frame as its last revision left it, without usage."""
    base = begun.base
    period = Interval(begun.period_begin, begun.period_begin + period_seconds)
    frame = scope.frames[period.begin] = Frame(
        period.begin,
        timestamp_ms,
        dirty=False,
        revision=base.revision,
        closed_at=base.closed_at,
        digest=bytes.fromhex(base.digest),
        gaps=list(base.gaps),
        expected_until=FOREVER if base.expected_until is None else base.expected_until,
        failed=base.failed,
        totals=base.totals,
        rule_version=base.rule_version,
    )
    scope.evicted = subtract(scope.evicted, [period])
    month = scope.months.get(month_begin(period.begin))
    for key, by_period in month.used.items() if month else ():
        if period.begin in by_period:
            frame.used[key] = by_period.pop(period.begin)
    return frame


def _close_again(scope: Scope, frame: Frame, period_seconds: int) -> None:
    """The frame leaves the state as if it had never been opened again."""
    del scope.frames[frame.period_begin]
    scope.evicted = union([*scope.evicted, Interval(frame.period_begin, frame.period_begin + period_seconds)])
    keep_use(scope, frame, frame.closed_at)


def keep_use(scope: Scope, frame: Frame, now: int) -> None:
    """What a frame that leaves the state used of graduated prices stays, as long as its month is counted."""
    if not frame.used:
        return
    month = scope.months.setdefault(month_begin(frame.period_begin), MonthUse(now))
    month.evicted_at = max(month.evicted_at, now)
    for key, qty in frame.used.items():
        month.used.setdefault(key, {})[frame.period_begin] = qty


def _under_way(state: PartitionState, scope_id: str, period_begin: int, rework_id: str) -> tuple[Scope, Frame, Rework]:
    scope = state.scopes.get(scope_id)
    frame = scope.frames.get(period_begin) if scope is not None else None
    if scope is None or frame is None or frame.rework is None or frame.rework.rework_id != rework_id:
        raise RejectedError(
            f"rework {rework_id!r} of period {period_begin} is not under way: it was refused or is over",
            "rework",
        )
    if frame.rework.ended:
        raise RejectedError(f"rework {rework_id!r} of period {period_begin} has ended before this record", "rework")
    return scope, frame, frame.rework


def take_lines(state: PartitionState, lines: ReworkLines, context: EngineContext) -> None:
    """Which lines the base revision has. Raises RejectedError."""
    metric_of(lines.metric, context)
    series = [canonical_series(entry.groupby, entry.metadata) for entry in lines.series]
    scope, frame, rework = _under_way(state, lines.scope_id, lines.period_begin, lines.rework_id)
    rework.records += 1
    if rework.reopened:
        frame.emitted.setdefault(lines.metric, []).extend(register(scope, lines.scope_id, lines.metric, series))


def take_reworked(state: PartitionState, record: Record, part: Collection, context: EngineContext) -> None:
    """A part of a collection within a rework. Raises RejectedError."""
    period = period_of(part.begin, state.period)
    if part.end > period.end:
        raise RejectedError(f"range [{part.begin}, {part.end}) spans periods: within a rework it must be cut to one")
    spec, series = check_part(part, state.period, context)
    scope, frame, rework = _under_way(state, part.scope_id, period.begin, part.rework_id)
    target = slice_for(scope, part, period, spec)
    if is_repetition(scope, part, record, says_nothing_new=target is None):
        return
    rework.records += 1
    if target is None:
        return  # the frame has it
    if rework.reopened:
        _put_in(state, scope, frame, part, target, series, spec)
        touch(scope, period, record.timestamp_ms)
    elif spec.proof is Coverage.SAMPLES:  # the frame has them: they would be added a second time
        _count(rework, part.metric, part.source, len(part.samples))
    else:
        rework.held.append(part)


def _count(rework: Rework, metric: str, source: str, samples: int) -> None:
    of_metric = rework.surplus.setdefault(metric, {})
    of_metric[source] = of_metric.get(source, 0) + samples


def _put_in(
    state: PartitionState,
    scope: Scope,
    frame: Frame,
    part: Collection,
    target: Slice,
    series: list[bytes],
    spec: MetricSpec,
) -> None:
    state.aggregations.setdefault(part.metric, spec.aggregation)
    add_part(frame, part, target, part.samples, register(scope, part.scope_id, part.metric, series), spec)


def _put_held_in(state: PartitionState, scope: Scope, frame: Frame, rework: Rework, context: EngineContext) -> None:
    """Puts all that was held back into the frame, or none of it and raises RejectedError."""
    period = Interval(frame.period_begin, frame.period_begin + state.period)
    before = frame.slices
    frame.slices = decode_frame(encode_frame(frame)).slices  # a copy of its own
    try:
        for part in rework.held:
            spec, series = check_part(part, state.period, context)
            target = slice_for(scope, part, period, spec)
            if target is not None:
                _put_in(state, scope, frame, part, target, series, spec)
    except RejectedError:
        frame.slices = before
        raise
    rework.held = []


def take_ended(state: PartitionState, record: Record, ended: ReworkEnded, context: EngineContext) -> None:
    """All of the rework was sent: the frame is rated, or left as it was if not all of it came."""
    scope, frame, rework = _under_way(state, ended.scope_id, ended.period_begin, ended.rework_id)
    reason = ""
    if rework.records != ended.records:
        reason = (
            f"{rework.records} of {ended.records} records were taken: topic rejected has the others, with the reason"
        )
    elif more := sum(samples for of in rework.surplus.values() for samples in of.values() if samples > 0):
        reason = (
            f"{more} pushed samples are not in the frame, which is in the state: they came while it was not, and which "
            "they are cannot be told. Ask again when it has left"
        )
    elif rework.held:
        try:
            _put_held_in(state, scope, frame, rework, context)
        except RejectedError as fault:
            reason = str(fault)
    if reason:
        _abandon(state, ended.scope_id, scope, frame, reason, record.timestamp_ms // 1000)
        return
    rework.ended = True
    touch(scope, Interval(frame.period_begin, frame.period_begin + state.period), record.timestamp_ms)


def ends_at(rework: Rework) -> int:
    """When (seconds) a rework that has not come to its end is given up."""
    return rework.begun_ms // 1000 + REWORK_SECONDS


def abandon_overdue(state: PartitionState, scope_id: str, scope: Scope, now: int) -> None:
    """Gives up reworks whose end never came."""
    for frame in list(scope.frames.values()):
        if frame.rework is not None and not frame.rework.ended and now >= ends_at(frame.rework):
            reason = f"its end did not come within {REWORK_SECONDS} s: {frame.rework.records} records came"
            _abandon(state, scope_id, scope, frame, reason, now)


def _abandon(state: PartitionState, scope_id: str, scope: Scope, frame: Frame, reason: str, now: int) -> None:
    rework = frame.rework
    assert rework is not None, "only a rework under way is given up"
    result = result_of(rework, frame)
    period = Interval(frame.period_begin, frame.period_begin + state.period)
    state.outbox.append(rework_alert(AlertKind.REWORK_ABANDONED, scope_id, period, result, reason, now))
    frame.rework = None
    if rework.reopened:
        _close_again(scope, frame, state.period)
    else:  # what came for it meanwhile was held back
        frame.dirty = scope.dirty = True


def result_of(rework: Rework, frame: Frame) -> ReworkResult:
    """What the rework has come to, as the frame stands now."""
    return ReworkResult(
        rework_id=rework.rework_id,
        kind=rework.kind,
        author=rework.author,
        requested=rework.reason,
        base_revision=rework.base_revision,
        revision=frame.revision,
        rule_version_before=rework.rule_version,
        rule_version_after=frame.rule_version,
        before=rework.totals,
        after=frame.totals,
    )
