"""The rule book as topic `rules` tells it: read to the end, followed, and appended to under optimistic concurrency."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from rater.kafka import MAX_MESSAGE_BYTES, KafkaSettings, Topic, TopicsError, client_options
from rater.model.codec import CONTENT_TYPE, JSON, content_type, decoder, encode_json
from rater.model.errors import RaterError, RejectedError
from rater.model.rules import RuleEvent
from rater.rating import Compiler, Ignored, Outcome, RuleBook, fold
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["RuleConflictError", "RulesFollower", "append_event", "read_events", "read_rules"]

log = logging.getLogger(__name__)
READ_SECONDS = 60.0
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0
_decode = decoder(RuleEvent, "rule event")


class RuleConflictError(RaterError):
    """Somebody else changed the rules first, or the event breaks a rule of the rule book: nothing was applied."""


def _events(records: Iterable[ConsumerRecord]) -> list[RuleEvent]:
    """The events that can be read; what cannot be read is ignored by every reader alike, and logged."""
    events = []
    for record in records:
        try:
            events.append(_decode(record.value, content_type(record.headers)))
        except RejectedError as fault:
            log.warning("rules offset %d is ignored by every reader: %s", record.offset, fault)
    return events


def _fold(book: RuleBook, records: Iterable[ConsumerRecord]) -> RuleBook:
    return fold(book, _events(records))[0]


class RulesFollower:
    """Keeps the newest rules in memory, compiled. `rules` is None until the topic was read to its end once."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._version = -1
        self.rules: Compiler | None = None
        self.ready = asyncio.Event()
        self._stopping = False

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
        consumer, key = await _open(self._settings)
        try:
            end = (await consumer.end_offsets([key]))[key]
            book = RuleBook.empty()
            while not self._stopping:
                if await consumer.position(key) >= end:
                    self._use(book)
                batches = await consumer.getmany(key, timeout_ms=1000)
                book = _fold(book, batches.get(key, []))
        finally:
            await consumer.stop()

    def _use(self, book: RuleBook) -> None:
        if self.rules is None or book.version != self._version:
            self.rules, self._version = Compiler(book), book.version
        self.ready.set()


async def _open(settings: KafkaSettings) -> tuple[AIOKafkaConsumer, TopicPartition]:
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    key = TopicPartition(settings.topic(Topic.RULES), 0)
    try:
        await consumer.start()
        _check_exists(key.topic, await consumer.topics())
        consumer.assign([key])
        await consumer.seek_to_beginning(key)
    except BaseException:
        await consumer.stop()
        raise
    return consumer, key


def _check_exists(topic: str, topics: set[str]) -> None:
    if topic not in topics:
        raise TopicsError(f"topic {topic} is missing: run `rater topics create`")


async def _records(settings: KafkaSettings) -> list[ConsumerRecord]:
    try:
        consumer, key = await _open(settings)
        try:
            end = (await consumer.end_offsets([key]))[key]
            found: list[ConsumerRecord] = []
            async with asyncio.timeout(READ_SECONDS):
                while await consumer.position(key) < end:
                    found += (await consumer.getmany(key, timeout_ms=500)).get(key, [])
            return found
        finally:
            await consumer.stop()
    except (KafkaError, TimeoutError) as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap}: topic rules cannot be read: {fault!r}") from fault


async def read_rules(settings: KafkaSettings) -> RuleBook:
    """The rule book as it stands now. Raises StreamUnavailableError, TopicsError."""
    return _fold(RuleBook.empty(), await _records(settings))


async def read_events(settings: KafkaSettings) -> list[tuple[RuleEvent, Outcome]]:
    """The history, oldest first, with what became of each event. For `rater rules log`."""
    events = _events(await _records(settings))
    return list(zip(events, fold(RuleBook.empty(), events)[1], strict=True))


async def append_event(settings: KafkaSettings, event: RuleEvent) -> RuleBook:
    """Appends and reads back; the rule book with the event in it. Raises RuleConflictError if it did not apply."""
    producer = AIOKafkaProducer(
        **client_options(settings), acks="all", enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
    )
    try:
        try:
            await producer.start()
            headers = [(CONTENT_TYPE, JSON.encode())]
            topic = settings.topic(Topic.RULES)
            sent = await producer.send_and_wait(topic, encode_json(event), partition=0, headers=headers)
        finally:
            await producer.stop()
    except KafkaError as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap} did not take the rules: {fault!r}") from fault
    records = await _records(settings)
    before = _fold(RuleBook.empty(), [record for record in records if record.offset < sent.offset])
    outcome = before.apply(event)[1]
    if isinstance(outcome, Ignored):
        raise RuleConflictError(f"the rules were not changed: {outcome.message}")
    return _fold(before, [record for record in records if record.offset >= sent.offset])
