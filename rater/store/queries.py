"""What may be asked of the store. Values reach ClickHouse as parameters only, ranges are `begin <= period_begin < end`.

Everything that may be long is an iterator in constant memory, ordered by scope and period. Lines are read in two
statements: first the frames, then the lines of exactly their revisions, which are counted. One statement over both
tables would see them at two moments and lose a frame whose next revision is being written.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from rater.model.interval import Interval
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage, MetricTotal, QuarantinedPoint
from rater.model.usage import QuarantinedItem
from rater.store import _statements as _sql
from rater.store.blocks import LAST_INSTANT
from rater.store.client import Store
from rater.store.errors import ReadConflictError
from rater.store.retention import check_frames, check_lines
from rater.store.rows import BatchNumber, FrameRow, GapRow, LineRow, ReworkRow, ScopeRow, TotalRow, UsageRow

__all__ = [
    "counts",
    "frame_at",
    "frames",
    "gaps",
    "line_columns",
    "lines",
    "lines_at",
    "reused_numbers",
    "revision_of",
    "reworks",
    "scopes",
    "totals",
    "usage",
]

PAGE_ROWS = 2_000  # about 4 MB of frames
PAGE_LINES = 10_000  # about 10 MB of line rows; a single larger frame is one page
ATTEMPTS = 6
PAUSE_SECONDS = 0.05  # doubles with each attempt: 3 s in all

_coverage = msgspec.json.Decoder(list[MetricCoverage]).decode
_gaps = msgspec.json.Decoder(list[Gap]).decode
_quarantined = msgspec.json.Decoder(list[QuarantinedPoint]).decode
_covers = msgspec.json.Decoder(list[Interval]).decode
_items = msgspec.json.Decoder(list[QuarantinedItem]).decode


class _Head(NamedTuple):
    """What is read of a frame before its lines are."""

    scope_id: str
    period_begin: int
    revision: int
    line_count: int


class _Page(NamedTuple):
    """A part of what was asked for. `last_scope` is empty where no scope bounds it."""

    first_scope: str
    last_scope: str
    begin: int
    end: int


def frames(
    store: Store,
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    status: FrameStatus | Collection[FrameStatus] | None = None,
) -> Iterator[FrameRow]:
    """The frames by scope and period, each in its newest revision. None asks for all scopes, times or statuses."""
    wanted = [status] if isinstance(status, FrameStatus) else list(FrameStatus if status is None else status)
    names = [one.value for one in wanted]
    for page in _pages(store, _sql.FRAMES_PER_MONTH, _bounds(scope_id, begin, end)):
        for row in store.rows(_sql.FRAMES, {**page._asdict(), "status": names}):
            yield _frame_row(row)


def lines(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None
) -> Iterator[LineRow]:
    """The lines of the newest revision of each frame, by scope, period, metric and line id.

    Raises ReadConflictError if frames were replaced faster than their lines could be read.
    """
    for columns in line_columns(store, scope_id, begin, end):
        for row in zip(*columns, strict=True):
            yield _line_row(row)


def line_columns(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None
) -> Iterator[list[Sequence[Any]]]:
    """As `lines`, in blocks of columns in the order of LineRow; quantities and prices are plain text."""
    for page in _pages(store, _sql.FRAMES_PER_MONTH, _bounds(scope_id, begin, end)):
        heads = [_Head(*row) for row in store.rows(_sql.HEADS, page._asdict())]
        for chunk in _chunks(heads):
            yield _lines_of(store, chunk)


def usage(store: Store, scope_id: str, begin: int, end: int) -> Iterator[UsageRow]:
    """The samples of a scope in collections whose range reaches into `[begin, end)`, by metric, source and range.

    All of them are read at once: ask for as much time as fits.
    """
    first, last = (min(max(instant, 0), LAST_INSTANT) for instant in (begin, end))
    for row in store.rows(_sql.USAGE, {"scope_id": scope_id, "begin": first, "end": last}):
        values: list[Any] = list(row)
        values[10:13] = map(list, row[10:13])
        values[17] = bool(row[17])
        values[18] = _covers(row[18]) if row[18] else []
        values[20] = _items(row[20]) if row[20] else []
        yield UsageRow(*values)


def reused_numbers(store: Store, scope_id: str) -> list[BatchNumber]:
    """Numbers of producers under which more than one part of a collection of the scope came, ever.

    The engine takes the first; it takes others only if the number was not used for a week.
    """
    return [BatchNumber(*row) for row in store.rows(_sql.REUSED_NUMBERS, {"scope_id": scope_id})]


def gaps(
    store: Store,
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    *,
    open_only: bool = False,
) -> Iterator[GapRow]:
    """The gaps by scope, period, metric, source and begin; `begin` and `end` bound the period's begin."""
    for page in _pages(store, _sql.GAPS_PER_MONTH, _bounds(scope_id, begin, end)):
        for row in store.rows(_sql.GAPS, {**page._asdict(), "open_only": open_only}):
            yield GapRow(*row)


