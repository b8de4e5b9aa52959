"""Why the lines of a frame cost what they cost: every step from samples to price, proven against what is stored."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rater.api.faults import RefusalError
from rater.api.v3.operations import Asked, Backend, Operation, Reply
from rater.api.v3.values import MetricName, ScopeId, Time, refused, seconds
from rater.rating import Chain, RuleBook
from rater.trial import (
    CountUnknownError,
    Explainer,
    FrameExplained,
    StoredFrame,
    StoredFrames,
    UnprovenPriceError,
    UsageUnknownError,
    keeps_points,
    versions_before,
)
from rater.trial.pricing import iso

__all__ = ["OPERATIONS"]

BOOK_SECONDS = 60.0


class ExplainFrame(msgspec.Struct, frozen=True):
    """Which lines of which frame."""

    scope_id: ScopeId
    period_begin: Time
    line_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="this line alone")] | None = None
    metric: MetricName | None = None
    limit: Annotated[int, Meta(ge=1, le=100, description="lines that are told at most")] = 10


async def explain_frame(backend: Backend, asked: Asked[ExplainFrame, None]) -> Reply:
    """GET /v3/scopes/{scope_id}/frames/{period_begin}/explanation."""
    chosen = asked.parameters
    await backend.scope(asked, chosen.scope_id)
    begin = seconds(chosen.period_begin)
    if begin % backend.period:
        raise refused("path.period_begin", f"does not begin a period of {backend.period} s")
    loop = asyncio.get_running_loop()
    known: dict[int, RuleBook] = {}

    def book_at(version: int) -> RuleBook:
        if version not in known:
            reading = asyncio.run_coroutine_threadsafe(_book(backend, version), loop)
            known[version] = reading.result(BOOK_SECONDS)
        return known[version]

    def explained() -> bytes:
        try:
            return _told(_explained(backend, book_at, chosen.scope_id, begin), chosen)
        finally:
            backend.explanations.give()  # here, since the work goes on if whoever asked has hung up

    backend.explanations.take()
    return Reply(content=await backend.read(explained))


async def _book(backend: Backend, version: int) -> RuleBook:
    return await backend.rules.book_at(version)


def _explained(backend: Backend, book_at: Any, scope_id: str, begin: int) -> FrameExplained:
    """Raises RefusalError 404, 409."""
    trials = backend.trials
    frames = StoredFrames(backend.view, trials.context, lambda version: keeps_points(book_at(version)), samples=True)
    stored: StoredFrame | None = next(frames.read(scope_id, begin, begin + 1), None)
    if stored is None:
        raise refused("path.period_begin", "no frame of this scope begins then", 404)
    books = [book_at(stored.frame.rule_version)] if stored.lines or stored.frame.quarantined else []
    if books and Chain(books[0], trials.modules(*books)).has_tiers:
        books += [book_at(version) for version in versions_before(backend.view, stored.frame)]
    try:
        with trials.scripts(*books) as scripts:
            return Explainer(backend.view, trials.context, book_at, scripts, trials.modules(*books)).explain(stored)
    except (CountUnknownError, UnprovenPriceError, UsageUnknownError) as fault:
        raise RefusalError(409, str(fault)) from fault


def _told(found: FrameExplained, chosen: ExplainFrame) -> bytes:
    """Raises RefusalError 404 for a line that is not there."""
    frame = found.frame
    lines = [
        line for line in found.lines if chosen.line_id in (None, line.line_id) and chosen.metric in (None, line.metric)
    ]
    if chosen.line_id is not None and not lines:
        raise refused("query.line_id", "no such line is in this frame", 404)
    without = [] if chosen.line_id else [one for one in found.without_price if chosen.metric in (None, one.metric)]
    told = {
        "scope_id": frame.scope_id,
        "begin": iso(frame.period_begin),
        "end": iso(frame.period_end),
        "revision": frame.revision,
        "status": frame.status.value,
        "rule_version": frame.rule_version,
        "lines": lines[: chosen.limit],
        "more_lines": max(0, len(lines) - chosen.limit),
        "without_price": without[: chosen.limit],
        "more_without_price": max(0, len(without) - chosen.limit),
        "dropped": found.dropped[: chosen.limit],
        "note": found.note,
    }
    return msgspec.json.encode(told)


OPERATIONS = (
    Operation(
        "GET",
        "scopes/{scope_id}/frames/{period_begin}/explanation",
        "explainFrame",
        "Why the lines of a frame cost what they cost",
        explain_frame,
        "v3:explain_frame",
        ExplainFrame,
        result=dict[str, Any],
        answers="As `rater explain --out json`: samples, rules in their order, and what each made of the price.",
        description="The whole frame is rated again by the rules that it was rated by. 409: the steps do not lead to "
        "what is stored, or cannot be known any more; the detail says which. Two are made at a time.",
        refusals=(409,),
    ),
)
