"""HTTP around the handlers: routes, limits, who is asking, and what comes back, on aiohttp."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import unquote

from aiohttp import web

from rater.api.audit_log import current_trail
from rater.api.cloudkitty import (
    v1_collectors,
    v1_hashmap,
    v1_info,
    v1_mappings,
    v1_pyscripts,
    v1_quote,
    v1_rating,
    v1_report,
    v1_thresholds,
    v2,
    v2_modules,
    v2_posting,
    v2_scopes,
    v2_tasks,
)
from rater.api.cloudkitty.calls import Backend, Call, Handler, Post
from rater.api.cloudkitty.faults import JSON, ApiFaultError, fault_body
from rater.api.faults import RefusalError
from rater.api.identity import Authenticator
from rater.api.incoming import PathTable, body_of
from rater.model.codec import encode_json
from rater.reports import BeyondRetentionError, StoreError
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.usage_log import UsageWriter, WriterFullError

__all__ = ["CloudKittyService", "posting", "reading"]

log = logging.getLogger(__name__)

ROUTES = {
    1: (
        *v1_info.ROUTES,
        *v1_collectors.ROUTES,
        *v1_report.ROUTES,
        *v1_rating.ROUTES,
        *v1_quote.ROUTES,
        *v1_hashmap.ROUTES,
        *v1_mappings.ROUTES,
        *v1_thresholds.ROUTES,
        *v1_pyscripts.ROUTES,
    ),
    2: (*v2.ROUTES, *v2_posting.ROUTES, *v2_modules.ROUTES, *v2_scopes.ROUTES, *v2_tasks.ROUTES),
}
_Found: TypeAlias = tuple[Handler, dict[str, str]]
_ALIAS = {"billing": "rating"}
_SOON = {"Retry-After": "2"}
_NOT_FOUND = "The resource could not be found."


def reading(threads: ThreadPoolExecutor) -> Callable[[Callable[[], Any]], Any]:
    """What runs questions to the store in these threads; the store's faults become answers."""

    async def read(ask: Callable[[], Any]) -> Any:
        try:
            inside = copy_context().run  # what is logged in the thread has the id of the request, too
            return await asyncio.get_running_loop().run_in_executor(threads, inside, ask)
        except BeyondRetentionError as fault:
            raise ApiFaultError(410, str(fault)) from fault
        except StoreError as fault:
            log.warning("the store cannot be read: %s", fault)
            raise ApiFaultError(503, "the store cannot be read now: ask again", headers={"Retry-After": "2"}) from fault

    return read


def posting(writer: UsageWriter) -> Post:
    """What writes records to `usage`; the writer's faults become answers."""

    async def post(records: Sequence[tuple[bytes, bytes]]) -> None:
        try:
            await writer.write(records)
        except WriterFullError as fault:
            log.warning("nothing can be posted: %s", fault)
            raise ApiFaultError(503, "too much is under way: nothing was written, ask again", headers=_SOON) from fault
        except StreamUnavailableError as fault:
            log.warning("nothing can be posted: %s", fault)
            raise ApiFaultError(
                503,
                "Kafka did not confirm all of it: what was posted may be there, wholly or in part. Sent again "
                "to this process within the hour it counts once; with an Idempotency-Key also later, and elsewhere",
                headers=_SOON,
            ) from fault

    return post


