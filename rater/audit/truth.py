"""What the usage log means, frame by frame, recomputed slowly and in the plainest way.

Shares nothing with `rater.engine` but the wire structs, the codec and line ids, so that it can find a fault in the
engine: time is cut at every instant that is named anywhere, and each piece is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise
from typing import TypeAlias

import msgspec

from rater.audit.facts import Setup
from rater.model.codec import MAX_MAGNITUDE
from rater.model.labels import Labels, canonical_series, line_id
from rater.model.metric import Aggregation, Coverage, MetricSpec
from rater.model.usage import Collection as Part
from rater.model.usage import QuarantinedItem, Sample

__all__ = [
    "Cut",
    "Held",
    "Piece",
    "Ref",
    "Span",
    "TruePoint",
    "cuts_of",
    "held",
    "joined",
    "left_out",
    "points_of",
    "spec_of",
]

FOREVER = 253_402_300_800
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


# --- stretches of time


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
