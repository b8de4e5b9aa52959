"""The HTTP side of Prometheus: one question, one whole answer, or an error that says why not.

An answer counts only if it is whole: status 200, `status: success`, no warnings, nothing marked as partial, not larger
than allowed.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.http.retry_after import seconds_asked_for
from collectors.prometheus.auth import access_of
from collectors.settings import PrometheusSettings
from collectors.times import iso

__all__ = ["Item", "PrometheusApi", "servers"]

_LONG_QUERY = 2000  # longer ones go as a form, since servers and proxies limit the length of a URL
_LONGEST_URL = 7000  # where there is no form; Apache and nginx take 8190 bytes of a request line
_CHUNK = 64 * 1024
_CONNECT_SECONDS = 10.0
_MAX_SHOWN = 300


class Item(msgspec.Struct, frozen=True):
    """One series of an answer: `value` of an instant vector, `values` of a range; (seconds since the epoch, text)."""

    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []


class _Data(msgspec.Struct):
    resultType: str = ""  # noqa: N815 - as Prometheus spells it
    result: msgspec.Raw = msgspec.Raw(b"[]")


class _Body(msgspec.Struct):
    status: str = ""
    data: _Data | None = None
    error: str = ""
    error_message: Any = None
    """What OpenStack's Aetos says in place of `error`."""
    warnings: list[str] | None = None
    isPartial: bool = False  # noqa: N815 - as VictoriaMetrics spells it


class _Anything(msgspec.Struct):
    status: str = ""
    data: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_items = msgspec.json.Decoder(list[Item]).decode
_decode_anything = msgspec.json.Decoder(_Anything).decode


def servers(settings: PrometheusSettings, concurrency: int) -> tuple[PrometheusApi, ...]:
    """A client of each server that the settings name. Raises SettingsError as PrometheusApi does."""
    return tuple(PrometheusApi(settings, concurrency, url) for url in settings.servers)


class PrometheusApi:
    """A client of one server. Connects when first asked."""

    def __init__(self, settings: PrometheusSettings, concurrency: int, url: str = "") -> None:
        """`url`: the server, if it is another than the settings' first.

        Raises SettingsError if the URL is missing or a file of credentials cannot be read.
        """
        url = url or settings.servers[0]
        if not url and settings.keystone is None:
            raise SettingsError("collect.prometheus.url is missing: give it with /api/v1 at its end")
        self._given = url.rstrip("/")
        self.url = self._given or "the address in Keystone's catalogue"
        self._settings = settings
        self._query_only = settings.keystone is not None  # OpenStack's Aetos has no ranges and takes no forms
        self._access = access_of(settings)
        self._ssl = _ssl_context(settings)
        self._room = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None
        self.queries = 0
        """Requests sent so far."""
        self.clock_ahead: float | None = None
        """Seconds by which its clock was ahead of ours in its last answer, to a second; None if it does not say."""

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._access.close()

    async def query(self, expression: str, at: float) -> list[Item]:
        """An instant query; gives a vector, or a matrix if the expression is a range. Raises SourceError."""
        return await self._ask("query", {"query": expression, "time": _time(at)})

    async def query_range(self, expression: str, begin: float, end: float, step: float) -> list[Item]:
        """A range query; gives a matrix. Raises SourceError.

        Of a server that takes none it is an instant query, whose steps are whole multiples of `step`.
        """
        if self._query_only:
            span, resolution = round((end - begin) * 1000), round(step * 1000)
            return await self.query(f"({expression})[{span}ms:{resolution}ms]", end)
        parameters = {"query": expression, "start": _time(begin), "end": _time(end), "step": f"{step:g}"}
        return await self._ask("query_range", parameters)

    async def look_up(self, path: str, parameters: dict[str, str]) -> Any:
        """`data` of another endpoint; None if this server has no such endpoint or refuses it. Raises SourceError."""
        status, body = await self._fetch("GET", path, parameters, may_be_refused=True)
        if status != 200:
            return None
        try:
            answer = _decode_anything(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return answer.data if answer.status == "success" else None

    async def _ask(self, path: str, parameters: dict[str, str]) -> list[Item]:
        parameters = {**parameters, **self._settings.parameters}
        method = "POST" if len(parameters["query"]) > _LONG_QUERY and not self._query_only else "GET"
        if self._query_only and len(quote(parameters["query"])) > _LONGEST_URL:
            raise SourceError(f"a question of more than {_LONGEST_URL} bytes is too long for {self.url}")
        status, body = await self._fetch(method, path, parameters)
        return _whole_answer(status, body, parameters["query"])

    async def _fetch(
        self, method: str, path: str, parameters: dict[str, str], *, may_be_refused: bool = False
    ) -> tuple[int, bytes]:
        """Status and body of an answer, after credentials were renewed once if they were refused.

        `may_be_refused`: that this endpoint is forbidden (403) does not mean that nothing can be asked.
        """
        credentials = self._access.credentials
        sent = await credentials.headers()
        self.url = await self._access.address(self._given)
        found = await self._fetch_once(method, path, parameters, sent)
        if found[0] == 401 and credentials.forget(sent):
            found = await self._fetch_once(method, path, parameters, await credentials.headers())
        if found[0] in (401, 403) and not (found[0] == 403 and may_be_refused):
            raise SourceAwayError(f"Prometheus at {self.url} refuses us (status {found[0]}): {self._access.advice}")
        return found

    async def _fetch_once(
        self, method: str, path: str, parameters: dict[str, str], headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        params, form = ({}, parameters) if method == "POST" else (parameters, None)
        url = f"{self.url}/{path}"
        self.queries += 1
        try:
            async with (
                self._room,
                self._open().request(
                    method, url, params=params, data=form, headers=headers, allow_redirects=False
                ) as response,
            ):
                self._refuse_redirect(response)
                self._respect_pause(response)
                self.clock_ahead = _ahead(response.headers.get("Date", ""))
                return response.status, await self._read(response)
        except TimeoutError as fault:
            seconds = f"{self._settings.timeout:g}"
            if isinstance(fault, aiohttp.ConnectionTimeoutError):
                raise SourceAwayError(f"Prometheus at {self.url} cannot be reached: no connection in time") from None
            raise SourceError(f"Prometheus at {self.url} gave no answer within {seconds} s") from None
        except aiohttp.ClientPayloadError as fault:
            raise SourceError(f"the answer of Prometheus at {self.url} broke off: {fault}") from fault
        except aiohttp.ClientError as fault:
            raise SourceAwayError(f"Prometheus at {self.url} cannot be reached: {fault}") from fault

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._settings.headers,
                connector=aiohttp.TCPConnector(ssl=self._ssl),
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout, connect=_CONNECT_SECONDS),
                trust_env=False,
            )
        return self._session

    def _refuse_redirect(self, response: aiohttp.ClientResponse) -> None:
        if 300 <= response.status < 400:
            raise SourceAwayError(
                f"Prometheus at {self.url} sends us elsewhere (status {response.status}): set collect.prometheus.url "
                f"to {response.headers.get('location', 'where it is')[:_MAX_SHOWN]}"
            )

    def _respect_pause(self, response: aiohttp.ClientResponse) -> None:
        """A proxy or a front that limits us. Prometheus itself answers 503 to a question that took too long."""
        pause = response.headers.get("Retry-After", "")
        if response.status == 429 or (response.status == 503 and pause):
            raise SourceAwayError(
                f"Prometheus at {self.url} asks to be left in peace (status {response.status})",
                retry_after=seconds_asked_for(pause),
            )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.max_answer_bytes
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise SourceError(
                    f"the answer of Prometheus at {self.url} has more than {limit} bytes "
                    "(collect.prometheus.max_answer_bytes)"
                )
            chunks.append(chunk)
        return b"".join(chunks)


