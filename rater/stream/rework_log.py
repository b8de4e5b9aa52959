"""Reworks on the topics: what is sent to `usage`, what is answered in `alerts`, and which are under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options, require_topics
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, content_type, decode_alert, decode_rated
from rater.model.errors import RejectedError
from rater.model.partition import partition_of
from rater.model.rated import Alert, AlertKind, RatedFrame
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["KafkaReworkLog", "OpenRework", "open_rework_log", "open_reworks", "read_revisions"]

OPEN_SECONDS = 900  # after its begin a rework without an end is given up by the engine
CONFIRM_SECONDS = 120.0
READ_SECONDS = 300.0
STOP_SECONDS = 5.0
BATCH_BYTES = 256 * 1024  # several records in one request
_HEADERS = [(CONTENT_TYPE, MSGPACK.encode())]
_ANSWERS = frozenset({AlertKind.REWORK_DONE, AlertKind.REWORK_REFUSED, AlertKind.REWORK_ABANDONED})
Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]


class OpenRework(msgspec.Struct, frozen=True):
    """A rework of a frame that has begun and has no answer yet. `begun_at` is the broker's time, in seconds."""

    rework_id: str
    scope_id: str
    period_begin: int
    author: str
    reason: str
    begun_at: int


class KafkaReworkLog:
    """Writes to `usage` and reads the answers in `alerts` from when it was opened. Made by `open_rework_log`."""

    def __init__(
        self, settings: KafkaSettings, partitions: int, producer: AIOKafkaProducer, consumer: KafkaConsumer
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._producer = producer
        self._consumer = consumer

    async def send(self, scope_id: str, values: Sequence[bytes]) -> None:
        """Writes msgpack records of a scope in order; returns when all are confirmed. Raises StreamUnavailableError."""
        key = scope_id.encode()
        name, partition = self._settings.topic(Topic.USAGE), partition_of(key, self._partitions)
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                sent = [
                    await self._producer.send(name, value, key=key, partition=partition, headers=_HEADERS)
                    for value in values
                ]
                await asyncio.gather(*sent)
        except (KafkaError, TimeoutError) as fault:
            raise _unavailable(self._settings, "did not take a rework", fault) from fault

    async def answers(self, seconds: float) -> list[Alert]:
        """The answers to reworks that came since the last call; waits this long for the first.

        Raises StreamUnavailableError.
        """
        try:
            found = await self._consumer.getmany(timeout_ms=int(seconds * 1000))
        except KafkaError as fault:
            raise _unavailable(self._settings, "topic alerts cannot be read", fault) from fault
        return [alert for records in found.values() for record in records if (alert := _answer(record))]


def _answer(record: Record) -> Alert | None:
    try:
        alert = decode_alert(record.value or b"", content_type(record.headers))
    except RejectedError:
        return None  # not ours to judge
    return alert if alert.kind in _ANSWERS and alert.rework is not None else None


@asynccontextmanager
async def open_rework_log(settings: KafkaSettings) -> AsyncIterator[KafkaReworkLog]:
    """A log whose answers begin now. Raises TopicsError, StreamUnavailableError."""
    counts = await _counts(settings, Topic.USAGE, Topic.ALERTS)
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        max_batch_size=BATCH_BYTES,
        max_request_size=REJECTED_MESSAGE_BYTES,
        linger_ms=2,
    )
    consumer = _consumer(settings)
    try:
        await producer.start()
        await consumer.start()
        keys = [TopicPartition(settings.topic(Topic.ALERTS), number) for number in range(counts[Topic.ALERTS])]
        consumer.assign(keys)
        await consumer.seek_to_end(*keys)
        for key in keys:
            await consumer.position(key)  # else "the end" would be that of the first read
        yield KafkaReworkLog(settings, counts[Topic.USAGE], producer, consumer)
    except KafkaError as fault:
        raise _unavailable(settings, "cannot be used", fault) from fault
    finally:
        ending = {asyncio.create_task(stop()) for stop in (consumer.stop, producer.stop)}
        _ending.update(ending)
        for task in ending:
            task.add_done_callback(_ended)
        # a producer waits for a broker that hangs until it gives its records up: nobody waits so long with it
        await asyncio.wait(ending, timeout=STOP_SECONDS)


_ending: set[asyncio.Task[None]] = set()
"""Clients that come to their end by themselves: tasks that nobody refers to may vanish."""


