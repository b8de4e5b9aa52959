"""What a running service tells the outside: logs, `/healthz`, `/readyz` and `/metrics`.

`/healthz` answers as long as the event loop turns; `/readyz` asks every named check and says which are red and why.
While a request is worked on, its id stands in every line of the log, and so do the fields of `rater.log_fields`.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from rater.config import ObserveSettings
from rater.log_fields import FIELDS, fields_of_context
from rater.metrics import register_readiness
from rater.model.errors import RaterError

__all__ = ["REQUEST_ID", "Check", "ListenError", "endpoint", "is_loopback", "serve_health", "setup_logging"]

log = logging.getLogger(__name__)

Check = Callable[[], str]
"""Why a part of the service is red, as a sentence; empty while it is green."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is worked on; empty outside of one. It holds no white space."""

_OURS = ("rater", "collectors", "deploy")
_NOISY = ("aiokafka", "faust", "mode", "asyncio", "clickhouse_connect", "aiohttp.access", "opentelemetry")
_SELDOM = ("aiokafka", "opentelemetry")
_PLAIN = re.compile(r"[\w.:/@+-]+")  # a value that the text form shows without quotes
REPEAT_SECONDS = 60.0
MAX_REPEATS = 1000  # texts that are remembered


class ListenError(RaterError):
    """The health endpoint cannot listen where it should."""


class _Text(logging.Formatter):
    """`2026-01-01T00:00:00Z INFO rater.stream: message`; of a request `… INFO rater.api.app [its id]: message`.

    What a line is about stands there too: `… WARNING collectors.runner [scope_id=a metric=cpu]: message`.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(about)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        shown = [f"{name}={_quoted(value)}" for name, value in _fields(record).items() if name not in _JSON_ONLY]
        about = " ".join(filter(None, (REQUEST_ID.get(), *shown)))
        record.about = f" [{about}]" if about else ""
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  logging's own name
        return _at(record)


_JSON_ONLY = frozenset({"message", "audit", "trace_id", "span_id"})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the line is about; times as text."""
    fields = {**fields_of_context(), **getattr(record, FIELDS, {})}
    if isinstance(begin := fields.get("period_begin"), int):
        fields["period_begin"] = datetime.fromtimestamp(begin, UTC).isoformat().replace("+00:00", "Z")
    return fields


def _quoted(value: object) -> str:
    """A value that came from outside cannot look like another field, nor like another line."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else repr(text)


def _is_told(record: logging.LogRecord) -> bool:
    """Whether nobody's secret can be in the line: below `info` only our own are known to keep them."""
    return record.levelno >= logging.INFO or record.name.partition(".")[0] in _OURS


class _Seldom(logging.Filter):
    """Lets the same text of some clients through once in REPEAT_SECONDS: in an outage it comes several a second."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_SELDOM):
            return True
        # OpenTelemetry's texts name the seconds until it tries again, which always differ
        text = record.getMessage() if record.name.startswith("aiokafka") else record.msg
        if record.created - self._told.get(text, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._told) >= MAX_REPEATS:
            self._told.clear()
        self._told[text] = record.created
        return True


class _Json(logging.Formatter):
    """One JSON object per line; a traceback stands in `error`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "logged_at": _at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            entry["request_id"] = request_id
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return orjson.dumps({**entry, **_fields(record)}).decode()


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def setup_logging(settings: ObserveSettings, stream: TextIO | None = None) -> None:
    """Sends all logs to `stream` (stderr) in the chosen form. Libraries speak from `warning` on, those that talk much.

    None speaks below `info`, whatever the level: the debug lines of clients hold what they send and get, usage and
    passwords among it.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text())
    handler.addFilter(_is_told)
    handler.addFilter(_Seldom())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = settings.log_level.upper()
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel("INFO" if level == "DEBUG" else max(root.level, logging.WARNING))


def endpoint(listen: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 address stands in brackets. Raises ListenError."""
    host, _, port = listen.rpartition(":")
    highest = 65535
    if not host or not port.isdecimal() or int(port) > highest:
        raise ListenError(f"{listen!r} is no address to listen on: give host:port, such as 127.0.0.1:8990")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def serve_health(
    settings: ObserveSettings,
    checks: Mapping[str, Check],
    registry: CollectorRegistry,
    warnings: Mapping[str, Check] | None = None,
) -> AsyncIterator[str]:
    """Serves the three pages while the block runs; gives their base URL. Raises ListenError.

    `warnings`: what will be red if nobody does anything. The service is ready all the same.
    """
    host, port = endpoint(settings.listen)
    if not is_loopback(host) and not settings.listen_beyond_loopback:
        raise ListenError(
            f"observe.listen {settings.listen} can be reached by other machines and has no authentication: "
            "use 127.0.0.1, or set observe.listen_beyond_loopback: true"
        )
    register_readiness(registry, checks)
    runner = web.AppRunner(_application(checks, warnings or {}, registry), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as fault:
            raise ListenError(f"cannot listen on {settings.listen}: {fault.strerror}; set observe.listen") from fault
        bound = runner.addresses[0][1]
        url = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
        log.info("health on %s/readyz", url)
        yield url
    finally:
        await runner.cleanup()


def _application(
    checks: Mapping[str, Check], warnings: Mapping[str, Check], registry: CollectorRegistry
) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reasons = {name: check() for name, check in checks.items()}
        red = {name: reason for name, reason in reasons.items() if reason}
        body: dict[str, object] = {
            "ready": not red,
            "checks": {name: reason or "ok" for name, reason in reasons.items()},
        }
        if warned := {name: warning for name, check in warnings.items() if (warning := check())}:
            body["warnings"] = warned
        return web.Response(body=orjson.dumps(body), status=503 if red else 200, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app
