"""Closed frames as they were before rating, exactly, read back from the store.

Points come from table `usage`, by the collections that a frame says it was made of and with the engine's own
aggregation; or, faster, from the frame's lines where it can be proven that these still say all that the points said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from rater.engine import EngineContext
from rater.engine.again import PointsAgain, add_to_slice, points_again
from rater.engine.state import Slice
from rater.model.errors import RaterError
from rater.model.interval import Interval, periods_of
from rater.model.labels import canonical_series, line_id
from rater.model.rated import CollectionRef, FrameStatus, MetricCoverage
from rater.model.usage import Sample
from rater.rating import RatingPoint
from rater.reports import PERIODS_AT_ONCE, Selection, UsageRequest, View, frames_together, with_lines
from rater.store import FrameRow, LineRow, UsageRow
from rater.trial.pricing import iso

__all__ = ["Sampled", "StoredFrame", "StoredFrames", "UsageMissingError", "points_of_lines"]

ZERO = Decimal(0)


class UsageMissingError(RaterError):
    """The samples that a frame was made of are not in the store."""


class Sampled(msgspec.Struct, frozen=True):
    """A sample as a source sent it. Times are ISO 8601, UTC."""

    source: str
    collection_id: str
    attempt: int
    begin: str
    end: str
    qty: str


class StoredFrame(msgspec.Struct, frozen=True):
    """A frame with its lines, and its points before rating."""

    frame: FrameRow
    lines: list[LineRow]
    points: PointsAgain | None
    """None if they cannot be known any more."""
    trouble: str = ""
    """Why its samples cannot be read."""
    samples: dict[bytes, list[Sampled]] = {}
    """What the points were made of, by line id, where that was asked for."""


class StoredFrames:
    """Reads frames of a store, a bounded part of them at a time.

    `keeps` says of a version of the rules whether its modules leave points as they are but for the price. With
    `samples` the samples are read in any case and kept; without it, only where lines do not prove enough.
    """

    def __init__(
        self, view: View, context: EngineContext, keeps: Callable[[int], bool], *, samples: bool = False
    ) -> None:
        self._view = view
        self._context = context
        self._keeps = keeps
        self._samples = samples

    def read(self, scope_id: str, begin: int, end: int) -> Iterator[StoredFrame]:
        """The frames of a scope whose periods begin within `[begin, end)`, in order. Raises StoreError.

        Nothing is being read from the store while the caller works.
        """
        step = PERIODS_AT_ONCE * self._context.settings.period
        for first in range(begin, end, step):
            last = min(first + step, end)
            frames = list(self._view.frames(Selection(scope_id, first, last)))
            for run in frames_together(frames):
                yield from self._run(run)

    def _run(self, frames: list[FrameRow]) -> Iterator[StoredFrame]:
        frames, lines = with_lines(self._view, frames)
        by_lines = {} if self._samples else {frame.period_begin: self._proven(frame, lines) for frame in frames}
        wanted = [frame for frame in frames if by_lines.get(frame.period_begin) is None]
        usage = self._usage(wanted)
        for frame in frames:
            held = lines.get(frame.period_begin, [])
            points = by_lines.get(frame.period_begin)
            if points is not None:
                yield StoredFrame(frame, held, points)
                continue
            samples: dict[bytes, list[Sampled]] | None = {} if self._samples else None
            try:
                points = points_of_usage(frame, usage.get(frame.period_begin, []), self._context, samples)
            except UsageMissingError as fault:
                yield StoredFrame(frame, held, self._proven(frame, lines), str(fault))
            else:
                yield StoredFrame(frame, held, points, samples=samples or {})

    def _proven(self, frame: FrameRow, lines: dict[int, list[LineRow]]) -> PointsAgain | None:
        """The points by the lines, if these prove them."""
        if frame.status is FrameStatus.FAILED or frame.quarantined or not self._keeps(frame.rule_version):
            return None
        return points_of_lines(lines.get(frame.period_begin, []))

    def _usage(self, frames: Sequence[FrameRow]) -> dict[int, list[UsageRow]]:
        """What collections brought for these frames, by period begin."""
        if not frames:
            return {}
        begin, end, period = frames[0].period_begin, frames[-1].period_end, self._context.settings.period
        found: dict[int, list[UsageRow]] = {}
        for row in self._view.usage(UsageRequest(frames[0].scope_id, begin, end)):
            bounds = Interval(max(row.range_begin, begin), min(row.range_end, end))
            for part in periods_of(bounds, period):
                found.setdefault(part.begin, []).append(row)
        return found


def points_of_lines(lines: Iterable[LineRow]) -> PointsAgain | None:
    """The points that lines were rated from, if their labels were text: then line ids follow from the stored texts.

    None if one of them does not follow, as with a label that was a number.
    """
    points: list[RatingPoint] = []
    identities: list[bytes] = []
    for line in lines:
        identity = line_id(line.scope_id, line.metric, canonical_series(line.groupby, line.metadata))
        if identity.hex() != line.line_id:
            return None
        points.append(
            RatingPoint(line.metric, line.unit, line.qty, ZERO, dict(line.groupby), dict(line.metadata), len(points))
        )
        identities.append(identity)
    return PointsAgain(points, identities, [])


def points_of_usage(
    frame: FrameRow,
    usage: Iterable[UsageRow],
    context: EngineContext,
    samples: dict[bytes, list[Sampled]] | None = None,
) -> PointsAgain:
    """The points of a frame from the collections that held when it was rated; `samples` is filled if it is given.

    `usage` holds the rows that reach into the frame's period.
    Raises UsageMissingError if a collection is not there with exactly the samples that the frame counted.
    """
    by_source: dict[tuple[str, str], list[UsageRow]] = {}
    for row in usage:
        by_source.setdefault((row.metric, row.source), []).append(row)
    chosen: dict[tuple[str, str], list[Slice]] = {}
    series: dict[bytes, bytes] = {}
    for entry in frame.coverage:
        rows = by_source.get((entry.metric, entry.source), [])
        for reference in entry.collections:
            collected = _slice(frame, entry, reference, rows, context, series, samples)
            chosen.setdefault((entry.metric, entry.source), []).append(collected)
    return points_again(chosen, series, context)


def _slice(
    frame: FrameRow,
    entry: MetricCoverage,
    reference: CollectionRef,
    rows: Iterable[UsageRow],
    context: EngineContext,
    series: dict[bytes, bytes],
    samples: dict[bytes, list[Sampled]] | None,
) -> Slice:
    """A collection cut to the period, as the engine held it."""
    found = Slice(reference.begin, reference.end, reference.attempt, reference.collection_id, 0, [], [], entry.proof)
    aggregation = context.metric(entry.metric).aggregation
    for row in rows:
        if not row.series or not _belongs(row, reference, frame):
            continue
        taken = [
            Sample(0, begin, end, Decimal(qty))
            for begin, end, qty in zip(row.begins, row.ends, row.qty, strict=True)
            if frame.period_begin <= begin < frame.period_end
        ]
        if not taken:
            continue
        text = row.series.encode()
        identity = line_id(frame.scope_id, entry.metric, text)
        series[identity] = text
        add_to_slice(found, aggregation, identity, taken)
        if samples is not None:
            samples.setdefault(identity, []).extend(
                Sampled(row.source, row.collection_id, row.attempt, iso(one.begin), iso(one.end), str(one.qty))
                for one in taken
            )
    if found.samples != reference.samples:
        raise UsageMissingError(_missing(frame, entry, reference, found.samples))
    return found


def _belongs(row: UsageRow, reference: CollectionRef, frame: FrameRow) -> bool:
    """Whether the row is of that collection. Pushed samples are no collections: all that a source pushed belongs."""
    if not reference.collection_id:
        return True
    if (row.collection_id, row.attempt) != (reference.collection_id, reference.attempt):
        return False
    begin, end = max(row.range_begin, frame.period_begin), min(row.range_end, frame.period_end)
    return (begin, end) == (reference.begin, reference.end)


def _missing(frame: FrameRow, entry: MetricCoverage, reference: CollectionRef, found: int) -> str:
    what = f"collection {reference.collection_id}" if reference.collection_id else "what was pushed"
    why = (
        "more came in after the frame was rated"
        if found > reference.samples
        else "usage is not stored (`sink.usage` is off), not there yet, or was deleted"
    )
    return (
        f"scope {frame.scope_id!r}, {iso(frame.period_begin)}, metric {entry.metric!r} from {entry.source}: {what} has "
        f"{found} samples in the store, the frame was made of {reference.samples}: {why}"
    )
