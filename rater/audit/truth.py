"""What the usage log means, frame by frame, recomputed slowly and in the plainest way.

Shares nothing with `rater.engine` but the wire structs, the codec and line ids, so that it can find a fault in the
engine: time is cut at every instant that is named anywhere, and each piece is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import msgspec

from rater.audit.facts import FrameKey, Setup, UsageEntry
from rater.model.codec import MAX_MAGNITUDE
from rater.model.labels import Labels, canonical_series, line_id
from rater.model.metric import Aggregation, Coverage, MetricSpec
from rater.model.usage import Collection as Part
from rater.model.usage import FrameForced, QuarantinedItem, Sample, ScopePlan

__all__ = [
    "Cut",
    "Held",
    "Piece",
    "Ref",
    "ScopeLog",
    "Span",
    "TruePoint",
    "by_period",
    "cuts_of",
    "expected_pieces",
    "frames_due",
    "held",
    "joined",
    "left_out",
    "points_of",
    "scope_logs",
    "spec_of",
]

LATE = "late:"
"""How the reason begins in `rejected` for usage whose frames had left the state; of its other periods it was taken."""
FOREVER = 253_402_300_800
FEW_PERIODS = 100  # a longer plan is looked at for each period
_WIDE = Context(prec=400, rounding=ROUND_HALF_EVEN)
_MEAN = Context(prec=28, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal(1).scaleb(-38)
MAX_SERIES = 65536  # bytes of a line's labels: more is quarantined

Span: TypeAlias = tuple[int, int]
"""`[begin, end)`."""
Ref: TypeAlias = tuple[str, int, int, int]
"""(collection_id, attempt, begin, end) of a collection cut to a period."""


class Piece(msgspec.Struct, frozen=True):
    """One part of a collection. `late`: it stands in `rejected`, for its frame had left the state."""

    part: Part
    late: bool = False


class Cut(msgspec.Struct):
    """One collection cut to one period; with `proof: samples` all that a source pushed for it."""

    metric: str
    source: str
    begin: int
    end: int
    attempt: int
    collection_id: str
    pushed: bool
    pieces: dict[tuple[str, int, str], Piece] = {}
    """By part number; pushed ones by producer and sequence."""
    period: Span = (0, 0)

    @property
    def ref(self) -> Ref:
        """How a frame names it."""
        return self.collection_id, self.attempt, self.begin, self.end

    @property
    def complete(self) -> bool:
        """Whether all parts are there."""
        return self.pushed or len(self.pieces) == next(iter(self.pieces.values())).part.parts

    @property
    def late(self) -> bool:
        """Whether the engine need not have it."""
        return any(piece.late for piece in self.pieces.values())

    def samples(self) -> Iterator[tuple[Part, Sample]]:
        """Those that begin within the period."""
        begin, end = self.period
        for _, piece in sorted(self.pieces.items()):
            for sample in piece.part.samples:
                if begin <= sample.begin < end:
                    yield piece.part, sample

    def covers(self, resolution: int) -> list[Span]:
        """What it proves of the period, in any order."""
        if self.pushed:
            found = [(s.begin, s.end if s.end > s.begin else s.begin + resolution) for _, s in self.samples()]
        else:
            found = [(part.begin, part.end) for piece in self.pieces.values() for part in piece.part.covers]
        return [(max(a, self.begin), min(b, self.end)) for a, b in found if max(a, self.begin) < min(b, self.end)]

    def weak(self) -> bool:
        """Whether its proof is weak."""
        return any(piece.part.proof == "weak" for piece in self.pieces.values())

    def quarantined(self) -> list[QuarantinedItem]:
        """Items without a number: of several periods the first one bears them."""
        begin, end = self.begin, self.end
        return [item for p in self.pieces.values() if begin <= p.part.begin < end for item in p.part.quarantined]


class Held(msgspec.Struct, frozen=True):
    """Which collections of one source hold, and which wait: they would hold, and the frame does not have them yet."""

    chosen: list[Cut]
    waiting: list[Cut]


class TruePoint(msgspec.Struct, frozen=True):
    """One resource in one period, before rating."""

    metric: str
    line_id: str
    qty: Decimal
    groupby: Labels
    metadata: Labels
    series_bytes: int
    pieces: tuple[tuple[Cut, Part, int], ...]
    """Where it comes from: collection, part, number of the series in it."""

    @property
    def refused(self) -> bool:
        """Whether no column holds it."""
        return not -MAX_MAGNITUDE <= self.qty <= MAX_MAGNITUDE or self.series_bytes > MAX_SERIES


# --- the log of a scope


class ScopeLog(msgspec.Struct):
    """What the usage log says of one scope."""

    scope_id: str
    plans: list[tuple[int, ScopePlan]] = []
    """With the second of the record, in the order of the log."""
    seen: list[tuple[int, str, str, int]] = []
    """(second of the record, source, metric, begin), of sources that had no plan by then: each time it was earlier."""
    parts: dict[int, list[Piece]] = {}
    """By period begin."""
    forced: set[int] = set()
    sequences: set[tuple[str, int]] = set()
    planned: set[str] = set()
    """Sources that have sent a plan."""
    earliest: dict[tuple[str, str], int] = {}
    """The last of `seen` by source and metric."""


def scope_logs(
    usage: Iterable[UsageEntry], setup: Setup, done: Collection[tuple[str, str, int]] = ()
) -> dict[str, ScopeLog]:
    """The log by scope. `done` are the reworks that came to their end, as (rework_id, scope_id, period_begin)."""
    logs: dict[str, ScopeLog] = {}
    for entry in usage:
        record = entry.record
        if entry.refused and not entry.refused.startswith(LATE):
            continue
        log = logs.get(record.scope_id) or logs.setdefault(record.scope_id, ScopeLog(record.scope_id))
        second = entry.timestamp_ms // 1000
        match record:
            case ScopePlan():
                log.plans.append((second, record))
                log.planned.add(record.source)
            case FrameForced():
                log.forced.add(record.period_begin)
            case Part() if record.rework_id:
                _add_reworked(log, record, setup, done)
            case Part():
                _add_part(log, record, second, setup, late=bool(entry.refused))
            case _:
                pass  # failures prove nothing; brackets of reworks are judged by their alerts
    return logs


def _add_reworked(log: ScopeLog, part: Part, setup: Setup, done: Collection[tuple[str, str, int]]) -> None:
    """Counts if the rework came to its end. Pushed samples are only repeated in it, and came before."""
    period_begin = part.begin - part.begin % setup.period
    pushed = spec_of(setup, part.metric).proof is Coverage.SAMPLES
    if not pushed and (part.rework_id, part.scope_id, period_begin) in done:
        log.parts.setdefault(period_begin, []).append(Piece(part))


def _add_part(log: ScopeLog, part: Part, second: int, setup: Setup, *, late: bool) -> None:
    batch = (part.producer_id, part.sequence)
    if batch in log.sequences:
        return
    log.sequences.add(batch)  # also if it was late: sent once more it is a repetition, and passed over without a word
    first = part.begin - part.begin % setup.period
    for period_begin in range(first, part.end, setup.period):
        log.parts.setdefault(period_begin, []).append(Piece(part, late))
    if part.source in setup.planned or part.source in log.planned:
        return
    if part.begin < log.earliest.get((part.source, part.metric), FOREVER):
        log.earliest[part.source, part.metric] = part.begin
        log.seen.append((second, part.source, part.metric, part.begin))


def by_period(log: ScopeLog, period_seconds: int) -> Callable[[int], ScopeLog]:
    """What the log says of the expectations of one period, by its begin: whoever pushes sends a plan for each hour.

    The first plan of a source is always among them: it ends what was owed for being sent once.
    """
    always: list[int] = []
    near: dict[int, list[int]] = {}
    sources: set[str] = set()
    for number, (_, plan) in enumerate(log.plans):
        begin = plan.begin - plan.begin % period_seconds
        touched = range(begin, _end(plan), period_seconds)
        if plan.source not in sources or len(touched) > FEW_PERIODS:
            sources.add(plan.source)
            always.append(number)
        else:
            for period_begin in touched:
                near.setdefault(period_begin, []).append(number)

    def of(period_begin: int) -> ScopeLog:
        numbers = sorted([*always, *near.get(period_begin, ())])
        return ScopeLog(log.scope_id, [log.plans[number] for number in numbers], log.seen)

    return of


def _end(plan: ScopePlan) -> int:
    return FOREVER if plan.until is None else plan.until


def expected_pieces(log: ScopeLog, period: Span, until_second: int | None = None) -> dict[tuple[str, str], list[Span]]:
    """What is expected of each (metric, source) within the period, by what the log said up to a second."""
    plans = [plan for second, plan in log.plans if until_second is None or second <= until_second]
    first = {plan.source: plan.begin for plan in reversed(plans)}
    plans = [plan for plan in plans if plan.begin < period[1] and _end(plan) > period[0]]
    seen = [one[1:] for one in log.seen if until_second is None or one[0] <= until_second]
    marks = {mark for plan in plans for mark in (plan.begin, _end(plan))} | {begin for _, _, begin in seen}
    marks |= set(first.values())
    keys = {(metric, plan.source) for plan in plans for metric in plan.metrics}
    keys |= {(metric, source) for source, metric, _ in seen}
    found = {}
    for metric, source in sorted(keys):
        of_source = [plan for plan in plans if plan.source == source]
        begins = [begin for s, m, begin in seen if (s, m) == (source, metric)]
        owed = (min(begins, default=FOREVER), first.get(source, FOREVER))
        wanted = pieces(period, marks, partial(_is_expected, metric, of_source, owed))
        if wanted:
            found[metric, source] = wanted
    return found


def _is_expected(metric: str, plans: Sequence[ScopePlan], owed: Span, instant: int) -> bool:
    """The last plan whose window holds the instant decides; where none does, what was sent once is owed.

    `owed` reaches from the first time that it was sent for to the begin of the source's first plan.
    """
    for plan in reversed(plans):
        if plan.begin <= instant < _end(plan):
            return metric in plan.metrics
    return inside([owed], instant)


def pieces(period: Span, marks: Iterable[int], holds: Callable[[int], bool]) -> list[Span]:
    """Where within the period something holds that changes at `marks` only, as sorted spans that do not touch."""
    cuts = sorted({period[0], period[1], *(mark for mark in marks if period[0] < mark < period[1])})
    found: list[Span] = []
    for begin, end in pairwise(cuts):
        if not holds(begin):
            continue
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def inside(spans: Sequence[Span], instant: int) -> bool:
    """Whether one of them holds the instant."""
    return any(begin <= instant < end for begin, end in spans)


def joined(period: Span, spans: Sequence[Span]) -> list[Span]:
    """The same time as sorted spans that do not touch."""
    return pieces(period, {mark for span in spans for mark in span}, lambda at: inside(spans, at))


def left_out(period: Span, wanted: Sequence[Span], had: Sequence[Span]) -> list[Span]:
    """What of `wanted` is not in `had`."""
    marks = {mark for span in (*wanted, *had) for mark in span}
    return pieces(period, marks, lambda at: inside(wanted, at) and not inside(had, at))


# --- which collections hold


def cuts_of(parts: Iterable[Piece], period: Span, setup: Setup) -> dict[tuple[str, str], list[Cut]]:
    """The collections that reach into the period, by (metric, source)."""
    cuts: dict[tuple[str, str], dict[Ref, Cut]] = {}
    for piece in parts:
        part = piece.part
        spec = spec_of(setup, part.metric)
        pushed = spec.proof is Coverage.SAMPLES
        begin, end = period if pushed else (max(part.begin, period[0]), min(part.end, period[1]))
        ref = ("", 0, begin, end) if pushed else (part.collection_id, part.attempt, begin, end)
        of_source = cuts.setdefault((part.metric, part.source), {})
        cut = of_source.get(ref)
        if cut is None:
            cut = of_source[ref] = Cut(part.metric, part.source, begin, end, ref[1], ref[0], pushed, {}, period)
        # other content under a used number was refused: which one was cannot be told from the store, so it has both
        number = (part.producer_id, part.sequence, part.collection_id) if pushed else ("", part.part, "")
        if number not in cut.pieces or (cut.pieces[number].late and not piece.late):
            cut.pieces[number] = piece
    return {key: list(of_source.values()) for key, of_source in cuts.items()}


def held(cuts: Iterable[Cut], refs: Collection[Ref], may_wait: Callable[[Cut], bool]) -> Held:
    """The collections that hold once those are left out that the frame does not name and need not have yet."""
    left = [cut for cut in cuts if cut.complete]
    waiting: list[Cut] = []
    while True:
        chosen = _winners(left)
        unknown = [cut for cut in chosen if cut.ref not in refs and may_wait(cut)]
        if not unknown:
            return Held(chosen, waiting)
        waiting += unknown
        left = [cut for cut in left if all(cut is not one for one in unknown)]


def _winners(cuts: Sequence[Cut]) -> list[Cut]:
    """Wider ones first, then higher attempts; one that conflicts with an earlier choice does not hold."""
    chosen: list[Cut] = []
    for cut in sorted(cuts, key=lambda c: (c.end - c.begin, c.attempt, c.collection_id, -c.begin), reverse=True):
        if all(not _conflict(cut, other) for other in chosen):
            chosen.append(cut)
    return chosen


def _conflict(one: Cut, other: Cut) -> bool:
    if one.end <= other.begin or other.end <= one.begin:
        return False
    if (one.begin, one.end) == (other.begin, other.end):
        return True
    return _reaches_into(one, other) and _reaches_into(other, one)


def _reaches_into(one: Cut, other: Cut) -> bool:
    """Whether it proves or holds something there. Of samples outside what it covers, from the first to the last."""
    covers = one.covers(1)
    strays = [sample.begin for _, sample in one.samples() if not inside(covers, sample.begin)]
    taken = [*covers, (min(strays), max(strays) + 1)] if strays else covers
    return any(begin < other.end and other.begin < end for begin, end in taken)


# --- points


def spec_of(setup: Setup, metric: str) -> MetricSpec:
    """The metric as declared, with defaults if it has left the catalog."""
    return setup.catalog.get(metric) or MetricSpec(metric)


def points_of(scope_id: str, chosen: Iterable[Cut], setup: Setup) -> dict[tuple[str, str], TruePoint]:
    """The points that these collections of one frame add up to, by (metric, line id)."""
    samples: dict[tuple[str, bytes], list[Sample]] = {}
    origins: dict[tuple[str, bytes], list[tuple[Cut, Part, int]]] = {}
    for cut in chosen:
        known: dict[int, list[bytes]] = {}
        for part, sample in cut.samples():
            series = known.get(id(part)) or known.setdefault(
                id(part), [canonical_series(one.groupby, one.metadata) for one in part.series]
            )
            key = (cut.metric, series[sample.series])
            samples.setdefault(key, []).append(sample)
            origin = (cut, part, sample.series)
            of_point = origins.setdefault(key, [])
            if not any(o[1] is part and o[2] == sample.series for o in of_point):
                of_point.append(origin)
    return {
        (point.metric, point.line_id): point
        for (metric, series), of_point in samples.items()
        for point in [_point(scope_id, metric, series, of_point, origins[metric, series], setup)]
    }


def _point(
    scope_id: str,
    metric: str,
    series: bytes,
    samples: Sequence[Sample],
    origins: Sequence[tuple[Cut, Part, int]],
    setup: Setup,
) -> TruePoint:
    described = origins[0][1].series[origins[0][2]]
    return TruePoint(
        metric=metric,
        line_id=line_id(scope_id, metric, series).hex(),
        qty=aggregated(spec_of(setup, metric).aggregation, samples),
        groupby=described.groupby,
        metadata=described.metadata,
        series_bytes=len(series),
        pieces=tuple(origins),
    )


def aggregated(aggregation: Aggregation, samples: Sequence[Sample]) -> Decimal:
    """One quantity of the samples of one resource, at least one, with at most 38 decimals."""
    with localcontext(_WIDE):
        return _rounded(_AGGREGATE[aggregation](samples))


def _rounded(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "accepted quantities are finite"
    return value.quantize(_QUANTUM) if exponent < -38 else value


def _total(samples: Sequence[Sample]) -> Decimal:
    return sum((sample.qty for sample in samples), Decimal(0))


def _in_order(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda s: (s.begin, s.end, s.qty))


_AGGREGATE: Mapping[Aggregation, Callable[[Sequence[Sample]], Decimal]] = {
    Aggregation.SUM: _total,
    Aggregation.MAX: lambda samples: max(s.qty for s in samples),
    Aggregation.MIN: lambda samples: min(s.qty for s in samples),
    Aggregation.MEAN: lambda samples: _MEAN.divide(_total(samples), Decimal(len(samples))),
    Aggregation.LAST: lambda samples: _in_order(samples)[-1].qty,
    Aggregation.FIRST: lambda samples: _in_order(samples)[0].qty,
    Aggregation.COUNT: lambda samples: Decimal(len(samples)),
    Aggregation.DELTA: lambda samples: _in_order(samples)[-1].qty - _in_order(samples)[0].qty,
}


# --- frames that must be there


def frames_due(log: ScopeLog, setup: Setup, until: int) -> Iterator[FrameKey]:
    """The frames of the scope that must be there once all that ends by `until` (seconds) is closed, in order."""
    begins = [plan.begin for _, plan in log.plans if plan.metrics] + [one[3] for one in log.seen]
    touched = {begin for begin in (*log.parts, *log.forced) if begin + setup.period <= until}
    if begins:
        first = min(begins) - min(begins) % setup.period
        of = by_period(log, setup.period)
        for begin in range(first, until - setup.period + 1, setup.period):
            if expected_pieces(of(begin), (begin, begin + setup.period)):
                touched.add(begin)
    for begin in sorted(touched):
        yield log.scope_id, begin
