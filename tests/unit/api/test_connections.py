"""Clients that speak no good HTTP, by raw sockets: each is bounded, and the others are answered meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from rater.api import app as app_module
from rater.api import connections as connections_module
from rater.api import incoming as incoming_module
from rater.api.cloudkitty import service as service_module
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.rating import RuleBook
from rater.reports import StoreView
from rater.stream.usage_log import UsageWriter
from tests.unit.api.cloudkitty.world import serving
from tests.unit.api.test_http import served
from tests.unit.store.builders import memory_store

HEAD = b"GET /v3/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /v3/usage HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


class Raw(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[bytes, bytes]:
        """Status line, and the rest of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, _, fields = head.partition(b"\r\n")
        sizes = [line.split(b":")[1] for line in fields.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return status, fields + await self.reader.readexactly(int(sizes[0]))

    async def end(self) -> bytes:
        """What comes until the service ends the connection."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def cut(registry: CollectorRegistry, reason: str) -> float:
    return registry.get_sample_value("rater_api_connections_cut_total", {"reason": reason}) or 0.0


async def answers(url: str) -> bool:
    async with raw(url) as other:
        other.writer.write(HEAD + b"\r\n")
        return (await other.answer())[0] == b"HTTP/1.1 200 OK"


async def test_a_head_that_comes_slowly_is_cut_and_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "HEAD_SECONDS", 0.3)
    registry = CollectorRegistry()
    async with served(registry) as url, raw(url) as slow, raw(url) as silent, raw(url) as again:
        # given one that is silent, and one whose first request is good
        again.writer.write(HEAD + b"\r\n")
        assert (await again.answer())[0] == b"HTTP/1.1 200 OK"
        again.writer.write(HEAD)

        async def dribble() -> None:
            for number in range(1000):
                slow.writer.write(f"X-{number}: y\r\n".encode() if number else HEAD)
                await asyncio.sleep(0.02)

        # when
        dribbling = asyncio.create_task(dribble())
        assert await answers(url)
        # then: it is the whole head that has to be there in time, whatever comes
        assert [await one.end() for one in (slow, silent, again)] == [b"", b"", b""]
        dribbling.cancel()
        assert cut(registry, "head") == 3


async def test_a_request_that_takes_long_is_no_slow_head(view: StoreView, monkeypatch: pytest.MonkeyPatch) -> None:
    async def long(backend: Backend, call: Call) -> Answer:
        await asyncio.sleep(0.5)
        return Answer({})

    monkeypatch.setattr(connections_module, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(service_module, "ROUTES", {1: (Route("rating/long", long),), 2: ()})
    async with serving(view, RuleBook.empty()) as world, raw(world.url) as one:
        for _ in range(2):
            one.writer.write(b"GET /v1/rating/long HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await one.answer())[0] == b"HTTP/1.1 200 OK"


@pytest.fixture
def view() -> Iterator[StoreView]:
    with memory_store() as store:
        yield StoreView(store)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_reader_that_does_not_read_is_cut(
    view: StoreView, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    # given an answer that fits into no buffer
    given_up: list[int] = []

    def chunks() -> Iterator[bytes]:
        try:
            for _ in range(1000):
                yield b'"' + b"x" * 100_000 + b'"'
        finally:
            given_up.append(1)

    async def large(backend: Backend, call: Call) -> Answer:
        return Answer(chunks=chunks()) if streamed else Answer("x" * 30_000_000)

    monkeypatch.setattr(connections_module, "READ_SECONDS", 0.5)
    monkeypatch.setattr(service_module, "ROUTES", {1: (Route("rating/large", large),), 2: ()})
    async with serving(view, RuleBook.empty()) as world:
        with closing(socket.socket()) as slow:
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, ("127.0.0.1", int(world.url.rpartition(":")[2])))
            await loop.sock_sendall(slow, b"GET /v1/rating/large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            # when it reads nothing for longer than it may
            await asyncio.sleep(1.0)
            # then what is left ends before the answer does
            got = 0
            with suppress(ConnectionError):
                while part := await loop.sock_recv(slow, 1_000_000):
                    got += len(part)
            assert got < 30_000_000
        if streamed:
            async with asyncio.timeout(5):
                while not given_up:
                    await asyncio.sleep(0.01)


async def test_many_requests_in_one_packet_are_answered_in_order() -> None:
    async with served() as url, raw(url) as one:
        other = b"GET /v3/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        one.writer.write((HEAD + b"\r\n" + other) * 100)
        found = [(await one.answer())[0][9:12] for _ in range(200)]

    assert found == [b"200", b"404"] * 100


@pytest.mark.parametrize(
    "fields",
    [
        b"X: " + b"y" * 20_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(10_000)),
        b"X" * 20_000 + b": y\r\n",
    ],
)
async def test_huge_heads_are_400(fields: bytes) -> None:
    async with served() as url, raw(url) as one:
        one.writer.write(HEAD + fields + b"\r\n")
        assert (await one.end()).startswith(b"HTTP/1.0 400 ")
        assert await answers(url)


async def test_a_line_without_end_is_400() -> None:
    async with served() as url, raw(url) as one:
        one.writer.write(b"GET /" + b"x" * 100_000)
        assert (await one.end()).startswith(b"HTTP/1.0 400 ")


async def test_a_body_in_endless_chunks_is_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UsageWriter, "red", lambda self: "")
    monkeypatch.setattr(app_module, "LINGER_SECONDS", 0.2)
    async with served(max_body_bytes=2000) as url, raw(url) as one:
        one.writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 3000)
        assert (await one.answer())[0].startswith(b"HTTP/1.1 413 ")
        # what goes on is read for a moment, and not kept
        one.writer.write(b"1\r\nx\r\n" * 1000)
        await one.end()


@pytest.mark.parametrize("size", [b"ffffffffffffffff1", b"-1", b"x"])
async def test_chunks_of_no_size_are_400(monkeypatch: pytest.MonkeyPatch, size: bytes) -> None:
    monkeypatch.setattr(UsageWriter, "red", lambda self: "")
    async with served() as url, raw(url) as one:
        one.writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nx\r\n")
        assert b" 400 " in (await one.end())[:20]


async def test_smuggled_requests_are_refused() -> None:
    async with served() as url:
        for fields in (
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
            b"Transfer-Encoding: xchunked\r\n\r\n",
        ):
            async with raw(url) as one:
                one.writer.write(POST + fields)
                assert b" 400 " in (await one.end())[:20]


@pytest.mark.parametrize("path", ["/v1/rating/x", "/v2/x"])
async def test_a_compressed_body_is_never_unpacked_for_cloudkitty(
    view: StoreView, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def taken(backend: Backend, call: Call) -> Answer:
        return Answer(len(call.body))

    routes = {1: (Route("rating/x", taken, "POST"),), 2: (Route("x", taken, "POST"),)}
    monkeypatch.setattr(service_module, "ROUTES", routes)
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with serving(view, RuleBook.empty()) as world:
        found = await world.ask(path, method="POST", data=bomb, headers={"Content-Encoding": "gzip"})

    assert found.status == 415


async def test_a_body_that_does_not_come_is_408_of_cloudkitty(view: StoreView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(app_module, "LINGER_SECONDS", 0.2)
    async with serving(view, RuleBook.empty()) as world, raw(world.url) as one:
        one.writer.write(b"GET /v1/rating/modules HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{")
        assert (await one.answer())[0].startswith(b"HTTP/1.1 408 ")


async def test_connections_are_limited_of_an_address_and_in_all() -> None:
    for limits, reason in (({"max_connections_per_address": 3}, "address"), ({"max_connections": 3}, "all")):
        registry = CollectorRegistry()
        async with served(registry, **limits) as url, raw(url) as one, raw(url) as two, raw(url) as three:
            for open_one in (one, two, three):
                open_one.writer.write(HEAD + b"\r\n")
                await open_one.answer()
            async with raw(url) as fourth:
                assert await fourth.end() == b""
            assert cut(registry, reason) == 1
            assert registry.get_sample_value("rater_api_connections") == 3
            # when one has gone, there is room
            one.writer.transport.abort()
            async with asyncio.timeout(5):
                while registry.get_sample_value("rater_api_connections") == 3:
                    await asyncio.sleep(0.01)
            assert await answers(url)


async def test_a_proxy_may_have_as_many_connections_as_there_are() -> None:
    limits: dict[str, Any] = {"max_connections_per_address": 1, "proxies": ["127.0.0.0/8"]}
    async with served(**limits) as url, raw(url) as one:
        one.writer.write(HEAD + b"\r\n")
        await one.answer()
        assert await answers(url)


async def test_no_answer_tells_what_it_runs_on() -> None:
    async with served() as url:
        for sent in (HEAD + b"\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", POST + b"\r\n"):
            async with raw(url) as one:
                one.writer.write(sent)
                head = await one.reader.readuntil(b"\r\n\r\n")
                assert b"\r\nServer: rater\r\n" in head
                assert b"aiohttp" not in head
                assert b"ython" not in head
