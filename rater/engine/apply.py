"""`apply`: one record of the log into the state. Deterministic: no clock, no I/O, no randomness.

A record is taken as a whole or goes as a whole to `rejected`, with the reason; nothing in a record can stop the log.
"""

from __future__ import annotations

from collections import defaultdict

from rater.engine.aggregate import add_samples
from rater.engine.alerts import late_usage
from rater.engine.coverage import expectations
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, Frame, OutboxItem, PartitionState, Producer, Record, Scope, Slice
from rater.model.codec import content_type, decode_usage, rejected_headers
from rater.model.errors import RaterError, RejectedError
from rater.model.interval import Interval, clip, holds, overlaps, period_of, periods_of, subtract, union
from rater.model.labels import canonical_series, check_labels, line_id
from rater.model.metric import Coverage, MetricSpec
from rater.model.partition import partition_of
from rater.model.rated import RejectedHeaders
from rater.model.usage import Collection, CollectionFailed, FrameForced, Sample, ScopePlan

__all__ = ["LogGapError", "apply"]

MAX_PERIODS = 20_000  # of one record or plan: two years of hours; bounds what a wrong date can cost


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
    state.next_offset = record.offset + 1
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
    if record.key != usage.scope_id.encode():
        raise RejectedError(f"the record's key is {record.key!r}, it must be the scope_id {usage.scope_id!r} in UTF-8")
    match usage:
        case Collection():
            _take_collection(state, record, usage, context)
        case ScopePlan():
            _take_plan(state, record, usage, context)
        case CollectionFailed():
            _take_failure(state, record, usage, context)
        case FrameForced():
            _take_force(state, record, usage)
        case _:
            raise RejectedError("reworks are not known yet")


# --- scopes and frames


def _scope(state: PartitionState, scope_id: str) -> Scope:
    """The scope, made if it is new. Raises RejectedError if it belongs to another partition."""
    scope = state.scopes.get(scope_id)
    if scope is None:
        home = partition_of(scope_id.encode(), state.partitions)
        if home != state.partition:
            raise RejectedError(
                f"scope {scope_id!r} belongs to partition {home}, not {state.partition}: the producer must use Kafka's "
                "own partitioner (murmur2)"
            )
        scope = state.scopes[scope_id] = Scope()
    return scope


def _spans(span: Interval, period: int) -> list[Interval]:
    """The periods of a range. Raises RejectedError if there are too many."""
    if (span.end - span.begin) // period > MAX_PERIODS:
        raise RejectedError(f"range [{span.begin}, {span.end}) spans more than {MAX_PERIODS} periods of {period} s")
    return list(periods_of(span, period))


def _touch(scope: Scope, period: Interval, timestamp_ms: int) -> Frame:
    frame = scope.frames.get(period.begin)
    if frame is None:
        frame = scope.frames[period.begin] = Frame(period.begin, timestamp_ms)
    frame.touched_ms = max(frame.touched_ms, timestamp_ms)
    frame.dirty = scope.dirty = True
    return frame


def _is_evicted(scope: Scope, period: Interval) -> bool:
    return any(overlaps(part, period) for part in scope.evicted)


def _metric(name: str, context: EngineContext) -> MetricSpec:
    spec = context.catalog.get(name)
    if spec is None:
        raise RejectedError(f"metric {name!r} is unknown: declare it in metrics.yml or under `metrics` in rater.yaml")
    return spec


# --- collections


def _take_collection(state: PartitionState, record: Record, part: Collection, context: EngineContext) -> None:
    spec = _metric(part.metric, context)
    if part.unit != spec.unit:
        raise RejectedError(f"unit is {part.unit!r}, metric {part.metric!r} is declared in {spec.unit!r}")
    periods = _spans(Interval(part.begin, part.end), state.period)
    if spec.proof is Coverage.SAMPLES:
        _check_within_periods(part, state.period)
    series = [canonical_series(entry.groupby, entry.metadata) for entry in part.series]
    for item in part.quarantined:
        check_labels(item.groupby)
        check_labels(item.metadata)
    _check_begin(state, record, part, context)
    scope = _scope(state, part.scope_id)
    late = [period for period in periods if _is_evicted(scope, period)]
    targets = [
        (period, _slice_for(scope, part, period, spec)) for period in periods if period not in late
    ]  # raises before anything is changed: a contradicting part leaves no trace
    if _seen_before(scope, part, record.timestamp_ms):
        return
    state.aggregations.setdefault(part.metric, spec.aggregation)
    by_period = _by_period(part, state.period)
    ids = _register(scope, part, series)
    for period, target in targets:
        if target is not None:
            _touch(scope, period, record.timestamp_ms)
            _add(target, part, by_period.get(period.begin, []), ids, spec)
            _settle(scope, part, period, target)
    _expect_seen(scope, part, context, state.period, record.timestamp_ms)
    if late:
        state.outbox.append(late_usage(part, late, record))
        raise RejectedError(
            f"late: {len(late)} period(s) from {late[0].begin} on were closed and have left the state; nothing of them "
            "was taken. Rate them again with `rater reprocess`"
        )


