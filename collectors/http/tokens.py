"""Headers that say who we are: made of files, or of a token that a server gives and that is kept until it expires.

Nothing here shows a secret: files are named, never their content.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from collectors.errors import SettingsError, SourceAwayError, SourceError

__all__ = ["UNKNOWN_LIFE", "Credentials", "FromFiles", "FromServer", "Token", "basic_header", "read_secret", "reader"]

UNKNOWN_LIFE = 300.0  # seconds, of a token whose server does not say
_MARGIN_SECONDS = 60.0  # a token is renewed so long before it expires, or after 9/10 of its life if that is later


class Credentials(Protocol):
    """What goes with each request."""

    async def headers(self) -> Mapping[str, str]:
        """The headers. Raises SourceError if they have to be asked for and are not given."""

    def forget(self, refused: Mapping[str, str]) -> bool:
        """These headers were refused (status 401): whether others may be had by asking again. Raises SourceError."""


class Token(NamedTuple):
    """What a server gave."""

    headers: Mapping[str, str]
    seconds: float
    """For how long it is good."""
    said: Mapping[str, Any] = {}
    """What else the server said of it, such as Keystone's catalogue."""


class FromFiles:
    """Headers made of files, which are read again after a refusal: somebody may have renewed them."""

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        """Raises SettingsError if a file cannot be read."""
        self._read = read
        self._headers = read()

    async def headers(self) -> Mapping[str, str]:
        """What the files said when they were last read."""
        return self._headers

    def forget(self, refused: Mapping[str, str]) -> bool:
        """Reads them again; whether they say something else now. Raises SourceAwayError."""
        try:
            self._headers = self._read()
        except SettingsError as fault:  # it was there when we started: the one who writes it may be at work
            raise SourceAwayError(str(fault)) from None
        return self._headers != refused


class FromServer:
    """A token that a server gives, kept until shortly before it expires. Many who need it ask once."""

    def __init__(self, ask: Callable[[], Awaitable[Token]], clock: Callable[[], float]) -> None:
        """`clock` in seconds."""
        self._ask = ask
        self._clock = clock
        self._token: Token | None = None
        self._until = 0.0
        self._alone = asyncio.Lock()

    async def token(self) -> Token:
        """The token that is good now. Raises SourceAwayError: without one nothing can be asked."""
        async with self._alone:
            if self._token is None or self._clock() >= self._until:
                started = self._clock()
                try:
                    self._token = await self._ask()
                except SourceAwayError:  # which may say for how long
                    raise
                except (SourceError, SettingsError) as fault:
                    raise SourceAwayError(str(fault)) from None
                life = self._token.seconds
                self._until = started + max(life - _MARGIN_SECONDS, life * 0.9)
            return self._token

    async def headers(self) -> Mapping[str, str]:
        """Those of the token. Raises SourceAwayError."""
        return (await self.token()).headers

    def forget(self, refused: Mapping[str, str]) -> bool:
        """Another token is asked for next time."""
        if self._token is not None and self._token.headers is refused:
            self._token = None
        return True


def reader(key: str, path: str) -> Callable[[], str]:
    """Reads a secret whenever it is needed, since it may change; now as well. Raises SettingsError."""
    read_secret(key, path)
    return lambda: read_secret(key, path)


def read_secret(key: str, path: str) -> str:
    """The content of a file without white space around it; `key` is the setting that names it. Raises SettingsError."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise SettingsError(f"{key} {path!r} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{key} {path!r} is not text in UTF-8") from None
    if not text or not text.isprintable():
        raise SettingsError(f"{key} {path!r} has no secret of one line in it")
    return text


def basic_header(username: str, password: str) -> dict[str, str]:
    """Basic authorization (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"}
