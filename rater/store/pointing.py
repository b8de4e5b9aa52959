"""Points one by one, in order of time: pages of them at any offset, or all.

Frames are read first, then the lines of exactly their revisions, counted. Which frames a page needs is told by the
totals of the frames, so that no line before the page is read unless a label is asked for. Posted lines are read alike:
what was posted of one scope with one begin and end stands among the frames as if it were one, of revision POSTED.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeAlias

from rater.store._choice_sql import Pieces
from rater.store.choices import Choice, PointPage, PointRow, PointsRequest
from rater.store.client import Store
from rater.store.errors import ReadConflictError
from rater.store.posting import any_posted
from rater.store.retention import check_frames, check_lines
from rater.store.summing import ATTEMPTS, PAUSE_SECONDS, RUN_FRAMES, Head, in_runs, runs_of_heads

__all__ = ["point_page", "points"]

RUN_LINES = 10_000  # about 10 MB of rows; a single larger frame is one run
POSTED = -1  # in place of a revision, also in _HEADS
Key: TypeAlias = tuple[str, int, int, int]
_DAY = 86_400

_RANGE = "period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}"
_ORDER = "ORDER BY period_begin, period_end, scope_id, revision < 0"
_HEADS = """
SELECT scope_id, period_begin, toInt64(revision) AS revision, period_end, line_count,
    arraySum((metric, n) -> if({metrics}, n, 0), totals.metric, totals.n) AS chosen
FROM frames FINAL
WHERE line_count > 0 AND {of_frames}
"""
_POSTED_HEADS = """
UNION ALL
SELECT scope_id, period_begin, toInt64(-1) AS revision, period_end, toUInt32(count()) AS line_count,
    countIf({metrics} AND {labels}) AS chosen
FROM posted FINAL
WHERE {of_posted}
GROUP BY scope_id, period_begin, period_end
"""
_LISTED = """
SELECT scope_id, toUInt32(period_begin), revision, toUInt32(period_end), line_count, chosen
FROM ({heads})
{order}
"""
_DAYS = """
SELECT day, sum(heads)
FROM (
    SELECT toUInt32(toStartOfDay(period_begin)) AS day, count() AS heads
    FROM frames
    WHERE {in_range}
    GROUP BY day
    {posted}
)
GROUP BY day
ORDER BY day
"""
_POSTED_DAYS = """
    UNION ALL
    SELECT toUInt32(toStartOfDay(period_begin)) AS day, uniq(scope_id, period_begin, period_end) AS heads
    FROM posted
    WHERE {in_range}
    GROUP BY day
"""
_LINES = """
SELECT scope_id, toUInt32(period_begin), revision, metric, toString(qty), toString(price), unit, groupby, metadata
FROM lines
WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}} AND {metrics} AND {labels}
ORDER BY period_begin, scope_id, metric, line_id
LIMIT 1 BY scope_id, period_begin, revision, metric, line_id
"""
_POSTED_LINES = """
SELECT scope_id, toUInt32(period_begin), toUInt32(period_end), metric, toString(qty), toString(price), unit, groupby,
    metadata
FROM posted FINAL
WHERE (scope_id, period_begin, period_end) IN {{keys:Array(Tuple(String, UInt32, UInt32))}} AND {metrics} AND {labels}
ORDER BY period_begin, period_end, scope_id, metric, post_id, n
"""
_SLICE = """
SELECT scope_id, toUInt32(period_begin), revision, toUInt32(period_end), line_count, chosen, reached - chosen, total
FROM (
    SELECT *, sum(chosen) OVER () AS total,
        sum(chosen) OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS reached
    FROM ({heads})
    WHERE chosen > 0
)
WHERE reached > {{offset:UInt64}} AND reached - chosen < {{last:UInt64}}
{order}
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
            page = _page(store, request)
        except _StaleError:
            check_lines(store, request.choice.begin)
            time.sleep(PAUSE_SECONDS * 2**attempt)
        else:
            if not page.total:
                check_frames(store, request.choice.end)
            return page
    raise _conflict()


def points(store: Store, choice: Choice) -> Iterator[PointRow]:
    """All points, in constant memory. Raises ReadConflictError as `point_page` does."""
    for run in runs_of_heads(_heads(store, choice)):
        for part in _parts(run):
            yield from _complete(store, choice, part)


def _heads_sql(pieces: Pieces, of_frames: str, of_posted: str) -> str:
    """The frames, and what stands for posted lines, under these conditions; `of_posted` empty: frames alone."""
    sql = _HEADS + _POSTED_HEADS if of_posted else _HEADS
    return sql.format(metrics=pieces.of_metrics, labels=pieces.of_labels, of_frames=of_frames, of_posted=of_posted)


def _in_range(pieces: Pieces) -> str:
    return f"{_RANGE} AND {pieces.of_frames}"


def _heads(store: Store, choice: Choice) -> Iterator[list[Head]]:
    """The frames with lines of the scopes and periods that were chosen, by period and scope, some days at a time."""
    pieces = Pieces(choice)
    in_range = _in_range(pieces)
    with_posted = any_posted(store)
    sql = _LISTED.format(heads=_heads_sql(pieces, in_range, in_range if with_posted else ""), order=_ORDER)
    days_sql = _DAYS.format(in_range=in_range, posted=_POSTED_DAYS.format(in_range=in_range) if with_posted else "")
    first, last = pieces.parameters["begin"], pieces.parameters["end"]
    for days in in_runs(store.rows(days_sql, pieces.parameters)):
        bounds = {"begin": max(days[0], first), "end": min(days[-1] + _DAY, last)}
        yield [Head(*row) for row in store.rows(sql, pieces.parameters | bounds)]


