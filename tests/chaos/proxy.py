"""A small TCP proxy that spoils what it passes on: refuses, cuts, delays, lets connections go silent, answers itself.

Stands between every process of a chaos run and Kafka, ClickHouse and Prometheus. Listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from enum import Enum

CHUNK = 64 * 1024
HEAD_SECONDS = 5.0


class Mode(Enum):
    """What happens to connections."""

    PASS = "pass"
    REFUSE = "refuse"  # each new one is reset at once
    DELAY = "delay"  # each chunk waits, in both directions
    SILENT = "silent"  # half-open: nothing is passed on any more, and nobody is told
    CANNED = "canned"  # an HTTP request is answered by us
    TORN = "torn"  # an answer breaks off after its first bytes


class _Pair:
    """One client's connection and ours to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.silent = False  # for good: a half-open connection does not heal

    def abort(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


class Proxy:
    """Passes `127.0.0.1:port` on to `127.0.0.1:target`. `mode` may be changed at any time."""

    def __init__(self) -> None:
        self.mode = Mode.PASS
        self.target = 0
        self.port = 0
        self.delay = 0.0
        """Seconds that each chunk waits in mode DELAY."""
        self.canned = b""
        self.torn_after = 200
        """Bytes of an answer that are passed on in mode TORN."""
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens on a free port, which it keeps."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Ends every connection."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> int:
        """Resets every connection there is; how many those were."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.abort()
        return len(pairs)

    def silence(self) -> None:
        """All connections of now and until `heal` are half-open for the rest of their lives."""
        self.mode = Mode.SILENT
        for pair in self._pairs:
            pair.silent = True

    def answer(self, status: str, body: bytes, kind: str = "text/plain") -> None:
        """Every request is answered with this from now on."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.canned = head.encode() + body
        self.mode = Mode.CANNED

    def heal(self) -> None:
        """New connections pass again."""
        self.mode, self.delay = Mode.PASS, 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        pair = _Pair(writer)
        self._tasks.add(task)
        self._pairs.add(pair)
        try:
            await self._serve(pair, reader)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # one side is gone; a cancelled task means that the run ends
        finally:
            pair.abort()
            self._pairs.discard(pair)
            self._tasks.discard(task)

    async def _serve(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        if self.mode is Mode.REFUSE:
            return
        pair.silent = self.mode is Mode.SILENT
        if pair.silent:
            await self._swallow(reader)
            return
        if self.mode is Mode.CANNED:
            await self._say_canned(pair, reader)
            return
        back, pair.server = await asyncio.open_connection("127.0.0.1", self.target)
        for writer in (pair.client, pair.server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.TaskGroup() as group:
            there = group.create_task(self._pump(pair, reader, pair.server, answers=False))
            here = group.create_task(self._pump(pair, back, pair.client, answers=True))
            await asyncio.wait((there, here), return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
            here.cancel()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(CHUNK):
            pass

    async def _say_canned(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
        pair.client.write(self.canned)
        await pair.client.drain()
        pair.client.write_eof()
        with suppress(TimeoutError):  # the client's body, so that it reads our answer before the connection is reset
            await asyncio.wait_for(self._swallow(reader), HEAD_SECONDS)

    async def _pump(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        try:
            await self._pass_on(pair, reader, writer, answers)
        except OSError:
            return  # reset by one side: the other is reset too

    async def _pass_on(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        while data := await reader.read(CHUNK):
            if pair.silent:
                continue
            if self.mode is Mode.DELAY:
                await asyncio.sleep(self.delay)
            if self.mode is Mode.CANNED and not answers:
                return  # a connection of before: the client asks again on a new one
            if self.mode is Mode.TORN and answers:
                writer.write(data[: self.torn_after])
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()
        if pair.silent:
            await asyncio.Event().wait()  # the one side is gone, and the other never learns of it


__all__ = ["Mode", "Proxy"]
