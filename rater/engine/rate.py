"""A frame that closes becomes lines, totals, coverage and gaps. Pure: the caller says when and by which rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext
from heapq import merge as merge_runs
from operator import attrgetter
from typing import Literal

import msgspec

from rater.engine.aggregate import EXACT, Acc, canonical, merge, quantity
from rater.engine.alerts import gap_id
from rater.engine.coverage import covered, expectations, winners
from rater.engine.settings import EngineContext
from rater.engine.state import Frame, Scope, Slice
from rater.model.codec import MAX_MAGNITUDE, encode_json
from rater.model.interval import Interval, clip, uncovered
from rater.model.labels import canonical_series, line_id, series_labels
from rater.model.rated import (
    CollectionRef,
    FrameStatus,
    Gap,
    Line,
    MetricCoverage,
    MetricTotal,
    QuarantinedPoint,
)
from rater.rating import Chain, Failed, Rated, RatingFrame, RatingPoint, UnratedPoint

__all__ = ["Look", "Rating", "look", "open_gaps", "rate_frame"]

ZERO = Decimal(0)
_LEAST = -MAX_MAGNITUDE
_place = attrgetter("metric", "line_id")
_UNITS = "two points of metric {!r} differ only in their units, {!r} and {!r}: modules must keep them apart by a label"
_ALIKE = "points of metric {!r} were made alike, and their sum is beyond {}"
_TOO_LONG = "its labels have {} bytes: a line has room for 64 KiB"
MAX_SERIES = 65536  # bytes of a line's labels: whatever sources and modules do, a record of `rated` fits into 4 MiB
MAX_NAMED_BYTES = 500_000
MAX_INTERVALS = 3000  # of coverage in a frame, all metrics and sources together: each part says it, in 30 to 300 bytes
LEAST_INTERVALS = 8
SORTED_AT_ONCE = 20_000  # line ids: 5 ms
MAX_FAILURE = 2000  # characters, as topic `rated` takes them
MAX_NAMED = 500  # quarantined points: each part of a frame repeats them, and a message holds 4 MiB


class Look(msgspec.Struct, frozen=True):
    """What a frame's collections prove, before anything is rated."""

    chosen: dict[tuple[str, str], list[Slice]]
    """The collections that hold, by (metric, source), sorted."""
    expected: dict[tuple[str, str], list[Interval]]
    covered: dict[tuple[str, str], list[Interval]]
    holes: dict[tuple[str, str], list[Interval]]
    """What was expected and is not covered; only keys that have some."""

    @property
    def complete(self) -> bool:
        """Whether something was expected and all of it is covered."""
        return bool(self.expected) and not self.holes


class Rating(msgspec.Struct, frozen=True):
    """The content of one revision, without its number and its hour."""

    status: FrameStatus
    weak: bool
    lines: list[Line]
    vanished: list[Line]
    """Lines of the last revision that this one does not have, repeated with zero."""
    totals: list[MetricTotal]
    coverage: list[MetricCoverage]
    holes: list[tuple[str, str, Interval]]
    """(metric, source, hole), sorted."""
    quarantined: list[QuarantinedPoint]
    suspicions: list[tuple[str, str]]
    emitted: dict[str, list[bytes]]
    series: dict[bytes, bytes]
    """Of lines that no sample came for: modules changed their labels, or added them."""
    used: dict[str, Decimal]
    """What it adds to the counts of graduated prices."""
    unpriced: bool
    """Whether other rules may give a price to what has none."""
    failure: str
    by_chance: bool
    """Whether the failure may be none another time."""


class _Lines(msgspec.Struct):
    """What became of the points of a frame."""

    by_id: dict[bytes, Line] = {}
    refused: list[QuarantinedPoint] = []
    series: dict[bytes, bytes] = {}
    used: dict[str, Decimal] = {}
    failure: str = ""
    by_chance: bool = False
    in_order: bool = True
    """By metric and line id, as the points were: no module gave them back otherwise."""


