"""Lines one by one from a place on: pages that cost the same wherever they begin.

The order is scope, begin, lines of frames before posted ones, metric and line id, as lines are stored. The place is the
key of the last row that was seen, which stays while rows arrive; it has no revision, so that a frame that is rated
again in between is gone on with.
Frames are read first, then the lines of exactly their revisions, counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain, repeat
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from rater.store._choice_sql import Pieces
from rater.store.choices import Choice
from rater.store.client import Store
from rater.store.errors import ReadConflictError
from rater.store.queries import ATTEMPTS, PAUSE_SECONDS
from rater.store.retention import check_frames, check_lines
from rater.store.rows import LineRow

__all__ = ["LineKey", "LinePage", "LinePageRequest", "ListedLine", "line_page"]

RUN_LINES = 20_000  # of frames that one statement names; a single larger frame is one run
RUN_FRAMES = 2_000
FEW_LINES = 1_000
"""Of the frame that a page begins in: so many are rather read and left out than counted before."""
MAX_SCANNED = 200_000
"""Lines that a page looks at for those that were chosen, about 0.3 s: with less found it ends early."""
FIRST_DAYS = 32
"""Of one scope looked at first: a month of frames costs 10 ms, a year 25."""
SCOPES_AT_ONCE = (1, 4, 16, 64, 256)
"""Scopes are taken one by one at first, since one has most often enough; where they have not, more and more."""
_DAY = 86_400
_DONE = 2  # in place of `posted` in a key: everything of that scope and begin was seen

Name: TypeAlias = Annotated[str, Meta(max_length=255)]
LineKey: TypeAlias = tuple[
    Name,
    Annotated[int, Meta(ge=0, lt=2**32)],
    Annotated[int, Meta(ge=0, le=_DONE)],
    Annotated[str, Meta(max_length=1000)],
    Annotated[str, Meta(pattern="^([0-9a-f]{32})?$")],
]
"""scope, begin, 0 of a frame or 1 posted, metric, line id: the order of lines."""


class LinePageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines of these scopes (None: all). Conditions of `choice` are on metrics and labels alone."""

    choice: Choice
    limit: Annotated[int, Meta(ge=1, le=10_000)]
    scopes: Annotated[tuple[Name, ...], Meta(max_length=1000)] | None = None
    after: LineKey | None = None


class ListedLine(msgspec.Struct, frozen=True):
    """A line of the newest revision of a frame, or a posted one, which has revision and rule version 0."""

    line: LineRow
    period_end: int
    posted: bool = False

    @property
    def key(self) -> LineKey:
        """Its place in the order."""
        line = self.line
        return line.scope_id, line.period_begin, int(self.posted), line.metric, line.line_id


class LinePage(msgspec.Struct, frozen=True):
    """Some lines, and the place after which the next ones stand; None at the end.

    Where few are chosen among many there may be less than were asked for, even none, and others behind them.
    """

    rows: list[ListedLine]
    next: LineKey | None


class _Head(NamedTuple):
    scope_id: str
    begin: int
    posted: int
    revision: int
    end: int
    lines: int
    of_metrics: int
    """Of those, of the metrics that were asked for."""


class _StaleError(Exception):
    """A revision was replaced, and its lines deleted, since its frame was read."""


