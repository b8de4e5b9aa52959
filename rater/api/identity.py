"""Who sends a request, behind an interface: by a token of ours, or everybody.

Keystone and OpenID Connect are further Authenticators: they need the headers of a request and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from rater.api.credentials import Credentials
from rater.api.faults import RefusalError

__all__ = ["ADMIN", "READER", "Authenticator", "Identity", "NoAuth", "TokenAuthenticator"]

ADMIN, READER = "admin", "reader"
MAX_SCOPE_ID = 255


class Identity(msgspec.Struct, frozen=True):
    """Whom a request comes from. `scopes` are the projects it acts for: a reader sees those and no others."""

    user: str
    roles: frozenset[str]
    scopes: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether it may see every scope."""
        return ADMIN in self.roles


class Authenticator(Protocol):
    """Finds out who it is."""

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        """Who sent these headers (their names in any case). Raises RefusalError 401, or 503 if that cannot be told."""


class NoAuth:
    """Everybody is an administrator, of the project in the header X-Project-Id if there is one: as in CloudKitty."""

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        """An administrator, whatever the headers are."""
        project = headers.get("X-Project-Id", "")[:MAX_SCOPE_ID]
        return Identity("", frozenset({ADMIN}), (project,) if project else ())


class TokenAuthenticator:
    """The tokens of `api.token_file`, as `X-Auth-Token` (which OpenStack's clients send) or as bearer."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        """Raises RefusalError 401."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        sent = headers.get("X-Auth-Token") or (token if scheme.lower() == "bearer" else "")
        found = self._credentials.find(sent.strip())
        if found is None:
            raise RefusalError(401, "The request you have made requires authentication.")
        return Identity(found.name, found.roles, tuple(sorted(found.scopes)))
