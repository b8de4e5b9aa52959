"""A place in topic `rules` and the rule book there: where a reader starts, and how it moves on.

It starts from a snapshot where there is a sound one, else from the beginning of the log, and comes to the same book.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from rater.kafka import LOOK_SECONDS, LOOKS, KafkaConsumer, KafkaSettings, Topic, TopicsError
from rater.model.codec import content_type, decoder
from rater.model.errors import RejectedError
from rater.model.rules import RuleEvent
from rater.rating import Applied, BookSnapshotError, Outcome, RuleBook, fold
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_snapshot import (
    Mark,
    Shelf,
    Snapshot,
    consuming,
    make_chunks,
    mark_of,
    read_shelf,
    write_snapshot,
)

__all__ = ["LogRecord", "RulesReader", "decode_event", "open_rules"]

log = logging.getLogger(__name__)

STALL_SECONDS = 30.0  # without a record, where there are some
SHELF_SECONDS = 10.0  # for all snapshots; the log is there without them
FOLD_AT_ONCE = 100_000  # events; a fold copies the book once
IN_THREAD = 500  # events; fewer are folded sooner than a thread takes them up
SNAPSHOT_EVENTS = 20_000  # a tenth of a second to read and fold
SNAPSHOT_BYTES = 32 * 1024 * 1024
FIRST_BYTES = 60  # of a record that cannot be read

decode_event = decoder(RuleEvent, "rule event")


class LogRecord(msgspec.Struct, frozen=True):
    """One record of topic `rules`. `event` None: nobody can read it, for the reason `fault`."""

    offset: int
    written_at: int
    """By the record's timestamp; seconds since the epoch, UTC."""
    event: RuleEvent | None
    fault: str = ""
    first_bytes: bytes = b""
    outcome: Outcome | None = None
    """What became of the event, None if there is none."""


