"""What an operator's commands do on the topics beside the services: close a frame by force, read what was said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options, require_topics
from rater.model.codec import CONTENT_TYPE, JSON, encode_json
from rater.model.partition import partition_of
from rater.model.usage import FrameForced, GapAccepted
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["accept_gaps", "force_frame", "read_values"]

READ_SECONDS = 60.0


async def force_frame(settings: KafkaSettings, forced: FrameForced) -> None:
    """Asks the worker to close a frame now. Raises TopicsError, StreamUnavailableError."""
    await _say(settings, [forced])


async def accept_gaps(settings: KafkaSettings, accepted: Sequence[GapAccepted]) -> None:
    """Tells that gaps are accepted. Raises TopicsError, StreamUnavailableError: some of it may have been told."""
    await _say(settings, accepted)


async def _say(settings: KafkaSettings, records: Sequence[FrameForced | GapAccepted]) -> None:
    count = await _partitions(settings, Topic.USAGE)
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    try:
        await producer.start()
        for record in records:
            key = record.scope_id.encode()
            await producer.send_and_wait(
                settings.topic(Topic.USAGE),
                encode_json(record),
                key=key,
                partition=partition_of(key, count),
                headers=[(CONTENT_TYPE, JSON.encode())],
            )
    except KafkaError as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap} did not take the request: {fault!r}") from fault
    finally:
        await producer.stop()


async def read_values(settings: KafkaSettings, topic: Topic) -> list[bytes]:
    """The values of all records of a small topic, partition by partition, in order.

    Raises TopicsError if it is missing, StreamUnavailableError.
    """
    name = settings.topic(topic)
    count = await _partitions(settings, topic)
    consumer = KafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
    )
    try:
        await consumer.start()
        keys = [TopicPartition(name, number) for number in range(count)]
        consumer.assign(keys)
        await consumer.seek_to_beginning(*keys)
        ends = await consumer.end_offsets(keys)
        found: dict[TopicPartition, list[bytes]] = {key: [] for key in keys}
        async with asyncio.timeout(READ_SECONDS):
            while any([await consumer.position(key) < ends[key] for key in keys]):
                for key, records in (await consumer.getmany(timeout_ms=500)).items():
                    found[key] += [record.value or b"" for record in records]
        return [value for key in keys for value in found[key]]
    except (KafkaError, TimeoutError) as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap}: {name} cannot be read: {fault!r}") from fault
    finally:
        await consumer.stop()


async def _partitions(settings: KafkaSettings, topic: Topic) -> int:
    return (await require_topics(settings, topic))[topic]
