"""What followers share: they work until they are stopped, and what they opened is opened anew after trouble with it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from rater.model.errors import RaterError

__all__ = ["Follower"]

log = logging.getLogger(__name__)
F = TypeVar("F")
T = TypeVar("T")

RETRY_SECONDS = 5.0


class Follower(ABC, Generic[F]):
    """Follows a topic until it is stopped. `red` says why it cannot; empty if it can."""

    def __init__(
        self, thread_name: str, what: str, open_followed: Callable[[], AbstractAsyncContextManager[F]]
    ) -> None:
        """`what`: the words of what waits while there is trouble."""
        self._thread = ThreadPoolExecutor(1, thread_name)
        self._what = what
        self._open_followed = open_followed
        self._trouble = ""

    def red(self) -> str:
        """Why nothing is done; empty if that is not so."""
        return self._trouble

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. Trouble with Kafka or the store is waited out."""
        following, stopped = asyncio.create_task(self._insist()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            following.cancel()
            await asyncio.wait({following})
            await asyncio.to_thread(self._thread.shutdown)
        if not following.cancelled():
            following.result()

    async def _insist(self) -> None:
        while True:
            try:
                async with self._open_followed() as followed:
                    self._trouble = ""
                    await self._follow(followed)
            except RaterError as fault:  # Kafka or the store is away: what was not done is read again
                waits = f"{self._what}: {fault}"
                if not self._trouble:
                    log.warning("%s", waits)
                self._trouble = waits
                self._forget()
                await asyncio.sleep(RETRY_SECONDS)

    @abstractmethod
    async def _follow(self, followed: F) -> None:
        """The work, for as long as it goes well. Raises RaterError."""

    @abstractmethod
    def _forget(self) -> None:
        """What was read and is not done yet: it is read again."""

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
