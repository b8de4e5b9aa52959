"""A frame that closes becomes lines, totals, coverage and gaps. Pure: the caller says when and by which rules."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from rater.engine.aggregate import EXACT, Acc, canonical, merge, quantity
from rater.engine.alerts import gap_id
from rater.engine.coverage import covered, expectations, winners
from rater.engine.settings import EngineContext
from rater.engine.state import Frame, Scope, Slice
from rater.model.codec import MAX_MAGNITUDE
from rater.model.interval import Interval, clip, uncovered
from rater.model.labels import Labels, series_labels
from rater.model.rated import (
    CollectionRef,
    FrameStatus,
    Gap,
    Line,
    MetricCoverage,
    MetricTotal,
    QuarantinedPoint,
)
from rater.rating import Plan, UnratableError

__all__ = ["Look", "Rating", "look", "open_gaps", "rate_frame"]

ZERO = Decimal(0)
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
    proven = {key: clip(covered(held), period) for key, held in chosen.items()}
    holes = {
        key: left
        for key, wanted in expected.items()
        if (left := [hole for part in wanted for hole in uncovered(part, proven.get(key, []))])
    }
    return Look(chosen, expected, proven, holes)


def rate_frame(scope: Scope, frame: Frame, seen: Look, plan: Plan, context: EngineContext) -> Rating:
    """Rates what the frame holds now by the compiled rules of its scope and period."""
    points, suspicions = _points(seen, context)
    lines: list[Line] = []
    quarantined = _not_finite(seen)
    totals: list[MetricTotal] = []
    emitted: dict[str, list[bytes]] = {}
    for metric, of_metric in points.items():
        rated, refused = _rate_metric(metric, of_metric, scope, plan, context)
        quarantined += refused
        if rated:
            totals.append(_total(metric, context.metric(metric).unit, rated))
            emitted[metric] = sorted(bytes.fromhex(line.line_id) for line in rated)
        lines += rated
    holes = [(metric, source, hole) for (metric, source), parts in seen.holes.items() for hole in parts]
    return Rating(
        status=_status(seen, bool(totals), bool(quarantined)),
        weak=any(s.proof == "weak" and s.covers for held in seen.chosen.values() for s in held),
        lines=lines,
        vanished=_vanished(scope, frame, emitted, context),
        totals=totals,
        coverage=_coverage(seen),
        holes=holes,
        quarantined=_named(quarantined),
        suspicions=suspicions,
        emitted=emitted,
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


def _rate_metric(
    metric: str, points: dict[bytes, Acc], scope: Scope, plan: Plan, context: EngineContext
) -> tuple[list[Line], list[QuarantinedPoint]]:
    spec = context.metric(metric)
    lines: list[Line] = []
    refused: list[QuarantinedPoint] = []
    for identity, acc in sorted(points.items()):
        groupby, metadata = series_labels(scope.series[identity])
        qty = quantity(spec.aggregation, acc)
        try:
            price = _price(plan, metric, qty, groupby, metadata)
        except UnratableError as fault:
            refused.append(QuarantinedPoint(metric, "", str(qty), str(fault), groupby, metadata))
            continue
        lines.append(Line(identity.hex(), metric, spec.unit, qty, price, groupby, metadata))
    return lines, refused


def _price(plan: Plan, metric: str, qty: Decimal, groupby: Labels, metadata: Labels) -> Decimal:
    if not -MAX_MAGNITUDE <= qty <= MAX_MAGNITUDE:
        raise UnratableError(metric, f"the quantity is beyond {MAX_MAGNITUDE}")
    price = plan.price(metric, qty, groupby, metadata)
    if not price.is_finite() or not -MAX_MAGNITUDE <= price <= MAX_MAGNITUDE:
        raise UnratableError(metric, f"its price {price} is beyond {MAX_MAGNITUDE}")
    return canonical(price)


def _not_finite(seen: Look) -> list[QuarantinedPoint]:
    return [
        QuarantinedPoint(metric, source, item.value, item.reason, item.groupby, item.metadata)
        for (metric, source), held in seen.chosen.items()
        for chosen in held
        for item in sorted(chosen.quarantined, key=repr)
    ]


def _named(quarantined: list[QuarantinedPoint]) -> list[QuarantinedPoint]:
    """The first so many one by one, the others as a number: a source gone mad must not make a frame unpublishable."""
    rest = quarantined[MAX_NAMED:]
    if not rest:
        return quarantined
    text = f"and {len(rest)} more points without a price: topic usage has them whole"
    return [*quarantined[:MAX_NAMED], QuarantinedPoint(rest[0].metric, rest[0].source, "", text, {}, {})]


def _total(metric: str, unit: str, lines: list[Line]) -> MetricTotal:
    qty = price = ZERO
    for line in lines:
        qty = EXACT.add(qty, line.qty)
        price = EXACT.add(price, line.price)
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
