"""What an audit reads of Kafka: one partition of a topic at a time, and how far each group has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from rater.audit import Commit
from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options, require_topics
from rater.model.codec import Headers
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["AuditRecord", "Positions", "TopicPart", "read_part", "read_positions"]

READ_SECONDS = 600.0
GROUPS: Mapping[str, tuple[Topic, ...]] = {
    "worker": (Topic.USAGE,),
    "sink": (Topic.RATED, Topic.ALERTS),
    "sink-usage": (Topic.USAGE,),
}


class AuditRecord(NamedTuple):
    """A record as the topic has it."""

    offset: int
    timestamp_ms: int
    value: bytes
    headers: Headers
    key: bytes | None = None


class TopicPart(NamedTuple):
    """All records of one partition; `begin` is the oldest offset that it still has."""

    begin: int
    records: list[AuditRecord]


class Positions(NamedTuple):
    """How far the groups have come, and where the topics end."""

    commits: list[Commit]
    ends: dict[tuple[str, int], int]
    """By topic (without prefix) and partition."""

    def committed(self, group: str, topic: Topic, partition: int) -> int:
        """The committed offset; -1 if there is none."""
        key = (group, topic.value, partition)
        return next((one.offset for one in self.commits if (one.group, one.topic, one.partition) == key), -1)

    def is_caught_up(self, group: str, topic: Topic) -> bool:
        """Whether the group has committed all of the topic."""
        return all(
            self.committed(group, topic, partition) >= end or not end
            for (name, partition), end in self.ends.items()
            if name == topic.value
        )


def _all(_value: bytes, _headers: Headers) -> bool:
    return True


async def read_part(
    kafka: KafkaSettings, topic: Topic, partition: int, keep: Callable[[bytes, Headers], bool] = _all
) -> TopicPart:
    """Everything that the partition holds now and `keep` (value, headers) wants, in memory.

    Raises StreamUnavailableError.
    """
    key = TopicPartition(kafka.topic(topic), partition)
    consumer = KafkaConsumer(
        **client_options(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
    )
    found: list[AuditRecord] = []
    try:
        await consumer.start()
        consumer.assign([key])
        begin = (await consumer.beginning_offsets([key]))[key]
        end = (await consumer.end_offsets([key]))[key]
        consumer.seek(key, begin)
        async with asyncio.timeout(READ_SECONDS):
            while await consumer.position(key) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [
                        AuditRecord(r.offset, r.timestamp, r.value or b"", r.headers, r.key)
                        for r in records
                        if keep(r.value or b"", r.headers)
                    ]
    except (KafkaError, TimeoutError) as fault:
        raise StreamUnavailableError(f"Kafka at {kafka.bootstrap}: {key.topic} cannot be read: {fault!r}") from fault
    finally:
        await consumer.stop()
    return TopicPart(begin, found)


async def read_positions(kafka: KafkaSettings) -> Positions:
    """How far worker and sink have committed. Raises TopicsError, StreamUnavailableError."""
    there = await require_topics(kafka, Topic.USAGE, Topic.RATED, Topic.ALERTS)
    admin = AIOKafkaAdminClient(**client_options(kafka))
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    try:
        await admin.start()
        await consumer.start()
        commits = [one for group, topics in GROUPS.items() for one in await _commits(admin, kafka, group, topics)]
        names = {kafka.topic(topic): topic for topic in (Topic.USAGE, Topic.RATED, Topic.ALERTS)}
        keys = [TopicPartition(name, number) for name, topic in names.items() for number in range(there[topic])]
        ends = await consumer.end_offsets(keys)
    except (KafkaError, TimeoutError) as fault:
        raise StreamUnavailableError(f"Kafka at {kafka.bootstrap} cannot be read: {fault!r}") from fault
    finally:
        await consumer.stop()
        await admin.close()
    return Positions(commits, {(names[key.topic].value, key.partition): end for key, end in ends.items()})


async def _commits(
    admin: AIOKafkaAdminClient, kafka: KafkaSettings, group: str, topics: tuple[Topic, ...]
) -> list[Commit]:
    try:
        offsets = await admin.list_consumer_group_offsets(kafka.prefix + group)
    except GroupCoordinatorNotAvailableError:  # the broker makes its topic for offsets at the first use
        return []
    names = {kafka.topic(topic): topic for topic in topics}
    return [
        Commit(group, names[key.topic].value, key.partition, found.offset)
        for key, found in sorted(offsets.items())
        if key.topic in names and found.offset >= 0
    ]
