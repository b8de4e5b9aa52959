"""How source and fetcher `rest` say who they are: headers from files, or tokens that a server gives for a secret.

Nothing here shows a secret: files are named, never their content, and no word of a token server's answer is repeated.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard
from urllib.parse import quote_plus

from yarl import URL

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.rest_http import Http, Reply, shown
from collectors.rest_settings import RestAuth, RestKeystone, RestOAuth2

__all__ = ["Credentials", "credentials"]

_MARGIN_SECONDS = 60.0  # a token is renewed so long before it expires, or after 9/10 of its life if that is later
_UNKNOWN_LIFE = 300.0  # of a token whose server does not say
_MAX_TOKEN_BYTES = 1024 * 1024  # Keystone sends the whole catalogue with it


class Credentials(Protocol):
    """What goes with each request."""

    async def headers(self) -> Mapping[str, str]:
        """The headers. Raises SourceError if they have to be asked for and are not given."""

    def forget(self, refused: Mapping[str, str]) -> bool:
        """These headers were refused (status 401): whether others may be had by asking again. Raises SourceError."""


class _Token(NamedTuple):
    headers: Mapping[str, str]
    seconds: float


class _FromFiles:
    """Headers made of files, which are read again after a refusal: somebody may have renewed them."""

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        """Raises SettingsError if a file cannot be read."""
        self._read = read
        self._headers = read()

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    def forget(self, refused: Mapping[str, str]) -> bool:
        try:
            self._headers = self._read()
        except SettingsError as fault:  # it was there when we started: the one who writes it may be at work
            raise SourceAwayError(str(fault)) from None
        return self._headers != refused


class _FromServer:
    """A token that a server gives, kept until shortly before it expires. Many who need it ask once."""

    def __init__(self, ask: Callable[[], Awaitable[_Token]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._token: _Token | None = None
        self._until = 0.0
        self._alone = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        async with self._alone:
            if self._token is None or self._clock() >= self._until:
                started = self._clock()
                try:
                    self._token = await self._ask()
                except (SourceError, SettingsError) as fault:
                    raise SourceAwayError(str(fault)) from None  # without a token nothing can be asked
                life = self._token.seconds
                self._until = started + max(life - _MARGIN_SECONDS, life * 0.9)
            return self._token.headers

    def forget(self, refused: Mapping[str, str]) -> bool:
        if self._token is not None and self._token.headers is refused:
            self._token = None
        return True


def credentials(auth: RestAuth, http: Http, clock: Callable[[], float] = time.monotonic) -> Credentials:
    """What the settings ask for; `clock` in seconds. Raises SettingsError for a file that cannot be used."""
    key = f"{http.key}.auth"
    if (basic := auth.basic) is not None:
        return _FromFiles(lambda: _basic(basic.username, _secret(f"{key}.basic.password_file", basic.password_file)))
    if (bearer := auth.bearer) is not None:
        return _FromFiles(lambda: _bearer(_secret(f"{key}.bearer.token_file", bearer.token_file)))
    if (header := auth.header) is not None:
        return _FromFiles(lambda: {header.name: _secret(f"{key}.header.value_file", header.value_file)})
    if (oauth2 := auth.oauth2) is not None:
        secret = _reader(f"{key}.oauth2.secret_file", oauth2.secret_file)
        return _FromServer(lambda: _oauth2(http, oauth2, secret()), clock)
    if (keystone := auth.keystone) is not None:
        name = "secret_file" if keystone.secret_file else "password_file"
        secret = _reader(f"{key}.keystone.{name}", keystone.secret_file or keystone.password_file)
        return _FromServer(lambda: _keystone(http, keystone, secret()), clock)
    return _FromFiles(dict)


def _reader(key: str, path: str) -> Callable[[], str]:
    """Reads a secret whenever it is needed, since it may change; now as well. Raises SettingsError."""
    _secret(key, path)
    return lambda: _secret(key, path)


def _secret(key: str, path: str) -> str:
    """The content of a file without white space around it. Raises SettingsError."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise SettingsError(f"{key} {path!r} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{key} {path!r} is not text in UTF-8") from None
    if not text or not text.isprintable():
        raise SettingsError(f"{key} {path!r} has no secret of one line in it")
    return text


def _basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _oauth2(http: Http, settings: RestOAuth2, secret: str) -> _Token:
    """A token by RFC 6749, 4.4. Raises SourceError."""
    form = {"grant_type": "client_credentials", **settings.parameters}
    if settings.scope:
        form["scope"] = settings.scope
    headers = {"Accept": "application/json"}
    if settings.in_body:
        form |= {"client_id": settings.client_id, "client_secret": secret}
    else:  # 2.3.1: both are form-encoded before they become basic authorization
        headers |= _basic(quote_plus(settings.client_id), quote_plus(secret))
    url = URL(settings.url)
    reply = await http.ask("POST", url, headers, _MAX_TOKEN_BYTES, form=form)
    answer = _token_answer(reply, url, (200,))
    token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
    if not _is_token(token) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise SourceAwayError(f"POST {shown(url)}: no bearer token in the answer")
    life: Any = answer.get("expires_in")
    return _Token(_bearer(token), life if type(life) in (int, float) and life > 0 else _UNKNOWN_LIFE)


async def _keystone(http: Http, settings: RestKeystone, secret: str) -> _Token:
    """A token of Keystone v3. Raises SourceError."""
    url = URL(settings.url.rstrip("/") + "/auth/tokens")
    reply = await http.ask("POST", url, {}, _MAX_TOKEN_BYTES, json={"auth": _keystone_auth(settings, secret)})
    answer = _token_answer(reply, url, (200, 201)).get("token")
    token = reply.headers.get("x-subject-token")
    if not _is_token(token) or not isinstance(answer, dict):
        raise SourceAwayError(f"POST {shown(url)}: no token in the answer")
    return _Token({"X-Auth-Token": token}, _life(answer.get("expires_at")))


def _keystone_auth(settings: RestKeystone, secret: str) -> dict[str, Any]:
    """The request of a token, as the API of Keystone v3 describes it."""
    if settings.application_credential_id:
        credential = {"id": settings.application_credential_id, "secret": secret}
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    user = {"name": settings.username, "domain": {"name": settings.user_domain}, "password": secret}
    project = {"name": settings.project, "domain": {"name": settings.project_domain}}
    return {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}


def _life(expires_at: Any) -> float:
    """Seconds until then by our own clock: a Keystone whose clock differs is found by the 401 that follows."""
    try:
        seconds = (datetime.fromisoformat(expires_at) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return _UNKNOWN_LIFE
    return seconds if seconds > 0 else _UNKNOWN_LIFE


def _is_token(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _token_answer(reply: Reply, url: URL, wanted: tuple[int, ...]) -> dict[str, Any]:
    """The object in an answer of a token server. Raises SourceAwayError: without a token nothing can be asked."""
    if reply.status not in wanted:
        raise SourceAwayError(f"POST {shown(url)}: no token (status {reply.status}): check the credentials")
    try:
        answer = json.loads(reply.body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise SourceAwayError(f"POST {shown(url)}: no token, the answer is no JSON object")
    return answer
