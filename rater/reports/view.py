"""Read access to the store for commands: straight, or through the process that has the embedded engine open.

The embedded engine belongs to one process. While `rater up` or a sink holds it, that process answers readers on a
Unix socket in the engine's directory (`rater.reports.desk`), and `open_view` gives a view that asks there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from rater.model.interval import Interval
from rater.reports.remote import RemoteView
from rater.reports.requests import (
    AuditRequest,
    ExportRequest,
    RevisionRequest,
    ReworkRequest,
    ScopeRequest,
    Selection,
    UsageRequest,
)
from rater.reports.statement import Report, compute
from rater.store import (
    BatchNumber,
    BeyondRetentionError,
    Choice,
    EmbeddedTarget,
    FrameRow,
    GapRow,
    Kept,
    LineRow,
    PointPage,
    PointRow,
    PointsRequest,
    PostedRow,
    Progress,
    ReworkRow,
    ScopeRow,
    ScopeStateRow,
    Store,
    StoreLockedError,
    StoreSettings,
    StoreUnavailableError,
    SumPage,
    SumsRequest,
    TotalRow,
    UsageRow,
    frame_at,
    frames,
    gaps,
    kept,
    lines,
    lines_at,
    point_page,
    points,
    posted,
    posted_totals,
    reused_numbers,
    reworks,
    scope_states,
    scopes,
    sums,
    usage,
    write_export,
)
from rater.store.accepted import AcceptedGap, accepted_gaps
from rater.store.audit import (
    AuditMonth,
    RawFrame,
    RawUsage,
    RuleText,
    audit_frames,
    audit_lines,
    audit_months,
    audit_usage,
    rule_texts,
)
from rater.store.health import (
    AuditRow,
    SilentSource,
    SourceMetric,
    SourceRequest,
    last_audit,
    silent_sources,
    source_metrics,
)
from rater.store.line_pages import LinePage, LinePageRequest, line_page
from rater.store.pages import (
    FramePageRequest,
    GapPageRequest,
    ListedGap,
    ScopePageRequest,
    ScopeSummary,
    frame_page,
    gap_page,
    scope_page,
)

__all__ = ["StoreView", "View", "check_kept", "open_view", "report_of", "socket_of"]

WAIT_SECONDS = 10.0  # for another reader, which has the directory for a moment, or for a service that starts
PAUSE_SECONDS = 0.25


class View(Protocol):
    """What may be read. Every method raises StoreError."""

    def frames(self, selection: Selection) -> Iterator[FrameRow]:
        """Frames by scope and period, newest revisions."""

    def lines(self, selection: Selection) -> Iterator[LineRow]:
        """Lines of newest revisions by scope, period, metric and line id."""

    def usage(self, request: UsageRequest) -> Iterator[UsageRow]:
        """The samples that frames are made of, as they came."""

    def reused_numbers(self, request: ScopeRequest) -> list[BatchNumber]:
        """Numbers of producers under which more than one part of a collection of the scope came."""

    def gaps(self, selection: Selection) -> Iterator[GapRow]:
        """Gaps by scope and period."""

    def reworks(self, request: ReworkRequest) -> Iterator[ReworkRow]:
        """What became of reworks, by scope, period and hour."""

    def frame_at(self, request: RevisionRequest) -> FrameRow | None:
        """One revision of a frame; None if the store does not have it, or no longer."""

    def lines_at(self, request: RevisionRequest) -> Iterator[LineRow]:
        """The lines of one revision of a frame, as far as they are there."""

    def scopes(self) -> list[ScopeRow]:
        """Scopes that have frames."""

    def sums(self, request: SumsRequest) -> SumPage:
        """Sums of quantities and prices by groups."""

    def point_page(self, request: PointsRequest) -> PointPage:
        """Points by period and scope, a part of them."""

    def points(self, choice: Choice) -> Iterator[PointRow]:
        """Points by period and scope, all of them."""

    def posted(self, request: UsageRequest) -> Iterator[PostedRow]:
        """The posted lines of a scope that begin in this time."""

    def posted_totals(self, request: UsageRequest) -> list[TotalRow]:
        """Their sums by metric and unit."""

    def scope_states(self) -> list[ScopeStateRow]:
        """How far each scope is rated."""

    def frame_page(self, request: FramePageRequest) -> list[FrameRow]:
        """A part of a scope's frames, by period."""

    def line_page(self, request: LinePageRequest) -> LinePage:
        """A part of the lines, by scope and period."""

    def gap_page(self, request: GapPageRequest) -> list[ListedGap]:
        """A part of the gaps, with who accepted them."""

    def accepted_gaps(self, selection: Selection) -> list[AcceptedGap]:
        """Gaps that somebody has decided to live with, by scope and period."""

    def scope_page(self, request: ScopePageRequest) -> list[ScopeSummary]:
        """A part of the scopes, each with how far it is rated."""

    def silent_sources(self, request: SourceRequest) -> list[SilentSource]:
        """What collectors said of their sources and have not taken back."""

    def source_metrics(self, request: SourceRequest) -> list[SourceMetric]:
        """What was collected and what is missing, by source and metric."""

    def last_audit(self) -> AuditRow | None:
        """What the newest audit in the sink's process found."""

    def kept(self) -> Kept:
        """From when on everything is there; to be asked after what it is about was read."""

    def audit_months(self, request: AuditRequest) -> list[AuditMonth]:
        """What an audit has to look at, by scope and month."""

    def audit_frames(self, request: UsageRequest) -> Iterator[RawFrame]:
        """All rows of frames of a scope in these periods."""

    def audit_lines(self, request: UsageRequest) -> Iterator[LineRow]:
        """All rows of their lines, of every revision."""

    def audit_usage(self, request: UsageRequest) -> Iterator[RawUsage]:
        """All rows of usage that reach into this time, with the samples that begin there."""

    def rule_texts(self) -> Iterator[RuleText]:
        """The history of the rules, by version."""

    def export(self, request: ExportRequest, target: BinaryIO, progress: Progress | None = None) -> None:
        """Writes an export to a file, which need not be able to seek. `progress` may go unused."""