class RulesReader:
    """The rule book as it stands before `position`, the next offset of topic `rules` to be read."""

    def __init__(
        self, settings: KafkaSettings, consumer: KafkaConsumer, has_shelf: bool, asking: KafkaConsumer
    ) -> None:
        """`asking` is asked for the end of the log."""
        self._settings = settings
        self._consumer = consumer
        self._asking = asking
        self._has_shelf = has_shelf
        self._key = TopicPartition(settings.topic(Topic.RULES), 0)
        self.book = RuleBook.empty()
        self.position = 0
        self.records_read = 0
        """Of topic `rules`, by this reader, the one that a snapshot is checked by not counted."""
        self.last_event: RuleEvent | None = None
        """The newest event read that applied: who changed the rules last."""
        self._mark: Mark | None = None
        self._unsaved_events = 0
        self._unsaved_bytes = 0

    async def end(self) -> int:
        """The offset behind the newest record."""
        return int((await self._asking.end_offsets([self._key]))[self._key])

    async def start(self, *, most_offset: int | None = None, most_version: int | None = None) -> None:
        """Takes the best starting point before `most_offset`, and before any version beyond `most_version`.

        Raises TopicsError if the log has lost its beginning.
        """
        begin = (await self._consumer.beginning_offsets([self._key]))[self._key]
        if begin > 0:
            raise TopicsError(
                f"topic {self._key.topic} has lost its first {begin} records, and with them rules: set its retention "
                "to -1 (`rater topics create` does) and write the rules into a new topic, with another kafka.prefix"
            )
        end = await self.end()
        if most_offset is not None:
            end = min(end, most_offset)
        for snapshot in (await self._shelf()).usable:
            too_new = most_version is not None and snapshot.version > most_version
            if snapshot.mark.offset < end and not too_new and await self._take(snapshot):
                return
        self._seek(0)
        self.book, self.position = RuleBook.empty(), 0

    async def _shelf(self) -> Shelf:
        """Empty where there is none to be had."""
        if self._has_shelf:
            try:
                async with asyncio.timeout(SHELF_SECONDS):
                    return await read_shelf(self._settings)
            except (KafkaError, TimeoutError) as fault:
                log.warning("snapshots of the rule book cannot be read, the whole log is: %r", fault)
        return Shelf([], {})

    def _seek(self, offset: int) -> None:
        """Assigned once: aiokafka 0.14 may not stop after an assignment that replaced another a moment before."""
        if self._key not in self._consumer.assignment():
            self._consumer.assign([self._key])
        self._consumer.seek(self._key, offset)

    async def _take(self, snapshot: Snapshot) -> bool:
        """Starts behind `snapshot` if it is sound and of this log."""
        mark = snapshot.mark
        self._seek(mark.offset)
        try:
            async with asyncio.timeout(STALL_SECONDS):
                record = await self._consumer.getone(self._key)
            if mark_of(record) != mark:
                log.warning("a snapshot of the rule book is of another log than topic %s: passed over", self._key.topic)
                return False
            self.book = await asyncio.to_thread(snapshot.book)
        except TimeoutError:
            raise StreamUnavailableError(
                f"Kafka at {self._settings.bootstrap}: topic rules does not give offset {mark.offset}"
            ) from None
        except BookSnapshotError as fault:
            log.warning("a snapshot of the rule book is passed over: %s", fault)
            return False
        self.position, self._mark = mark.offset + 1, mark
        return True

    async def read(self, end: int) -> AsyncIterator[list[ConsumerRecord]]:
        """The records from `position` up to offset `end`, as they come; moves `position`, folds nothing."""
        while self.position < end:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    records = await self._some(end)
            except TimeoutError:
                raise StreamUnavailableError(
                    f"Kafka at {self._settings.bootstrap}: topic rules stands still at offset {self.position} of {end}"
                ) from None
            if records:
                yield records

    async def _some(self, end: int) -> list[ConsumerRecord]:
        """At least one record, or none but `position` moved on: offsets may have holes."""
        while True:
            records: list[ConsumerRecord] = (await self._consumer.getmany(self._key, timeout_ms=500)).get(self._key, [])
            reached = await self._consumer.position(self._key)
            if reached > end:
                self._consumer.seek(self._key, end)
                records = [record for record in records if record.offset < end]
            if records or reached > self.position:
                self.position = min(reached, end)
                self.records_read += len(records)
                return records

    async def fold_to(self, end: int) -> None:
        """Brings the book up to offset `end`."""
        found: list[LogRecord] = []
        size, last = 0, None
        async for records in self.read(end):
            found += _warned(judge(records))
            size += _size(records)
            last = records[-1]
            if len(found) >= FOLD_AT_ONCE:
                await self._fold(found, size, last)
                found, size, last = [], 0, None
        await self._fold(found, size, last)

    async def follow(self, timeout_ms: int) -> None:
        """Folds what has come since, or comes within the time."""
        records = (await self._consumer.getmany(self._key, timeout_ms=timeout_ms)).get(self._key, [])
        self.position = await self._consumer.position(self._key)
        self.records_read += len(records)
        await self._fold(_warned(judge(records)), _size(records), records[-1] if records else None)

    async def fold_records(self, records: Iterable[ConsumerRecord]) -> list[LogRecord]:
        """Folds records that `read` gave; each with what became of it."""
        found = list(records)
        return await self._fold(judge(found), _size(found), found[-1] if found else None)

    async def _fold(self, found: list[LogRecord], size: int, last: ConsumerRecord | None) -> list[LogRecord]:
        """Folds what `size` bytes of records up to `last` said; `last` is None if there were none."""
        if last is None:
            return found
        events = [record.event for record in found if record.event is not None]
        mark = mark_of(last)
        if len(events) > IN_THREAD:
            book, outcomes = await asyncio.to_thread(fold, self.book, events)
        else:
            book, outcomes = fold(self.book, events)
        # nothing is awaited between these: a snapshot whose mark is ahead of its book would lose rules for good
        self.book, self._mark = book, mark
        self._unsaved_events += len(found)
        self._unsaved_bytes += size
        for event, outcome in zip(reversed(events), reversed(outcomes), strict=True):
            if isinstance(outcome, Applied):
                self.last_event = event
                break
        told = iter(outcomes)
        return [r if r.event is None else msgspec.structs.replace(r, outcome=next(told)) for r in found]

    def wants_snapshot(self, factor: float = 1.0) -> bool:
        """Whether so much was read since the snapshot it started from, or wrote, that the next reader deserves one."""
        return self._has_shelf and (
            self._unsaved_events >= factor * SNAPSHOT_EVENTS or self._unsaved_bytes >= factor * SNAPSHOT_BYTES
        )

    def write_snapshot(self) -> Coroutine[Any, Any, None]:
        """Writes one of the book as it is now, unless somebody else has; of use to others, so a failure is only logged.

        Now is when this is called, not when what it returns is first awaited. That has a connection of its own: the
        reader may go on meanwhile.
        """
        assert self._mark is not None, "something was read"
        events, self._unsaved_events, self._unsaved_bytes = self._unsaved_events, 0, 0
        return self._write_snapshot(self.book, self._mark, events)

    async def _write_snapshot(self, book: RuleBook, mark: Mark, events: int) -> None:
        """`events` records were read since the snapshot before."""
        try:
            async with asyncio.timeout(SHELF_SECONDS):
                shelf = await read_shelf(self._settings)
            if shelf.newest > mark.offset - events // 2:
                return
            await write_snapshot(self._settings, await asyncio.to_thread(make_chunks, book, mark), shelf)
        except (KafkaError, TimeoutError) as fault:
            log.warning("no snapshot of the rule book was written, starting takes longer: %r", fault)


