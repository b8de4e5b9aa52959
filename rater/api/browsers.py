"""What browsers are held to: which pages may use the API (CORS), and what may be done with answers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from rater.api.faults import RefusalError
from rater.api.transport_settings import CorsSettings

__all__ = ["SECURITY_HEADERS", "Browsers"]

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer that does not say otherwise: it is usage and prices, and no page."""
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_TAKEN = (
    "Authorization, X-Auth-Token, Content-Type, Content-Encoding, Accept, Idempotency-Key, If-Match, If-None-Match, "
    "Last-Event-ID, X-Request-ID, X-OpenStack-Request-ID"
)
_SHOWN = "X-Request-ID, X-OpenStack-Request-ID, Retry-After, Location, ETag, Link"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Browsers:
    """Decides by the header `Origin`, which no page can forge."""

    def __init__(self, settings: CorsSettings) -> None:
        self._settings = settings
        self._origins = frozenset(origin.lower() for origin in settings.origins)

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether it may; None for any other request, and where nobody may."""
        asked = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers and request.method == "OPTIONS"
        if not asked or not self._allows(request.headers.get(hdrs.ORIGIN, "")):
            return None
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _TAKEN,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(self._settings.max_age),
        }
        return web.Response(status=204, headers=headers)

    def check(self, request: web.Request) -> None:
        """Raises RefusalError 403 for a write by a page from elsewhere.

        A browser sends simple ones without asking, and with a client certificate, or from a machine that needs no
        token, they would be done.
        """
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or request.method in _READING or self._allows(origin):
            return
        if urlsplit(origin).netloc.lower() != request.host.lower():
            raise RefusalError(403, f"pages of {origin[:100]!r} may not write here: api.cors.origins does not name it")

    def complete(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Adds the headers of any answer."""
        for name, value in SECURITY_HEADERS.items():
            answer.headers.setdefault(name, value)
        if not self._origins:
            return
        origin = request.headers.get(hdrs.ORIGIN, "")
        if "*" not in self._origins:
            answer.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if self._allows(origin):
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if "*" in self._origins else origin
            answer.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _SHOWN
            if self._settings.credentials:
                answer.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"

    def _allows(self, origin: str) -> bool:
        return bool(origin) and ("*" in self._origins or origin.lower() in self._origins)