def reworks(
    store: Store,
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    rework_id: str | None = None,
) -> Iterator[ReworkRow]:
    """What became of frames that were to be rated again, by scope, period and hour; None asks for all reworks."""
    for page in _pages(store, _sql.REWORKS_PER_MONTH, _bounds(scope_id, begin, end)):
        for row in store.rows(_sql.REWORKS, {**page._asdict(), "rework_id": rework_id or ""}):
            values = [*row[:11], _totals(*row[11:16]), _totals(*row[16:21]), *row[21:]]
            yield ReworkRow(*values)


def frame_at(store: Store, scope_id: str, period_begin: int, revision: int) -> FrameRow | None:
    """One revision of a frame, also a replaced one; None if the store does not have its row, or no longer."""
    asked = {"scope_id": scope_id, "period_begin": period_begin, "revision": revision}
    found = store.rows(_sql.FRAMES_AT, asked)
    return _frame_row(found[0]) if found else None


def lines_at(store: Store, scope_id: str, period_begin: int, revision: int) -> Iterator[LineRow]:
    """The lines of one revision of a frame, as far as they are there: compare their number with its `line_count`."""
    for row in store.rows(_sql.LINES_OF, {"keys": [(scope_id, period_begin, revision)]}):
        yield _line_row(row)


def totals(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None
) -> list[TotalRow]:
    """Exact sums per metric and unit over the frames, read off the frame rows.

    Raises BeyondRetentionError if all of that time was removed.
    """
    answer = store.rows(_sql.TOTALS, _bounds(scope_id, begin, end)._asdict())
    if not answer and end is not None:
        check_frames(store, end)
    return [TotalRow(metric, unit, Decimal(qty), Decimal(price), n) for metric, unit, qty, price, n in answer]


def scopes(store: Store) -> list[ScopeRow]:
    """Every scope that has a frame, by name."""
    return [ScopeRow(*row) for row in store.rows(_sql.SCOPES)]


def counts(
    store: Store, scope_id: str | None = None, begin: int | None = None, end: int | None = None
) -> tuple[int, int]:
    """How many frames and how many lines `frames` and `lines` would answer."""
    [[of_frames, of_lines]] = store.rows(_sql.COUNTS, _bounds(scope_id, begin, end)._asdict())
    return int(of_frames), int(of_lines)


def revision_of(store: Store, scope_id: str, period_begin: int) -> int | None:
    """The newest revision of one frame; None if the store has none."""
    answer = store.rows(_sql.REVISION, {"scope_id": scope_id, "period_begin": period_begin})
    return int(answer[0][0]) if answer else None


def _bounds(scope_id: str | None, begin: int | None, end: int | None) -> _Page:
    """The whole of what was asked for as one page."""
    first, last = (min(max(instant, 0), LAST_INSTANT) for instant in (begin or 0, LAST_INSTANT if end is None else end))
    return _Page(scope_id or "", scope_id or "", first, last)