def _whole_answer(status: int, body: bytes, query: str) -> list[Item]:
    """The series of an answer that is whole. Raises SourceError."""
    asked = f" to {query[:_MAX_SHOWN]}"
    try:
        answer = _decode_body(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = SourceAwayError if status >= 500 else SourceError  # a proxy speaks, Prometheus itself gives JSON
        raise kind(f"Prometheus answered status {status} and no JSON of its kind{asked}") from None
    if status != 200 or answer.status != "success" or answer.data is None:
        fault = (answer.error or _in_words(answer.error_message))[:_MAX_SHOWN]
        kind = SourceAwayError if status >= 500 and not answer.status else SourceError  # as above: a proxy speaks
        raise kind(f"Prometheus answered status {status}, {fault!r}{asked}")
    warnings = [text for text in answer.warnings or () if not text.startswith("PromQL info")]
    if warnings:
        raise SourceError(f"Prometheus gave an answer with a warning, {warnings[0][:_MAX_SHOWN]!r}{asked}")
    if answer.isPartial:
        raise SourceError(f"Prometheus gave a partial answer{asked}")
    if answer.data.resultType not in ("vector", "matrix"):
        raise SourceError(f"Prometheus answered a {answer.data.resultType[:20] or 'nothing'}, not a vector{asked}")
    try:
        return _decode_items(answer.data.result)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise SourceError(f"Prometheus answered a vector that cannot be read ({fault}){asked}") from None


def _in_words(message: Any) -> str:
    found = message.get("faultstring") if isinstance(message, dict) else message
    return found if isinstance(found, str) else ""


def _time(at: float) -> str:
    """ISO 8601 for whole seconds, as CloudKitty sends it; else seconds with milliseconds."""
    return iso(at) if at == int(at) else f"{at:.3f}"


def _ahead(date: str) -> float | None:
    """How far the Date of an answer that just came is ahead of our clock, in seconds; None if it is no date."""
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - time.time()  # it was cut to a whole second
    except ValueError:
        return None


def _ssl_context(settings: PrometheusSettings) -> ssl.SSLContext | bool:
    if not settings.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as fault:
        raise SettingsError(f"collect.prometheus.ca_file {settings.ca_file!r} cannot be used: {fault}") from fault
