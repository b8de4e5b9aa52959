"""The holder's side of the Unix socket: answers readers of the embedded engine while this process has it open.

Only reading is offered, and only to the user that owns the directory: the socket has mode 0600.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from rater.model.errors import RaterError
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
from rater.reports.view import View
from rater.store import BeyondRetentionError, Choice, PointsRequest, SumsRequest
from rater.store.health import SourceRequest
from rater.store.line_pages import LinePageRequest
from rater.store.pages import FramePageRequest, GapPageRequest, ScopePageRequest

__all__ = ["serve_desk"]

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 512 * 1024  # a thousand scopes of a reader may stand in it
BLOCK_BYTES = 128 * 1024
READERS = 3  # at the same time; more wait for their turn
STOP_SECONDS = 2.0  # that readers get to the end when the holder stops
GONE = 410
WAITING_BLOCKS = 8  # between the thread that reads the store and a slow reader


class _GoneError(RaterError):
    """The reader hung up."""


class _Pipe(io.RawIOBase):
    """A file that a thread writes and the event loop reads in blocks; `None` is the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._blocks: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_BLOCKS)
        self._gone = False
        self._gathered = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._gathered += data
        if len(self._gathered) >= BLOCK_BYTES:
            self._send()
        return len(data)

    def end(self) -> None:
        """Hands on the rest and the end. In the thread."""
        self._send()
        self._put(None)

    def end_early(self) -> None:
        """Hands on the end after a fault. In the thread."""
        with suppress(_GoneError):
            self._put(None)

    def _send(self) -> None:
        if self._gathered:
            self._put(bytes(self._gathered))
            self._gathered.clear()

    def _put(self, block: bytes | None) -> None:
        if self._gone:
            raise _GoneError("the reader hung up")
        asyncio.run_coroutine_threadsafe(self._blocks.put(block), self._loop).result()

    async def next_block(self) -> bytes | None:
        """The next block, None at the end. In the event loop."""
        return await self._blocks.get()

    def hang_up(self) -> None:
        """Nobody reads any more: the thread meets _GoneError at its next block. In the event loop."""
        self._gone = True
        while not self._blocks.empty():
            self._blocks.get_nowait()


