"""How collecting and auditing go: health of the sources, and what the last audit found."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from rater.api.v3.operations import Asked, Backend, Operation, Reply
from rater.api.v3.values import moment, moment_or_none
from rater.reports import AuditRow, SilentSource, SourceMetric, SourceRequest

__all__ = ["OPERATIONS"]


class AskSources(msgspec.Struct, frozen=True):
    """Since when."""

    days: Annotated[int, Meta(ge=1, le=366, description="how many days back is looked")] = 35


class SourceSilence(msgspec.Struct, frozen=True):
    """A collector said that the source proves nothing."""

    silent_from: datetime | None
    """Null: it never proved anything."""
    raised_at: datetime
    reason: str


class MetricHealth(msgspec.Struct, frozen=True):
    """One metric of a source."""

    metric: str
    collected_until: datetime | None
    """Where the newest collection ends; null: there is none in this time, or usage is not stored."""
    scopes: int
    """Of which there are collections."""
    open_gaps: int
    missing_seconds: int
    """In those gaps; accepted ones not among them."""


class Source(msgspec.Struct, frozen=True):
    """A source of usage."""

    source: str
    silent: list[SourceSilence]
    """Empty: nobody says so."""
    metrics: list[MetricHealth]


class Sources(msgspec.Struct, frozen=True):
    """All that is known, by name."""

    items: list[Source]


class BrokenInvariant(msgspec.Struct, frozen=True):
    """Something that must hold and does not."""

    invariant: str
    scope_id: str
    period_begin: datetime | None
    metric: str
    expected: str
    found: str
    rows: list[str]


class Audit(msgspec.Struct, frozen=True):
    """An audit that came to its end."""

    began_at: datetime
    seconds: float
    """How long it took."""
    closed_from: datetime
    """It looked at the frames that were closed since."""
    frames: int
    waiting_samples: int
    """That came late and wait for a rework."""
    unchecked: dict[str, int]
    """Why frames could not be compared in every respect, and how many."""
    violation_count: int
    violations: list[BrokenInvariant]
    """The first thousand."""


class AuditState(msgspec.Struct, frozen=True):
    """What the sink's process found when it last audited the store."""

    last: Audit | None
    """Null: there was none yet, or `audit.interval` is 0."""


async def get_sources(backend: Backend, asked: Asked[AskSources, None]) -> Reply:
    """GET /v3/sources."""
    backend.policy.authorize(asked.identity, asked.action)
    since = asked.now - timedelta(days=asked.parameters.days)
    request = SourceRequest(int(since.timestamp()))

    def ask() -> tuple[list[SilentSource], list[SourceMetric]]:
        return backend.view.silent_sources(request), backend.view.source_metrics(request)

    silent, metrics = await backend.read(ask)
    names = sorted({row.source for row in (*silent, *metrics)})
    return Reply(Sources([_source(name, silent, metrics) for name in names]))


def _source(name: str, silent: Iterable[SilentSource], metrics: Iterable[SourceMetric]) -> Source:
    return Source(
        name,
        [
            SourceSilence(moment(row.silent_from) if row.silent_from else None, moment(row.raised_at), row.reason)
            for row in silent
            if row.source == name
        ],
        [
            MetricHealth(
                row.metric, moment_or_none(row.collected_until), row.scopes, row.open_gaps, row.missing_seconds
            )
            for row in metrics
            if row.source == name
        ],
    )


async def get_audit(backend: Backend, asked: Asked[msgspec.Struct, None]) -> Reply:
    """GET /v3/audit."""
    backend.policy.authorize(asked.identity, asked.action)
    found: AuditRow | None = await backend.read(backend.view.last_audit)
    return Reply(AuditState(None if found is None else _audit(found)))


def _audit(row: AuditRow) -> Audit:
    return Audit(
        began_at=moment(row.began_at),
        seconds=row.seconds,
        closed_from=moment(row.closed_from),
        frames=row.frames,
        waiting_samples=row.waiting_samples,
        unchecked=dict(row.unchecked),
        violation_count=row.violation_count,
        violations=[
            BrokenInvariant(
                one.invariant,
                one.scope_id,
                moment(one.period_begin) if one.period_begin >= 0 else None,
                one.metric,
                one.expected,
                one.found,
                one.rows,
            )
            for one in row.violations
        ],
    )


OPERATIONS = (
    Operation(
        "GET",
        "sources",
        "listSources",
        "Health of the sources: who is silent, how far each metric is collected, how much of it is missing",
        get_sources,
        "v3:get_sources",
        AskSources,
        result=Sources,
    ),
    Operation(
        "GET",
        "audit",
        "getAudit",
        "What the last audit of the store found",
        get_audit,
        "v3:get_audit",
        result=AuditState,
    ),
)
