"""The aiohttp application: `POST /v3/usage` and its description, with limits before anything is read.

A request is answered when Kafka has confirmed all of it. On the way out the service takes nothing new and answers what
it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry

from rater.api import docs_page
from rater.api.access import Access, open_access
from rater.api.audit_log import current_trail
from rater.api.cloudkitty.service import CloudKittyService
from rater.api.connections import IDLE_SECONDS
from rater.api.credentials import check_exposure
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.incoming import body_of
from rater.api.intake import Intake
from rater.api.openapi import document
from rater.api.reading import decompressed, read_push
from rater.api.settings import ApiSettings
from rater.api.tls import open_certificates
from rater.api.transport import Transport
from rater.api.v3.service import V3Service
from rater.client.wire import IDEMPOTENCY_KEY, PATH, UsagePush
from rater.model.codec import encode_json
from rater.observe import ListenError, endpoint, is_loopback
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.usage_log import UsageWriter, WriterFullError
from rater.tracing import OFF, Tracing

__all__ = ["Api", "serve"]

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
LINGER_SECONDS = 5.0
"""For the rest of a body that was refused: who sends it should see the answer."""
HANDSHAKE_SECONDS = 10.0
_GRACE_SECONDS = 5.0


class _NoTraceback(logging.Filter):
    """What is no HTTP is the fault of whoever sent it: a line as of every refusal, where aiohttp logs a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged as it is."""
        fault = record.exc_info[1] if record.exc_info else None
        if not isinstance(fault, HttpProcessingError):
            return True
        # its text shows what was sent, a token perhaps
        log.info("refused: status=%d, this is no HTTP: %s", fault.code, type(fault).__name__)
        return False


_server_log = logging.getLogger("rater.api.server")
_server_log.addFilter(_NoTraceback())

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """What the handlers share."""

    def __init__(
        self,
        settings: ApiSettings,
        intake: Intake,
        writer: UsageWriter,
        registry: CollectorRegistry,
        cloudkitty: Callable[[Access], CloudKittyService] | None = None,
        v3: Callable[[Access], V3Service] | None = None,
        *,
        tracing: Tracing = OFF,
    ) -> None:
        """`cloudkitty` makes what answers /v1 and /v2, `v3` what reads below /v3.

        Raises TokenFileError, AuditFileError.
        """
        self.settings = settings
        self._intake = intake
        self._writer = writer
        self._access = open_access(settings)
        self._cloudkitty = cloudkitty(self._access) if cloudkitty else None
        self._v3 = v3(self._access) if v3 else None
        self._certificates = open_certificates(settings)
        self._transport = Transport(settings, registry, self._certificates, tracing)
        self._metrics = self._transport.metrics
        self._in_flight = 0
        described = document(self._v3.operations if self._v3 else ())
        self._description, self._page = encode_json(described), docs_page.page(described)
        # Without a token a browser on this machine is as good as its user: a page from elsewhere that got its own
        # name to point here (DNS rebinding) is told by the name it asks for.
        self._only_local = not settings.asks_everybody and not settings.i_know

    def application(self) -> web.Application:
        """The application, ready to be served."""
        app = web.Application(middlewares=[self._answered], client_max_size=self.settings.max_body_bytes)
        app.on_response_prepare.append(self._transport.prepared)
        app.add_routes([web.post(PATH, self._usage), web.get("/v3/openapi.json", self._openapi)])
        app.add_routes([web.get("/v3/docs", self._docs)])
        if self._v3 is not None:
            app.add_routes(self._v3.routes())
            app.on_shutdown.append(self._v3.end)
        if self._cloudkitty is not None:
            app.add_routes(self._cloudkitty.routes())
        return app

    @web.middleware
    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """As the transport wants it for every path."""
        return await self._transport.answered(request, lambda: self._handled(request, handler))

    async def _handled(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The answer. Refusals become problem documents, and are logged."""
        try:
            self._check_host(request)
            return await self._transport.admitted(request) or await handler(request)
        except RefusalError as refused:
            return self._refuse(request, refused)
        except web.HTTPException as fault:
            said = f"{fault.reason}: there are POST {PATH} and GET /v3/openapi.json"
            return self._refuse(request, RefusalError(fault.status, said))

    def red(self) -> str:
        """Why it cannot do all of its work."""
        return "; ".join(filter(None, (self._writer.red(), self._transport.red(), self._access.red())))

    def warning(self) -> str:
        """What will be wrong if nobody does anything."""
        return self._certificates.warning() if self._certificates is not None else ""

    async def listening(self, runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
        """A server of that application, with the limits of connections. Raises OSError."""
        speaks_http = runner.server
        assert speaks_http is not None, "it was set up"
        tls: dict[str, Any] = {}
        if self._certificates is not None:
            tls = {"ssl": self._certificates.context, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        return await asyncio.get_running_loop().create_server(
            lambda: self._transport.connections.protocol(speaks_http), host, port, **tls
        )

    async def close(self) -> None:
        """After everybody was answered."""
        await self._transport.audit.close()
        await self._access.close()

    def _check_host(self, request: web.Request) -> None:
        if self._only_local and not is_loopback(_host(request)):
            raise RefusalError(403, f"this service is not {request.host!r}: ask for it by a loopback address")

    def _refuse(self, request: web.Request, refused: RefusalError) -> web.Response:
        problem = refused.problem
        current_trail().refused = str(refused)
        first = problem.faults[0].place if problem.faults else ""  # what is wrong there may be a label or a quantity
        # What comes from outside is quoted: a line of ours stays one line.
        log.info(
            "refused: status=%d caller=%r path=%r: %r %r",
            problem.status,
            refused.caller,
            request.path,
            str(refused),
            first,
        )
        return web.Response(
            status=problem.status, body=encode_json(problem), content_type=PROBLEM, headers=refused.headers
        )

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")

    async def _docs(self, _: web.Request) -> web.Response:
        return web.Response(body=self._page, headers=docs_page.HEADERS)

    async def _usage(self, request: web.Request) -> web.Response:
        identity = await self._access.identify(request.headers)
        if self._in_flight >= self.settings.max_in_flight:
            raise RefusalError(429, f"{self._in_flight} requests are under way already", retry_after=1)
        self._in_flight += 1
        try:
            return await self._take(request, identity)
        except RefusalError as refused:
            refused.caller = identity.user
            raise
        finally:
            self._in_flight -= 1

    async def _take(self, request: web.Request, identity: Identity) -> web.Response:
        trouble = self._writer.red()
        if trouble:  # before the body is read: it would be for nothing
            raise RefusalError(503, f"nothing was written: {trouble}", retry_after=2)
        push = await self._read(request)
        taken = self._intake.take(push, request.headers.get(IDEMPOTENCY_KEY, ""), identity.may_push)
        began = time.monotonic()
        try:
            await self._writer.write([(record.scope_id.encode(), record.value) for record in taken.records])
        except WriterFullError as fault:
            raise RefusalError(429, f"nothing was written: {fault}", retry_after=1) from fault
        except StreamUnavailableError as fault:
            raise RefusalError(
                503, f"not all of it is known to be written: {fault}. Send the same again", retry_after=2
            ) from fault
        current_trail().after = {"records": len(taken.records), "samples": taken.accepted.samples}
        self._metrics.acknowledge_seconds.observe(time.monotonic() - began)
        self._metrics.samples.inc(taken.accepted.samples)
        log.debug("taken: caller=%r records=%d samples=%d", identity.user, len(taken.records), taken.accepted.samples)
        return web.Response(status=202, body=encode_json(taken.accepted), content_type="application/json")

    async def _read(self, request: web.Request) -> UsagePush:
        if "Content-Type" not in request.headers:
            raise RefusalError(415, "there is no header Content-Type: send application/json or application/msgpack")
        sent = await body_of(request, f"the body is larger than {self.settings.max_body_bytes} bytes: split it")
        body = decompressed(sent, request.headers.get("Content-Encoding", ""), self.settings.max_body_bytes)
        self._metrics.bytes.inc(len(body))
        return read_push(body, request.content_type)


def _host(request: web.Request) -> str:
    host = request.host
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@asynccontextmanager
async def serve(api: Api, settings: ApiSettings) -> AsyncIterator[str]:
    """Serves while the block runs; gives the base URL. Raises ListenError.

    At the end nothing new is taken, and what was taken is answered.
    """
    exposure = check_exposure(settings)
    host, port = endpoint(settings.listen)
    runner = web.AppRunner(
        api.application(),
        access_log=None,
        logger=_server_log,
        auto_decompress=False,  # aiohttp's own goes on through a bomb while it drains what it refused
        shutdown_timeout=settings.confirm_seconds + _GRACE_SECONDS,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=LINGER_SECONDS,
    )
    await runner.setup()
    server: asyncio.Server | None = None
    try:
        try:
            server = await api.listening(runner, host, port)
        except OSError as fault:
            raise ListenError(f"cannot listen on {settings.listen}: {fault.strerror}; set api.listen") from fault
        bound = server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if settings.certificate_file else 'http'}://{shown}:{bound}"
        log.info("usage is taken at %s%s; %s", url, PATH, exposure)
        yield url
    finally:
        if server is not None:
            server.close()
        await runner.cleanup()
        await api.close()
