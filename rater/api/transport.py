"""What happens to every request, whatever its path: an id, limits, the audit log, metrics, headers of the answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from uuid import uuid4

from aiohttp import web, web_response
from prometheus_client import CollectorRegistry

from rater.api.audit_log import AuditLog, Trail, current_trail, open_trail
from rater.api.browsers import Browsers
from rater.api.connections import Connections
from rater.api.limits import RateLimits
from rater.api.metrics import ApiMetrics
from rater.api.settings import ApiSettings
from rater.api.tls import Certificates
from rater.observe import REQUEST_ID
from rater.tracing import OFF, TRACEPARENT, Tracing

__all__ = ["REQUEST_IDS", "Transport"]

REQUEST_IDS = ("X-OpenStack-Request-ID", "X-Request-ID")
"""Headers with the id of a request, in and out."""
SERVER = "rater"
FAULT_OF_OURS = 500
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MAX_HOPS = 20  # of X-Forwarded-For that are looked at
_ANY = "{rest}"  # the end of a route that stands for whatever is below it

# What is refused before it is a request is answered by aiohttp, which would tell its version and has no setting for it.
web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]  # imported there, not declared


class Transport:
    """Around the handlers. What goes wrong in here is a RefusalError, as in them."""

    def __init__(
        self,
        settings: ApiSettings,
        registry: CollectorRegistry,
        certificates: Certificates | None,
        tracing: Tracing = OFF,
    ) -> None:
        """Raises AuditFileError."""
        self._tracing = tracing
        self._in_flight = 0
        self.metrics = ApiMetrics(registry, lambda: self._in_flight)
        self.audit = AuditLog(settings.audit_file)
        self._limits = RateLimits(settings.rate_limits)
        self._browsers = Browsers(settings.cors)
        self._proxies = [ip_network(proxy) for proxy in settings.proxies]
        self.connections = Connections(
            settings.max_connections, settings.max_connections_per_address, self._is_proxy, self.metrics.cut
        )
        self.metrics.gauge("rater_api_connections", "Connections that are open", lambda: self.connections.open)
        self.metrics.gauge(
            "rater_api_audit_log_failed", "1 while the audit log cannot be written", lambda: bool(self.audit.red())
        )

        self._certificates = certificates
        if certificates is not None:
            self.metrics.gauge(
                "rater_api_certificate_expiry_timestamp_seconds",
                "End of the certificate",
                lambda: certificates.expires_at,
            )
            self.metrics.gauge(
                "rater_api_certificate_reload_failed",
                "1 while the files of TLS are broken and older ones in force",
                lambda: bool(certificates.fault()),
            )

    def red(self) -> str:
        """Why it cannot do all of its work."""
        ended = self._certificates.red() if self._certificates is not None else ""
        return "; ".join(filter(None, (self.audit.red(), ended)))

    async def answered(
        self, request: web.Request, handle: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """What `handle` answers: recorded before it is sent if the request writes, and counted."""
        trail = self._trail(request)
        REQUEST_ID.set(trail.request_id)
        open_trail(trail)
        began, status, sent, endless = time.monotonic(), 500, 0, False
        connection = request.transport
        self.connections.begun(connection)
        self._in_flight += 1
        try:
            answer = await self._traced(request, trail, handle)
            status, sent = answer.status, _length(answer)
            endless = answer.content_type == "text/event-stream"
        except asyncio.CancelledError:
            status = 0
            raise
        finally:
            self._in_flight -= 1
            self.connections.ended(connection)
            self._limits.unknown.count(trail)
            await self.audit.record(trail, status)
            seconds = None if endless else time.monotonic() - began
            self.metrics.answered(trail.method, trail.route, status, seconds, sent)
        return answer

    async def _traced(
        self, request: web.Request, trail: Trail, handle: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """What `handle` answers, in a span of the client's trace if it sent one. A query stands in none."""
        with self._tracing.span(
            f"{trail.method} {trail.route}".rstrip(),
            "server",
            parent=request.headers.get(TRACEPARENT, ""),
            http__request__method=trail.method,
            http__route=trail.route,
            rater__request_id=trail.request_id,
        ) as span:
            answer = await handle()
            span.note(http__response__status_code=answer.status)
            if answer.status >= FAULT_OF_OURS:
                span.fail(str(answer.status))
            return answer

    async def admitted(self, request: web.Request) -> web.Response | None:
        """Before it is handled; an answer if a browser asks no more than whether it may. Raises RefusalError."""
        preflight = self._browsers.preflight(request)
        if preflight is None:
            self._browsers.check(request)
            self._limits.unknown.check(current_trail())
            await self.audit.check(current_trail())
        return preflight

    async def prepared(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Completes the head of any answer before it is sent."""
        answer.headers["Server"] = SERVER
        for name in REQUEST_IDS:
            answer.headers[name] = current_trail().request_id
        self._browsers.complete(request, answer)

    def _trail(self, request: web.Request) -> Trail:
        sent = next((request.headers[name] for name in REQUEST_IDS if name in request.headers), "")
        # what would break a line or stand for nothing is not taken over
        request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req-{uuid4()}"
        address = self._address(request)
        trail = Trail(request_id, request.method, request.path, request.query_string, address, self._limits.identified)
        resource = request.match_info.route.resource
        canonical = resource.canonical if resource is not None else ""
        trail.route = "" if canonical.endswith(_ANY) else canonical
        return trail

    def _address(self, request: web.Request) -> str:
        """Of the client: what the last of our proxies has seen, or else who is connected."""
        address = request.remote or ""
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")[-_MAX_HOPS:]):
            if not self._is_proxy(address) or not _is_address(hop.strip()):
                break
            address = hop.strip()
        return address

    def _is_proxy(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._proxies)


def _length(answer: web.StreamResponse) -> int:
    """Bytes of the body: of a stream those that were sent, of any other those that will be."""
    if isinstance(answer, web.Response):
        return len(answer.body) if isinstance(answer.body, bytes) else 0
    return answer.body_length


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
