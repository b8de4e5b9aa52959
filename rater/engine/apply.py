"""`apply`: one record of the log into the state. Deterministic: no clock, no I/O, no randomness.

A record is taken as a whole or goes as a whole to `rejected`, with the reason; nothing in a record can stop the log.
"""

from __future__ import annotations

from rater.engine.alerts import gap_accepted, late_plan, late_usage
from rater.engine.coverage import expectations
from rater.engine.rework import take_begun, take_ended, take_lines, take_reworked
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, OutboxItem, PartitionState, Record, Scope
from rater.engine.switching import changed_by, check_not_off, switched
from rater.engine.take import (
    MAX_PERIODS,
    add_part,
    check_part,
    check_source,
    is_gone,
    is_repetition,
    metric_of,
    note_refused,
    register,
    samples_by_period,
    scope_of,
    slice_for,
    spans,
    touch,
)
from rater.model.codec import check_key, content_type, decode_usage, encode_json, rejected_headers
from rater.model.errors import RaterError, RejectedError
from rater.model.events import event_headers
from rater.model.interval import Interval, clip, overlaps, period_of, subtract, union
from rater.model.posted import PostedLines
from rater.model.rated import RejectedHeaders
from rater.model.usage import (
    Collection,
    CollectionFailed,
    FrameForced,
    GapAccepted,
    ReworkBegun,
    ReworkLines,
    ScopePlan,
    ScopeSwitch,
    UsageRecord,
)

__all__ = ["LogGapError", "apply"]

MAX_HEARD = 500  # sources of a partition: each is a series of what Prometheus is told
AHEAD_SECONDS = 24 * 3600  # usage may lie so far ahead of the broker's clock: a producer in another time zone, at worst


class LogGapError(RaterError):
    """Records of the log are missing between the state and the next record: going on would lose usage."""


def apply(state: PartitionState, record: Record, context: EngineContext) -> bool:
    """Takes the next record of the partition into `state`; False if it was applied before.

    Raises LogGapError if records were skipped.
    """
    if record.offset < state.next_offset:
        return False
    if state.next_offset >= 0 and record.offset > state.next_offset:
        raise LogGapError(
            f"usage partition {state.partition}: expected offset {state.next_offset}, got {record.offset}. Records "
            "between them are gone (retention shorter than the outage?): collect that time again, then `rater recover`"
        )
    try:
        _take(state, record, context)
    except RejectedError as fault:
        _reject(state, record, str(fault))
        state.counts.rejected[fault.kind] = state.counts.rejected.get(fault.kind, 0) + 1
    state.next_offset = record.offset + 1
    state.last_ms = max(state.last_ms, record.timestamp_ms)
    return True


def _reject(state: PartitionState, record: Record, reason: str) -> None:
    headers = RejectedHeaders(
        reason=reason,
        origin_topic="usage",
        origin_partition=state.partition,
        origin_offset=record.offset,
        origin_timestamp_ms=record.timestamp_ms,
        origin_content_type=content_type(record.headers),
    )
    state.outbox.append(OutboxItem("rejected", record.key, record.value, rejected_headers(headers)))


def _take(state: PartitionState, record: Record, context: EngineContext) -> None:
    usage = decode_usage(record.value, content_type(record.headers))
    check_key(record.key, usage.scope_id)
    try:
        _take_usage(state, record, usage, context)
    except RejectedError:
        if isinstance(usage, Collection):
            note_refused(state, usage, record.timestamp_ms)
        raise


def _take_usage(state: PartitionState, record: Record, usage: UsageRecord, context: EngineContext) -> None:
    match usage:
        case Collection() if usage.rework_id:
            take_reworked(state, record, usage, context)
        case Collection():
            _take_collection(state, record, usage, context)
        case ScopePlan():
            _take_plan(state, record, usage, context)
        case CollectionFailed():
            _take_failure(state, record, usage, context)
        case FrameForced():
            _take_force(state, record, usage)
        case GapAccepted():  # nothing is rated for it: the store has what it is about
            state.outbox.append(gap_accepted(usage, record))
        case ScopeSwitch():
            _take_switch(state, record, usage)
        case ReworkBegun():
            take_begun(state, record, usage)
        case ReworkLines():
            take_lines(state, usage, context)
        case PostedLines():
            _pass_on(state, record, usage)
        case _:
            take_ended(state, record, usage, context)


def _pass_on(state: PartitionState, record: Record, posted: PostedLines) -> None:
    """Tells those who read `rated`. Nothing of it stays here: no frame, no coverage, no number of a producer.

    One that comes twice is told twice; the sink has it from `usage`, and does not wait for a checkpoint.
    """
    key, value = posted.scope_id.encode(), encode_json(posted)
    state.outbox.append(OutboxItem("rated", key, value, event_headers(posted, key, value)))


