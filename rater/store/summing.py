"""Sums of quantities and prices by groups, exact and without a bound on rows.

Groups by scope, metric and time, chosen by the same, are read off the frames' totals. Where a label is asked for, lines
are read as `rater.store.queries` does: frames first, then the lines of exactly their revisions, counted. Posted lines
are in all sums: the view `totals` has them, and beside lines of frames they are asked for by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

from rater.store._choice_sql import Pieces
from rater.store.choices import Choice, Kind, ScopeStateRow, SumPage, SumRow, SumsRequest
from rater.store.client import Store
from rater.store.errors import ReadConflictError
from rater.store.posting import any_posted
from rater.store.queries import ATTEMPTS, PAUSE_SECONDS
from rater.store.retention import check_frames, check_lines

__all__ = ["ATTEMPTS", "PAUSE_SECONDS", "Head", "in_runs", "runs_of_heads", "scope_states", "sums"]

RUN_FRAMES = 2_000  # of which one statement reads the lines; their keys travel with it
HEADS_AT_ONCE = 20_000  # about 4 MB
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)

_SCOPE_STATES = """
SELECT scope_id, toUInt32(max(period_begin)) FROM frames GROUP BY scope_id ORDER BY scope_id
"""
_OF_FRAMES = """
SELECT {keys}toUInt32(min(period_begin)), toUInt32(max(period_end)), toString(sum(qty)), toString(sum(price)), sum(n),
    count() OVER ()
FROM {totals}
WHERE period_begin >= {{begin:UInt32}} AND period_begin < {{end:UInt32}} AND {frames} AND {metrics}
{group}
HAVING count() > 0
{order}
LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}
"""
_TOTALS = """(
    SELECT scope_id, period_begin, period_end,
        totals.metric AS metric, totals.qty AS qty, totals.price AS price, totals.n AS n
    FROM frames FINAL
    ARRAY JOIN totals.metric, totals.qty, totals.price, totals.n
)"""  # the view `totals` without posted lines
_SCOPES = """
SELECT scope_id, count()
FROM frames
WHERE period_begin >= {{begin:UInt32}} AND period_begin < {{end:UInt32}} AND {frames}
GROUP BY scope_id
ORDER BY scope_id
"""
_HEADS_OF_SCOPES = """
SELECT scope_id, toUInt32(period_begin), revision, toUInt32(period_end), line_count,
    arraySum((metric, n) -> if({metrics}, n, 0), totals.metric, totals.n)
FROM frames FINAL
WHERE period_begin >= {{begin:UInt32}} AND period_begin < {{end:UInt32}} AND line_count > 0 AND {frames}
    AND scope_id >= {{first_scope:String}} AND scope_id <= {{last_scope:String}}
ORDER BY scope_id, period_begin
"""
_HEADS_AGAIN = """
SELECT scope_id, toUInt32(period_begin), revision, toUInt32(period_end), line_count,
    arraySum((metric, n) -> if({metrics}, n, 0), totals.metric, totals.n)
FROM frames FINAL
WHERE (scope_id, period_begin) IN {{keys:Array(Tuple(String, UInt32))}} AND line_count > 0
ORDER BY period_begin, scope_id
"""
_OF_LINES = """
SELECT {keys}toUInt32(min(period_begin)), toUInt32(max(period_begin)), toString(sum(qty)), toString(sum(price)),
    count(), chosen
