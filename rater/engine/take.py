"""What a collection puts into its scope: frames, slices, points, and which batches of its producer were seen.

A part is checked before anything is changed, so that a refused one leaves no trace.
"""

from __future__ import annotations

import zlib
from collections import defaultdict

from rater.engine.aggregate import add_samples
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, Frame, PartitionState, Producer, Record, Scope, Slice
from rater.model.errors import RejectedError
from rater.model.interval import Interval, clip, holds, overlaps, period_of, periods_of, union
from rater.model.labels import canonical_series, check_labels, line_id
from rater.model.metric import Coverage, MetricSpec
from rater.model.partition import partition_of
from rater.model.usage import Collection, Sample

__all__ = [
    "MAX_PERIODS",
    "add_part",
    "check_part",
    "check_source",
    "is_gone",
    "is_repetition",
    "metric_of",
    "note_refused",
    "register",
    "samples_by_period",
    "scope_of",
    "slice_for",
    "spans",
    "touch",
]

MAX_PERIODS = 20_000  # of one record or plan: two years of hours; bounds what a wrong date can cost
MAX_SOURCES = 50  # of a scope: each is said in every frame, and a record of `rated` has a bound
RECENT_BATCHES = 16  # of a producer and scope whose content is remembered: a batch is repeated within moments


def scope_of(state: PartitionState, scope_id: str) -> Scope:
    """The scope, made if it is new. Raises RejectedError if it belongs to another partition."""
    scope = state.scopes.get(scope_id)
    if scope is None:
        home = partition_of(scope_id.encode(), state.partitions)
        if home != state.partition:
            raise RejectedError(
                f"scope {scope_id!r} belongs to partition {home}, not {state.partition}: the producer must use Kafka's "
                "own partitioner (murmur2)",
                "wrong_key",
            )
        scope = state.scopes[scope_id] = Scope()
    return scope


def spans(span: Interval, period: int) -> list[Interval]:
    """The periods of a range. Raises RejectedError if there are too many."""
    if (span.end - span.begin) // period > MAX_PERIODS:
        raise RejectedError(
            f"range [{span.begin}, {span.end}) spans more than {MAX_PERIODS} periods of {period} s", "wrong_time"
        )
    return list(periods_of(span, period))


def touch(scope: Scope, period: Interval, timestamp_ms: int) -> Frame:
    """The frame of the period, made if it is new, to be looked at by the next `decide`."""
    frame = scope.frames.get(period.begin)
    if frame is None:
        frame = scope.frames[period.begin] = Frame(period.begin, timestamp_ms)
    frame.touched_ms = max(frame.touched_ms, timestamp_ms)
    frame.dirty = scope.dirty = True
    return frame


def is_gone(scope: Scope, period: Interval) -> bool:
    """Whether the frame was closed and has left the state: usage for it comes too late, but for that of a rework."""
    frame = scope.frames.get(period.begin)
    if frame is not None and frame.rework is not None and frame.rework.reopened:
        return True
    return any(overlaps(part, period) for part in scope.evicted)


def metric_of(name: str, context: EngineContext) -> MetricSpec:
    """The metric as declared. Raises RejectedError."""
    spec = context.catalog.get(name)
    if spec is None:
        raise RejectedError(
            f"metric {name!r} is unknown: declare it in metrics.yml or under `metrics` in rater.yaml", "unknown_metric"
        )
    return spec


def check_part(part: Collection, period_seconds: int, context: EngineContext) -> tuple[MetricSpec, list[bytes]]:
    """The part's metric and its canonical series. Raises RejectedError for what is wrong with the part itself."""
    spec = metric_of(part.metric, context)
    if part.unit != spec.unit:
        raise RejectedError(f"unit is {part.unit!r}, metric {part.metric!r} is declared in {spec.unit!r}", "wrong_unit")
    if spec.proof is Coverage.SAMPLES:
        _check_within_periods(part, period_seconds)
    series = [canonical_series(entry.groupby, entry.metadata) for entry in part.series]
    for item in part.quarantined:
        check_labels(item.groupby)
        check_labels(item.metadata)
    return spec, series


def check_source(scope: Scope, source: str) -> None:
    """Raises RejectedError for one source too many."""
    known = scope.plans.keys() | scope.seen.keys()
    if source not in known and len(known) >= MAX_SOURCES:
        raise RejectedError(
            f"source {source!r} would be number {len(known) + 1} of its scope: at most {MAX_SOURCES} are taken. Name "
            "what measures, not each run of it"
        )


