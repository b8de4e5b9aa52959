"""The scopes: who is billed, and how far."""

from __future__ import annotations

from datetime import datetime

import msgspec

from rater.api.v3.operations import Asked, Backend, Operation, Reply
from rater.api.v3.values import CursorText, Limit, cursor_of, moment, read_cursor

__all__ = ["OPERATIONS"]


class ListScopes(msgspec.Struct, frozen=True):
    """Which scopes."""

    limit: Limit = 100
    cursor: CursorText = ""


class Scope(msgspec.Struct, frozen=True):
    """A scope that has frames."""

    scope_id: str
    begin: datetime
    """Of its first period."""
    end: datetime
    """Of its last closed period."""
    frames: int


class ScopePage(msgspec.Struct, frozen=True):
    """Scopes by id."""

    items: list[Scope]
    next: str = ""
    """The cursor of what follows; empty at the end."""


async def list_scopes(backend: Backend, asked: Asked[ListScopes, None]) -> Reply:
    """GET /v3/scopes."""
    seen = backend.seen(asked)
    after = read_cursor(asked.parameters.cursor, str) or ""
    found = await backend.read(backend.view.scopes)
    rows = [row for row in found if row.scope_id > after and (seen is None or row.scope_id in seen)]
    page = rows[: asked.parameters.limit]
    return Reply(
        ScopePage(
            [Scope(row.scope_id, moment(row.begin), moment(row.end), row.frames) for row in page],
            cursor_of(page[-1].scope_id) if len(page) < len(rows) else "",
        )
    )


OPERATIONS = (
    Operation(
        "GET",
        "scopes",
        "listScopes",
        "The scopes that you may see, and how far each is rated",
        list_scopes,
        "v3:list_scopes",
        ListScopes,
        result=ScopePage,
    ),
)
