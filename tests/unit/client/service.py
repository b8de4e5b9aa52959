"""A service that answers as it is told to, for what the real one does seldom. Its answers to good requests are real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rater.api.intake import Intake, Limits
from rater.api.reading import read_push
from rater.client.wire import Problem
from rater.model.codec import encode_json
from rater.model.metric import Catalog, Coverage, MetricSpec

INTAKE = Intake(
    Catalog(
        [MetricSpec("net", proof=Coverage.SAMPLES), MetricSpec("calls", proof=Coverage.SAMPLES), MetricSpec("cpu")]
    ),
    Limits(10_000, 3600),
    "usage",
    2,
)
Answer = Callable[[web.Request], web.Response | None]


class Service:
    """Takes requests as the real one; `answers` come first, in order, one for each request."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        app = web.Application(client_max_size=10_000_000)
        app.add_routes([web.post("/v3/usage", self._usage)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _usage(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.headers.append(request.headers)
        answer = self.answers.pop(0)(request) if self.answers else None
        if answer is not None:
            return answer
        return web.Response(status=202, body=encode_json(self.taken(body)))

    @staticmethod
    def taken(body: bytes) -> Any:
        return INTAKE.take(read_push(body, "application/msgpack"), "", lambda scope, source: True).accepted


def status(number: int, headers: dict[str, str] | None = None, detail: str = "so it is") -> Answer:
    """Answers with a problem."""
    body = encode_json(Problem("No", number, detail))
    return lambda _: web.Response(status=number, body=body, headers=headers)


def plain(number: int, text: str) -> Answer:
    """Answers as something else than rater would."""
    return lambda _: web.Response(status=number, text=text)


def cut(request: web.Request) -> None:
    """Cuts the connection instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