def _pages(store: Store, per_month: str, bounds: _Page) -> Iterator[_Page]:
    """Cuts the bounds into runs of scopes with about PAGE_ROWS rows together, and a scope with more into months.

    `per_month` is the statement that counts.
    """
    months: dict[str, list[tuple[int, int]]] = {}
    for scope, month_begin, count in store.rows(per_month, bounds._asdict()):
        months.setdefault(scope, []).append((month_begin, count))
    run: list[str] = []
    rows = 0
    for scope, counted in months.items():
        of_scope = sum(count for _, count in counted)
        if run and rows + of_scope > PAGE_ROWS:
            yield bounds._replace(first_scope=run[0], last_scope=run[-1])
            run, rows = [], 0
        if of_scope <= PAGE_ROWS:
            run.append(scope)
            rows += of_scope
            continue
        begins = [bounds.begin, *(month_begin for month_begin, _ in counted[1:])]
        for begin, end in zip(begins, [*begins[1:], bounds.end], strict=True):
            yield _Page(scope, scope, begin, end)
    if run:
        yield bounds._replace(first_scope=run[0], last_scope=run[-1])


def _frame_row(row: tuple[Any, ...]) -> FrameRow:
    (*head, metric, unit, qty, price, n, coverage, gaps_text, quarantined, failure, digest, rework_id) = row
    (
        scope_id,
        period_begin,
        period_end,
        revision,
        status,
        closed_by,
        weak,
        rule_version,
        closed_at,
        until,
        line_count,
    ) = head
    return FrameRow(
        scope_id=scope_id,
        period_begin=period_begin,
        period_end=period_end,
        revision=revision,
        status=FrameStatus(status),
        closed_by=ClosedBy(closed_by),
        weak=bool(weak),
        rule_version=rule_version,
        closed_at=closed_at,
        expected_until=None if until == LAST_INSTANT else until,
        line_count=line_count,
        totals=_totals(metric, unit, qty, price, n),
        coverage=_coverage(coverage),
        gaps=_gaps(gaps_text),
        quarantined=_quarantined(quarantined),
        failure=failure,
        digest=digest,
        rework_id=rework_id,
    )


def _totals(
    metrics: Sequence[str], units: Sequence[str], qty: Sequence[str], price: Sequence[str], n: Sequence[int]
) -> list[MetricTotal]:
    return [
        MetricTotal(metric, unit, Decimal(amount), Decimal(money), count)
        for metric, unit, amount, money, count in zip(metrics, units, qty, price, n, strict=True)
    ]


def _line_row(row: Sequence[Any]) -> LineRow:
    scope, period_begin, revision, metric, line_id, qty, price, *rest = row
    return LineRow(scope, period_begin, revision, metric, line_id, Decimal(qty), Decimal(price), *rest)


def _chunks(heads: Sequence[_Head]) -> Iterator[list[_Head]]:
    """The frames that have lines, in runs of at most PAGE_LINES lines or of one frame."""
    chunk: list[_Head] = []
    rows = 0
    for head in heads:
        if not head.line_count:
            continue
        if chunk and rows + head.line_count > PAGE_LINES:
            yield chunk
            chunk, rows = [], 0
        chunk.append(head)
        rows += head.line_count
    if chunk:
        yield chunk


def _lines_of(store: Store, chunk: list[_Head]) -> list[Sequence[Any]]:
    """The lines of these revisions, or of the newer ones that replaced them meanwhile, complete."""
    for attempt in range(ATTEMPTS):
        columns = store.columns(_sql.LINES_OF, {"keys": [head[:3] for head in chunk]})
        if _counted(columns) == {head[:3]: head.line_count for head in chunk}:
            return columns
        check_lines(store, min(head.period_begin for head in chunk))
        time.sleep(PAUSE_SECONDS * 2**attempt)
        again = store.rows(_sql.HEADS_OF, {"keys": [head[:2] for head in chunk]})
        chunk = [head for row in again if (head := _Head(*row)).line_count]
        if not chunk:
            return []
    raise ReadConflictError(
        f"the lines of scope {chunk[0].scope_id} in {chunk[0].period_begin} (or of the {len(chunk) - 1} frames read "
        f"with it) do not match what their frames say, {ATTEMPTS} times: read again, and check the sink's log"
    )


def _counted(columns: Sequence[Sequence[Any]]) -> dict[tuple[Any, ...], int]:
    counts: dict[tuple[Any, ...], int] = {}
    for key in zip(*columns[:3], strict=True):
        counts[key] = counts.get(key, 0) + 1
    return counts