# --- collections


def _take_collection(state: PartitionState, record: Record, part: Collection, context: EngineContext) -> None:
    spec, series = check_part(part, state.period, context)
    periods = spans(Interval(part.begin, part.end), state.period)
    _check_begin(state, record, part, context)
    _check_end(record, part)
    check_not_off(state.scopes.get(part.scope_id), part, periods)
    scope = scope_of(state, part.scope_id)
    check_source(scope, part.source)
    late = [period for period in periods if is_gone(scope, period)]
    targets = [
        (period, slice_for(scope, part, period, spec)) for period in periods if period not in late
    ]  # raises before anything is changed: a contradicting part leaves no trace
    says_nothing_new = not late and all(target is None for _, target in targets)
    if is_repetition(scope, part, record, says_nothing_new=says_nothing_new):
        state.counts.repeated += 1
        return
    state.aggregations.setdefault(part.metric, spec.aggregation)
    by_period = samples_by_period(part, state.period)
    ids = register(scope, part.scope_id, part.metric, series)
    for period, target in targets:
        if target is not None:
            frame = touch(scope, period, record.timestamp_ms)
            add_part(frame, part, target, by_period.get(period.begin, []), ids, spec)
    _expect_seen(state, scope, part, context, record)
    if late:
        state.outbox.append(late_usage(part, late, record))
        raise RejectedError(
            f"late: {len(late)} period(s) from {late[0].begin} on were closed and have left the state; nothing of them "
            "was taken. `rater rerate` brings it in from the store",
            "late",
        )
    _count(state, part, record)


def _count(state: PartitionState, part: Collection, record: Record) -> None:
    """The part was taken. Of very many sources the one that was heard of the longest ago is forgotten."""
    state.counts.parts += 1
    state.counts.samples += len(part.samples)
    heard = state.heard
    heard[part.source] = max(record.timestamp_ms, heard.get(part.source, 0))
    if len(heard) > MAX_HEARD:
        del heard[min(heard, key=lambda source: (heard[source], source))]


def _check_begin(state: PartitionState, record: Record, part: Collection, context: EngineContext) -> None:
    """A source without a plan owes answers from its first collection on: a wrong date must not make it owe decades."""
    scope = state.scopes.get(part.scope_id)
    if (scope is not None and part.source in scope.plans) or not context.expects_seen(part.source):
        return
    if record.timestamp_ms // 1000 - part.begin > MAX_PERIODS * state.period:
        raise RejectedError(
            f"source {part.source!r} has no plan and would owe everything since {part.begin}, more than {MAX_PERIODS} "
            "periods: correct the date, or send a plan for this time first",
            "wrong_time",
        )


def _check_end(record: Record, part: Collection) -> None:
    """What was not yet cannot have been measured: of a wrong year nobody would ever hear, in no bill and no alert."""
    if part.end > record.timestamp_ms // 1000 + AHEAD_SECONDS:
        raise RejectedError(
            f"range [{part.begin}, {part.end}) ends more than {AHEAD_SECONDS // 3600} hours after it came: correct the "
            "date, or the clock",
            "wrong_time",
        )


def _expect_seen(state: PartitionState, scope: Scope, part: Collection, context: EngineContext, record: Record) -> None:
    if part.source in scope.plans or not context.expects_seen(part.source):
        return
    since = scope.seen.setdefault(part.source, {})
    before = since.get(part.metric, FOREVER)
    if part.begin < before:
        since[part.metric] = part.begin
        _expectations_changed(scope, Interval(part.begin, FOREVER), state.period, record.timestamp_ms)
        # of the part's own range there is an alert of late usage
        _tell_late(state, part.scope_id, part.source, part.metric, [Interval(part.end, before)], record)


# --- plans, failures, force


def _expectations_changed(scope: Scope, window: Interval, period_seconds: int, timestamp_ms: int) -> None:
    scope.made_until = min(scope.made_until or window.begin, period_of(window.begin, period_seconds).begin)
    scope.planned_ms = max(scope.planned_ms, timestamp_ms)
    scope.dirty = True
    for frame in scope.frames.values():
        if overlaps(Interval(frame.period_begin, frame.period_begin + period_seconds), window):
            frame.dirty = True


