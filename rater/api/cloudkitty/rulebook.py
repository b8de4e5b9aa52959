"""The rule book as it is when somebody asks, with all that Kafka had confirmed before; and how it is changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from rater.api.cloudkitty.calls import Decide
from rater.api.cloudkitty.faults import ApiFaultError
from rater.model.errors import RaterError
from rater.model.rules import RuleEvent
from rater.rating import Applied, Ignored, IgnoredReason, RuleBook
from rater.stream.rules_reader import RulesReader
from rater.stream.rules_writer import RuleConflictError, RulesAppender, conflict_text

__all__ = ["RuleBooks"]

log = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0
"""For the log to be read up to its end, the first time from a snapshot, and for an event to be confirmed."""
PAUSE_SECONDS = 2.0
"""After a fault, in which nobody tries again: those who waited meanwhile are answered at once."""
TRIES = 20
"""Of a change that others come before. Of two replicas that write without pause each comes first half of the time."""


class RuleBooks:
    """Follows topic `rules`, opened when first asked and again after a fault. One task reads or writes at a time."""

    def __init__(
        self,
        opening: Callable[[], AbstractAsyncContextManager[RulesReader]],
        appending: Callable[[], AbstractAsyncContextManager[RulesAppender]],
    ) -> None:
        self._opening = opening
        self._appending = appending
        self._stack = AsyncExitStack()
        self._reader: RulesReader | None = None
        self._appender: RulesAppender | None = None
        self._lock = asyncio.Lock()
        self._not_before = 0.0

    @property
    def version(self) -> int | None:
        """As last read; None while nobody has asked, or Kafka is away."""
        return None if self._reader is None else self._reader.book.version

    async def book(self) -> RuleBook:
        """The book. Raises ApiFaultError 503."""
        async with self._lock:
            return (await self._newest("the rules cannot be read now")).book

    async def write(self, author: str, reason: str, now: int, decide: Decide) -> RuleBook:
        """The book with a change in it, which Kafka has confirmed and every reader applies.

        `decide` gives the changes for the newest book (none: it is so already), or raises what the request is refused
        with; it is asked again where somebody else was faster. Raises ApiFaultError 409 if that goes on, or for a
        change that the book does not take; 503 if Kafka is away, which says whether anything may have been written.
        """
        async with self._lock:
            for tries_left in reversed(range(TRIES)):
                reader = await self._newest("the rules were not changed")
                book = reader.book
                changes = await asyncio.to_thread(decide, book)
                if not changes:
                    return book
                outcome = await self._append(reader, RuleEvent(book.version, author, reason, now, changes))
                if isinstance(outcome, Applied):
                    return reader.book
                if not tries_left or outcome.reason is not IgnoredReason.VERSION_CONFLICT:
                    raise ApiFaultError(409, conflict_text(outcome, reader.last_event))
            raise AssertionError("the last try ends it")

    async def close(self) -> None:
        """Ends the connection."""
        async with self._lock:
            await self._drop()

    async def _newest(self, what: str) -> RulesReader:
        """The reader, at the end of the log. Raises ApiFaultError 503, which begins with `what`."""
        if time.monotonic() < self._not_before:
            raise _away(what)
        async with self._dropped_on_fault(what):
            reader = self._reader or await self._open()
            await reader.fold_to(await reader.end())
        return reader

    async def _append(self, reader: RulesReader, event: RuleEvent) -> Applied | Ignored:
        async with self._dropped_on_fault("the rules were not changed"):
            if self._appender is None:
                self._appender = await self._stack.enter_async_context(self._appending())
            await self._appender.connect()
        doubt = (
            "whether the rules were changed is not known, Kafka went away in the middle: look whether the change is "
            "there before you send it again"
        )
        try:
            async with self._dropped_on_fault("", ApiFaultError(503, doubt)):
                return await self._appender.append(reader, event)
        except RuleConflictError as fault:
            raise ApiFaultError(400, str(fault)) from fault

    @asynccontextmanager
    async def _dropped_on_fault(self, what: str, answer: ApiFaultError | None = None) -> AsyncIterator[None]:
        """Ends the connection on any fault, and answers 503 if it is one of Kafka's or takes too long."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield
        except RuleConflictError:  # nothing was sent
            raise
        except BaseException as fault:  # cancelled, too: what was read and not folded would be lost
            await self._drop()
            if not isinstance(fault, Exception) or not _is_of_kafka(fault):
                raise
            log.warning("topic rules cannot be reached: %r", fault)
            self._not_before = time.monotonic() + PAUSE_SECONDS
            raise (answer or _away(what)) from fault

    async def _open(self) -> RulesReader:
        reader = await self._stack.enter_async_context(self._opening())
        await reader.start()
        self._reader = reader
        return reader

    async def _drop(self) -> None:
        stack, self._stack, self._reader, self._appender = self._stack, AsyncExitStack(), None, None
        await stack.aclose()


def _away(what: str) -> ApiFaultError:
    return ApiFaultError(503, f"{what}, Kafka is away: ask again", headers={"Retry-After": "2"})


def _is_of_kafka(fault: Exception) -> bool:
    """Whether it says that the log cannot be reached; aiokafka's errors are known by where they come from."""
    return isinstance(fault, RaterError | TimeoutError | OSError) or type(fault).__module__.startswith("aiokafka")
