"""Frames: all of a scope in one period, what was expected of it, what proves it, and closing one by force."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rater.api.v3.operations import Asked, Backend, Operation, Reply, author_of
from rater.api.v3.values import (
    Amount,
    CursorText,
    Limit,
    MetricName,
    Reason,
    ScopeId,
    Time,
    check_range,
    cursor_of,
    moment,
    read_cursor,
    refused,
    seconds,
)
from rater.model.interval import Interval, clip, subtract, union
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage
from rater.model.usage import FrameForced
from rater.reports import FramePageRequest, FrameRow, plain_text

__all__ = ["OPERATIONS"]

COVERAGE_DAYS = 32
"""Of one answer about coverage: a month and what hangs over."""
PERIODS_AT_ONCE = 168


class Span(msgspec.Struct, frozen=True):
    """A time, [begin, end)."""

    begin: datetime
    end: datetime


class Total(msgspec.Struct, frozen=True):
    """The sum over one metric of a frame."""

    metric: str
    unit: str
    qty: Amount
    price: Amount
    lines: int


class Covered(msgspec.Struct, frozen=True):
    """What was expected of one source for one metric in the period, and what it proved."""

    metric: str
    source: str
    proof: Literal["proven", "weak"]
    expected: list[Span]
    covered: list[Span]


class Hole(msgspec.Struct, frozen=True):
    """Time that was expected of a source and that nothing covers."""

    gap_id: str
    metric: str
    source: str
    begin: datetime
    end: datetime
    reason: str


class Unpriced(msgspec.Struct, frozen=True):
    """Usage that is known and has no price."""

    metric: str
    source: str
    value: str
    reason: str


class Frame(msgspec.Struct, frozen=True):
    """All of a scope in one period, in its newest revision."""

    scope_id: str
    begin: datetime
    end: datetime
    status: FrameStatus
    revision: int
    closed_at: datetime
    closed_by: ClosedBy
    weak: bool
    """Whether anything of it has no independent proof."""
    rule_version: int
    lines: int
    totals: list[Total]
    coverage: list[Covered]
    gaps: list[Hole]
    quarantined: list[Unpriced]
    failure: str
    """Why the rating of a failed frame failed."""
    rework_id: str
    """The rework that made this revision; empty for all others."""


class FramePage(msgspec.Struct, frozen=True):
    """Frames by period."""

    items: list[Frame]
    next: str = ""
    """The cursor of what follows; empty at the end."""


class ListFrames(msgspec.Struct, frozen=True):
    """Which frames of a scope."""

    scope_id: ScopeId
    begin: Annotated[Time, Meta(description="periods that begin then or later")] | None = None
    end: Annotated[Time, Meta(description="and before that")] | None = None
    status: list[FrameStatus] = []
    limit: Limit = 100
    cursor: CursorText = ""


class OneFrame(msgspec.Struct, frozen=True):
    """Which frame."""

    scope_id: ScopeId
    period_begin: Time


class AskCoverage(msgspec.Struct, frozen=True):
    """Of which time."""

    scope_id: ScopeId
    begin: Time
    end: Time
    metric: MetricName | None = None


class MetricSpans(msgspec.Struct, frozen=True):
    """What is known of one metric from one source: each time that was expected is in exactly one list."""

    metric: str
    source: str
    proven: list[Span]
    weak: list[Span]
    """Covered, without independent proof."""
    missing: list[Span]


class Coverage(msgspec.Struct, frozen=True):
    """What of the usage that was expected is known."""

    scope_id: str
    begin: datetime
    end: datetime
    metrics: list[MetricSpans]
    not_closed: list[Span]
    """Time without a frame: not closed yet, or nothing was expected."""


class ForceFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Close a frame now, with whatever gaps it has."""

    reason: Reason


class Forced(msgspec.Struct, frozen=True):
    """It was asked for; the worker does it with its next checkpoint."""

    scope_id: str
    period_begin: datetime
    author: str
    reason: str


async def list_frames(backend: Backend, asked: Asked[ListFrames, None]) -> Reply:
    """GET /v3/scopes/{scope_id}/frames."""
    chosen = asked.parameters
    begin, end = check_range(chosen.begin, chosen.end)
    await backend.scope(asked, chosen.scope_id)
    after = read_cursor(chosen.cursor, int)
    first = begin if after is None else max(begin, after + 1)
    wanted = FramePageRequest(chosen.scope_id, first, end, chosen.limit + 1, tuple(chosen.status))
    found: list[FrameRow] = await backend.read(lambda: backend.view.frame_page(wanted))
    more = cursor_of(found[chosen.limit - 1].period_begin) if len(found) > chosen.limit else ""
    return Reply(FramePage([_frame(row) for row in found[: chosen.limit]], more))


async def get_frame(backend: Backend, asked: Asked[OneFrame, None]) -> Reply:
    """GET /v3/scopes/{scope_id}/frames/{period_begin}."""
    chosen = asked.parameters
    await backend.scope(asked, chosen.scope_id)
    begin = seconds(chosen.period_begin)
    wanted = FramePageRequest(chosen.scope_id, begin, begin + 1, 1)
    found: list[FrameRow] = await backend.read(lambda: backend.view.frame_page(wanted))
    if not found:
        raise refused("path.period_begin", "no frame of this scope begins then", 404)
    return Reply(_frame(found[0]))