_SCOPES = """
SELECT DISTINCT scope_id
FROM (SELECT scope_id FROM frames WHERE {bounds} UNION ALL SELECT scope_id FROM posted WHERE {bounds})
ORDER BY scope_id
LIMIT {{limit:UInt32}}
"""
_BOUNDS = """
    scope_id > {scope:String} AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
"""
_HEADS = """
SELECT * FROM (
    SELECT scope_id, toUInt32(period_begin) AS begins, toUInt8(0) AS posted, revision, toUInt32(period_end), line_count,
        {of_metrics} AS of_metrics
    FROM frames FINAL
    WHERE {bounds} AND line_count > 0 AND (scope_id != {{scope:String}} OR period_begin >= {{from_frames:UInt32}})
        AND of_metrics > 0
    ORDER BY scope_id, period_begin
    LIMIT {{limit:UInt32}}
    UNION ALL
    SELECT scope_id, toUInt32(period_begin) AS begins, toUInt8(1), toUInt32(0), toUInt32(0), toUInt32(count()),
        toUInt32(count())
    FROM posted FINAL
    WHERE {bounds} AND {metrics} AND (scope_id != {{scope:String}} OR period_begin >= {{from_posted:UInt32}})
    GROUP BY scope_id, period_begin
    ORDER BY scope_id, period_begin
    LIMIT {{limit:UInt32}}
)
ORDER BY scope_id, begins, posted
LIMIT {{limit:UInt32}}
"""
_OF_METRICS = "toUInt32(arraySum((metric, n) -> if({metrics}, n, 0), totals.metric, totals.n))"
_HEAD_BOUNDS = """
    scope_id IN {names:Array(String)} AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
"""
_AFTER = """
    (scope_id != {scope:String} OR toUInt32(period_begin) != {at:UInt32} OR {posted:UInt8} != {of:UInt8}
        OR (metric, lower(hex(line_id))) > ({metric:String}, {line_id:String}))
"""
_COUNTED = """
SELECT scope_id, toUInt32(period_begin), revision, count(), countIf(chosen)
FROM (
    SELECT scope_id, period_begin, revision, ({metrics} AND {labels} AND {after}) AS chosen
    FROM lines
    WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}}
    LIMIT 1 BY scope_id, period_begin, revision, metric, line_id
)
GROUP BY scope_id, period_begin, revision
"""
_LINES = """
SELECT scope_id, toUInt32(period_begin) AS begins, revision, metric, lower(hex(line_id)) AS id, toString(qty),
    toString(price), unit, groupby, metadata, rule_version
FROM lines
WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}}
    AND {metrics} AND {labels} AND {after}
ORDER BY scope_id, begins, metric, id
LIMIT 1 BY scope_id, begins, revision, metric, id
LIMIT {{limit:UInt32}}
"""
_POSTED = """
SELECT scope_id, toUInt32(period_begin) AS begins, toUInt32(0), metric, lower(hex(line_id)) AS id, toString(qty),
    toString(price), unit, groupby, metadata, toUInt32(0), toUInt32(period_end)
FROM posted FINAL
WHERE (scope_id, period_begin) IN {{keys:Array(Tuple(String, UInt32))}} AND {metrics} AND {labels} AND {after}
ORDER BY scope_id, begins, metric, id
LIMIT {{limit:UInt32}}
"""


def line_page(store: Store, request: LinePageRequest) -> LinePage:
    """The first `limit` of them after `after`.

    Raises ReadConflictError if frames were replaced faster than their lines could be read.
    """
    for attempt in range(ATTEMPTS):
        try:
            page = _page(store, request)
        except _StaleError:
            check_lines(store, request.choice.begin)
            time.sleep(PAUSE_SECONDS * 2**attempt)
        else:
            if not page.rows and request.after is None:
                check_frames(store, request.choice.end)
            return page
    raise ReadConflictError(
        f"frames were replaced while their lines were read, {ATTEMPTS} times: read again, and check the sink's log"
    )


def _page(store: Store, request: LinePageRequest) -> LinePage:
    rows: list[ListedLine] = []
    scanned = frames = 0
    for run in _runs(store, request):
        rows += _lines(store, request, run, request.limit + 1 - len(rows))
        if len(rows) > request.limit:
            return LinePage(rows[: request.limit], rows[request.limit - 1].key)
        scanned += sum(head.lines for head in run)
        frames += len(run)
        if scanned >= MAX_SCANNED or frames >= MAX_SCANNED // 10:
            last = run[-1]
            return LinePage(rows, (last.scope_id, last.begin, last.posted + 1, "", ""))
    return LinePage(rows, None)


def _runs(store: Store, request: LinePageRequest) -> Iterator[list[_Head]]:
    """The frames in runs that one statement may name; each begins with as many as should do, and is longer than the one
    before.
    """
    run: list[_Head] = []
    lines, enough = 0, request.limit
    for head in _heads(store, request):
        if run and (lines > enough or lines + head.of_metrics > RUN_LINES or len(run) == RUN_FRAMES):
            yield run
            run, lines, enough = [], 0, min(4 * enough, RUN_LINES)
        run.append(head)
        lines += head.of_metrics
    if run:
        yield run


def _heads(store: Store, request: LinePageRequest) -> Iterator[_Head]:
    """The frames with lines and what was posted, by scope and begin, from the place on."""
    choice = request.choice
    limits = _growing((min(request.limit + 2, RUN_FRAMES), RUN_FRAMES))
    for names in _batches(store, request):
        spans = [(choice.begin, choice.end)]
        if len(names) == 1:
            after = request.after
            first = after[1] if after is not None and after[0] == names[0] else choice.begin
            middle = max(choice.begin, first) + FIRST_DAYS * _DAY
            spans = [(choice.begin, middle), (middle, choice.end)] if middle < choice.end else spans
        for span in spans:
            yield from _heads_of(store, request, names, span, limits)