def _check_within_periods(part: Collection, period_seconds: int) -> None:
    for number, sample in enumerate(part.samples):
        if sample.end > period_of(sample.begin, period_seconds).end:
            raise RejectedError(
                f"samples[{number}] spans periods: [{sample.begin}, {sample.end}). A sample of a metric with "
                "`proof: samples` must lie within one period: split it at the period's end"
            )


def is_repetition(scope: Scope, part: Collection, record: Record, *, says_nothing_new: bool) -> bool:
    """Notes the batch's sequence number; True if the batch is one that came before.

    Raises RejectedError for a number that was used before with other content, as far as that can be told: the content
    of the last batches is remembered, and of others whether the frames have what it brings (`says_nothing_new`).
    """
    producer = scope.producers.setdefault(part.producer_id, Producer([], record.timestamp_ms))
    checksum = zlib.crc32(record.value)
    reached = producer.seen[-1].end if producer.seen else 0
    if not add_number(producer.seen, part.sequence):
        if producer.recent.get(part.sequence) == checksum or (
            says_nothing_new and part.sequence not in producer.recent
        ):
            return True
        what = "for other content" if part.sequence in producer.recent else "too long ago to tell whether for this"
        raise RejectedError(
            f"sequence {part.sequence} of producer {part.producer_id!r} was used before {what}: count up by one for "
            "each batch, and take a new producer_id (over HTTP: or Idempotency-Key) for what is not a repetition",
            "reused_number",
        )
    producer.last_ms = record.timestamp_ms
    producer.recent[part.sequence] = checksum
    if len(producer.recent) > RECENT_BATCHES:
        del producer.recent[next(iter(producer.recent))]
    if part.sequence > reached:
        producer.hole_ms = producer.hole_ms or record.timestamp_ms
    return False


def note_refused(state: PartitionState, part: Collection, timestamp_ms: int) -> None:
    """The batch came, so it is not lost; its number may be used again for what is put right."""
    scope = state.scopes.get(part.scope_id)
    if scope is not None:
        producer = scope.producers.setdefault(part.producer_id, Producer([], timestamp_ms))
        add_number(producer.refused, part.sequence)


def add_number(numbers: list[Interval], number: int) -> bool:
    """Puts a number into a normal list of numbers; False if it was there before."""
    if numbers and numbers[-1].end == number:  # they come in order but for repetitions
        numbers[-1] = Interval(numbers[-1].begin, number + 1)
        return True
    if any(begin <= number < end for begin, end in numbers):
        return False
    numbers[:] = union([*numbers, Interval(number, number + 1)])
    return True


def slice_for(scope: Scope, part: Collection, period: Interval, spec: MetricSpec) -> Slice | None:
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


def samples_by_period(part: Collection, period_seconds: int) -> dict[int, list[Sample]]:
    """The samples by begin of the period in which they begin."""
    if period_of(part.begin, period_seconds).end >= part.end:
        return {period_of(part.begin, period_seconds).begin: part.samples}
    found: dict[int, list[Sample]] = {}
    for sample in part.samples:
        found.setdefault(sample.begin - sample.begin % period_seconds, []).append(sample)
    return found


def register(scope: Scope, scope_id: str, metric: str, series: list[bytes]) -> list[bytes]:
    """The line ids of canonical series, each noted in the scope."""
    ids = [line_id(scope_id, metric, canonical) for canonical in series]
    for identity, canonical in zip(ids, series, strict=True):
        scope.series.setdefault(identity, canonical)
    return ids


def add_part(
    frame: Frame, part: Collection, target: Slice, samples: list[Sample], ids: list[bytes], spec: MetricSpec
) -> None:
    """Adds what the part has of the frame's period to its slice, and the slice to the frame."""
    _add(target, part, samples, ids, spec)
    of_source = frame.slices.setdefault(part.metric, {}).setdefault(part.source, [])
    if all(known is not target for known in of_source):
        of_source.append(target)
    if target.complete:  # it replaces those of its range
        span = (target.begin, target.end)
        of_source[:] = [s for s in of_source if s is target or (s.begin, s.end) != span or s.rank > target.rank]


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
        add_number(target.received, part.part)
        strays = [] if _is_whole(target) else [s.begin for s in samples if not holds(target.covers, s.begin)]
        target.first_stray = min(target.first_stray, *strays, FOREVER)
        target.last_stray = max(target.last_stray, *strays, -1)


def _is_whole(target: Slice) -> bool:
    return target.covers == [(target.begin, target.end)]
