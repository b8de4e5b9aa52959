"""The rule book as it is when somebody asks: every event that Kafka had confirmed before is in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from rater.api.cloudkitty.faults import ApiFaultError
from rater.model.errors import RaterError
from rater.rating import RuleBook
from rater.stream.rules_reader import RulesReader

__all__ = ["RuleBooks"]

log = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0
"""For the log to be read up to its end, the first time from a snapshot."""
PAUSE_SECONDS = 2.0
"""After a fault, in which nobody tries again: those who waited meanwhile are answered at once."""


class RuleBooks:
    """Follows topic `rules`, opened when first asked and again after a fault. One task reads at a time."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[RulesReader]]) -> None:
        self._opening = opening
        self._stack = AsyncExitStack()
        self._reader: RulesReader | None = None
        self._lock = asyncio.Lock()
        self._not_before = 0.0

    async def book(self) -> RuleBook:
        """The book. Raises ApiFaultError 503."""
        async with self._lock:
            if time.monotonic() < self._not_before:
                raise _away()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    reader = self._reader or await self._open()
                    await reader.fold_to(await reader.end())
                    return reader.book
            except BaseException as fault:  # cancelled, too: what was read and not folded would be lost
                await self._drop()
                if not isinstance(fault, Exception) or not _is_of_kafka(fault):
                    raise
                log.warning("the rule book cannot be read: %r", fault)
                self._not_before = time.monotonic() + PAUSE_SECONDS
                raise _away() from fault

    async def close(self) -> None:
        """Ends the connection."""
        async with self._lock:
            await self._drop()

    async def _open(self) -> RulesReader:
        reader = await self._stack.enter_async_context(self._opening())
        await reader.start()
        self._reader = reader
        return reader

    async def _drop(self) -> None:
        stack, self._stack, self._reader = self._stack, AsyncExitStack(), None
        await stack.aclose()


def _away() -> ApiFaultError:
    return ApiFaultError(503, "the rules cannot be read now, Kafka is away: ask again", headers={"Retry-After": "2"})


def _is_of_kafka(fault: Exception) -> bool:
    """Whether it says that the log cannot be reached; aiokafka's errors are known by where they come from."""
    return isinstance(fault, RaterError | TimeoutError | OSError) or type(fault).__module__.startswith("aiokafka")