FROM (
    SELECT scope_id, period_begin, metric, qty, price, groupby, ({metrics} AND {labels}) AS chosen
    FROM lines
    WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}}
    LIMIT 1 BY scope_id, period_begin, revision, metric, line_id
)
GROUP BY {group}chosen
"""
_OF_POSTED = """
SELECT {keys}toUInt32(min(period_begin)), toUInt32(max(period_end)), toString(sum(qty)), toString(sum(price)), count()
FROM posted FINAL
WHERE period_begin >= {{begin:UInt32}} AND period_begin < {{end:UInt32}} AND {frames} AND {metrics} AND {labels}
{group}
HAVING count() > 0
"""


class Head(NamedTuple):
    """What is read of a frame before its lines are."""

    scope_id: str
    period_begin: int
    revision: int
    period_end: int
    line_count: int
    metric_lines: int
    """Of the metrics that were asked for."""


def sums(store: Store, request: SumsRequest) -> SumPage:
    """The sums of the groups, ordered by their values as text. No point, no group.

    Raises ReadConflictError if frames were replaced faster than their lines could be read.
    """
    pieces = Pieces(request.choice)
    if pieces.has_labels or any(attribute.kind is Kind.LABEL for attribute in request.groupby):
        return _of_lines(store, request)
    names = [f"k{number}" for number in range(len(request.groupby))]
    keys = "".join(
        f"{pieces.group(attribute)} AS {name}, " for name, attribute in zip(names, request.groupby, strict=True)
    )
    listed = ", ".join(names)
    sql = _OF_FRAMES.format(
        keys=keys,
        totals="totals" if any_posted(store) else _TOTALS,
        frames=pieces.of_frames,
        metrics=pieces.of_metrics,
        group=f"GROUP BY {listed}" if names else "",
        order=f"ORDER BY {listed}" if names else "",
    )
    found = store.rows(sql, {**pieces.parameters, "limit": request.limit, "offset": request.offset})
    rows = [
        SumRow(tuple(row[: len(names)]), row[-6], row[-5], Decimal(row[-4]), Decimal(row[-3]), int(row[-2]))
        for row in found
    ]
    if not found:
        check_frames(store, request.choice.end)
    if found or not request.offset:
        return SumPage(int(found[0][-1]) if found else 0, rows)
    first = store.rows(sql, {**pieces.parameters, "limit": 1, "offset": 0})  # beyond the end: how many are there?
    return SumPage(int(first[0][-1]) if first else 0, [])


def scope_states(store: Store) -> list[ScopeStateRow]:
    """How far each scope is rated, by name."""
    return [ScopeStateRow(*row) for row in store.rows(_SCOPE_STATES)]


def _heads_by_scope(store: Store, choice: Choice, counted: Iterable[tuple[Any, ...]]) -> Iterator[list[Head]]:
    """The frames with lines by scope and period: as lines are stored, so that a run of frames has its lines side by
    side. `counted` are the scopes and how many frames each has.

    By time, each run of many scopes would read something of everything: three times as long for 60 scopes.
    """
    pieces = Pieces(choice)
    sql = _HEADS_OF_SCOPES.format(frames=pieces.of_frames, metrics=pieces.of_metrics)
    for scopes in in_runs(counted):
        bounds = {"first_scope": scopes[0], "last_scope": scopes[-1]}
        yield [Head(*row) for row in store.rows(sql, pieces.parameters | bounds)]


def in_runs(counted: Iterable[tuple[Any, ...]]) -> Iterator[list[Any]]:
    """What was counted, in runs of at most HEADS_AT_ONCE frames or of one."""
    run: list[Any] = []
    frames = 0
    for what, count in counted:
        if run and frames + count > HEADS_AT_ONCE:
            yield run
            run, frames = [], 0
        run.append(what)
        frames += count
    if run:
        yield run


def _heads_again(store: Store, choice: Choice, known: list[Head]) -> list[Head]:
    """The same frames as they are now."""
    pieces = Pieces(choice)
    keys = [(head.scope_id, head.period_begin) for head in known]
    rows = store.rows(_HEADS_AGAIN.format(metrics=pieces.of_metrics), {**pieces.parameters, "keys": keys})
    return [Head(*row) for row in rows]


def runs_of_heads(days: Iterator[list[Head]]) -> Iterator[list[Head]]:
    """The frames in runs that one statement may name."""
    run: list[Head] = []
    for day in days:
        for head in day:
            run.append(head)
            if len(run) == RUN_FRAMES:
                yield run
                run = []
    if run:
        yield run


class _Sum:
    """A group that is being added up."""

    __slots__ = ("begin", "end", "n", "price", "qty")

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end, self.n = begin, end, 0
        self.qty = self.price = Decimal(0)

    def add(self, begin: int, end: int, qty: str, price: str, n: int) -> None:
        """Takes a part of the group in."""
        self.begin, self.end = min(self.begin, begin), max(self.end, end)
        self.qty = _EXACT.add(self.qty, Decimal(qty))
        self.price = _EXACT.add(self.price, Decimal(price))
        self.n += n


def _of_lines(store: Store, request: SumsRequest) -> SumPage:
    groups: dict[tuple[str, ...], _Sum] = {}
    pieces = Pieces(request.choice)
    scopes = store.rows(_SCOPES.format(frames=pieces.of_frames), pieces.parameters)
    for run in runs_of_heads(_heads_by_scope(store, request.choice, scopes)):
        ends, rows = _rows_of(store, request, run)
        for *keys, begin, last, qty, price, n, chosen in rows:
            if chosen:
                groups.setdefault(tuple(keys), _Sum(begin, ends[last])).add(begin, ends[last], qty, price, n)
    if any_posted(store):
        for *keys, begin, end, qty, price, n in _posted_groups(store, request):
            groups.setdefault(tuple(keys), _Sum(begin, end)).add(begin, end, qty, price, n)
    if not groups:
        check_frames(store, request.choice.end)
    page = [
        SumRow(keys, group.begin, group.end, group.qty, group.price, group.n)
        for keys, group in sorted(groups.items(), key=lambda item: item[0])
    ]
    return SumPage(len(groups), page[request.offset : request.offset + request.limit])


def _posted_groups(store: Store, request: SumsRequest) -> list[tuple[Any, ...]]:
    """The groups of posted lines."""
    pieces = Pieces(request.choice)
    names = [f"k{number}" for number in range(len(request.groupby))]
    groups = [pieces.group(attribute) for attribute in request.groupby]
    sql = _OF_POSTED.format(
        keys="".join(f"toString({group}) AS {name}, " for group, name in zip(groups, names, strict=True)),
        frames=pieces.of_frames,
        metrics=pieces.of_metrics,
        labels=pieces.of_labels,
        group=f"GROUP BY {', '.join(names)}" if names else "",
    )
    return store.rows(sql, pieces.parameters)


def _rows_of(store: Store, request: SumsRequest, run: list[Head]) -> tuple[dict[int, int], list[tuple[Any, ...]]]:
    """The groups of the lines of these frames, or of the revisions that replaced them meanwhile, complete.

    With them the end of each period by its begin.
    """
    pieces = Pieces(request.choice)
    names = [f"k{number}" for number in range(len(request.groupby))]
    groups = [pieces.group(attribute) for attribute in request.groupby]
    # what was not chosen is counted as one group
    keys = "".join(f"if(chosen, toString({group}), '') AS {name}, " for group, name in zip(groups, names, strict=True))
    sql = _OF_LINES.format(
        keys=keys,
        metrics=pieces.of_metrics,
        labels=pieces.of_labels,
        group="".join(f"{name}, " for name in names),
    )
    for attempt in range(ATTEMPTS):
        rows = store.rows(sql, {**pieces.parameters, "keys": [head[:3] for head in run]}) if run else []
        # each frame has at most the lines that it names, so equal sums are equal frames
        if sum(row[-2] for row in rows) == sum(head.line_count for head in run):
            return {head.period_begin: head.period_end for head in run}, rows
        check_lines(store, request.choice.begin)
        time.sleep(PAUSE_SECONDS * 2**attempt)
        run = _heads_again(store, request.choice, run)
    raise ReadConflictError(
        f"the lines of {len(run)} frames do not match what their frames say, {ATTEMPTS} times: read again, and check "
        "the sink's log"
    )
