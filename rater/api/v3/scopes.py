"""The scopes: who is billed, and how far."""

from __future__ import annotations

from datetime import datetime

import msgspec

from rater.api.v3.operations import Asked, Backend, Operation, Reply
from rater.api.v3.values import CursorText, Limit, ScopeId, cursor_of, moment, moment_or_none, own_scopes, read_cursor
from rater.model.rated import FrameStatus
from rater.reports import ScopePageRequest, ScopeSummary

__all__ = ["OPERATIONS"]


class ListScopes(msgspec.Struct, frozen=True):
    """Which scopes."""

    limit: Limit = 100
    cursor: CursorText = ""


class OneScope(msgspec.Struct, frozen=True):
    """Which scope."""

    scope_id: ScopeId


class Scope(msgspec.Struct, frozen=True):
    """A scope that has frames."""

    scope_id: str
    begin: datetime
    """Of its first period."""
    end: datetime
    """Of its last closed period: usage before it is rated."""
    frames: int
    last_complete: datetime | None
    """Begin of its newest period without a hole; null: there is none."""
    newest_status: FrameStatus
    """Of its last closed period."""
    open_gaps: int
    """Of all time; accepted ones not among them."""


class ScopePage(msgspec.Struct, frozen=True):
    """Scopes by id."""

    items: list[Scope]
    next: str = ""
    """The cursor of what follows; empty at the end."""


async def list_scopes(backend: Backend, asked: Asked[ListScopes, None]) -> Reply:
    """GET /v3/scopes."""
    limit = asked.parameters.limit
    after = read_cursor(asked.parameters.cursor, str) or ""
    wanted = ScopePageRequest(limit + 1, own_scopes(backend.seen(asked)), after)
    found: list[ScopeSummary] = await backend.read(lambda: backend.view.scope_page(wanted))
    more = cursor_of(found[limit - 1].scope_id) if len(found) > limit else ""
    return Reply(ScopePage([_scope(row) for row in found[:limit]], more))


async def get_scope(backend: Backend, asked: Asked[OneScope, None]) -> Reply:
    """GET /v3/scopes/{scope_id}."""
    scope_id = asked.parameters.scope_id
    await backend.scope(asked, scope_id)
    [found] = await backend.read(lambda: backend.view.scope_page(ScopePageRequest(1, (scope_id,))))
    return Reply(_scope(found))


def _scope(row: ScopeSummary) -> Scope:
    return Scope(
        row.scope_id,
        moment(row.begin),
        moment(row.end),
        row.frames,
        moment_or_none(row.last_complete),
        row.newest_status,
        row.open_gaps,
    )


OPERATIONS = (
    Operation(
        "GET",
        "scopes",
        "listScopes",
        "The scopes that you may see, and how far each is rated",
        list_scopes,
        "v3:get_scopes",
        ListScopes,
        result=ScopePage,
    ),
    Operation(
        "GET",
        "scopes/{scope_id}",
        "getScope",
        "How far a scope is rated",
        get_scope,
        "v3:get_scopes",
        OneScope,
        result=Scope,
    ),
)
