"""Tokens of OpenStack's Keystone, which is asked about each one it is not known of, as our own user.

With the client that collectors have, not with keystonemiddleware: that is made for WSGI, waits in the thread of all
other requests, and brings two dozen packages for what is one question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from multidict import MultiMapping
from yarl import URL

from collectors.errors import SourceError
from collectors.http.keystone import KeystoneLogin
from collectors.http.request import Http, Reply
from rater.api.auth.away import Away
from rater.api.auth.believed import Believed
from rater.api.auth.roles import known_roles
from rater.api.auth.sent import not_known, sent_token
from rater.api.auth.settings import KeystoneAuth
from rater.api.identity import ADMIN, Identity

__all__ = ["KeystoneAuthenticator"]

_KEY = "api.keystone"
_MAX_ANSWER_BYTES = 1024 * 1024
_MOST_BELIEVED = 10_000
_MOST_REFUSED = 10_000
_REFUSED_SECONDS = 10.0
_AT_ONCE = 16  # questions to Keystone, so that whoever sends rubbish does not have us flood it


class _Domain(msgspec.Struct, frozen=True):
    id: str | None = None


class _Project(msgspec.Struct, frozen=True):
    id: str
    domain: _Domain = _Domain()


class _User(msgspec.Struct, frozen=True):
    id: str
    domain: _Domain = _Domain()


class _Role(msgspec.Struct, frozen=True):
    name: str


class _Token(msgspec.Struct, frozen=True):
    """What Keystone says of a token."""

    user: _User
    expires_at: str | None = None
    project: _Project | None = None
    domain: _Domain | None = None
    system: dict[str, bool] | None = None
    roles: tuple[_Role, ...] = ()
    is_admin_project: bool = True
    bind: dict[str, Any] | None = None
    oauth2_credential: dict[str, Any] | None = None


class _Answer(msgspec.Struct, frozen=True):
    token: _Token


class KeystoneAuthenticator:
    """Whoever has a token that Keystone knows. These are Authenticators."""

    def __init__(self, settings: KeystoneAuth, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds. Raises SettingsError for a secret or certificates that cannot be read."""
        self._settings = settings
        self._http = Http(settings, _KEY)
        self._login = KeystoneLogin(settings, self._http, _KEY, clock)
        self._url = URL(settings.url.rstrip("/") + "/auth/tokens").with_query("nocatalog")
        self._believed: Believed[Identity] = Believed(_MOST_BELIEVED, clock)
        self._refused: Believed[bool] = Believed(_MOST_REFUSED, clock)
        self._asked: dict[str, asyncio.Task[Identity | None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._away = Away(clock)

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """Whose token it is. Raises RefusalError 401, and 503 if Keystone cannot be asked."""
        token = sent_token(headers)
        found = self._believed.get(token)
        if found is None and not self._refused.get(token):
            found = await self._once(token)
        if found is None:
            raise not_known()
        return found

    async def check(self) -> None:
        """Whether Keystone knows us. Raises SourceError."""
        await self._login.headers()

    def red(self) -> str:
        """Why Keystone could not be asked lately."""
        return self._away.red()

    async def close(self) -> None:
        """Ends what is being asked."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()

    async def _once(self, token: str) -> Identity | None:
        """Many requests with one token ask once; one that hangs up does not end it for the others."""
        task = self._asked.get(token)
        if task is None:
            if self._away.pauses:
                raise self._away.refusal()
            task = self._asked[token] = asyncio.create_task(self._ask(token))
            task.add_done_callback(lambda done: self._forget(token, done))
        return await asyncio.shield(task)

    def _forget(self, token: str, done: asyncio.Task[Identity | None]) -> None:
        del self._asked[token]
        if not done.cancelled():
            done.exception()  # looked at, also if everybody who waited is gone

    async def _ask(self, token: str) -> Identity | None:
        """Whose token it is, None for nobody's. Raises RefusalError 503."""
        try:
            async with self._at_once:
                subject = {"X-Subject-Token": token, "Accept": "application/json"}
                reply = await self._http.ask_as(self._login, "GET", self._url, subject, _MAX_ANSWER_BYTES)
            found = _read(reply)
        except SourceError as fault:
            self._away.failed(str(fault))
            raise self._away.refusal() from None
        self._away.answered()
        if found is None or found.bind is not None or found.oauth2_credential is not None:
            # a token that is bound to a certificate or a ticket is no proof by itself
            self._refused.put(token, True, _REFUSED_SECONDS)
            return None
        identity = self._identity(found)
        self._believed.put(token, identity, min(self._settings.cache_seconds, _seconds_left(found.expires_at)))
        return identity

    def _identity(self, said: _Token) -> Identity:
        kind = "system" if said.system else "domain" if said.domain else "project"
        counts = kind in self._settings.scoped_to
        roles = known_roles(self._settings.roles, (role.name for role in said.roles if counts))
        project = said.project
        return Identity(
            said.user.id,
            roles,
            (project.id,) if project else (),
            "keystone",
            pushes_all=ADMIN in roles,
            facts={
                "user_id": said.user.id,
                "user_domain_id": said.user.domain.id,
                "project_domain_id": project.domain.id if project else None,
                "domain_id": said.domain.id if said.domain else None,
                "system_scope": "all" if said.system else None,
                "is_admin_project": str(said.is_admin_project),
            },
        )


def _read(reply: Reply) -> _Token | None:
    """What Keystone says; None if it does not know the token. Raises SourceError for an answer that says neither."""
    if reply.status == 404:
        return None
    if reply.status in (401, 403):
        raise SourceError(
            f"Keystone refuses us (status {reply.status}): check {_KEY}; its user needs a role that may validate tokens"
        )
    try:
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=_Answer).token
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise SourceError("Keystone says nothing that can be read of a token (status 200)") from None
    raise SourceError(f"Keystone says nothing of a token (status {reply.status})")


def _seconds_left(expires_at: str | None) -> float:
    """Until the token expires, by our clock; 0 if that is past, or not known: Keystone is asked each time then."""
    try:
        return (datetime.fromisoformat(expires_at or "") - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