def _heads_again(store: Store, choice: Choice, known: list[Head]) -> list[Head]:
    """The same as they are now."""
    pieces = Pieces(choice)
    keys = {
        "of_frames": [(head.scope_id, head.period_begin) for head in known if head.revision != POSTED],
        "of_posted": [(head.scope_id, head.period_begin, head.period_end) for head in known if head.revision == POSTED],
    }
    heads = _heads_sql(
        pieces,
        "(scope_id, period_begin) IN {of_frames:Array(Tuple(String, UInt32))}",
        "(scope_id, period_begin, period_end) IN {of_posted:Array(Tuple(String, UInt32, UInt32))}"
        if keys["of_posted"]
        else "",
    )
    rows = store.rows(_LISTED.format(heads=heads, order=_ORDER), {**pieces.parameters, **keys})
    return [Head(*row) for row in rows]


def _key(head: Head) -> Key:
    return head.scope_id, head.period_begin, head.revision, head.period_end


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
    in_range = _in_range(pieces)
    sql = _SLICE.format(heads=_heads_sql(pieces, in_range, in_range if any_posted(store) else ""), order=_ORDER)
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
    for run in runs_of_heads(_heads(store, choice)):
        yield from _counted(store, choice, run)


def _counted(store: Store, choice: Choice, run: list[Head]) -> Iterator[Head]:
    """The frames of a run with points that were chosen. Raises _StaleError."""
    pieces = Pieces(choice)
    sql = _COUNTED.format(metrics=pieces.of_metrics, labels=pieces.of_labels)
    keys = [head[:3] for head in run if head.revision != POSTED]
    found = store.rows(sql, {**pieces.parameters, "keys": keys}) if keys else []
    counts = {row[:3]: row[3:] for row in found}
    for head in run:
        if head.revision == POSTED:  # of its lines those that were chosen were counted at once
            yield head
            continue
        lines, chosen = counts.get(head[:3], (0, 0))
        if lines != head.line_count:
            raise _StaleError
        if chosen:
            yield head._replace(metric_lines=chosen)


def _parts(run: list[Head]) -> Iterator[list[Head]]:
    """The frames with points that were chosen, in runs of at most RUN_LINES or of one frame.

    Nor of more than one statement may name: keys of 1 MB ClickHouse no longer takes for a constant, and refuses.
    """
    part: list[Head] = []
    lines = 0
    for head in run:
        if not head.metric_lines:
            continue
        if part and (lines + head.metric_lines > RUN_LINES or len(part) == RUN_FRAMES):
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
            check_lines(store, choice.begin)
            time.sleep(PAUSE_SECONDS * 2**attempt)
            part = [head for head in _heads_again(store, choice, part) if head.metric_lines]
    raise _conflict()


def _lines(store: Store, choice: Choice, part: list[Head]) -> list[PointRow]:
    """The chosen points of these frames, in their order. Raises _StaleError if one has others than it says."""
    rows: dict[Key, list[PointRow]] = {_key(head): [] for head in part}
    _add_lines(store, choice, part, rows)
    _add_posted(store, choice, part, rows)
    if any(len(rows[_key(head)]) != head.metric_lines for head in part):
        raise _StaleError
    return [row for head in part for row in rows[_key(head)]]


def _add_lines(store: Store, choice: Choice, part: list[Head], rows: dict[Key, list[PointRow]]) -> None:
    keys = {head[:3]: head for head in part if head.revision != POSTED}
    if not keys:
        return
    pieces = Pieces(choice)
    sql = _LINES.format(metrics=pieces.of_metrics, labels=pieces.of_labels)
    found = store.rows(sql, {**pieces.parameters, "keys": list(keys)})
    for scope_id, begin, revision, metric, *values in found:
        head = keys[scope_id, begin, revision]
        rows[_key(head)].append(_point(scope_id, begin, head.period_end, metric, values, posted=False))


def _add_posted(store: Store, choice: Choice, part: list[Head], rows: dict[Key, list[PointRow]]) -> None:
    keys = [(head.scope_id, head.period_begin, head.period_end) for head in part if head.revision == POSTED]
    if not keys:
        return
    pieces = Pieces(choice)
    sql = _POSTED_LINES.format(metrics=pieces.of_metrics, labels=pieces.of_labels)
    for scope_id, begin, end, metric, *values in store.rows(sql, {**pieces.parameters, "keys": keys}):
        rows[scope_id, begin, POSTED, end].append(_point(scope_id, begin, end, metric, values, posted=True))


def _point(scope_id: str, begin: int, end: int, metric: str, values: list[Any], *, posted: bool) -> PointRow:
    qty, price, unit, groupby, metadata = values
    return PointRow(scope_id, begin, end, metric, Decimal(qty), Decimal(price), unit, groupby, metadata, posted)


def _conflict() -> ReadConflictError:
    return ReadConflictError(
        f"frames were replaced while their lines were read, {ATTEMPTS} times: read again, and check the sink's log"
    )
