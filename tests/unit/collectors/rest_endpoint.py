"""An HTTP server on a free loopback port that answers what a test wants, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.test_utils import TestServer

from collectors.metrics_yml import Metric, read
from collectors.rest.answer import Expression, Page
from collectors.rest.api import RestApi
from collectors.rest.settings import RestConnection, RestSettings
from collectors.rest.source import Factory
from collectors.rest.template import Asked
from collectors.settings import CollectorSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval

HOUR = Interval(1_767_225_600, 1_767_229_200)  # 2026-01-01T00:00:00Z, an hour of it
METRICS = "metrics: {cpu: {unit: h, groupby: [id], metadata: [flavor]}}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Request(NamedTuple):
    """What the server was asked. `path` as it came, percent signs included."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Endpoint:
    """Answers whatever `says` was told last, reply by reply; the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.url = ""
        self._replies: list[Any] = [{"items": []}]

    def says(self, *replies: Any) -> None:
        """Each a JSON value, a function that answers, or (status, body, headers)."""
        self._replies = list(replies)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = dict(request.headers)
        self.asked.append(Request(request.method, request.raw_path, dict(request.query), headers, body))
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if callable(reply):
            found: web.StreamResponse = await reply(request)
            return found
        if isinstance(reply, tuple):
            status, content, more = reply
            return web.Response(status=status, body=content, headers=more)
        return web.json_response(reply, dumps=json.dumps)


@asynccontextmanager
async def serving(endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    """The server, for as long as the block lasts."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    endpoint.url = str(server.make_url("")).rstrip("/")
    try:
        yield endpoint
    finally:
        await server.close()


def json_reply(value: Any, status: int = 200, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """A reply with headers of its own; `_` in a name stands for `-`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, json.dumps(value).encode(), {"Content-Type": "application/json", **named}


def csv_reply(text: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return 200, text.encode(), {"Content-Type": "text/csv; charset=utf-8", **named}


async def get_pages(endpoint: Endpoint, *, url: str = "/usage", items: str = "items", **settings: Any) -> list[Page]:
    """What the client makes of the endpoint's answers."""
    connection = RestConnection(url=endpoint.url + url, **settings)
    api = RestApi(connection, "collect.rest", 2)
    try:
        return await api.pages(
            connection.url, connection.body, Asked(*HOUR, "p1", "cpu"), Expression("collect.rest.items", items)
        )
    finally:
        await api.close()


def metrics(text: str = METRICS) -> tuple[Metric, ...]:
    return read(text, "metrics.yml", Factory.read_extra_args).metrics


def context(
    endpoint: Endpoint, text: str = METRICS, *, url: str = "/usage?scope={scope}", **rest: Any
) -> SourceContext:
    """What a source is built from that asks the endpoint."""
    chosen = {"quantity": "qty", "items": "items", **rest}
    settings = CollectorSettings(source="rest", rest=RestSettings(url=endpoint.url + url, **chosen))
    return SourceContext(settings, 3600, metrics(text))


async def collect(endpoint: Endpoint, text: str = METRICS, *, scope_id: str = "p1", **rest: Any) -> Answer:
    """What the source answers for the first metric and one hour."""
    made = context(endpoint, text, **rest)
    source = Factory.build(made)
    try:
        return await source.session(HOUR, HOUR.end + 300).collect(scope_id, made.metrics[0])
    finally:
        await source.close()
