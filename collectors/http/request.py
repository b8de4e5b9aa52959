"""One HTTP request and its whole answer, or an error that says why there is none and shows no secret.

Errors name the method and the URL up to its path: neither a query, which a server may have put a signature into, nor
headers nor a word of the answer, which may repeat what was sent.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
import msgspec
from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError, SourceFaultError
from collectors.http.retry_after import seconds_asked_for
from collectors.http.tokens import Credentials

__all__ = ["Connection", "Http", "Reply", "shown"]

_CHUNK = 64 * 1024
_CONNECT_SECONDS = 10.0
_REL_NEXT = re.compile(r"rel\s*=\s*[\"']?[^\"';,]*\bnext\b", re.IGNORECASE)
_AWAY = (429, 502, 503)
"""The server is busy or behind a proxy that misses it: other questions would fare no better."""


class Reply(msgspec.Struct, frozen=True):
    """A whole answer of any status below 500 but 429 and redirects. Headers by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    names_next: bool
    """Whether header `Link` has a `rel="next"`."""
    next_url: URL | None
    """Its target, made whole; None also where it cannot be read."""


class Connection(Protocol):
    """What a section of the settings says of its connections."""

    @property
    def timeout(self) -> float:
        """Seconds for one request."""

    @property
    def ca_file(self) -> str:
        """Whose certificates are believed; empty: those that the system believes."""

    @property
    def insecure(self) -> bool:
        """Whether whoever answers is believed."""


class Http:
    """The connections of one section of the settings. Connects when first asked."""

    def __init__(self, connection: Connection, key: str) -> None:
        """`key` is how rater.yaml calls the section. Raises SettingsError for a ca_file that cannot be used."""
        self.key = key
        self._timeout = connection.timeout
        self._ssl = _ssl_context(connection, key)
        self._session: aiohttp.ClientSession | None = None
        self.queries = 0
        """Requests sent so far."""

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(
        self, method: str, url: URL, headers: Mapping[str, str], limit: int, *, json: Any = None, form: Any = None
    ) -> Reply:
        """The answer, of at most `limit` bytes. Follows no redirect.

        Raises SourceError; SourceFaultError for status 500, SourceAwayError if other questions would fare no better.
        """
        where = f"{method} {shown(url)}"
        self.queries += 1
        try:
            async with self._open().request(
                method, url, headers=headers, json=json, data=form, allow_redirects=False
            ) as response:
                _refuse_status(response, where)
                body = await self._read(response, limit, where)
                plain = {name.lower(): value for name, value in response.headers.items()}
                links = ", ".join(response.headers.getall("Link", ()))
                names_next = _REL_NEXT.search(links) is not None
                return Reply(response.status, plain, body, names_next, _next_url(response) if names_next else None)
        except TimeoutError as fault:
            if isinstance(fault, aiohttp.ConnectionTimeoutError):
                raise SourceAwayError(f"{where}: no connection in time") from None
            raise SourceError(f"{where}: no answer within {self._timeout:g} s ({self.key}.timeout)") from None
        except aiohttp.ClientPayloadError:
            raise SourceError(f"{where}: the answer broke off") from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientOSError) as fault:
            raise SourceAwayError(f"{where}: no connection ({fault})") from None
        except aiohttp.ClientError as fault:
            raise SourceAwayError(f"{where}: no answer that is HTTP ({type(fault).__name__})") from None
        except ValueError as fault:  # a host or header that cannot be written, told with its content
            raise SourceAwayError(f"{where}: cannot be asked ({type(fault).__name__})") from None

    async def ask_as(
        self, who: Credentials, method: str, url: URL, headers: Mapping[str, str], limit: int, *, json: Any = None
    ) -> Reply:
        """As `ask`, with credentials, which are renewed once if they are refused: status 401 is a second refusal."""
        proof = await who.headers()
        reply = await self.ask(method, url, {**headers, **proof}, limit, json=json)
        if reply.status == 401 and who.forget(proof):
            reply = await self.ask(method, url, {**headers, **await who.headers()}, limit, json=json)
        return reply

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._ssl),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout, connect=_CONNECT_SECONDS),
                trust_env=False,
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse, limit: int, where: str) -> bytes:
        if (
            response.status == 200
            and "content-length" not in response.headers
            and "chunked" not in response.headers.get("transfer-encoding", "").lower()
        ):
            raise SourceError(f"{where}: the answer does not say where it ends, so it may have been cut off")
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise SourceError(f"{where}: the answer is too large ({self.key}.max_answer_bytes)")
            chunks.append(chunk)
        return b"".join(chunks)


def shown(url: URL) -> str:
    """A URL as errors show it: without query."""
    return str(url.with_query(None).with_fragment(None).with_user(None))[:500]


def _refuse_status(response: aiohttp.ClientResponse, where: str) -> None:
    """Raises SourceError for a redirect, a busy server and a server's own fault."""
    status = response.status
    if 300 <= status < 400:
        raise SourceError(f"{where}: sends us elsewhere (status {status}); redirects are not followed, set url to it")
    if status in _AWAY:
        pause = seconds_asked_for(response.headers.get("retry-after", ""))
        later = f", asks for a pause of {pause:.0f} s" if pause else ""
        raise SourceAwayError(f"{where}: status {status}{later}", retry_after=pause)
    if status == 500:
        raise SourceFaultError(f"{where}: status {status}")
    if status > 500:
        raise SourceError(f"{where}: status {status}")


def _next_url(response: aiohttp.ClientResponse) -> URL | None:
    """The first link to a next page that can be read."""
    try:
        for link in response.links.values():
            if "next" in str(link.get("rel", "")).lower().split():
                return URL(link["url"])
    except ValueError:  # no URL
        return None
    return None


def _ssl_context(connection: Connection, key: str) -> ssl.SSLContext | bool:
    if connection.insecure:
        return False
    if not connection.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=connection.ca_file)
    except OSError as fault:
        raise SettingsError(f"{key}.ca_file {connection.ca_file!r} cannot be used: {fault}") from fault
