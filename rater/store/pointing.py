"""Points one by one, in order of time: pages of them at any offset, or all.

Frames are read first, then the lines of exactly their revisions, counted. Which frames a page needs is told by the
totals of the frames, so that no line before the page is read unless a label is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

from rater.store._choice_sql import Pieces
from rater.store.choices import Choice, PointPage, PointRow, PointsRequest
from rater.store.client import Store
from rater.store.errors import ReadConflictError
from rater.store.summing import ATTEMPTS, PAUSE_SECONDS, Head, heads, heads_again, runs_of_heads

__all__ = ["point_page", "points"]

RUN_LINES = 10_000  # about 10 MB of rows; a single larger frame is one run

_LINES = """
SELECT scope_id, toUInt32(period_begin), revision, metric, toString(qty), toString(price), unit, groupby, metadata
FROM lines
WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}} AND {metrics} AND {labels}
ORDER BY period_begin, scope_id, metric, line_id
LIMIT 1 BY scope_id, period_begin, revision, metric, line_id
"""
_SLICE = """
SELECT scope_id, toUInt32(period_begin), revision, toUInt32(period_end), line_count, chosen, reached - chosen, total
FROM (
    SELECT *, sum(chosen) OVER () AS total,
        sum(chosen) OVER (ORDER BY period_begin, scope_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS reached
    FROM (
        SELECT scope_id, period_begin, revision, period_end, line_count,
            arraySum((metric, n) -> if({metrics}, n, 0), totals.metric, totals.n) AS chosen
        FROM frames FINAL
        WHERE period_begin >= {{begin:UInt32}} AND period_begin < {{end:UInt32}} AND {frames}
    )
    WHERE chosen > 0
)
WHERE reached > {{offset:UInt64}} AND reached - chosen < {{last:UInt64}}
ORDER BY period_begin, scope_id
"""
_COUNTED = """
SELECT scope_id, toUInt32(period_begin), revision, count(), countIf(chosen)
FROM (
    SELECT scope_id, period_begin, revision, ({metrics} AND {labels}) AS chosen
    FROM lines
    WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}}
    LIMIT 1 BY scope_id, period_begin, revision, metric, line_id
)
GROUP BY scope_id, period_begin, revision
"""


class _StaleError(Exception):
    """A revision was replaced, and its lines deleted, since its frame was read."""


def point_page(store: Store, request: PointsRequest) -> PointPage:
    """The points from `offset` on, at most `limit`, and how many there are.

    Raises ReadConflictError if frames were replaced faster than their lines could be read.
    """
    for attempt in range(ATTEMPTS):
        try:
            return _page(store, request)
        except _StaleError:
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise _conflict()


def points(store: Store, choice: Choice) -> Iterator[PointRow]:
    """All points, in constant memory. Raises ReadConflictError as `point_page` does."""
    for run in runs_of_heads(heads(store, choice)):
        for part in _parts(run):
            yield from _complete(store, choice, part)


def _page(store: Store, request: PointsRequest) -> PointPage:
    wanted, before, total = (_slice_by_labels if Pieces(request.choice).has_labels else _slice)(store, request)
    rows: list[PointRow] = []
    for part in _parts(wanted):
        rows += _lines(store, request.choice, part)
    skipped = request.offset - before
    return PointPage(total, rows[skipped : skipped + request.limit] if rows else [])


def _slice(store: Store, request: PointsRequest) -> tuple[list[Head], int, int]:
    """The frames that the page reaches into, how many points stand before them, and how many there are in all."""
    pieces = Pieces(request.choice)
    sql = _SLICE.format(frames=pieces.of_frames, metrics=pieces.of_metrics)
    bounds = {"offset": request.offset, "last": request.offset + request.limit}
    rows = store.rows(sql, {**pieces.parameters, **bounds})
    if not rows and request.offset:  # beyond the end: how many are there?
        first = store.rows(sql, {**pieces.parameters, "offset": 0, "last": 1})
        return [], 0, int(first[0][-1]) if first else 0
    if not rows:
        return [], 0, 0
    return [Head(*row[:6]) for row in rows], int(rows[0][-2]), int(rows[0][-1])


def _slice_by_labels(store: Store, request: PointsRequest) -> tuple[list[Head], int, int]:
    """As `_slice`, by looking at every line."""
    reached, first_before = 0, 0
    wanted: list[Head] = []
    for head in _with_counts(store, request.choice):
        before, reached = reached, reached + head.metric_lines
        if before < request.offset + request.limit and reached > request.offset:
            first_before = first_before if wanted else before
            wanted.append(head)
    return wanted, first_before, reached


def _with_counts(store: Store, choice: Choice) -> Iterator[Head]:
    """The frames, `metric_lines` being the points of each that were chosen."""
    for run in runs_of_heads(heads(store, choice)):
        yield from _counted(store, choice, run)


def _counted(store: Store, choice: Choice, run: list[Head]) -> Iterator[Head]:
    """The frames of a run with points that were chosen. Raises _StaleError."""
    pieces = Pieces(choice)
    sql = _COUNTED.format(metrics=pieces.of_metrics, labels=pieces.of_labels)
    found = store.rows(sql, {**pieces.parameters, "keys": [head[:3] for head in run]})
    counts = {row[:3]: row[3:] for row in found}
    for head in run:
        lines, chosen = counts.get(head[:3], (0, 0))
        if lines != head.line_count:
            raise _StaleError
        if chosen:
            yield head._replace(metric_lines=chosen)


def _parts(run: list[Head]) -> Iterator[list[Head]]:
    """The frames with points that were chosen, in runs of at most RUN_LINES or of one frame."""
    part: list[Head] = []
    lines = 0
    for head in run:
        if not head.metric_lines:
            continue
        if part and lines + head.metric_lines > RUN_LINES:
            yield part
            part, lines = [], 0
        part.append(head)
        lines += head.metric_lines
    if part:
        yield part


def _complete(store: Store, choice: Choice, part: list[Head]) -> list[PointRow]:
    for attempt in range(ATTEMPTS):
        try:
            if Pieces(choice).has_labels:
                part = list(_counted(store, choice, part))
            return _lines(store, choice, part) if part else []
        except _StaleError:
            time.sleep(PAUSE_SECONDS * 2**attempt)
            part = [head for head in heads_again(store, choice, part) if head.metric_lines]
    raise _conflict()


def _lines(store: Store, choice: Choice, part: list[Head]) -> list[PointRow]:
    """The chosen points of these frames. Raises _StaleError if one has others than it says."""
    pieces = Pieces(choice)
    sql = _LINES.format(metrics=pieces.of_metrics, labels=pieces.of_labels)
    found = store.rows(sql, {**pieces.parameters, "keys": [head[:3] for head in part]})
    left = {head[:3]: head.metric_lines for head in part}
    ends = {head[:3]: head.period_end for head in part}
    rows = []
    for scope_id, begin, revision, metric, qty, price, unit, groupby, metadata in found:
        key = (scope_id, begin, revision)
        left[key] -= 1
        rows.append(PointRow(scope_id, begin, ends[key], metric, Decimal(qty), Decimal(price), unit, groupby, metadata))
    if any(left.values()):
        raise _StaleError
    return rows


def _conflict() -> ReadConflictError:
    return ReadConflictError(
        f"frames were replaced while their lines were read, {ATTEMPTS} times: read again, and check the sink's log"
    )