def _tell_late(
    state: PartitionState, scope_id: str, source: str, metric: str, changed: list[Interval], record: Record
) -> None:
    """Frames that have left the state cannot say what is expected of them now; somebody has to have them rated again.

    So have those that are there for a rework only: it may be abandoned.
    """
    scope = state.scopes[scope_id]
    reopened = [
        Interval(frame.period_begin, frame.period_begin + state.period)
        for frame in scope.frames.values()
        if frame.rework is not None and frame.rework.reopened
    ]
    for left in union([*scope.evicted, *reopened]):
        for span in clip(changed, left):
            first = period_of(span.begin, state.period).begin
            state.outbox.append(late_plan(scope_id, source, metric, span, first, record))


def _take_plan(state: PartitionState, record: Record, plan: ScopePlan, context: EngineContext) -> None:
    for name in plan.metrics:
        metric_of(name, context)
    window = Interval(plan.begin, plan.until if plan.until is not None else FOREVER)
    spans(Interval(plan.begin, max(plan.begin, min(window.end, record.timestamp_ms // 1000))), state.period)
    finite = spans(window, state.period) if plan.until is not None else []
    scope = scope_of(state, plan.scope_id)
    check_source(scope, plan.source)
    before = scope.plans.get(plan.source, {})
    seen = scope.seen.pop(plan.source, {})
    owed = {metric: [Interval(since, FOREVER)] for metric, since in seen.items()} or dict(before)
    for metric, since in seen.items():  # what was owed for being seen stays owed until the first plan begins
        before[metric] = union([Interval(since, plan.begin)])
    after = {metric: left for metric, held in before.items() if (left := subtract(held, [window]))}
    for metric in plan.metrics:
        after[metric] = union([*after.get(metric, []), window])
    if after == before and plan.source in scope.plans:
        return
    scope.plans[plan.source] = after
    changed = Interval(window.begin, FOREVER if seen else window.end)
    _expectations_changed(scope, changed, state.period, record.timestamp_ms)
    for metric in sorted({*owed, *after}):
        was, now = owed.get(metric, []), after.get(metric, [])
        _tell_late(state, plan.scope_id, plan.source, metric, subtract([*was, *now], _both(was, now)), record)
    if scope.frames:
        scope.frames[max(scope.frames)].dirty = True  # it says until when the scope is expected
    for period in finite:
        if plan.metrics and not is_gone(scope, period) and not scope.pauses.holds(period.begin):
            touch(scope, period, record.timestamp_ms)


def _both(some: list[Interval], others: list[Interval]) -> list[Interval]:
    return [part for other in others for part in clip(some, other)]


def _take_switch(state: PartitionState, record: Record, switch: ScopeSwitch) -> None:
    after = switched(state.scopes.get(switch.scope_id), state, record, switch)
    scope = scope_of(state, switch.scope_id)
    window = changed_by(scope.pauses, after)
    scope.pauses = after
    if window is None:
        return
    _expectations_changed(scope, window, state.period, record.timestamp_ms)
    if scope.frames:
        scope.frames[max(scope.frames)].dirty = True  # it says until when the scope is expected
    owed = [(source, metric, parts) for source, of in scope.plans.items() for metric, parts in of.items()]
    owed += [(source, m, [Interval(since, FOREVER)]) for source, of in scope.seen.items() for m, since in of.items()]
    for source, metric, parts in sorted(owed):
        _tell_late(state, switch.scope_id, source, metric, clip(parts, window), record)


def _take_failure(state: PartitionState, record: Record, failed: CollectionFailed, context: EngineContext) -> None:
    """Notes why there is no answer that was expected.

    It does not keep a frame open: an outage that goes on must not hide the gap. Where nothing is expected it makes no
    frame, which would close as if it were known that nothing was used.
    """
    metric_of(failed.metric, context)
    periods = spans(Interval(failed.begin, failed.end), state.period)
    scope = scope_of(state, failed.scope_id)
    for period in periods:
        if (failed.metric, failed.source) in expectations(scope, period) and not is_gone(scope, period):
            frame = scope.frames.get(period.begin) or touch(scope, period, record.timestamp_ms)
            frame.failures.setdefault(failed.metric, {})[failed.source] = failed.reason


def _take_force(state: PartitionState, record: Record, forced: FrameForced) -> None:
    if forced.period_begin % state.period:
        raise RejectedError(f"period_begin {forced.period_begin} is not the begin of a period of {state.period} s")
    scope = scope_of(state, forced.scope_id)
    period = Interval(forced.period_begin, forced.period_begin + state.period)
    if is_gone(scope, period):
        raise RejectedError(f"the frame of period {forced.period_begin} was closed and has left the state")
    touch(scope, period, record.timestamp_ms).forced = f"{forced.author}: {forced.reason}"