def _check_within_periods(part: Collection, period_seconds: int) -> None:
    for number, sample in enumerate(part.samples):
        if sample.end > period_of(sample.begin, period_seconds).end:
            raise RejectedError(
                f"samples[{number}] spans periods: [{sample.begin}, {sample.end}). A sample of a metric with "
                "`proof: samples` must lie within one period: split it at the period's end"
            )


def _check_begin(state: PartitionState, record: Record, part: Collection, context: EngineContext) -> None:
    """A source without a plan owes answers from its first collection on: a wrong date must not make it owe decades."""
    scope = state.scopes.get(part.scope_id)
    if (scope is not None and part.source in scope.plans) or not context.expects_seen(part.source):
        return
    if record.timestamp_ms // 1000 - part.begin > MAX_PERIODS * state.period:
        raise RejectedError(
            f"source {part.source!r} has no plan and would owe everything since {part.begin}, more than {MAX_PERIODS} "
            "periods: correct the date, or send a plan for this time first"
        )


def _seen_before(scope: Scope, part: Collection, timestamp_ms: int) -> bool:
    """Notes the batch's sequence number; True if it was noted before: the batch is a repetition."""
    producer = scope.producers.setdefault(part.producer_id, Producer([], timestamp_ms))
    if not _add_number(producer.seen, part.sequence):
        return True
    producer.last_ms = timestamp_ms
    return False


def _add_number(numbers: list[Interval], number: int) -> bool:
    """Puts a number into a normal list of numbers; False if it was there before."""
    if numbers and numbers[-1].end == number:  # they come in order but for repetitions
        numbers[-1] = Interval(numbers[-1].begin, number + 1)
        return True
    if any(begin <= number < end for begin, end in numbers):
        return False
    numbers[:] = union([*numbers, Interval(number, number + 1)])
    return True


def _slice_for(scope: Scope, part: Collection, period: Interval, spec: MetricSpec) -> Slice | None:
    """The slice this part belongs to, new or known; None if the part says nothing new.

    Raises RejectedError for a part that contradicts another part of its collection.
    """
    frame = scope.frames.get(period.begin)
    slices = frame.slices.get(part.metric, {}).get(part.source, []) if frame else []
    if spec.proof is Coverage.SAMPLES:
        return slices[0] if slices else Slice(period.begin, period.end, 0, "", 0, [], [], part.proof)
    begin, end = max(part.begin, period.begin), min(part.end, period.end)
    covers = clip(part.covers, period)
    rank = (part.attempt, part.collection_id)
    for known in slices:
        is_same = (known.begin, known.end) == (begin, end)
        if known.rank == rank and (is_same or max(known.parts, part.parts) > 1):
            if not is_same or (known.parts, known.covers, known.proof) != (part.parts, covers, part.proof):
                raise RejectedError(
                    f"part {part.part} contradicts an earlier part of collection {part.collection_id}: range, parts, "
                    "covers and proof must be the same in all parts"
                )
            return None if any(begin <= part.part < end for begin, end in known.received) else known
        if is_same and known.complete and known.rank > rank:
            return None
    return Slice(begin, end, part.attempt, part.collection_id, part.parts, [], covers, part.proof)


def _by_period(part: Collection, period_seconds: int) -> dict[int, list[Sample]]:
    """The samples by begin of the period in which they begin."""
    if period_of(part.begin, period_seconds).end >= part.end:
        return {period_of(part.begin, period_seconds).begin: part.samples}
    found: dict[int, list[Sample]] = {}
    for sample in part.samples:
        found.setdefault(sample.begin - sample.begin % period_seconds, []).append(sample)
    return found


def _register(scope: Scope, part: Collection, series: list[bytes]) -> list[bytes]:
    """The line ids of the part's series, each noted in the scope."""
    ids = [line_id(part.scope_id, part.metric, canonical) for canonical in series]
    for identity, canonical in zip(ids, series, strict=True):
        scope.series.setdefault(identity, canonical)
    return ids