class StoreView:
    """A view of a store that this process has open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def frames(self, selection: Selection) -> Iterator[FrameRow]:
        """Frames by scope and period, newest revisions."""
        return frames(self._store, selection.scope_id, selection.begin, selection.end, selection.status or None)

    def lines(self, selection: Selection) -> Iterator[LineRow]:
        """Lines of newest revisions by scope, period, metric and line id."""
        return lines(self._store, selection.scope_id, selection.begin, selection.end)

    def usage(self, request: UsageRequest) -> Iterator[UsageRow]:
        """The samples that frames are made of, as they came."""
        return usage(self._store, request.scope_id, request.begin, request.end)

    def reused_numbers(self, request: ScopeRequest) -> list[BatchNumber]:
        """Numbers of producers under which more than one part of a collection of the scope came."""
        return reused_numbers(self._store, request.scope_id)

    def gaps(self, selection: Selection) -> Iterator[GapRow]:
        """Gaps by scope and period."""
        return gaps(self._store, selection.scope_id, selection.begin, selection.end, open_only=selection.open_only)

    def reworks(self, request: ReworkRequest) -> Iterator[ReworkRow]:
        """What became of reworks, by scope, period and hour."""
        return reworks(self._store, request.scope_id, request.begin, request.end, request.rework_id)

    def frame_at(self, request: RevisionRequest) -> FrameRow | None:
        """One revision of a frame; None if the store does not have it, or no longer."""
        return frame_at(self._store, request.scope_id, request.period_begin, request.revision)

    def lines_at(self, request: RevisionRequest) -> Iterator[LineRow]:
        """The lines of one revision of a frame, as far as they are there."""
        return lines_at(self._store, request.scope_id, request.period_begin, request.revision)

    def scopes(self) -> list[ScopeRow]:
        """Scopes that have frames."""
        return scopes(self._store)

    def sums(self, request: SumsRequest) -> SumPage:
        """Sums of quantities and prices by groups."""
        return sums(self._store, request)

    def point_page(self, request: PointsRequest) -> PointPage:
        """Points by period and scope, a part of them."""
        return point_page(self._store, request)

    def points(self, choice: Choice) -> Iterator[PointRow]:
        """Points by period and scope, all of them."""
        return points(self._store, choice)

    def posted(self, request: UsageRequest) -> Iterator[PostedRow]:
        """The posted lines of a scope that begin in this time."""
        return posted(self._store, request.scope_id, request.begin, request.end)

    def posted_totals(self, request: UsageRequest) -> list[TotalRow]:
        """Their sums by metric and unit."""
        return posted_totals(self._store, request.scope_id, request.begin, request.end)

    def scope_states(self) -> list[ScopeStateRow]:
        """How far each scope is rated."""
        return scope_states(self._store)

    def frame_page(self, request: FramePageRequest) -> list[FrameRow]:
        """A part of a scope's frames, by period."""
        return frame_page(self._store, request)

    def line_page(self, request: LinePageRequest) -> LinePage:
        """A part of the lines, by scope and period."""
        return line_page(self._store, request)

    def gap_page(self, request: GapPageRequest) -> list[ListedGap]:
        """A part of the gaps, with who accepted them."""
        return gap_page(self._store, request)

    def accepted_gaps(self, selection: Selection) -> list[AcceptedGap]:
        """Gaps that somebody has decided to live with, by scope and period."""
        scope_id, begin, end = selection.scope_id or "", selection.begin or 0, selection.end
        bounds = (scope_id, scope_id, begin)
        return accepted_gaps(self._store, *bounds) if end is None else accepted_gaps(self._store, *bounds, end)

    def scope_page(self, request: ScopePageRequest) -> list[ScopeSummary]:
        """A part of the scopes, each with how far it is rated."""
        return scope_page(self._store, request)

    def silent_sources(self, request: SourceRequest) -> list[SilentSource]:
        """What collectors said of their sources and have not taken back."""
        return silent_sources(self._store, request)

    def source_metrics(self, request: SourceRequest) -> list[SourceMetric]:
        """What was collected and what is missing, by source and metric."""
        return source_metrics(self._store, request)

    def last_audit(self) -> AuditRow | None:
        """What the newest audit in the sink's process found."""
        return last_audit(self._store)

    def kept(self) -> Kept:
        """From when on everything is there; to be asked after what it is about was read."""
        return kept(self._store)

    def audit_months(self, request: AuditRequest) -> list[AuditMonth]:
        """What an audit has to look at, by scope and month."""
        return audit_months(self._store, request.scope_id, request.begin, request.end, request.closed_from)

    def audit_frames(self, request: UsageRequest) -> Iterator[RawFrame]:
        """All rows of frames of a scope in these periods."""
        return audit_frames(self._store, request.scope_id, request.begin, request.end)

    def audit_lines(self, request: UsageRequest) -> Iterator[LineRow]:
        """All rows of their lines, of every revision."""
        return audit_lines(self._store, request.scope_id, request.begin, request.end)

    def audit_usage(self, request: UsageRequest) -> Iterator[RawUsage]:
        """All rows of usage that reach into this time, with the samples that begin there."""
        return audit_usage(self._store, request.scope_id, request.begin, request.end)

    def rule_texts(self) -> Iterator[RuleText]:
        """The history of the rules, by version."""
        return rule_texts(self._store)

    def export(self, request: ExportRequest, target: BinaryIO, progress: Progress | None = None) -> None:
        """Writes an export to a file, which need not be able to seek."""
        chosen = request.selection
        bounds = (chosen.scope_id, chosen.begin, chosen.end)
        write_export(self._store, request.what, request.form, target, *bounds, progress=progress)


