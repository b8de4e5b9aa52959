"""Reads back what a source has published to `usage`: the only memory of a collector, so that it can start anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from collectors.errors import PublishError
from collectors.plans import PlanBook
from collectors.progress import CollectionHead, Progress
from collectors.replay.journal import Journal
from collectors.topic import usage_partitions
from rater.kafka import MAX_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, KafkaUnavailableError, Topic, client_options
from rater.model.codec import JSON, MSGPACK, content_type
from rater.model.usage import ScopePlan

__all__ = ["History", "read_head", "read_history", "read_journal", "read_usage"]

_POLL_MS = 500
_STALL_SECONDS = 60.0


class _Failed(msgspec.Struct, frozen=True, tag_field="type", tag="collection_failed"):
    """Proves nothing: skipped."""


class _Forced(msgspec.Struct, frozen=True, tag_field="type", tag="frame_forced"):
    """No word of a source: skipped."""


Take: TypeAlias = Callable[[bytes, str], None]
"""Called with the value of a record and its content type."""
_Head: TypeAlias = CollectionHead | ScopePlan | _Failed | _Forced
_READERS = {
    MSGPACK: msgspec.msgpack.Decoder(_Head).decode,  # skips the samples: a tenth of the cost of reading them
    JSON: msgspec.json.Decoder(_Head).decode,
}


class History:
    """What one source has said so far."""

    def __init__(self, source: str, period_seconds: int) -> None:
        self.source = source
        self.plans = PlanBook()
        self.progress = Progress(period_seconds)

    def take(self, value: bytes, form: str) -> None:
        """Note a record if it comes from this source. What cannot be read is the worker's to reject."""
        head = read_head(value, form)
        if head is None or head.source != self.source:
            return
        if isinstance(head, ScopePlan):
            self.plans.take(head)
        elif not head.rework_id:
            self.progress.take(head)  # a rework may be refused or given up: what it brings proves nothing yet


def read_head(value: bytes, form: str) -> CollectionHead | ScopePlan | None:
    """What a record of topic `usage` says without its samples; None if it is neither of these or cannot be read."""
    read = _READERS.get(form)
    try:
        head = read(value) if read else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return head if isinstance(head, CollectionHead | ScopePlan) else None


async def read_history(
    kafka: KafkaSettings, source: str, period_seconds: int, partitions: Collection[int] | None = None
) -> History:
    """All that `source` has published and `usage` still holds, or what of it lies in these partitions.

    Raises PublishError if Kafka cannot be read.
    """
    history = History(source, period_seconds)
    await read_usage(kafka, history.take, partitions)
    return history


async def read_journal(kafka: KafkaSettings, journal: Journal) -> Journal:
    """The journal with all that `usage` holds. Raises PublishError if Kafka cannot be read."""

    def take(value: bytes, form: str) -> None:
        head = read_head(value, form)
        if head is not None:
            journal.take(head)

    await read_usage(kafka, take)
    return journal


async def read_usage(kafka: KafkaSettings, take: Take, partitions: Collection[int] | None = None) -> None:
    """Gives every record of topic `usage`, or of these partitions, and its content type to `take`.

    Raises PublishError.
    """
    topic = kafka.topic(Topic.USAGE)
    try:
        # a consumer without subscription has no metadata of the topic, and `topics()` does not give it any
        count = await usage_partitions(kafka)
        consumer = KafkaConsumer(
            **client_options(kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        await consumer.start()
        try:
            await _read_to_end(consumer, topic, range(count) if partitions is None else partitions, take)
        finally:
            await consumer.stop()
    except (KafkaError, KafkaUnavailableError) as fault:
        raise PublishError(f"topic usage on {kafka.bootstrap} cannot be read back: {fault}") from fault


async def _read_to_end(consumer: Any, topic: str, numbers: Iterable[int], take: Take) -> None:
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    if not partitions:
        return
    consumer.assign(partitions)
    begins = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    open_partitions = {partition for partition in partitions if begins[partition] < ends[partition]}
    for partition in partitions:
        consumer.seek(partition, begins[partition])
    consumer.pause(*(set(partitions) - open_partitions))
    loop = asyncio.get_running_loop()
    progressed_at = loop.time()
    while open_partitions:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=1000)
        if batches:
            progressed_at = loop.time()
        elif loop.time() - progressed_at > _STALL_SECONDS:
            raise PublishError(f"topic {topic} could not be read to its end within {_STALL_SECONDS:g} s of silence")
        for partition, records in batches.items():
            for record in records:
                if record.offset < ends[partition]:
                    take(record.value or b"", content_type(record.headers))
            if await consumer.position(partition) >= ends[partition]:
                open_partitions.discard(partition)
                consumer.pause(partition)
