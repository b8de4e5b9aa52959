"""A frame's points and lines once more, from collections that are kept elsewhere: for explaining and for what-if.

The same code as `rate_frame`, without a partition's state: what it gives is what the stream would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from rater.engine.aggregate import Acc, add_samples, canonical
from rater.engine.rate import Look, _beyond, _lines, _place, _points, _rating_points
from rater.engine.settings import EngineContext
from rater.engine.state import Scope, Slice
from rater.model.codec import MAX_MAGNITUDE
from rater.model.metric import Aggregation
from rater.model.rated import Line, QuarantinedPoint
from rater.model.usage import Sample
from rater.rating import Failed, Rated, RatingPoint

__all__ = ["LinesAgain", "PointsAgain", "add_to_slice", "canonical", "lines_again", "out_of_bounds", "points_again"]


class PointsAgain(msgspec.Struct, frozen=True):
    """The points of a frame as they are before rating, by metric and line id."""

    points: list[RatingPoint]
    identities: list[bytes]
    """Their line ids."""
    refused: list[QuarantinedPoint]
    """Those whose quantity no column holds."""


class LinesAgain(msgspec.Struct, frozen=True):
    """What became of the points of a frame."""

    lines: list[Line]
    """By metric and line id."""
    refused: list[QuarantinedPoint]
    used: dict[str, Decimal]
    failure: str


def add_to_slice(target: Slice, aggregation: Aggregation, identity: bytes, samples: Sequence[Sample]) -> None:
    """Adds samples of one resource, at least one, all of the slice's period."""
    known: Acc | None = target.points.get(identity)
    target.points[identity] = add_samples(aggregation, known, samples)
    target.samples += len(samples)


def points_again(
    chosen: Mapping[tuple[str, str], Sequence[Slice]], series: Mapping[bytes, bytes], context: EngineContext
) -> PointsAgain:
    """The points of the collections that held, by (metric, source). `series` are canonical series by line id."""
    held = {key: list(slices) for key, slices in sorted(chosen.items())}
    merged, _ = _points(Look(held, {}, {}, {}), context)
    return PointsAgain(*_rating_points(merged, Scope(series=dict(series)), context))


def lines_again(scope_id: str, outcome: Rated | Failed, points: PointsAgain) -> LinesAgain:
    """The lines of what the modules made of the points."""
    found = _lines(scope_id, outcome, points.points, points.identities)
    lines = sorted(found.by_id.values(), key=_place)
    return LinesAgain(lines, [*points.refused, *found.refused], found.used, found.failure)


def out_of_bounds(point: RatingPoint) -> str:
    """Why no column holds a point; empty if they do."""
    price, qty = point.price, point.qty
    fits = -MAX_MAGNITUDE <= price <= MAX_MAGNITUDE and -MAX_MAGNITUDE <= qty <= MAX_MAGNITUDE
    return "" if fits else _beyond(point)