async def force_frame(backend: Backend, asked: Asked[OneFrame, ForceFrame]) -> Reply:
    """POST /v3/scopes/{scope_id}/frames/{period_begin}/force: also of a frame that nothing is stored of yet."""
    chosen, author = asked.parameters, author_of(asked)
    backend.policy.authorize(asked.identity, asked.action)
    begin = seconds(chosen.period_begin)
    if begin % backend.period:
        raise refused("path.period_begin", f"does not begin a period of {backend.period} s")
    if begin > asked.now.timestamp():
        raise refused("path.period_begin", "is in the future")
    await backend.control.send(FrameForced(chosen.scope_id, begin, author, asked.body.reason))
    return Reply(Forced(chosen.scope_id, moment(begin), author, asked.body.reason))


async def get_coverage(backend: Backend, asked: Asked[AskCoverage, None]) -> Reply:
    """GET /v3/scopes/{scope_id}/coverage."""
    chosen = asked.parameters
    begin, end = check_range(chosen.begin, chosen.end, COVERAGE_DAYS)
    await backend.scope(asked, chosen.scope_id)
    span = Interval(begin, end)
    first = begin - begin % backend.period

    def summed() -> tuple[_Spans, list[Interval]]:
        spans, there = _Spans(span), []
        at = first
        while page := backend.view.frame_page(FramePageRequest(chosen.scope_id, at, end, PERIODS_AT_ONCE)):
            for frame in page:
                there.append(Interval(frame.period_begin, frame.period_end))
                spans.add(entry for entry in frame.coverage if chosen.metric in (None, entry.metric))
            at = page[-1].period_begin + 1
        return spans, there

    spans, there = await backend.read(summed)
    return Reply(
        Coverage(chosen.scope_id, moment(begin), moment(end), spans.metrics(), _spans(subtract([span], there)))
    )


class _Spans:
    """Coverage by metric and source, cut to a time."""

    def __init__(self, span: Interval) -> None:
        self._span = span
        self._found: dict[tuple[str, str], tuple[list[Interval], list[Interval], list[Interval]]] = {}

    def add(self, entries: Iterable[MetricCoverage]) -> None:
        """Those of one frame."""
        for entry in entries:
            expected, proven, weak = self._found.setdefault((entry.metric, entry.source), ([], [], []))
            expected += clip(entry.expected, self._span)
            (proven if entry.proof == "proven" else weak).extend(clip(entry.covered, self._span))

    def metrics(self) -> list[MetricSpans]:
        """By metric and source."""
        return [
            MetricSpans(
                metric,
                source,
                _spans(union(proven)),
                _spans(subtract(union(weak), union(proven))),
                _spans(subtract(union(expected), union([*proven, *weak]))),
            )
            for (metric, source), (expected, proven, weak) in sorted(self._found.items())
        ]


def _spans(parts: Iterable[Interval]) -> list[Span]:
    return [Span(moment(part.begin), moment(part.end)) for part in parts]


def _frame(row: FrameRow) -> Frame:
    return Frame(
        scope_id=row.scope_id,
        begin=moment(row.period_begin),
        end=moment(row.period_end),
        status=row.status,
        revision=row.revision,
        closed_at=moment(row.closed_at),
        closed_by=row.closed_by,
        weak=row.weak,
        rule_version=row.rule_version,
        lines=row.line_count,
        totals=[
            Total(total.metric, total.unit, plain_text(total.qty), plain_text(total.price), total.n)
            for total in row.totals
        ],
        coverage=[
            Covered(entry.metric, entry.source, entry.proof, _spans(entry.expected), _spans(entry.covered))
            for entry in row.coverage
        ],
        gaps=[_hole(gap) for gap in row.gaps],
        quarantined=[Unpriced(point.metric, point.source, point.value, point.reason) for point in row.quarantined],
        failure=row.failure,
        rework_id=row.rework_id,
    )


def _hole(gap: Gap) -> Hole:
    return Hole(gap.gap_id, gap.metric, gap.source, moment(gap.begin), moment(gap.end), gap.reason)


OPERATIONS = (
    Operation(
        "GET",
        "scopes/{scope_id}/frames",
        "listFrames",
        "Frames of a scope, by period, each in its newest revision",
        list_frames,
        "v3:get_frames",
        ListFrames,
        result=FramePage,
    ),
    Operation(
        "GET",
        "scopes/{scope_id}/frames/{period_begin}",
        "getFrame",
        "One frame",
        get_frame,
        "v3:get_frames",
        OneFrame,
        result=Frame,
    ),
    Operation(
        "POST",
        "scopes/{scope_id}/frames/{period_begin}/force",
        "forceFrame",
        "Close a frame now, with whatever gaps it has",
        force_frame,
        "v3:force_frame",
        OneFrame,
        ForceFrame,
        Forced,
        status=202,
        answers="Kafka has the request; the worker closes the frame with its next checkpoint.",
    ),
    Operation(
        "GET",
        "scopes/{scope_id}/coverage",
        "getCoverage",
        "What of the usage that was expected is proven, weakly proven and missing, to the second",
        get_coverage,
        "v3:get_coverage",
        AskCoverage,
        result=Coverage,
        description=f"Of {COVERAGE_DAYS} days at most.",
    ),
)
