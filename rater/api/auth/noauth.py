"""Nobody is asked who it is."""

from __future__ import annotations

from multidict import MultiMapping

from rater.api.identity import ADMIN, PUSH, Identity

__all__ = ["NoAuth"]

_MAX_SCOPE_ID = 255


class NoAuth:
    """Everybody is an administrator, of the project in the header X-Project-Id if there is one: as in CloudKitty."""

    async def identify(self, headers: MultiMapping[str]) -> Identity:
        """An administrator, whatever the headers are."""
        project = headers.get("X-Project-Id", "")[:_MAX_SCOPE_ID]
        return Identity("", frozenset({ADMIN, PUSH}), (project,) if project else (), pushes_all=True)

    async def check(self) -> None:
        """Nobody else is needed."""

    def red(self) -> str:
        """Nothing can go wrong."""
        return ""

    async def close(self) -> None:
        """Nothing is open."""
