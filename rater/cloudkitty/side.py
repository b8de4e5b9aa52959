"""One of two services that speak CloudKitty's API: where it is, who asks, and one question with its repetitions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus

import msgspec
from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.http.keystone import is_token
from collectors.http.request import Http, Reply
from collectors.http.tokens import Credentials, FromFiles, read_secret
from rater.cloudkitty.client import CloudKittyError

__all__ = ["Connection", "Side", "from_file", "nobody", "of_token"]

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # 5 000 groups are about 1 MB
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before the second try and those after it
MAX_PAUSE = 60.0  # whatever the server asks for
TOKEN_HEADER = "X-Auth-Token"  # noqa: S105 - the name of a header


class Connection(msgspec.Struct, frozen=True):
    """Of the connections to one service; see `collectors.http.request.Connection`."""

    timeout: float = 120.0
    ca_file: str = ""
    insecure: bool = False


class _Fixed:
    """Headers that never change. These are `collectors.http.tokens.Credentials`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    def forget(self, refused: Mapping[str, str]) -> bool:
        return False


def nobody() -> Credentials:
    """Who is asked for no authentication."""
    return _Fixed({})


def of_token(token: str, name: str) -> Credentials:
    """A token that is the value of `name`. Raises CloudKittyError, which does not show it."""
    text = token.strip()
    if not is_token(text):
        raise CloudKittyError(f"{name} holds no token of one line")
    return _Fixed({TOKEN_HEADER: text})


def from_file(path: str, name: str) -> Credentials:
    """The token in a file, read again when it is refused; `name` is the option. Raises CloudKittyError."""
    try:
        return FromFiles(lambda: {TOKEN_HEADER: read_secret(name, path)})
    except SettingsError as fault:
        raise CloudKittyError(str(fault)) from None


class Side:
    """Asks one service. `name` is what messages call it, `hint` what to do if there is no such API."""

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Credentials,
        connection: Connection,
        hint: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Raises CloudKittyError for a URL or a certificate file that cannot be used."""
        self.name = name
        self._hint = hint
        self._sleep = sleep
        self._credentials = credentials
        try:
            self._base = URL(url.rstrip("/"))
            self._http = Http(connection, name)
        except (ValueError, SettingsError) as fault:
            raise CloudKittyError(f"{name}: {fault}") from None
        if self._base.scheme not in ("http", "https") or not self._base.host or self._base.password:
            raise CloudKittyError(f"{name}: the URL must be http://HOST:PORT or https://HOST:PORT, without a password")

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    async def get(
        self, path: str, query: Sequence[tuple[str, str]], missing: Sequence[int] = (), *, once: bool = False
    ) -> bytes | None:
        """The body of an answer 200; None for a status in `missing`. Unless `once`, tries again what may pass.

        Raises CloudKittyError.
        """
        url = self._base.joinpath(*path.split("/")).with_query(list(query))
        for pause in (*(() if once else PAUSES), None):
            try:
                reply = await self._http.ask_as(self._credentials, "GET", url, _ACCEPT, MAX_ANSWER_BYTES)
            except SourceError as fault:
                if pause is None:
                    raise CloudKittyError(f"{self.name}: {fault}") from fault
                asked = fault.retry_after if isinstance(fault, SourceAwayError) else 0.0
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that many do not come back at once
                await self._sleep(min(max(asked, wait), MAX_PAUSE))
            else:
                return self._body(reply, path, missing)
        raise AssertionError("the last try has raised")

    def _body(self, reply: Reply, path: str, missing: Sequence[int]) -> bytes | None:
        if reply.status == HTTPStatus.OK:
            return reply.body
        if reply.status in missing:
            return None
        raise CloudKittyError(f"{self.name}: GET /{path}: status {reply.status}: {self._advice(reply.status)}")

    def _advice(self, status: int) -> str:
        """What to do. Of an answer its status alone: it may be a page of HTML, or repeat what was sent."""
        return {
            401: "it does not accept these credentials, or wants some",
            403: "these credentials may not read all scopes: an administrator's are needed, or choose with --scope",
            404: self._hint,
            405: self._hint,
        }.get(status, "its own log says why")


_ACCEPT = {"Accept": "application/json"}
