"""A receiver of traces as collectors of OpenTelemetry are: OTLP over HTTP, decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

CLIENT, SERVER, PRODUCER, CONSUMER = 3, 2, 4, 5


class Got(NamedTuple):
    """A span as it came. Ids are hexadecimal; `links` are (trace id, span id)."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    events: tuple[str, ...]
    seconds: float
    is_failed: bool

    @property
    def place(self) -> tuple[str, str]:
        return self.trace_id, self.span_id

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


class Receiver:
    """What came so far."""

    def __init__(self) -> None:
        self.spans: list[Got] = []
        self.bodies: list[bytes] = []
        """As they were sent, not compressed."""
        self.authorizations: set[str] = set()
        self.url = ""
        self.hangs = False
        """Whether it answers nobody, which is worse than to be away."""
        self.left_waiting = 0

    def named(self, name: str, service: str = "", **attributes: Any) -> list[Got]:
        """Spans of that name and service with these attributes; `__` in one's name stands for a dot."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            span
            for span in self.spans
            if span.name == name
            and service in ("", span.service)
            and all(span.attributes.get(key) == value for key, value in wanted.items())
        ]

    async def until(self, find: Callable[[], Any], seconds: float = 60) -> Any:
        """What `find` gives once that is something."""
        async with asyncio.timeout(seconds):
            while not (found := find()):
                await asyncio.sleep(0.05)
        return found

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp undoes the compression
        if self.hangs:
            self.left_waiting += 1
            await asyncio.sleep(3600)
        self.bodies.append(body)
        self.authorizations.add(request.headers.get("Authorization", ""))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            self.spans += [_got(service, span) for scope in resource.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


def _values(attributes: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in attributes}


def _got(service: str, span: Any) -> Got:
    return Got(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        _values(span.attributes),
        tuple(event.name for event in span.events),
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        span.status.code == span.status.STATUS_CODE_ERROR,
    )


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver at a free port of this machine, for as long as the block lasts."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes([web.post("/v1/traces", receiver.take)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
        yield receiver
    finally:
        await runner.cleanup()