@asynccontextmanager
async def serve_desk(view: View, path: Path) -> AsyncIterator[None]:
    """Answers readers on the socket `path` while the block runs. Raises SocketPathError, OSError."""
    with ThreadPoolExecutor(READERS, "desk") as threads:
        runner = web.AppRunner(_application(view, threads), access_log=None, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        listener = _listen(path)
        try:
            await web.SockSite(runner, listener).start()
            yield
        finally:
            await runner.cleanup()
            _remove(path)


def _application(view: View, threads: Executor) -> web.Application:
    application = web.Application(client_max_size=MAX_REQUEST_BYTES)
    answers: list[tuple[str, Any, Callable[[Any, Any], None]]] = [
        ("frames", Selection, lambda chosen, out: _rows(view.frames(chosen), out)),
        ("lines", Selection, lambda chosen, out: _rows(view.lines(chosen), out)),
        ("usage", UsageRequest, lambda asked, out: _rows(view.usage(asked), out)),
        ("reused_numbers", ScopeRequest, lambda asked, out: _rows(view.reused_numbers(asked), out)),
        ("gaps", Selection, lambda chosen, out: _rows(view.gaps(chosen), out)),
        ("reworks", ReworkRequest, lambda asked, out: _rows(view.reworks(asked), out)),
        ("frame_at", RevisionRequest, lambda asked, out: _rows(filter(None, [view.frame_at(asked)]), out)),
        ("lines_at", RevisionRequest, lambda asked, out: _rows(view.lines_at(asked), out)),
        ("scopes", type(None), lambda _, out: _rows(view.scopes(), out)),
        ("sums", SumsRequest, lambda asked, out: _rows([view.sums(asked)], out)),
        ("point_page", PointsRequest, lambda asked, out: _rows([view.point_page(asked)], out)),
        ("points", Choice, lambda chosen, out: _rows(view.points(chosen), out)),
        ("posted", UsageRequest, lambda asked, out: _rows(view.posted(asked), out)),
        ("posted_totals", UsageRequest, lambda asked, out: _rows(view.posted_totals(asked), out)),
        ("scope_states", type(None), lambda _, out: _rows(view.scope_states(), out)),
        ("frame_page", FramePageRequest, lambda asked, out: _rows(view.frame_page(asked), out)),
        ("line_page", LinePageRequest, lambda asked, out: _rows([view.line_page(asked)], out)),
        ("gap_page", GapPageRequest, lambda asked, out: _rows(view.gap_page(asked), out)),
        ("accepted_gaps", Selection, lambda chosen, out: _rows(view.accepted_gaps(chosen), out)),
        ("scope_page", ScopePageRequest, lambda asked, out: _rows(view.scope_page(asked), out)),
        ("silent_sources", SourceRequest, lambda asked, out: _rows(view.silent_sources(asked), out)),
        ("source_metrics", SourceRequest, lambda asked, out: _rows(view.source_metrics(asked), out)),
        ("last_audit", type(None), lambda _, out: _rows(filter(None, [view.last_audit()]), out)),
        ("kept", type(None), lambda _, out: _rows([view.kept()], out)),
        ("audit/months", AuditRequest, lambda asked, out: _rows(view.audit_months(asked), out)),
        ("audit/frames", UsageRequest, lambda asked, out: _rows(view.audit_frames(asked), out)),
        ("audit/lines", UsageRequest, lambda asked, out: _rows(view.audit_lines(asked), out)),
        ("audit/usage", UsageRequest, lambda asked, out: _rows(view.audit_usage(asked), out)),
        ("audit/rules", type(None), lambda _, out: _rows(view.rule_texts(), out)),
        ("export", ExportRequest, view.export),
    ]
    application.add_routes([web.post("/ping", _ping)])
    application.add_routes([web.post(f"/{name}", _handler(kind, run, threads)) for name, kind, run in answers])
    return application


def _listen(path: Path) -> socket.socket:
    """A listening socket that only this user may use. One that a killed process left behind is replaced.

    Whoever calls this has the engine's directory locked, so nobody else can be serving there.
    """
    _remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with socket_address(path) as address:
            listener.bind(address)
    except (OSError, RaterError):
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


async def _ping(_: web.Request) -> web.Response:
    return web.Response()


def _rows(found: Any, out: Any) -> None:
    encode = msgspec.json.Encoder().encode
    for row in found:
        out.write(encode(row) + b"\n")


def _handler(kind: Any, answer: Callable[[Any, Any], None], threads: Executor) -> Callable[[web.Request], Any]:
    """Runs `answer(request, file)` in a thread and streams what it writes."""
    decode = msgspec.json.Decoder(kind).decode

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            asked = decode(await request.read())
        except msgspec.DecodeError as fault:
            return web.Response(status=400, text=f"the request cannot be read: {fault}")
        loop = asyncio.get_running_loop()
        pipe = _Pipe(loop)
        work = loop.run_in_executor(threads, _run, answer, asked, pipe)
        try:
            return await _stream(request, pipe, work)
        except ConnectionError:  # reset, or lost while a block waited: the reader has all it wanted
            log.debug("a reader hung up")
            return web.Response()
        finally:
            pipe.hang_up()
            await asyncio.gather(work, return_exceptions=True)

    return handle


def _run(answer: Callable[[Any, Any], None], asked: Any, pipe: _Pipe) -> None:
    try:
        answer(asked, pipe)
    except BaseException:
        pipe.end_early()
        raise
    pipe.end()


async def _stream(request: web.Request, pipe: _Pipe, work: asyncio.Future[None]) -> web.StreamResponse:
    """The answer block by block; a fault before the first block is told, one after it breaks the connection off."""
    response = web.StreamResponse()
    while (block := await pipe.next_block()) is not None:
        if not response.prepared:
            await response.prepare(request)
        await response.write(block)
    try:
        await work
    except RaterError as fault:
        if not response.prepared:
            status = GONE if isinstance(fault, BeyondRetentionError) else 500
            return web.Response(status=status, text=str(fault))
        log.warning("a reader's answer broke off: %s", fault)
        if request.transport is not None:
            request.transport.abort()
        raise
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response
