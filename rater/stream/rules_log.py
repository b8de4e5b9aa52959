"""The rule book as topic `rules` tells it: read to the end, followed, and appended to under optimistic concurrency."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from rater.kafka import KafkaSettings, TopicsError
from rater.model.errors import RaterError
from rater.model.rules import RuleEvent
from rater.rating import Applied, Chain, Ignored, Module, RuleBook, fold
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_reader import LogRecord, RulesReader, open_rules
from rater.stream.rules_writer import RuleConflictError, append_value, conflict_text, encoded_event, writing

__all__ = [
    "NoVersionError",
    "RuleConflictError",
    "RulesFollower",
    "append_event",
    "append_events",
    "read_rules",
    "reading",
]

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0


class NoVersionError(RaterError):
    """The rule book never was, or not yet is, at a version."""


class RulesFollower:
    """Keeps the newest rules in memory, compiled. `rules` is None until the topic was read to its end once.

    `modules` are the rating modules of third parties by name.
    """

    def __init__(self, settings: KafkaSettings, modules: Mapping[str, Module] | None = None) -> None:
        self._settings = settings
        self._modules = modules or {}
        self._version = -1
        self.rules: Chain | None = None
        self.ready = asyncio.Event()
        self._stopping = False
        # of several workers the first to notice writes the snapshot, the others find it
        self._late = 1 + random.random() / 2  # noqa: S311  this is no secret

    @property
    def version(self) -> int | None:
        """Of `rules`; None while there are none."""
        return None if self.rules is None else self._version

    async def stop(self, following: asyncio.Task[None]) -> None:
        """Ends `following`, a task of `run`. A client that swallows its cancellation is left behind after 5 s."""
        self._stopping = True
        following.cancel()
        await asyncio.wait({following}, timeout=STOP_SECONDS)

    async def run(self) -> None:
        """Follows the topic until it is stopped; a broken connection starts it over, with the old book kept."""
        while not self._stopping:
            try:
                await self._follow()
            except (KafkaError, StreamUnavailableError, TopicsError) as fault:
                log.warning("rules cannot be followed, will try again: %s", fault)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        saving: asyncio.Task[None] | None = None
        try:
            async with open_rules(self._settings) as reader:
                await reader.start()
                await reader.fold_to(await reader.end())
                while not self._stopping:
                    self._use(reader.book)
                    if reader.wants_snapshot(self._late) and (saving is None or saving.done()):
                        saving = asyncio.create_task(reader.write_snapshot())
                    await reader.follow(timeout_ms=1000)
        finally:
            if saving is not None:
                saving.cancel()

    def _use(self, book: RuleBook) -> None:
        if self.rules is None or book.version != self._version:
            self.rules, self._version = Chain(book, self._modules), book.version
        self.ready.set()


@asynccontextmanager
async def reading(settings: KafkaSettings) -> AsyncIterator[RulesReader]:
    """A reader, not started. Raises StreamUnavailableError where the client raises KafkaError, TopicsError."""
    try:
        async with open_rules(settings) as reader:
            yield reader
    except KafkaError as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap}: topic rules cannot be read: {fault!r}") from fault


async def read_rules(settings: KafkaSettings, version: int | None = None) -> RuleBook:
    """The rule book as it stands now, or as it was at `version`.

    Raises StreamUnavailableError, TopicsError, NoVersionError.
    """
    async with reading(settings) as reader:
        await reader.start(most_version=version)
        end = await reader.end()
        if version is None:
            await reader.fold_to(end)
            return reader.book
        if version == reader.book.version:
            return reader.book
        async for records in reader.read(end):
            book = reader.book
            found = await reader.fold_records(records)
            if reader.book.version >= version:
                return _book_at(book, found, version)
        raise NoVersionError(f"the rules are at version {reader.book.version}: there is no version {version} yet")


def _book_at(book: RuleBook, found: Sequence[LogRecord], version: int) -> RuleBook:
    """The book at `version`, which lies between `book` and the last of the records after it."""
    applied = [record.event for record in found if isinstance(record.outcome, Applied) and record.event is not None]
    return fold(book, applied[: version - book.version])[0]


async def append_event(settings: KafkaSettings, event: RuleEvent) -> RuleBook:
    """Appends and reads back; the rule book with the event in it. Raises as `append_events`."""
    return await append_events(settings, [event])


async def append_events(
    settings: KafkaSettings, events: Sequence[RuleEvent], advance: Callable[[int, int], None] | None = None
) -> RuleBook:
    """Appends events one after the other, reading each back; the rule book after the last of them.

    `advance` is told how many of how many stand. Raises RuleConflictError if one did not apply: those before it stay,
    those after it are not written. Raises StreamUnavailableError, TopicsError; the event that was on its way may then
    have been taken all the same.
    """
    values = [encoded_event(event) for event in events]
    async with reading(settings) as reader, writing(settings) as producer:
        await reader.start()
        await reader.fold_to(await reader.end())
        for number, (event, value) in enumerate(zip(events, values, strict=True)):
            outcome = reader.book.apply(event)[1]  # an event that cannot apply any more need not stand in the log
            if isinstance(outcome, Applied):
                outcome = await append_value(reader, producer, settings, value)
            if isinstance(outcome, Ignored):
                raise RuleConflictError(conflict_text(outcome, reader.last_event, number, len(events)), number)
            if advance is not None:
                advance(number + 1, len(events))
        if reader.wants_snapshot():
            await reader.write_snapshot()
        return reader.book
