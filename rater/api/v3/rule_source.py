"""The rules as /v3 reads and changes them: now, at any version before, and how they came to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from rater.api.cloudkitty.calls import Decide
from rater.api.cloudkitty.rulebook import RuleBooks
from rater.api.faults import RefusalError
from rater.kafka import KafkaSettings, TopicsError
from rater.rating import RuleBook
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_history import LoggedChange, read_changes
from rater.stream.rules_log import NoVersionError, read_rules

__all__ = ["KafkaRules", "RuleSource"]

READ_SECONDS = 30.0
READERS = 4
"""Of the log at the same time: each has a connection and, for a while, a book of its own."""


class RuleSource(Protocol):
    """Where rules come from and go to. All raise RefusalError or ApiFaultError 503 while Kafka is away."""

    @property
    def modules(self) -> frozenset[str]:
        """The rating modules of this installation, by name."""

    async def book(self) -> RuleBook:
        """As it is now, with everything that was written before."""

    async def book_at(self, version: int) -> RuleBook:
        """As it was at a version. Raises RefusalError 404."""

    async def write(self, author: str, reason: str, now: int, decide: Decide) -> RuleBook:
        """The book with the changes that `decide` gives for the newest one; they apply as a whole.

        Raises what `decide` does, and ApiFaultError 409 or 400 for changes that the book does not take.
        """

    async def history(self, limit: int, before_offset: int | None) -> list[LoggedChange]:
        """The newest so many entries of the log (before an offset), oldest first, each with the book before it."""


class KafkaRules:
    """The rules in topic `rules`."""

    def __init__(self, kafka: KafkaSettings, books: RuleBooks, modules: frozenset[str]) -> None:
        self.modules = modules
        self._kafka = kafka
        self._books = books
        self._readers = asyncio.Semaphore(READERS)

    async def book(self) -> RuleBook:
        """As it is now."""
        return await self._books.book()

    async def book_at(self, version: int) -> RuleBook:
        """As it was."""
        newest = await self._books.book()
        if newest.version == version:
            return newest
        async with self._reading():
            try:
                return await read_rules(self._kafka, version)
            except NoVersionError as fault:
                raise RefusalError(404, str(fault)) from None

    async def write(self, author: str, reason: str, now: int, decide: Decide) -> RuleBook:
        """Changes them."""
        return await self._books.write(author, reason, now, decide)

    async def history(self, limit: int, before_offset: int | None) -> list[LoggedChange]:
        """Of what the log still has."""
        async with self._reading():
            return [change async for change in read_changes(self._kafka, limit, before_offset)]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(READ_SECONDS), self._readers:
                yield
        except (TimeoutError, StreamUnavailableError, TopicsError) as fault:
            said = "the history of the rules cannot be read now: ask again"
            raise RefusalError(503, said, retry_after=2) from fault
