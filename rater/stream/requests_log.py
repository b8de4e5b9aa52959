"""Topic `requests`: read to its end, appended to, and shared by the processes that do what it asks for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from rater.kafka import MAX_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options, require_topics
from rater.model.codec import CONTENT_TYPE, JSON, content_type, encode_json
from rater.model.errors import RaterError, RejectedError
from rater.model.requests import FramesOver, RequestRecord, ScopeOutcome, SwitchesSent
from rater.model.usage import ScopeSwitch
from rater.rework import RequestBook, Task, decode_request
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["GROUP", "KafkaTasks", "RequestsLog", "open_tasks", "records_over"]

log = logging.getLogger(__name__)

GROUP = "requests"
SESSION_MS = 6_000  # who is evicted by mistake does what is done already, and finds it unchanged
POLL_INTERVAL_MS = 24 * 3600 * 1000  # while frames are rated again nothing is polled, and we stay in the group
ANSWER_SECONDS = 15.0
OUTCOMES = 250  # in a record: reasons of 2000 characters, six bytes each, and names still fit into a message
PAUSE_SECONDS = 2.0  # after a fault, in which nobody tries again: those who waited meanwhile are answered at once
_HEADERS = [(CONTENT_TYPE, JSON.encode())]


class _Clients(NamedTuple):
    """What the log is read, asked and written by."""

    consumer: KafkaConsumer
    asking: KafkaConsumer
    """For the end of the log: on the connection of `consumer` the question waits behind a fetch, for half a second."""
    producer: AIOKafkaProducer


class RequestsLog:
    """The requests as they are when somebody asks. Connected when first used and again after a fault."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._key = TopicPartition(settings.topic(Topic.REQUESTS), 0)
        self._stack = AsyncExitStack()
        self._clients: _Clients | None = None
        self._book = RequestBook()
        self._lock = asyncio.Lock()
        self._not_before = 0.0

    async def book(self) -> RequestBook:
        """With everything that was confirmed before. It grows with later calls. Raises StreamUnavailableError."""
        async with self._lock:
            return await self._guarded(None)

    async def append(self, record: RequestRecord) -> RequestBook:
        """The same with this record in it, which Kafka has confirmed.

        Raises StreamUnavailableError: the record may have been taken all the same.
        """
        async with self._lock:
            return await self._guarded(record)

    async def close(self) -> None:
        """Ends the connections."""
        async with self._lock:
            await self._drop()

    async def _guarded(self, record: RequestRecord | None) -> RequestBook:
        if time.monotonic() < self._not_before:
            raise self._away("was away a moment ago")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                clients = self._clients or await self._open()
                if record is not None:
                    await clients.producer.send_and_wait(
                        self._key.topic, encode_json(record), partition=self._key.partition, headers=_HEADERS
                    )
                await self._read(clients)
                return self._book
        except BaseException as fault:  # cancelled, too: what was read and not folded would be lost
            await self._drop()
            if not isinstance(fault, KafkaError | RaterError | TimeoutError | OSError):
                raise
            self._not_before = time.monotonic() + PAUSE_SECONDS
            log.warning("topic requests cannot be used: %r", fault)
            raise self._away(repr(fault)) from fault

    async def _open(self) -> _Clients:
        await require_topics(self._settings, Topic.REQUESTS)
        options = client_options(self._settings)
        consumer = KafkaConsumer(
            **options,
            enable_auto_commit=False,
            auto_offset_reset="none",  # a log that was cut is read anew
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        clients = _Clients(consumer, KafkaConsumer(**options, enable_auto_commit=False), _producer(self._settings))
        for client in clients:
            self._stack.push_async_callback(client.stop)
            await client.start()
        consumer.assign([self._key])
        consumer.seek(self._key, (await clients.asking.beginning_offsets([self._key]))[self._key])
        self._book = RequestBook()
        self._clients = clients
        return clients

    async def _read(self, clients: _Clients) -> None:
        end, consumer = (await clients.asking.end_offsets([self._key]))[self._key], clients.consumer
        while await consumer.position(self._key) < end:
            _take(self._book, (await consumer.getmany(self._key, timeout_ms=500)).get(self._key, []))

    async def _drop(self) -> None:
        stack, self._stack, self._clients = self._stack, AsyncExitStack(), None
        await stack.aclose()

    def _away(self, why: str) -> StreamUnavailableError:
        return StreamUnavailableError(f"Kafka at {self._settings.bootstrap}: topic requests: {why}")


class KafkaTasks:
    """The tasks as one member of the group has them: the one that holds the topic's only partition. By `open_tasks`.

    Nothing is committed: who gets the partition reads all of it, and what is over stands there.
    """

    def __init__(self, settings: KafkaSettings, consumer: KafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._key = TopicPartition(settings.topic(Topic.REQUESTS), 0)
        self._consumer = consumer
        self._producer = producer
        self._book = RequestBook()
        self._read_until = 0
        self._is_at_end = False

    def is_ours(self) -> bool:
        """Whether this member is to do them."""
        return self._key in self._consumer.assignment()

    async def waiting(self, seconds: float) -> list[Task]:
        """The tasks that are not over, if they are ours; waits this long for records.

        Raises StreamUnavailableError.
        """
        self._is_at_end = False
        try:
            found = await self._consumer.getmany(timeout_ms=int(seconds * 1000))
            self._read(found.get(self._key, []))
            if not self.is_ours():
                return []
            end = (await self._consumer.end_offsets([self._key]))[self._key]
            if await self._consumer.position(self._key) < end:
                return []  # what is over may stand there
            self._is_at_end = True
        except KafkaError as fault:
            raise self._unavailable(fault) from fault
        return self._book.open_tasks()

    async def over(self, request_id: str, outcomes: Iterable[ScopeOutcome]) -> None:
        """Says what became of tasks of a request. Raises StreamUnavailableError."""
        for record in records_over(request_id, outcomes, int(time.time())):
            await self._append(record)

    def unsent(self) -> list[ScopeSwitch]:
        """The switches that topic `usage` may not have yet, by what `waiting` read; none if others are to send them."""
        return self._book.unsent() if self._is_at_end else []

    async def sent(self, count: int) -> None:
        """Says that topic `usage` has so many more of them. Raises StreamUnavailableError."""
        await self._append(SwitchesSent(len(self._book.switches.switches) - len(self._book.unsent()) + count))

    async def _append(self, record: RequestRecord) -> None:
        try:
            sent = await self._producer.send_and_wait(
                self._key.topic, encode_json(record), partition=0, headers=_HEADERS
            )
        except KafkaError as fault:
            raise self._unavailable(fault) from fault
        self._book.take(record, sent.timestamp // 1000)

    def _read(self, records: Sequence[ConsumerRecord]) -> None:
        if records and records[0].offset < self._read_until:  # the partition was gone, and came back: all is read anew
            self._book = RequestBook()
        _take(self._book, records)
        self._read_until = records[-1].offset + 1 if records else self._read_until

    def _unavailable(self, fault: KafkaError) -> StreamUnavailableError:
        return StreamUnavailableError(f"Kafka at {self._settings.bootstrap}: topic requests: {fault!r}")


@asynccontextmanager
async def open_tasks(settings: KafkaSettings) -> AsyncIterator[KafkaTasks]:
    """A member of the group that does what is asked for. Raises TopicsError, StreamUnavailableError."""
    await require_topics(settings, Topic.REQUESTS)
    consumer = KafkaConsumer(
        settings.topic(Topic.REQUESTS),
        **client_options(settings),
        group_id=settings.prefix + GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        max_poll_interval_ms=POLL_INTERVAL_MS,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
    )
    producer = _producer(settings)
    try:
        await consumer.start()
        await producer.start()
        yield KafkaTasks(settings, consumer, producer)
    except KafkaError as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap}: topic requests: {fault!r}") from fault
    finally:
        await consumer.stop()
        await producer.stop()


def records_over(request_id: str, outcomes: Iterable[ScopeOutcome], over_at: int) -> Iterator[FramesOver]:
    """What is said of the tasks of a request, in records that fit into messages. Those not said yet are done again."""
    found = iter(outcomes)
    while some := tuple(islice(found, OUTCOMES)):
        yield FramesOver(request_id, some, over_at)


def _producer(settings: KafkaSettings) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **client_options(settings), acks="all", enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
    )


def _take(book: RequestBook, records: Iterable[ConsumerRecord]) -> None:
    for record in records:
        try:
            book.take(decode_request(record.value or b"", content_type(record.headers)), record.timestamp // 1000)
        except RejectedError as fault:
            log.warning("a record of topic requests cannot be read, and every reader ignores it: %s", fault)