def _size(records: Iterable[ConsumerRecord]) -> int:
    """Bytes."""
    return sum(len(record.value or b"") for record in records)


def judge(records: Iterable[ConsumerRecord]) -> list[LogRecord]:
    """The events, and what cannot be read, which every reader ignores alike."""
    found = []
    for record in records:
        value, written_at = record.value or b"", record.timestamp // 1000
        try:
            found.append(LogRecord(record.offset, written_at, decode_event(value, content_type(record.headers))))
        except RejectedError as fault:
            found.append(LogRecord(record.offset, written_at, None, str(fault), value[:FIRST_BYTES]))
    return found


def _warned(found: list[LogRecord]) -> list[LogRecord]:
    """A line in the log for each batch, however many of it cannot be read."""
    bad = [record for record in found if record.event is None]
    if bad:
        log.warning(
            "%d records of topic rules from offset %d on cannot be read, and every reader ignores them: %s "
            "(`rater rules log` lists them)",
            len(bad),
            bad[0].offset,
            bad[0].fault,
        )
    return found


@asynccontextmanager
async def open_rules(settings: KafkaSettings, *, asks_often: bool = False) -> AsyncIterator[RulesReader]:
    """A reader of the topic; call `start` next. Raises TopicsError if the topic is missing, KafkaError.

    `asks_often`: for the end of the log, which then has a connection of its own. On that of a consumer which has read
    all there is, the broker answers the waiting fetch first, half a second later.
    """
    async with AsyncExitStack() as stack:
        consumer = await stack.enter_async_context(consuming(settings))
        asking = await stack.enter_async_context(consuming(settings)) if asks_often else consumer
        topics = await consumer.topics()
        for _ in range(LOOKS):
            if settings.topic(Topic.RULES) in topics:
                break
            await asyncio.sleep(LOOK_SECONDS)
            topics = await consumer.topics()
        if settings.topic(Topic.RULES) not in topics:
            raise TopicsError(f"topic {settings.topic(Topic.RULES)} is missing: run `rater topics create`")
        yield RulesReader(settings, consumer, settings.topic(Topic.RULEBOOK) in topics, asking)
