"""The reader's side of the Unix socket: the same answers as the store, from the process that holds it."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from rater.reports._unix import socket_address
from rater.reports.requests import (
    AuditRequest,
    ExportRequest,
    RevisionRequest,
    ReworkRequest,
    ScopeRequest,
    Selection,
    UsageRequest,
)
from rater.store import (
    BatchNumber,
    BeyondRetentionError,
    Choice,
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
    StoreError,
    StoreUnavailableError,
    SumPage,
    SumsRequest,
    TotalRow,
    UsageRow,
)
from rater.store.accepted import AcceptedGap
from rater.store.audit import AuditMonth, RawFrame, RawUsage, RuleText
from rater.store.health import AuditRow, SilentSource, SourceMetric, SourceRequest
from rater.store.line_pages import LinePage, LinePageRequest
from rater.store.pages import (
    FramePageRequest,
    GapPageRequest,
    ListedGap,
    ScopePageRequest,
    ScopeSummary,
)

__all__ = ["RemoteView"]

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 300.0
CHUNK_BYTES = 256 * 1024
T = TypeVar("T")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("rater", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connects, at most CONNECT_SECONDS long."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(CONNECT_SECONDS)
            with socket_address(self._path) as address:
                self.sock.connect(address)
            self.sock.settimeout(ANSWER_SECONDS)
        except OSError:
            self.sock.close()
            raise


class RemoteView:
    """A view of a store that another process has open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def answers(self) -> bool:
        """Whether somebody serves there."""
        try:
            with self._ask("ping", None):
                return True
        except StoreUnavailableError:
            return False

    def frames(self, selection: Selection) -> Iterator[FrameRow]:
        """Frames by scope and period, newest revisions."""
        return self._rows("frames", selection, FrameRow)

    def lines(self, selection: Selection) -> Iterator[LineRow]:
        """Lines of newest revisions by scope, period, metric and line id."""
        return self._rows("lines", selection, LineRow)

    def usage(self, request: UsageRequest) -> Iterator[UsageRow]:
        """The samples that frames are made of, as they came."""
        return self._rows("usage", request, UsageRow)

    def reused_numbers(self, request: ScopeRequest) -> list[BatchNumber]:
        """Numbers of producers under which more than one part of a collection of the scope came."""
        return list(self._rows("reused_numbers", request, BatchNumber))

    def gaps(self, selection: Selection) -> Iterator[GapRow]:
        """Gaps by scope and period."""
        return self._rows("gaps", selection, GapRow)

    def reworks(self, request: ReworkRequest) -> Iterator[ReworkRow]:
        """What became of reworks, by scope, period and hour."""
        return self._rows("reworks", request, ReworkRow)

    def frame_at(self, request: RevisionRequest) -> FrameRow | None:
        """One revision of a frame; None if the store does not have it, or no longer."""
        return next(self._rows("frame_at", request, FrameRow), None)

    def lines_at(self, request: RevisionRequest) -> Iterator[LineRow]:
        """The lines of one revision of a frame, as far as they are there."""
        return self._rows("lines_at", request, LineRow)

    def scopes(self) -> list[ScopeRow]:
        """Scopes that have frames."""
        return list(self._rows("scopes", None, ScopeRow))

    def sums(self, request: SumsRequest) -> SumPage:
        """Sums of quantities and prices by groups."""
        return self._one("sums", request, SumPage)

    def point_page(self, request: PointsRequest) -> PointPage:
        """Points by period and scope, a part of them."""
        return self._one("point_page", request, PointPage)

    def points(self, choice: Choice) -> Iterator[PointRow]:
        """Points by period and scope, all of them."""
        return self._rows("points", choice, PointRow)

    def posted(self, request: UsageRequest) -> Iterator[PostedRow]:
        """The posted lines of a scope that begin in this time."""
        return self._rows("posted", request, PostedRow)

    def posted_totals(self, request: UsageRequest) -> list[TotalRow]:
        """Their sums by metric and unit."""
        return list(self._rows("posted_totals", request, TotalRow))

    def scope_states(self) -> list[ScopeStateRow]:
        """How far each scope is rated."""
        return list(self._rows("scope_states", None, ScopeStateRow))

    def frame_page(self, request: FramePageRequest) -> list[FrameRow]:
        """A part of a scope's frames, by period."""
        return list(self._rows("frame_page", request, FrameRow))

    def line_page(self, request: LinePageRequest) -> LinePage:
        """A part of the lines, by scope and period."""
        return self._one("line_page", request, LinePage)

    def gap_page(self, request: GapPageRequest) -> list[ListedGap]:
        """A part of the gaps, with who accepted them."""
        return list(self._rows("gap_page", request, ListedGap))

    def accepted_gaps(self, selection: Selection) -> list[AcceptedGap]:
        """Gaps that somebody has decided to live with, by scope and period."""
        return list(self._rows("accepted_gaps", selection, AcceptedGap))

    def scope_page(self, request: ScopePageRequest) -> list[ScopeSummary]:
        """A part of the scopes, each with how far it is rated."""
        return list(self._rows("scope_page", request, ScopeSummary))

    def silent_sources(self, request: SourceRequest) -> list[SilentSource]:
        """What collectors said of their sources and have not taken back."""
        return list(self._rows("silent_sources", request, SilentSource))

    def source_metrics(self, request: SourceRequest) -> list[SourceMetric]:
        """What was collected and what is missing, by source and metric."""
        return list(self._rows("source_metrics", request, SourceMetric))

    def last_audit(self) -> AuditRow | None:
        """What the newest audit in the sink's process found."""
        return next(self._rows("last_audit", None, AuditRow), None)

    def kept(self) -> Kept:
        """From when on everything is there; to be asked after what it is about was read."""
        return next(self._rows("kept", None, Kept))

    def audit_months(self, request: AuditRequest) -> list[AuditMonth]:
        """What an audit has to look at, by scope and month."""
        return list(self._rows("audit/months", request, AuditMonth))

    def audit_frames(self, request: UsageRequest) -> Iterator[RawFrame]:
        """All rows of frames of a scope in these periods."""
        return self._rows("audit/frames", request, RawFrame)

    def audit_lines(self, request: UsageRequest) -> Iterator[LineRow]:
        """All rows of their lines, of every revision."""
        return self._rows("audit/lines", request, LineRow)

    def audit_usage(self, request: UsageRequest) -> Iterator[RawUsage]:
        """All rows of usage that reach into this time, with the samples that begin there."""
        return self._rows("audit/usage", request, RawUsage)

    def rule_texts(self) -> Iterator[RuleText]:
        """The history of the rules, by version."""
        return self._rows("audit/rules", None, RuleText)

    def export(self, request: ExportRequest, target: BinaryIO, progress: Progress | None = None) -> None:
        """Writes an export to a file; `progress` is not told anything."""
        with self._ask("export", request) as answer:
            while chunk := self._read(answer):
                target.write(chunk)

    def _one(self, what: str, request: msgspec.Struct, kind: type[T]) -> T:
        for row in self._rows(what, request, kind):
            return row
        raise StoreUnavailableError("the process that holds the store broke off: its log says why, ask again")

    def _rows(self, what: str, selection: msgspec.Struct | None, kind: type[T]) -> Iterator[T]:
        decode = msgspec.json.Decoder(kind).decode
        rest = b""
        with self._ask(what, selection) as answer:
            while chunk := self._read(answer):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from map(decode, whole)

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as fault:
            raise StoreUnavailableError(
                f"the process that holds the store broke off ({fault!r}): its log says why, ask again"
            ) from fault

    @contextmanager
    def _ask(self, what: str, body: msgspec.Struct | None) -> Iterator[http.client.HTTPResponse]:
        connection = _UnixConnection(self._path)
        try:
            try:
                connection.request("POST", f"/{what}", msgspec.json.encode(body))
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as fault:
                raise StoreUnavailableError(
                    f"the process that holds the store does not answer at {self._path}: {fault}"
                ) from fault
            if answer.status == http.HTTPStatus.GONE:
                raise BeyondRetentionError(answer.read(10_000).decode("utf-8", "replace"))
            if answer.status != http.HTTPStatus.OK:
                raise StoreError(answer.read(10_000).decode("utf-8", "replace"))
            yield answer
        finally:
            connection.close()
