"""One request to the service, and what its answer means for the batch: done, refused for good, or to be sent again."""

from __future__ import annotations

import math
import ssl
from typing import TypeAlias

import aiohttp
import msgspec

from rater.client.gather import Batch
from rater.client.wire import PATH, Problem, decode_accepted, decode_problem
from rater.model.codec import MSGPACK

__all__ = ["Again", "Connection", "Outcome"]

_FOR_GOOD = frozenset({400, 403, 413, 415, 422})
_LONGEST_ANSWER = 1024 * 1024
_LONGEST_WAIT = 300.0  # seconds: what a service asks for beyond that is not believed


class Again(msgspec.Struct, frozen=True):
    """To be sent again: why, and after how many seconds the service said, if it did."""

    reason: str
    after: float | None = None


Outcome: TypeAlias = Problem | Again | None
"""None: acknowledged. A Problem: refused for good."""


class Connection:
    """A session with the service at `url`."""

    def __init__(self, url: str, token: str, timeout: float, tls: ssl.SSLContext | None) -> None:
        headers = {"Content-Type": MSGPACK, **({"Authorization": f"Bearer {token}"} if token else {})}
        self._url = url.rstrip("/") + PATH
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout),
            connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=1),
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._session.close()

    async def send(self, batch: Batch) -> Outcome:
        """Send a request once."""
        try:
            async with self._session.post(self._url, data=batch.body, allow_redirects=False) as answer:
                body = await answer.content.read(_LONGEST_ANSWER)
                while not answer.content.at_eof() and len(body) < _LONGEST_ANSWER:
                    body += await answer.content.read(_LONGEST_ANSWER)
        except TimeoutError:
            return Again(f"{self._url} did not answer in time")
        except (aiohttp.ClientError, OSError) as fault:
            return Again(f"{self._url} cannot be reached: {_said(fault)}")
        if answer.status == 202:
            return self._check(batch, body)
        problem = _problem(body)
        if problem is not None and answer.status in _FOR_GOOD and problem.status == answer.status:
            return problem
        # Whatever is not the service's own refusal may be a proxy's, or a wrong address that somebody will mend.
        said = f": {problem.detail}" if problem is not None else ""
        return Again(f"{self._url} answered {answer.status}{said}", _seconds(answer.headers.get("Retry-After")))

    def _check(self, batch: Batch, body: bytes) -> Outcome:
        try:
            accepted = decode_accepted(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            return Again(f"{self._url} answered 202 and not as rater does: {fault}")
        counted = {scope.scope_id: scope.next_sequence for scope in accepted.scopes if scope.next_sequence is not None}
        wanted = {scope_id: after for scope_id, (_, after) in batch.info.scopes.items()}
        if counted != wanted:
            return Again(f"{self._url} counts {counted} where this library counts {wanted}: update the older of them")
        return None


def _said(fault: Exception) -> str:
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({fault.certificate_error}): give tls=, a context that knows its issuer"
    return str(fault) or repr(fault)


def _problem(body: bytes) -> Problem | None:
    try:
        return decode_problem(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "nan")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else None
