"""What the consumer groups of a chaos run have committed: whether they caught up, and that no offset ever goes back."""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from rater.kafka import KafkaSettings, Topic, client_options

OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_PARTITIONS = 5  # deploy/local/kafka/settings.py
CALL_SECONDS = 20.0
POLL_SECONDS = 0.5
WORKER, SINK, SINK_USAGE = "worker", "sink", "sink-usage"
READ_BY = {WORKER: (Topic.USAGE,), SINK: (Topic.RATED, Topic.ALERTS), SINK_USAGE: (Topic.USAGE,)}


@dataclass
class Groups:
    """Asks the broker; `went_back` collects offsets that were smaller than one seen before."""

    kafka: KafkaSettings
    went_back: list[str] = field(default_factory=list)
    _highest: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)

    async def caught_up(self, group: str, seconds: float) -> float | None:
        """Seconds until the group has committed all that its topics hold now; None if it has not in time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        ends: dict[TopicPartition, int] | None = None
        while loop.time() - began < seconds:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    ends = ends or await self._ends(READ_BY[group])
                    committed = await self._committed(group)
            except (KafkaError, TimeoutError, OSError):
                committed = {}
            if ends is not None and all(committed.get(key, 0) >= end for key, end in ends.items()):
                return loop.time() - began
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _ends(self, topics: Iterable[Topic]) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(**client_options(self.kafka), enable_auto_commit=False)
        await consumer.start()
        try:
            keys = [TopicPartition(self.kafka.topic(t), p) for t in topics for p in range(self.kafka.partitions)]
            return {key: int(end) for key, end in (await consumer.end_offsets(keys)).items()}
        finally:
            await consumer.stop()

    async def _committed(self, group: str) -> dict[TopicPartition, int]:
        admin = AIOKafkaAdminClient(**client_options(self.kafka), request_timeout_ms=10_000)
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(self.kafka.prefix + group)
        finally:
            await admin.close()
        committed = {key: int(at.offset) for key, at in found.items()}
        for key, offset in committed.items():
            known = self._highest.get((group, key), -1)
            if offset < known:
                self.went_back.append(f"{group} {key.topic}[{key.partition}]: {known} then {offset}")
            self._highest[group, key] = max(known, offset)
        return committed

    async def commits(self) -> dict[tuple[str, str, int], list[int]]:
        """Every commit that the broker still has, in order, by (group, topic, partition)."""
        consumer = AIOKafkaConsumer(
            **client_options(self.kafka),
            enable_auto_commit=False,
            exclude_internal_topics=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        found: dict[tuple[str, str, int], list[int]] = defaultdict(list)
        try:
            keys = [TopicPartition(OFFSETS_TOPIC, number) for number in range(OFFSETS_PARTITIONS)]
            consumer.assign(keys)
            await consumer.seek_to_beginning(*keys)
            ends = await consumer.end_offsets(keys)
            while any([await consumer.position(key) < ends[key] for key in keys]):
                for records in (await consumer.getmany(timeout_ms=300)).values():
                    for record in records:
                        _note(record.key or b"", record.value or b"", found)
        finally:
            await consumer.stop()
        return {key: offsets for key, offsets in found.items() if key[0].startswith(self.kafka.prefix)}


def backward(commits: dict[tuple[str, str, int], list[int]], group: str) -> list[str]:
    """Commits of a group that are smaller than the one before."""
    return [
        f"{topic}[{partition}]: {before} then {after}"
        for (name, topic, partition), offsets in commits.items()
        if name == group
        for before, after in pairwise(offsets)
        if after < before
    ]


def _note(key: bytes, value: bytes, found: dict[tuple[str, str, int], list[int]]) -> None:
    """Kafka's own format of the topic: version, group, topic, partition; version, offset, and more."""
    if not value or struct.unpack_from(">h", key)[0] > 1:
        return
    group, at = _text(key, 2)
    topic, at = _text(key, at)
    found[group, topic, struct.unpack_from(">i", key, at)[0]].append(struct.unpack_from(">q", value, 2)[0])


def _text(raw: bytes, at: int) -> tuple[str, int]:
    length = struct.unpack_from(">h", raw, at)[0]
    return raw[at + 2 : at + 2 + length].decode(), at + 2 + length


__all__ = ["SINK", "SINK_USAGE", "WORKER", "Groups", "backward"]