def _add(target: Slice, part: Collection, samples: list[Sample], ids: list[bytes], spec: MetricSpec) -> None:
    by_series: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_series[sample.series].append(sample)
    for number, of_series in by_series.items():
        identity = ids[number]
        target.points[identity] = add_samples(spec.aggregation, target.points.get(identity), of_series)
    target.samples += len(samples)
    if target.begin <= part.begin < target.end:  # of several periods, the first one bears them
        target.quarantined = [*target.quarantined, *part.quarantined]
    if spec.proof is Coverage.SAMPLES:
        bounds = Interval(target.begin, target.end)
        own = [Interval(s.begin, s.end if s.end > s.begin else s.begin + spec.resolution) for s in samples]
        target.covers = clip([*target.covers, *own], bounds)
        if part.proof == "weak":
            target.proof = "weak"
    else:
        _add_number(target.received, part.part)
        strays = [] if _is_whole(target) else [s.begin for s in samples if not holds(target.covers, s.begin)]
        target.first_stray = min(target.first_stray, *strays, FOREVER)
        target.last_stray = max(target.last_stray, *strays, -1)


def _is_whole(target: Slice) -> bool:
    return target.covers == [(target.begin, target.end)]


def _settle(scope: Scope, part: Collection, period: Interval, target: Slice) -> None:
    """Puts the slice into its frame and drops those that it replaces."""
    of_source = scope.frames[period.begin].slices.setdefault(part.metric, {}).setdefault(part.source, [])
    if all(known is not target for known in of_source):
        of_source.append(target)
    if target.complete:
        span = (target.begin, target.end)
        of_source[:] = [s for s in of_source if s is target or (s.begin, s.end) != span or s.rank > target.rank]


def _expect_seen(
    scope: Scope, part: Collection, context: EngineContext, period_seconds: int, timestamp_ms: int
) -> None:
    if part.source in scope.plans or not context.expects_seen(part.source):
        return
    since = scope.seen.setdefault(part.source, {})
    if part.begin < since.get(part.metric, FOREVER):
        since[part.metric] = part.begin
        _expectations_changed(scope, Interval(part.begin, FOREVER), period_seconds, timestamp_ms)


# --- plans, failures, force


def _expectations_changed(scope: Scope, window: Interval, period_seconds: int, timestamp_ms: int) -> None:
    scope.made_until = min(scope.made_until or window.begin, period_of(window.begin, period_seconds).begin)
    scope.planned_ms = max(scope.planned_ms, timestamp_ms)
    scope.dirty = True
    for frame in scope.frames.values():
        if overlaps(Interval(frame.period_begin, frame.period_begin + period_seconds), window):
            frame.dirty = True


def _take_plan(state: PartitionState, record: Record, plan: ScopePlan, context: EngineContext) -> None:
    for name in plan.metrics:
        _metric(name, context)
    window = Interval(plan.begin, plan.until if plan.until is not None else FOREVER)
    _spans(Interval(plan.begin, max(plan.begin, min(window.end, record.timestamp_ms // 1000))), state.period)
    finite = _spans(window, state.period) if plan.until is not None else []
    scope = _scope(state, plan.scope_id)
    before = scope.plans.get(plan.source, {})
    seen = scope.seen.pop(plan.source, {})
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
    if scope.frames:
        scope.frames[max(scope.frames)].dirty = True  # it says until when the scope is expected
    for period in finite:
        if plan.metrics and not _is_evicted(scope, period):
            _touch(scope, period, record.timestamp_ms)


def _take_failure(state: PartitionState, record: Record, failed: CollectionFailed, context: EngineContext) -> None:
    """Notes why there is no answer that was expected.

    It does not keep a frame open: an outage that goes on must not hide the gap. Where nothing is expected it makes no
    frame, which would close as if it were known that nothing was used.
    """
    _metric(failed.metric, context)
    periods = _spans(Interval(failed.begin, failed.end), state.period)
    scope = _scope(state, failed.scope_id)
    for period in periods:
        if (failed.metric, failed.source) in expectations(scope, period) and not _is_evicted(scope, period):
            frame = scope.frames.get(period.begin) or _touch(scope, period, record.timestamp_ms)
            frame.failures.setdefault(failed.metric, {})[failed.source] = failed.reason


def _take_force(state: PartitionState, record: Record, forced: FrameForced) -> None:
    if forced.period_begin % state.period:
        raise RejectedError(f"period_begin {forced.period_begin} is not the begin of a period of {state.period} s")
    scope = _scope(state, forced.scope_id)
    period = Interval(forced.period_begin, forced.period_begin + state.period)
    if _is_evicted(scope, period):
        raise RejectedError(f"the frame of period {forced.period_begin} was closed and has left the state")
    _touch(scope, period, record.timestamp_ms).forced = f"{forced.author}: {forced.reason}"
