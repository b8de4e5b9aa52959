"""The topics of a chaos run, read on from where the last look ended."""

from __future__ import annotations

from collections import defaultdict

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaSettings, Topic, client_options

POLL_MS = 300
POISON = b"poison "
"""What records that nobody can read begin with."""


class Logs:
    """Everything that the topics held at the last `refresh`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._next: dict[TopicPartition, int] = defaultdict(int)
        self._records: dict[Topic, list[ConsumerRecord]] = defaultdict(list)

    def __getitem__(self, topic: Topic) -> list[ConsumerRecord]:
        """In order within each partition."""
        return self._records[topic]

    async def refresh(self, *topics: Topic) -> int:
        """Reads what came since; how many records those were."""
        names = {self._kafka.topic(topic): topic for topic in topics}
        keys = [TopicPartition(name, number) for name in names for number in range(self._kafka.partitions)]
        consumer = AIOKafkaConsumer(
            **client_options(self._kafka), enable_auto_commit=False, max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES
        )
        await consumer.start()
        count = 0
        try:
            ends = await consumer.end_offsets(keys)
            consumer.assign(keys)
            for key in keys:
                consumer.seek(key, self._next[key])
            while any(self._next[key] < ends[key] for key in keys):
                for key, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    self._records[names[key.topic]] += records
                    self._next[key] = records[-1].offset + 1
                    count += len(records)
        finally:
            await consumer.stop()
        return count

    def accepted(self) -> list[ConsumerRecord]:
        """Records of `usage` that were not refused; what nobody can read is not among them."""
        refused = {origin for origin, _ in self.refused()}
        return [
            record
            for record in self[Topic.USAGE]
            if (record.partition, record.offset) not in refused and not record.value.startswith(POISON)
        ]

    def refused(self) -> list[tuple[tuple[int, int], ConsumerRecord]]:
        """What lies in `rejected`, each with partition and offset in `usage` that it came from."""
        found = []
        for record in self[Topic.REJECTED]:
            headers = {name: value.decode() for name, value in record.headers}
            if headers.get("origin-topic") == Topic.USAGE.value:  # the worker's word; the sink says the whole name
                found.append(((int(headers["origin-partition"]), int(headers["origin-offset"])), record))
        return found


__all__ = ["POISON", "Logs"]