def _heads_of(
    store: Store, request: LinePageRequest, names: Sequence[str], span: tuple[int, int], limits: Iterator[int]
) -> Iterator[_Head]:
    pieces = Pieces(msgspec.structs.replace(request.choice, begin=span[0], end=span[1]))
    of_metrics = _OF_METRICS.format(metrics=pieces.of_metrics) if pieces.has_metrics else "line_count"
    sql = _HEADS.format(bounds=_HEAD_BOUNDS, metrics=pieces.of_metrics, of_metrics=of_metrics)
    after, remaining = request.after, list(names)
    while True:
        scope, begin, posted, *_ = after or ("", 0, 0)
        limit = next(limits)
        asked = {
            **pieces.parameters,
            "scope": scope,
            "from_frames": begin + (posted > 0),
            "from_posted": begin + (posted == _DONE),
            "names": remaining,
            "limit": limit,
        }
        found = [_Head(*row) for row in store.rows(sql, asked)]
        yield from found
        if len(found) < limit:
            return
        last = found[-1]
        remaining = [name for name in remaining if name >= last.scope_id]
        after = (last.scope_id, last.begin, last.posted + 1, "", "")


def _batches(store: Store, request: LinePageRequest) -> Iterator[list[str]]:
    """The scopes from the place on, some at a time."""
    reached = request.after[0] if request.after is not None else ""
    if request.scopes is not None:
        names = sorted({name for name in request.scopes if name >= reached})
        for size in _growing(SCOPES_AT_ONCE):
            if not names:
                return
            yield names[:size]
            names = names[size:]
    if request.after is not None:
        yield [reached]
    bounds = Pieces(request.choice).parameters
    for size in _growing(SCOPES_AT_ONCE):
        asked = {**bounds, "scope": reached, "limit": size}
        found = [str(row[0]) for row in store.rows(_SCOPES.format(bounds=_BOUNDS), asked)]
        if found:
            yield found
        if len(found) < size:
            return
        reached = found[-1]


def _growing(sizes: Sequence[int]) -> Iterator[int]:
    return chain(sizes, repeat(sizes[-1]))


def _lines(store: Store, request: LinePageRequest, run: list[_Head], limit: int) -> list[ListedLine]:
    """The first `limit` chosen lines of these frames after the place. Raises _StaleError."""
    pieces = Pieces(request.choice)
    scope, begin, posted, metric, line_id = after = request.after or ("", 0, 0, "", "")
    asked = {**pieces.parameters, "scope": scope, "at": begin, "of": posted, "metric": metric, "line_id": line_id}
    texts = {"metrics": pieces.of_metrics, "labels": pieces.of_labels, "after": _AFTER if request.after else "true"}
    frames = [head for head in run if not head.posted]
    started = sum(head.of_metrics for head in frames if (head.scope_id, head.begin, 0) == after[:3])
    if not frames:
        found = []
    elif pieces.has_labels or started > FEW_LINES:
        found = _counted_lines(store, texts, {**asked, "limit": limit}, frames)
    else:
        found = _all_lines(store, texts, {**asked, "limit": limit + started}, frames)
    keys = [(head.scope_id, head.begin) for head in run if head.posted]
    if keys:
        rows = store.rows(_POSTED.format(**texts), {**asked, "posted": 1, "keys": keys, "limit": limit})
        found += [ListedLine(_line(row[:-1]), row[-1], posted=True) for row in rows]
    return sorted((row for row in found if row.key > after), key=lambda row: row.key)[:limit]


def _all_lines(store: Store, texts: dict[str, str], asked: dict[str, Any], heads: Sequence[_Head]) -> list[ListedLine]:
    """Lines of these frames, of which the frames say how many there are; also those before the place."""
    found = _of_frames(store, {**texts, "after": "true"}, asked, heads)
    if len(found) != min(asked["limit"], sum(head.of_metrics for head in heads)):
        raise _StaleError
    return found


def _counted_lines(
    store: Store, texts: dict[str, str], asked: dict[str, Any], heads: Sequence[_Head]
) -> list[ListedLine]:
    """Lines of these frames, after all of them, and how many of them are to be found, were counted."""
    keys = [(head.scope_id, head.begin, head.revision) for head in heads]
    rows = store.rows(_COUNTED.format(**texts), {**asked, "posted": 0, "keys": keys})
    counted = {row[:3]: row[3:] for row in rows}
    if any(counted.get(key, (0,))[0] != head.lines for key, head in zip(keys, heads, strict=True)):
        raise _StaleError
    found = _of_frames(store, texts, asked, heads)
    if len(found) != min(asked["limit"], sum(chosen for _, chosen in counted.values())):
        raise _StaleError
    return found


def _of_frames(store: Store, texts: dict[str, str], asked: dict[str, Any], heads: Sequence[_Head]) -> list[ListedLine]:
    ends = {(head.scope_id, head.begin, head.revision): head.end for head in heads}
    rows = store.rows(_LINES.format(**texts), {**asked, "posted": 0, "keys": list(ends)})
    return [ListedLine(_line(row), ends[row[:3]]) for row in rows]


def _line(row: Sequence[Any]) -> LineRow:
    scope_id, begin, revision, metric, line_id, qty, price, *rest = row
    return LineRow(scope_id, begin, revision, metric, line_id, Decimal(qty), Decimal(price), *rest)