class CloudKittyService:
    """Answers `/`, `/healthcheck`, `/v1/…` and `/v2/…`. Nothing that is asked for raises."""

    def __init__(self, backend: Backend, authenticator: Authenticator, max_in_flight: int) -> None:
        self._backend = backend
        self._authenticator = authenticator
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._tables = {version: PathTable(routes, lambda route: route.path) for version, routes in ROUTES.items()}

    def routes(self) -> list[web.RouteDef]:
        """For the application that this is a part of."""
        paths = ("/", "/healthcheck", "/v1", "/v1/{rest:.*}", "/v2", "/v2/{rest:.*}")
        return [web.route("*", path, self.handle) for path in paths]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request to these paths."""
        version = 2 if request.path.startswith("/v2") else 1
        self._in_flight += 1
        try:
            self._check_load()
            return await self._answer(request, version)
        except (ApiFaultError, RefusalError) as raised:
            fault = raised if isinstance(raised, ApiFaultError) else _of_all_versions(raised)
            log.info("refused: status=%d path=%r: %r", fault.status, request.path, fault.for_logs)
            current_trail().refused = fault.for_logs
            body, form = fault_body(fault, version, request.headers.get("Accept", ""))
            return _response(fault.status, body, form, fault.headers)
        finally:
            self._in_flight -= 1

    def _check_load(self) -> None:
        if self._in_flight > self._max_in_flight:
            raise ApiFaultError(503, "too many requests are under way: ask again", headers={"Retry-After": "1"})

    async def _answer(self, request: web.Request, version: int) -> web.StreamResponse:
        segments = _segments(request)
        if segments in (["healthcheck"], []):
            _only_get(request, ["GET"])
            if segments:
                return _health(request)
            return _response(200, encode_json(_versions(request)), JSON)
        trail = current_trail()
        (handler, path), trail.route = self._route(request, version, segments[1:])
        identity = await self._authenticator.identify(request.headers)
        now = datetime.now(UTC).astimezone(self._backend.zone)
        query = list(request.query.items())
        call = Call(
            identity, path, query, await _body(request), now, str(request.url.with_query(None)), request.headers
        )
        answer = await handler(self._backend, call)
        trail.before = answer.before
        trail.after = answer.value if answer.after is None and trail.writes else answer.after
        if answer.chunks is not None:
            return await self._stream(request, answer.chunks)
        if answer.empty or answer.status == 204:
            return web.Response(status=answer.status, headers=answer.headers)
        return _response(answer.status, encode_json(answer.value), JSON, answer.headers)

    def _route(self, request: web.Request, version: int, segments: list[str]) -> tuple[_Found, str]:
        """Who handles it, with what stands in its path, and the route. Raises ApiFaultError 404 or 405."""
        if version == 1:
            if segments and not segments[-1]:
                segments = segments[:-1]  # one slash at the end says nothing
            if not segments:
                raise ApiFaultError(405, "This method is not allowed here.", of_route=True)
            segments = [_ALIAS.get(segments[0], segments[0]), *segments[1:]]
        methods: dict[str, tuple[_Found, str]] = {}
        for route, path in self._tables[version].matching(segments):
            methods.setdefault(route.method, ((route.handler, path), f"/v{version}/{route.path}"))
        if not methods and version == 1 and len(segments) == 1:  # pecan's root knows no GET, whatever follows
            raise ApiFaultError(405, "This method is not allowed here.", of_route=True)
        if not methods:
            raise ApiFaultError(404, _NOT_FOUND, of_route=True)
        _only_get(request, sorted(methods))
        return methods["GET" if request.method == "HEAD" else request.method]

    async def _stream(self, request: web.Request, chunks: Iterator[bytes]) -> web.StreamResponse:
        """Sends chunks as they are made. A fault before the first rows is an answer, a later one breaks off."""
        response = web.StreamResponse(headers={"Content-Type": JSON})
        try:
            begin = [await self._next(chunks) for _ in range(2)]
            await response.prepare(request)
            for part in begin:
                await response.write(part)
            while part := await self._next(chunks):
                await response.write(part)
            await response.write_eof()
        except ConnectionError:  # a plain one if it goes while the socket is full
            log.debug("a reader hung up")
            _break_off(request)
        except ApiFaultError:
            if not response.prepared:
                raise
            _break_off(request)
        return response

    async def _next(self, chunks: Iterator[bytes]) -> bytes:
        found: bytes = await self._backend.read(lambda: next(chunks, b""))
        return found


def _of_all_versions(refused: RefusalError) -> ApiFaultError:
    """What is refused where all versions share the code, such as the policy, as CloudKitty's API says it."""
    return ApiFaultError(refused.problem.status, str(refused), headers=refused.headers)


def _break_off(request: web.Request) -> None:
    """Half an answer must not look like a whole one."""
    if request.transport is not None:
        request.transport.abort()


def _segments(request: web.Request) -> list[str]:
    """What stands between the slashes, each decoded by itself; an encoded slash is no border."""
    raw = request.rel_url.raw_path.removeprefix("/")
    return [unquote(segment) for segment in raw.split("/")] if raw else []


def _only_get(request: web.Request, methods: list[str]) -> None:
    if ("GET" if request.method == "HEAD" else request.method) not in methods:
        headers = {"Allow": ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])}
        raise ApiFaultError(405, "This method is not allowed here.", of_route=True, headers=headers)


async def _body(request: web.Request) -> bytes:
    if request.can_read_body and request.method not in ("GET", "HEAD") and request.content_type != JSON:
        # other types are what a page from elsewhere can make a browser send without asking
        raise ApiFaultError(415, f"the body has type {request.content_type!r}: send {JSON}")
    if request.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise ApiFaultError(415, "send the body without content encoding")
    return await body_of(request, "the body is too large")


def _versions(request: web.Request) -> dict[str, Any]:
    """The root document. The host is the one that was asked for, so that it is right behind a proxy that says so."""
    base = f"{request.scheme}://{request.host}"
    return {
        "versions": [
            {"id": name, "links": [{"href": f"{base}/{name}", "rel": "self"}], "status": status}
            for name, status in (("v1", "CURRENT"), ("v2", "EXPERIMENTAL"))
        ]
    }


def _health(request: web.Request) -> web.Response:
    if JSON in request.headers.get("Accept", ""):
        return _response(200, encode_json({"detailed": False, "reasons": ["OK"]}), JSON)
    return _response(200, b"OK", "text/plain")


def _response(status: int, body: bytes, form: str, headers: Mapping[str, str] | None = None) -> web.Response:
    charset = None if form == JSON else "utf-8"
    return web.Response(status=status, body=body, content_type=form, charset=charset, headers=headers)
