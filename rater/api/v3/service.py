"""HTTP around the operations of /v3: routes, limits, who is asking, and what comes back, on aiohttp."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from rater.api.audit_log import current_trail
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.faults import RefusalError
from rater.api.identity import Authenticator
from rater.api.incoming import body_of
from rater.api.v3.arguments import read_arguments
from rater.api.v3.operations import Asked, Backend, Operation, Reply
from rater.api.v3.routing import Found, Routes, chosen_form, segments_of
from rater.api.v3.sending import break_off, send, send_events
from rater.client.wire import PATH
from rater.model.codec import encode_json

__all__ = ["V3Service"]

log = logging.getLogger(__name__)

ELSEWHERE = (
    ("POST", PATH.removeprefix("/v3/")),
    ("GET", "openapi.json"),
    ("GET", "docs"),
)
"""What the application answers itself."""


class V3Service:
    """Answers /v3. Every refusal is raised as RefusalError, which the application makes a problem document of."""

    def __init__(
        self, backend: Backend, operations: Sequence[Operation], authenticator: Authenticator, max_in_flight: int
    ) -> None:
        self.operations = tuple(operations)
        self._backend = backend
        self._authenticator = authenticator
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._routes = Routes(operations, ELSEWHERE)
        self._ending = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        """For the application that this is a part of; after what answers single paths below /v3."""
        return [web.route("*", path, self.handle) for path in ("/v3", "/v3/{rest:.*}")]

    async def end(self, _: web.Application) -> None:
        """The service ends: listeners, who would stay, are sent away."""
        self._ending.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request to these paths. Raises RefusalError."""
        trail = current_trail()
        self._in_flight += 1
        try:
            if self._in_flight > self._max_in_flight:
                raise RefusalError(429, f"{self._in_flight - 1} requests are under way already", retry_after=1)
            found = self._routes.find(request.method, segments_of(request.rel_url.raw_path))
            operation = found.operation
            form = chosen_form(request.headers.get("Accept", ""), operation.forms)
            trail.route = f"/v3/{operation.path}"
            asked = await self._asked(request, found, form)
            reply = await operation.handler(self._backend, asked)
            if operation.writes:
                trail.before = reply.before
                trail.after = reply.value if reply.after is None else reply.after
            if reply.events is None:
                return await self._answer(request, operation, form, reply)
        except ApiFaultError as fault:  # of what is shared with CloudKitty's API
            refused = RefusalError(fault.status, str(fault))
            refused.more_headers.update(fault.headers)
            raise refused from fault
        finally:
            self._in_flight -= 1
        # a listener stays for long: it has limits of its own
        return await send_events(request, reply.events, reply.headers, self._ending)

    async def _asked(self, request: web.Request, found: Found, form: str) -> Asked[Any, Any]:
        operation = found.operation
        identity = await self._authenticator.identify(request.headers)
        content_type = request.content_type if "Content-Type" in request.headers else ""
        body = await _body(request)
        parameters, content = read_arguments(
            operation, found.path, list(request.query.items()), request.headers, body, content_type
        )
        return Asked(identity, operation.action, parameters, content, datetime.now(UTC), form, content_type)

    async def _answer(self, request: web.Request, operation: Operation, form: str, reply: Reply) -> web.StreamResponse:
        status = reply.status or operation.status
        if reply.chunks is not None:
            return await self._stream(request, reply.chunks, status, {**reply.headers, "Content-Type": form})
        content = reply.content
        if content is None and operation.result is not None:
            content = encode_json(reply.value)
        if content is None:
            return web.Response(status=status, headers=reply.headers)
        return web.Response(status=status, body=content, headers={**reply.headers, "Content-Type": form})

    async def _stream(
        self, request: web.Request, chunks: Iterator[bytes], status: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Sends chunks as they are made. A fault before the first one is an answer, a later one breaks off."""
        response = web.StreamResponse(status=status, headers=headers)
        try:
            part = await self._next(chunks)
            await response.prepare(request)
            while part and request.method != "HEAD":
                await send(request, response, part)
                part = await self._next(chunks)
            await response.write_eof()
        except ConnectionError:  # a plain one if it goes while the socket is full
            log.debug("a reader hung up")
            break_off(request)
        except (RefusalError, ApiFaultError):
            if not response.prepared:
                raise
            break_off(request)
        finally:
            close: Callable[[], Any] | None = getattr(chunks, "close", None)
            if close is not None:
                close()
        return response

    async def _next(self, chunks: Iterator[bytes]) -> bytes:
        found: bytes = await self._backend.read(lambda: next(chunks, b""))
        return found


async def _body(request: web.Request) -> bytes:
    """Raises RefusalError."""
    if request.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise RefusalError(415, "send the body without content encoding")
    return await body_of(request, "the body is too large: api.max_body_bytes is the limit")