def _ended(task: asyncio.Task[None]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # a broker that is away when we leave is no news; it would be reported as never retrieved


class _Begun(msgspec.Struct, frozen=True, tag_field="type", tag="rework_begun"):
    """What is read of a begin."""

    rework_id: str
    scope_id: str
    period_begin: int
    author: str
    reason: str


class _Kind(msgspec.Struct, frozen=True):
    """What is read first, of any record."""

    type: str


_kinds = {MSGPACK: msgspec.msgpack.Decoder(_Kind).decode, JSON: msgspec.json.Decoder(_Kind).decode}
_begins = {MSGPACK: msgspec.msgpack.Decoder(_Begun).decode, JSON: msgspec.json.Decoder(_Begun).decode}


def _begin(record: Record) -> OpenRework | None:
    form = content_type(record.headers)
    try:
        if form not in _kinds or _kinds[form](record.value or b"").type != "rework_begun":
            return None
        begun = _begins[form](record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the worker's to reject
    return OpenRework(
        begun.rework_id, begun.scope_id, begun.period_begin, begun.author, begun.reason, record.timestamp // 1000
    )


async def open_reworks(settings: KafkaSettings, scopes: Iterable[str]) -> list[OpenRework]:
    """The reworks of these scopes that have begun and are neither answered nor overdue.

    Reads what the topics got in the last 15 minutes. Raises TopicsError, StreamUnavailableError.
    """
    wanted = set(scopes)
    counts = await _counts(settings, Topic.USAGE, Topic.ALERTS)
    numbers = sorted({partition_of(scope_id.encode(), counts[Topic.USAGE]) for scope_id in wanted})
    since_ms = int(time.time() - OPEN_SECONDS) * 1000
    found: dict[tuple[str, str, int], OpenRework] = {}

    def take_begin(record: Record) -> None:
        begun = _begin(record)
        if begun is not None and begun.scope_id in wanted:
            found[begun.rework_id, begun.scope_id, begun.period_begin] = begun

    def take_answer(record: Record) -> None:
        alert = _answer(record)
        if alert is not None and alert.rework is not None:
            found.pop((alert.rework.rework_id, alert.scope_id, alert.period_begin), None)

    await _read(settings, Topic.USAGE, numbers, since_ms, take_begin)
    await _read(settings, Topic.ALERTS, numbers, since_ms, take_answer)
    return sorted(found.values(), key=lambda one: (one.scope_id, one.period_begin))


async def read_revisions(
    settings: KafkaSettings, scope_id: str, period_begin: int, revisions: Iterable[int]
) -> dict[int, list[RatedFrame]]:
    """The parts of revisions of a frame in topic `rated`, those that are whole there, by revision.

    Reads the scope's partition from the end of the period on. Raises TopicsError, StreamUnavailableError.
    """
    wanted = set(revisions)
    counts = await _counts(settings, Topic.USAGE, Topic.RATED)
    parts: dict[int, dict[int, RatedFrame]] = {}
    key = scope_id.encode()

    def take(record: Record) -> None:
        if record.key != key:
            return
        try:
            frame = decode_rated(record.value or b"", content_type(record.headers))
        except RejectedError:
            return  # not ours to judge
        if frame.period_begin == period_begin and frame.revision in wanted:
            parts.setdefault(frame.revision, {})[frame.part] = frame

    # `rated` may have more partitions than `usage`, whose number it is that the worker writes to
    await _read(settings, Topic.RATED, [partition_of(key, counts[Topic.USAGE])], period_begin * 1000, take)
    return {
        revision: [found[number] for number in sorted(found)]
        for revision, found in sorted(parts.items())
        if len(found) == next(iter(found.values())).parts
    }


async def _read(
    settings: KafkaSettings, topic: Topic, numbers: Sequence[int], since_ms: int, take: Callable[[Record], None]
) -> None:
    """Shows `take` every record of these partitions from a time on, up to their ends of now."""
    consumer = _consumer(settings)
    try:
        await consumer.start()
        keys = [TopicPartition(settings.topic(topic), number) for number in numbers]
        consumer.assign(keys)
        ends = await consumer.end_offsets(keys)
        begins = await consumer.offsets_for_times(dict.fromkeys(keys, since_ms))
        left = {key for key in keys if begins.get(key) is not None and begins[key].offset < ends[key]}
        consumer.pause(*(set(keys) - left))
        for key in left:
            consumer.seek(key, begins[key].offset)
        async with asyncio.timeout(READ_SECONDS):
            while left:
                for records in (await consumer.getmany(timeout_ms=500, max_records=1000)).values():
                    for record in records:
                        take(record)
                for key in list(left):
                    if await consumer.position(key) >= ends[key]:
                        left.discard(key)
                        consumer.pause(key)
    except (KafkaError, TimeoutError) as fault:
        raise _unavailable(settings, f"{settings.topic(topic)} cannot be read", fault) from fault
    finally:
        await consumer.stop()


def _consumer(settings: KafkaSettings) -> KafkaConsumer:
    return KafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
    )


async def _counts(settings: KafkaSettings, *topics: Topic) -> dict[Topic, int]:
    return await require_topics(settings, *topics)


def _unavailable(settings: KafkaSettings, doing: str, fault: BaseException) -> StreamUnavailableError:
    return StreamUnavailableError(f"Kafka at {settings.bootstrap}: {doing}: {fault!r}")