def socket_of(directory: Path) -> Path:
    """Where the process that holds the engine in `directory` answers readers."""
    return directory / "rater.sock"


@contextmanager
def open_view(settings: StoreSettings) -> Iterator[View]:
    """A view of the store, wherever it is open. Raises StoreError, also for a directory that is no store yet."""
    store = Store(settings)
    target = store.target
    directory = target.directory if isinstance(target, EmbeddedTarget) else None
    if directory is not None and not directory.is_dir():
        raise StoreUnavailableError(f"there is no store in {directory}: run `rater migrate`, or correct store.dsn")
    with store:
        if directory is None:
            yield StoreView(store)
        else:
            yield _embedded(store, directory)


def _embedded(store: Store, directory: Path) -> View:
    """The store itself if its directory is free, else its holder; waits a little for either."""
    deadline = time.monotonic() + WAIT_SECONDS
    remote = RemoteView(socket_of(directory))
    while True:
        try:
            store.ping()
        except StoreLockedError:
            if remote.answers():
                return remote
            if time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return StoreView(store)


def report_of(view: View, scope_id: str, span: Interval, due: int) -> Report:
    """The report of a scope over `span`; frames that end by `due` (seconds) must be there.

    Raises ReportRefusedError, NoFramesError, StoreError; BeyondRetentionError if frames of that time may be gone.
    """
    known = next((Interval(scope.begin, scope.end) for scope in view.scopes() if scope.scope_id == scope_id), None)
    posted_rows = view.posted_totals(UsageRequest(scope_id, *span))
    accepted = {gap.gap_id: gap for gap in view.accepted_gaps(Selection(scope_id, *span))}
    found = list(view.frames(Selection(scope_id, *span)))
    check_kept(view, span)  # after the frames were read: it is written before any is removed
    return compute(scope_id, span, known, found, due, posted_rows, accepted)


def check_kept(view: View, span: Interval) -> None:
    """Raises BeyondRetentionError if frames of that time may have been removed."""
    first = view.kept().frames
    if span.begin < first:
        kept_from = datetime.fromtimestamp(first, UTC)
        raise BeyondRetentionError(
            f"periods before {kept_from:%Y-%m-%d} are beyond retention (store.retention.frames): they were removed, "
            "and what was used and cost then is not known any more; ask for time from then on"
        )
