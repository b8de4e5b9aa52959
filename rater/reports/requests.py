"""What a reader may ask of the store, as values that also travel to the process that holds the embedded engine."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.rated import FrameStatus
from rater.store import ExportForm, ExportWhat

Instant: TypeAlias = Annotated[int, Meta(ge=0, le=2**32)]


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which rows: of a scope, of periods that begin within `[begin, end)`; None is every scope, any time."""

    scope_id: Annotated[str, Meta(max_length=255)] | None = None
    begin: Instant | None = None
    end: Instant | None = None
    status: tuple[FrameStatus, ...] = ()
    """Of frames; empty: any."""
    open_only: bool = False
    """Of gaps: leave out those that were resolved."""


class UsageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The samples of a scope in collections that reach into `[begin, end)`."""

    scope_id: Annotated[str, Meta(max_length=255)]
    begin: Instant
    end: Instant


class ScopeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scope, of any time."""

    scope_id: Annotated[str, Meta(max_length=255)]


class ReworkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of reworks: of a scope, of periods that begin within `[begin, end)`, of one; None is any."""

    scope_id: Annotated[str, Meta(max_length=255)] | None = None
    begin: Instant | None = None
    end: Instant | None = None
    rework_id: Annotated[str, Meta(max_length=255)] | None = None


class RevisionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One revision of one frame, which may have been replaced."""

    scope_id: Annotated[str, Meta(max_length=255)]
    period_begin: Instant
    revision: Annotated[int, Meta(ge=0, le=2**32)]


class AuditRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an audit has to look at: of a scope, of periods that begin within `[begin, end)`; None is any.

    `closed_from`: only what was closed since that second; 0 is all.
    """

    scope_id: Annotated[str, Meta(max_length=255)] | None = None
    begin: Instant | None = None
    end: Instant | None = None
    closed_from: Instant = 0


class ExportRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An export as one stream of bytes."""

    what: ExportWhat
    form: ExportForm
    selection: Selection = Selection()
