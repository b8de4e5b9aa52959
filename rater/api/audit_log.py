"""The audit log: who changed what through the HTTP service, by whichever version of it, and what came of it.

The application opens a `Trail` for each request; whoever authenticates it and whoever handles it say there what they
know, and the application records it once the answer is known and before it is sent. A handler cannot forget it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from rater._settings_reader import without_secrets
from rater.api.audit_file import AuditFile
from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.log_fields import FIELDS

__all__ = ["MAX_VALUE_BYTES", "AuditLog", "AuditRecord", "Trail", "current_trail", "open_trail"]

log = logging.getLogger("rater.api.audit")

MAX_VALUE_BYTES = 64 * 1024
"""Of `before` and of `after`, as JSON. What is longer, such as a script, is told by its size and digest."""
MAX_PATH = 2000  # characters
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OK = range(200, 400)
_NOBODY = Identity("", frozenset())
_encode = msgspec.json.Encoder(enc_hook=str, order="deterministic").encode


class Trail:
    """What becomes known of a request while it is answered."""

    def __init__(
        self,
        request_id: str,
        method: str,
        path: str,
        query: str,
        address: str,
        gate: Callable[[Trail], None] = lambda _: None,
    ) -> None:
        """`gate` is asked when it is known who it is; raises RefusalError."""
        self._gate = gate
        self.request_id = request_id
        self.method, self.path, self.query, self.address = method, path, query, address
        self.route = ""
        """The path with names where it varies, such as /v1/rating/modules/{module_id}; empty if there is none."""
        self.identity: Identity | None = None
        self.before: Any = None
        """What was there; anything that can be written as JSON, without secrets and without usage."""
        self.after: Any = None
        self.refused = ""
        """Why it was refused."""

    def identified(self, identity: Identity) -> None:
        """Notes who it is. Raises RefusalError if that is too much for now."""
        self.identity = identity
        self._gate(self)

    @property
    def writes(self) -> bool:
        """Whether such a request changes something."""
        return self.method not in _READING or self.before is not None or self.after is not None


_TRAIL: ContextVar[Trail | None] = ContextVar("trail", default=None)


def open_trail(trail: Trail) -> None:
    """Makes it the trail of this request: aiohttp gives each a context of its own."""
    _TRAIL.set(trail)


def current_trail() -> Trail:
    """Of the request that is worked on; one that nobody reads where there is none, as in tests of a handler."""
    return _TRAIL.get() or Trail("", "GET", "", "", "")


class AuditRecord(msgspec.Struct, frozen=True):
    """A line of the audit log."""

    written_at: datetime
    request_id: str
    status: int
    """Of the answer; 0 if the request was given up in the middle, so that nobody knows what came of it."""
    user: str
    roles: list[str]
    auth: str
    address: str
    action: str
    """Method and route."""
    path: str
    query: str = ""
    before: Any = None
    after: Any = None
    refused: str = ""


class AuditLog:
    """Takes a record of each request that writes: a line of logger `rater.api.audit`, and of a file if there is one.

    Without a file nothing is kept beyond what happens to the logs.
    """

    def __init__(self, path: str = "") -> None:
        """Raises AuditFileError if nothing can be written to that file."""
        self._file = AuditFile(path) if path else None
        log.setLevel(logging.INFO)  # whatever `observe.log_level` is

    async def check(self, trail: Trail) -> None:
        """Before a request is handled. Raises RefusalError 503 if it writes and could not be recorded."""
        if self._file is not None and trail.writes and not await self._file.mended():
            raise RefusalError(503, "nothing is written while the audit log cannot be: see the service's log", None, 5)

    async def record(self, trail: Trail, status: int) -> None:
        """Before the answer is sent. Nothing if the request reads, or if it was refused to somebody unknown.

        A file that cannot be written raises nothing, as the write is done: it is told in the log and by `red`, and
        `check` lets no further write through.
        """
        if not trail.writes or (trail.identity is None and status not in _OK):
            return
        record = _record(trail, status)
        line = _encode(record)
        short = f"{record.action}: status={status} user={record.user!r}"
        log.info("%s", line.decode(), extra={FIELDS: {"message": short, "audit": orjson.Fragment(line)}})
        if self._file is not None:
            await self._file.append(line)

    def red(self) -> str:
        """Why writes are refused."""
        return self._file.fault if self._file is not None else ""

    async def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            await self._file.close()


def _record(trail: Trail, status: int) -> AuditRecord:
    identity = trail.identity or _NOBODY
    return AuditRecord(
        written_at=datetime.now(UTC),
        request_id=trail.request_id,
        status=status,
        user=identity.user,
        roles=sorted(identity.roles),
        auth=identity.method if trail.identity is not None else "",
        address=trail.address,
        action=f"{trail.method} {trail.route}".rstrip(),
        path=_clean(trail.path),
        query=without_secrets("", _clean(trail.query)),
        before=_bounded(trail.before),
        after=_bounded(trail.after),
        refused=_clean(trail.refused),
    )


def _clean(text: str) -> str:
    """What came as bytes that are no text stands there escaped."""
    return text[:MAX_PATH].encode("utf-8", "backslashreplace").decode()


def _bounded(value: Any) -> Any:
    try:
        encoded = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:  # the write is done: it must be recorded
        log.error("what was written cannot be shown: %r", fault)  # noqa: TRY400 - a defect of ours, and no failure of the write
        return {"unknown": type(value).__name__}
    if len(encoded) <= MAX_VALUE_BYTES:
        return msgspec.Raw(encoded)
    return {"bytes": len(encoded), "sha256": sha256(encoded).hexdigest()}
