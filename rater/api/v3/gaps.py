"""Gaps: time that was expected and that nothing covers. They are listed, and accepted with a reason."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rater.api.v3.operations import Asked, Backend, Operation, Reply, author_of
from rater.api.v3.values import (
    CursorText,
    Limit,
    MetricName,
    Reason,
    ScopeId,
    Time,
    check_range,
    cursor_of,
    moment,
    moment_or_none,
    own_scopes,
    read_cursor,
    refused,
)
from rater.model.usage import GapAccepted
from rater.reports import AcceptedGap, GapKey, GapPageRequest, ListedGap, gap_key

__all__ = ["OPERATIONS"]

GapState = Literal["open", "accepted", "resolved"]


class ListGaps(msgspec.Struct, frozen=True):
    """Which gaps."""

    scope_id: ScopeId | None = None
    metric: MetricName | None = None
    source: Annotated[str, Meta(min_length=1, max_length=255, description="who was to measure it")] | None = None
    state: tuple[GapState, ...] = ("open",)
    begin: Annotated[Time, Meta(description="gaps that end later")] | None = None
    end: Annotated[Time, Meta(description="and begin before that")] | None = None
    limit: Limit = 100
    cursor: CursorText = ""


class OneGap(msgspec.Struct, frozen=True):
    """Which gap."""

    scope_id: ScopeId
    gap_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Acceptance(msgspec.Struct, frozen=True):
    """Who has decided to live with a gap, when and why."""

    author: str
    reason: str
    accepted_at: datetime


class ScopeGap(msgspec.Struct, frozen=True):
    """A gap with its history."""

    gap_id: str
    scope_id: str
    metric: str
    source: str
    period_begin: datetime
    begin: datetime
    end: datetime
    state: GapState
    reason: str
    """Why it is there, as far as is known."""
    opened_at: datetime | None
    resolved_at: datetime | None
    resolution: str
    """How it was resolved."""
    accepted: Acceptance | None
    """Kept when the gap is resolved later."""


class GapPage(msgspec.Struct, frozen=True):
    """Gaps by scope and period."""

    items: list[ScopeGap]
    next: str = ""
    """The cursor of what follows; empty at the end."""


class AcceptGap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bills may be made without what is missing; they name the gap and this reason."""

    reason: Reason


class AcceptedNow(msgspec.Struct, frozen=True):
    """It is in the log; the store has it in some seconds."""

    gap_id: str
    scope_id: str
    author: str
    reason: str


async def list_gaps(backend: Backend, asked: Asked[ListGaps, None]) -> Reply:
    """GET /v3/gaps."""
    chosen = asked.parameters
    begin, end = check_range(chosen.begin, chosen.end)
    if chosen.scope_id is None:
        scopes = own_scopes(backend.seen(asked))
    else:
        await backend.scope(asked, chosen.scope_id)
        scopes = (chosen.scope_id,)
    wanted = GapPageRequest(
        begin,
        end,
        chosen.limit + 1,
        scopes,
        chosen.metric or "",
        chosen.source or "",
        chosen.state,
        after=read_cursor(chosen.cursor, GapKey),
    )
    found: list[ListedGap] = await backend.read(lambda: backend.view.gap_page(wanted))
    more = cursor_of(gap_key(found[chosen.limit - 1].gap)) if len(found) > chosen.limit else ""
    return Reply(GapPage([_gap(row) for row in found[: chosen.limit]], more))


async def get_gap(backend: Backend, asked: Asked[OneGap, None]) -> Reply:
    """GET /v3/scopes/{scope_id}/gaps/{gap_id}."""
    return Reply(_gap(await _found(backend, asked)))


async def accept_gap(backend: Backend, asked: Asked[OneGap, AcceptGap]) -> Reply:
    """POST /v3/scopes/{scope_id}/gaps/{gap_id}/accept: again with another reason, the last one counts."""
    found, author, reason = await _found(backend, asked), author_of(asked), asked.body.reason
    gap = found.gap
    if not gap.is_open:
        raise refused("path.gap_id", "is resolved: there is nothing left to accept", 409)
    accepted = GapAccepted(
        gap_id=gap.gap_id,
        scope_id=gap.scope_id,
        metric=gap.metric,
        source=gap.source,
        period_begin=gap.period_begin,
        begin=gap.begin,
        end=gap.end,
        author=author,
        reason=reason,
    )
    await backend.control.send(accepted)
    return Reply(AcceptedNow(gap.gap_id, gap.scope_id, author, reason), before=found.accepted)


async def _found(backend: Backend, asked: Asked[OneGap, AcceptGap] | Asked[OneGap, None]) -> ListedGap:
    """Raises RefusalError 404."""
    chosen = asked.parameters
    await backend.scope(asked, chosen.scope_id)
    begin, end = check_range(None, None)
    wanted = GapPageRequest(begin, end, 1, (chosen.scope_id,), gap_id=chosen.gap_id)
    found: list[ListedGap] = await backend.read(lambda: backend.view.gap_page(wanted))
    if not found:
        raise refused("path.gap_id", "is no gap of this scope", 404)
    return found[0]


def _acceptance(row: AcceptedGap) -> Acceptance:
    return Acceptance(row.author, row.reason, moment(row.accepted_at))


def _gap(row: ListedGap) -> ScopeGap:
    gap, accepted = row.gap, row.accepted
    state: GapState = "resolved" if not gap.is_open else "open" if accepted is None else "accepted"
    return ScopeGap(
        gap_id=gap.gap_id,
        scope_id=gap.scope_id,
        metric=gap.metric,
        source=gap.source,
        period_begin=moment(gap.period_begin),
        begin=moment(gap.begin),
        end=moment(gap.end),
        state=state,
        reason=gap.reason,
        opened_at=moment_or_none(gap.opened_at),
        resolved_at=moment_or_none(gap.resolved_at),
        resolution=gap.resolution,
        accepted=None if accepted is None else _acceptance(accepted),
    )


OPERATIONS = (
    Operation(
        "GET",
        "gaps",
        "listGaps",
        "Gaps, by scope and period: the open ones, if nothing else is asked for",
        list_gaps,
        "v3:get_gaps",
        ListGaps,
        result=GapPage,
        refusals=(404,),
    ),
    Operation(
        "GET",
        "scopes/{scope_id}/gaps/{gap_id}",
        "getGap",
        "One gap",
        get_gap,
        "v3:get_gaps",
        OneGap,
        result=ScopeGap,
    ),
    Operation(
        "POST",
        "scopes/{scope_id}/gaps/{gap_id}/accept",
        "acceptGap",
        "Accept a gap with a reason, so that bills can be made, which print it",
        accept_gap,
        "v3:accept_gap",
        OneGap,
        AcceptGap,
        AcceptedNow,
        status=202,
        answers="Kafka has it.",
        description="Nothing is rated for it, and collectors go on trying to fill it: a gap that is resolved after all "
        "is billed as what was used.",
        refusals=(409,),
    ),
)