def look(scope: Scope, frame: Frame, period_seconds: int) -> Look:
    """Which collections of the frame hold and what they leave uncovered."""
    period = Interval(frame.period_begin, frame.period_begin + period_seconds)
    chosen = {
        (metric, source): held
        for metric, sources in sorted(frame.slices.items())
        for source, slices in sorted(sources.items())
        if (held := winners(slices))
    }
    expected = expectations(scope, period)
    most = max(LEAST_INTERVALS, MAX_INTERVALS // max(1, len(chosen)))
    proven = {key: _bounded(clip(covered(held), period), most) for key, held in chosen.items()}
    holes = {
        key: left
        for key, wanted in expected.items()
        if (left := [hole for part in wanted for hole in uncovered(part, proven.get(key, []))])
    }
    return Look(chosen, expected, proven, holes)


def _bounded(intervals: list[Interval], most: int) -> list[Interval]:
    """Of coverage in shreds the longest ones: what names more as missing than is missing errs on the safe side."""
    if len(intervals) <= most:
        return intervals
    return sorted(sorted(intervals, key=_length, reverse=True)[:most])


def _length(interval: Interval) -> int:
    return interval.end - interval.begin


def rate_frame(
    scope_id: str,
    scope: Scope,
    frame: Frame,
    seen: Look,
    chain: Chain,
    context: EngineContext,
    used: Mapping[str, Decimal],
) -> Rating | None:
    """Rates what the frame holds now; None if scripts have to run first.

    `used` is what the scope has used before this frame in its month, by the keys of graduated prices.
    """
    merged, suspicions = _points(seen, context)
    points, identities, refused = _rating_points(merged, scope, context)
    rating_frame = RatingFrame(
        scope_id, frame.period_begin, frame.period_begin + context.settings.period, tuple(points), used
    )
    outcome = chain.rate(rating_frame, context.scripts)
    if outcome is None:
        return None
    rated = _lines(scope_id, outcome, points, identities)
    lines = list(rated.by_id.values()) if rated.in_order else sorted(rated.by_id.values(), key=_place)
    emitted: dict[str, list[bytes]] = {}
    for line in lines:
        emitted.setdefault(line.metric, []).append(bytes.fromhex(line.line_id))
    quarantined = [*_not_finite(seen), *refused, *rated.refused]
    holes = [(metric, source, hole) for (metric, source), parts in seen.holes.items() for hole in parts]
    return Rating(
        status=FrameStatus.FAILED if rated.failure else _status(seen, bool(lines), bool(quarantined)),
        weak=any(s.proof == "weak" and s.covers for held in seen.chosen.values() for s in held),
        lines=lines,
        vanished=_vanished(scope, frame, emitted, context),
        totals=_totals(lines),
        coverage=_coverage(seen),
        holes=holes,
        quarantined=_named(quarantined),
        suspicions=suspicions,
        emitted=emitted,
        series=rated.series,
        used=rated.used,
        unpriced=bool(rated.refused or rated.failure),
        failure=rated.failure,
        by_chance=rated.by_chance,
    )


def _points(seen: Look, context: EngineContext) -> tuple[dict[str, dict[bytes, Acc]], list[tuple[str, str]]]:
    """The points by metric and line id, merged over collections and sources; a double source is a suspicion."""
    merged: dict[str, dict[bytes, Acc]] = {}
    owner: dict[tuple[str, bytes], str] = {}
    doubles: dict[str, set[str]] = {}
    for (metric, source), held in seen.chosen.items():
        aggregation = context.metric(metric).aggregation
        points = merged.setdefault(metric, {})
        for chosen in held:
            for identity, acc in chosen.points.items():
                known = points.get(identity)
                if known is None:
                    points[identity] = acc if len(held) == 1 else msgspec.structs.replace(acc)
                else:
                    if owner[metric, identity] != source:
                        doubles.setdefault(metric, set()).update((owner[metric, identity], source))
                        points[identity] = known = msgspec.structs.replace(known)
                    merge(aggregation, known, acc)
                owner[metric, identity] = source
    suspicions = [
        (metric, f"the same resource comes from several sources and may be counted double: {', '.join(sorted(names))}")
        for metric, names in sorted(doubles.items())
    ]
    return merged, suspicions


def _rating_points(
    merged: dict[str, dict[bytes, Acc]], scope: Scope, context: EngineContext
) -> tuple[list[RatingPoint], list[bytes], list[QuarantinedPoint]]:
    """The points by metric and line id, their line ids, and those whose quantity no column holds."""
    points: list[RatingPoint] = []
    identities: list[bytes] = []
    refused: list[QuarantinedPoint] = []
    for metric, of_metric in sorted(merged.items()):
        spec = context.metric(metric)
        for identity in _in_order(of_metric):
            acc = of_metric[identity]
            groupby, metadata = series_labels(scope.series[identity])
            qty = quantity(spec.aggregation, acc)
            if not _LEAST <= qty <= MAX_MAGNITUDE:
                reason = f"metric {metric!r}: the quantity is beyond {MAX_MAGNITUDE}"
                refused.append(QuarantinedPoint(metric, "", str(qty), reason, groupby, metadata))
                continue
            if len(scope.series[identity]) > MAX_SERIES:
                reason = f"metric {metric!r}: {_TOO_LONG.format(len(scope.series[identity]))}"
                refused.append(QuarantinedPoint(metric, "", str(qty), reason, {}, {}))
                continue
            points.append(RatingPoint(metric, spec.unit, qty, ZERO, groupby, metadata, len(points)))
            identities.append(identity)
    return points, identities, refused


def _in_order(identities: Iterable[bytes]) -> Iterator[bytes]:
    """Sorted, in runs: one sort of 400 000 lets no other thread go on for half a second."""
    left = list(identities)
    runs = [sorted(left[begin : begin + SORTED_AT_ONCE]) for begin in range(0, len(left), SORTED_AT_ONCE)]
    return iter(runs[0]) if len(runs) == 1 else merge_runs(*runs)


def _lines(scope_id: str, outcome: Rated | Failed, points: list[RatingPoint], identities: list[bytes]) -> _Lines:
    """The lines of what the modules gave back."""
    if isinstance(outcome, Failed):
        return _Lines(failure=outcome.text()[:MAX_FAILURE], by_chance=outcome.by_chance)
    found = _Lines(used=outcome.used, refused=[_unrated(unrated) for unrated in outcome.unrated])
    by_id = found.by_id
    last = -1
    for point in outcome.points:
        metric, unit, qty, price, groupby, metadata, origin = (
            point.metric, point.unit, point.qty, point.price, point.groupby, point.metadata, point.origin
        )  # fmt: skip
        was = points[origin] if 0 <= origin < len(points) else None
        same_qty = was is not None and was.qty is qty
        if not (_LEAST <= price <= MAX_MAGNITUDE and (same_qty or _LEAST <= qty <= MAX_MAGNITUDE)):
            found.refused.append(_unrated(UnratedPoint(point, _beyond(point))))
            continue
        if was is not None and was.groupby is groupby and was.metadata is metadata and was.metric == metric:
            identity = identities[origin]
            found.in_order, last = found.in_order and origin > last, origin
        else:
            found.in_order = False
            series = canonical_series(groupby, metadata)
            if len(series) > MAX_SERIES:
                return _Lines(failure=f"a point of metric {metric!r} was changed: {_TOO_LONG.format(len(series))}")
            identity = line_id(scope_id, metric, series)
            found.series[identity] = series
        if not same_qty:
            qty = canonical(qty)
        line = Line(identity.hex(), metric, unit, qty, canonical(price), groupby, metadata)
        other = by_id.get(identity)
        if other is not None:
            if other.unit != unit:
                return _Lines(failure=_UNITS.format(metric, other.unit, unit))
            line = _sum(other, line)
            if not (_LEAST <= line.price <= MAX_MAGNITUDE and _LEAST <= line.qty <= MAX_MAGNITUDE):
                return _Lines(failure=_ALIKE.format(metric, MAX_MAGNITUDE))
        by_id[identity] = line
    return found


def _beyond(point: RatingPoint) -> str:
    """Why no column holds the point."""
    price_fits = _LEAST <= point.price <= MAX_MAGNITUDE
    name, amount = ("quantity", point.qty) if price_fits else ("price", point.price)
    return f"metric {point.metric!r}: its {name} {amount} is beyond {MAX_MAGNITUDE}"


def _sum(one: Line, other: Line) -> Line:
    """Points that modules made alike are one line: no consumer could tell them apart."""
    return msgspec.structs.replace(
        one, qty=canonical(EXACT.add(one.qty, other.qty)), price=canonical(EXACT.add(one.price, other.price))
    )


def _unrated(unrated: UnratedPoint) -> QuarantinedPoint:
    point = unrated.point
    return QuarantinedPoint(point.metric, "", str(point.qty), unrated.reason, point.groupby, point.metadata)


def _not_finite(seen: Look) -> list[QuarantinedPoint]:
    return [
        QuarantinedPoint(metric, source, item.value, item.reason, item.groupby, item.metadata)
        for (metric, source), held in seen.chosen.items()
        for chosen in held
        for item in sorted(chosen.quarantined, key=repr)
    ]


def _named(quarantined: list[QuarantinedPoint]) -> list[QuarantinedPoint]:
    """The first ones one by one, the others as a number: a source gone mad must not make a frame unpublishable."""
    size = 0
    for count, point in enumerate(quarantined):
        size += len(encode_json(point))
        if count == MAX_NAMED or size > MAX_NAMED_BYTES:
            rest = len(quarantined) - count
            text = f"and {rest} more points without a price: topic usage has them whole"
            return [*quarantined[:count], QuarantinedPoint(point.metric, point.source, "", text, {}, {})]
    return quarantined


def _totals(lines: list[Line]) -> list[MetricTotal]:
    """Sums per metric and unit, in order of the lines."""
    by_unit: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        by_unit.setdefault((line.metric, line.unit), []).append(line)
    return [_total(metric, unit, of_unit) for (metric, unit), of_unit in sorted(by_unit.items())]


def _total(metric: str, unit: str, lines: list[Line]) -> MetricTotal:
    qty = price = ZERO
    with localcontext(EXACT):
        for line in lines:
            qty += line.qty
            price += line.price
    return MetricTotal(metric, unit, canonical(qty), canonical(price), len(lines))


def _vanished(scope: Scope, frame: Frame, emitted: dict[str, list[bytes]], context: EngineContext) -> list[Line]:
    """Lines of the last revision that this one does not have, with zero: consumers that upsert lose none."""
    gone: list[Line] = []
    for metric, before in sorted(frame.emitted.items()):
        unit = context.metric(metric).unit
        for identity in sorted(set(before) - set(emitted.get(metric, []))):
            groupby, metadata = series_labels(scope.series[identity])
            gone.append(Line(identity.hex(), metric, unit, ZERO, ZERO, groupby, metadata))
    return gone


def _status(seen: Look, used: bool, quarantined: bool) -> FrameStatus:
    if seen.holes and not used and not quarantined and not any(seen.covered.values()):
        return FrameStatus.MISSING
    if seen.holes or quarantined:
        return FrameStatus.PARTIAL
    return FrameStatus.RATED if used else FrameStatus.EMPTY


def _coverage(seen: Look) -> list[MetricCoverage]:
    return [
        MetricCoverage(
            metric=metric,
            source=source,
            expected=seen.expected.get((metric, source), []),
            covered=seen.covered.get((metric, source), []),
            proof=_proof(seen.chosen.get((metric, source), [])),
            collections=[
                CollectionRef(s.collection_id, s.attempt, s.begin, s.end, s.samples)
                for s in seen.chosen.get((metric, source), [])
            ],
        )
        for metric, source in sorted({*seen.expected, *seen.chosen})
    ]


def _proof(held: list[Slice]) -> Literal["proven", "weak"]:
    return "weak" if any(s.proof == "weak" for s in held) else "proven"


def open_gaps(scope_id: str, frame: Frame, rating: Rating, revision: int) -> list[Gap]:
    """The gaps of this revision: those that are still open keep their id, new ones get theirs."""
    known = {(gap.metric, gap.source, gap.begin, gap.end): gap for gap in frame.gaps}
    gaps = []
    for metric, source, hole in rating.holes:
        gap = known.get((metric, source, hole.begin, hole.end))
        if gap is None:
            identity = gap_id(scope_id, metric, source, frame.period_begin, hole, revision)
            reason = frame.failures.get(metric, {}).get(source, "no complete collection covers it")
            gap = Gap(identity, metric, source, hole.begin, hole.end, reason)
        gaps.append(gap)
    return gaps
