"""Who sends a request, behind an interface. Package `auth` has what recognises it; here is what all of them give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

import msgspec
from multidict import MultiMapping

__all__ = ["ADMIN", "PUSH", "READER", "Authenticator", "Identity", "Method"]

ADMIN, READER, PUSH = "admin", "reader", "push"
Method: TypeAlias = Literal["noauth", "token", "keystone", "oidc"]


class Identity(msgspec.Struct, frozen=True):
    """Whom a request comes from. `scopes` are the projects it acts for: a reader sees those and no others."""

    user: str
    """Its name, for the logs; empty where nobody was asked."""
    roles: frozenset[str]
    """`admin`, `reader` and `push`, and beside them the roles as whoever gave them calls them, in small letters."""
    scopes: tuple[str, ...] = ()
    method: Method = "noauth"
    sources: frozenset[str] = frozenset()
    """It may push usage as these; empty: as any."""
    pushes_all: bool = False
    """Whether it may push usage of any scope, and not just of `scopes`."""
    facts: Mapping[str, str | None] = {}
    """What policies may ask for beside that: `user_id`, `domain_id`, …"""
    administers: bool | None = None
    """What a policy file says of it with `context_is_admin`. None: by the role."""

    @property
    def is_admin(self) -> bool:
        """Whether it may see every scope."""
        return ADMIN in self.roles if self.administers is None else self.administers

    def may_push(self, scope_id: str, source: str) -> bool:
        """Whether it may push usage of that scope from that source."""
        is_own = self.pushes_all or scope_id in self.scopes
        return PUSH in self.roles and is_own and (not self.sources or source in self.sources)


class Authenticator(Protocol):
    """Finds out who it is."""

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """Who sent these headers (their names in any case). Raises RefusalError 401, or 503 if that cannot be told."""

    async def check(self) -> None:
        """Asks whom it needs, as it will for the first request. Raises SourceError."""

    def red(self) -> str:
        """Why somebody who should be recognised may not be now; empty: nothing is wrong."""

    async def close(self) -> None:
        """Gives back what is open."""
