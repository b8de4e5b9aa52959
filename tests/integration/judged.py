"""What lies on a topic, and what the worker's own code makes of topic `usage`: the judge of what collectors publish."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from rater.engine import EngineContext, EngineSettings, OutboxItem, PartitionState, Record, apply, decide
from rater.kafka import KafkaSettings, Topic, client_options
from rater.model.codec import JSON, content_type, decode_alert, decode_rated, decode_usage
from rater.model.metric import Catalog
from rater.model.rated import Alert, RatedFrame
from rater.model.usage import UsageRecord
from rater.rating import Chain, RuleBook


async def records(kafka: KafkaSettings, topic: Topic) -> list[ConsumerRecord]:
    """Everything that lies on a topic now, by partition and offset."""
    partitions = [TopicPartition(kafka.topic(topic), number) for number in range(kafka.partitions)]
    found: list[ConsumerRecord] = []
    consumer = AIOKafkaConsumer(**client_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for batch in (await consumer.getmany(partition, timeout_ms=200)).values():
                    found += batch
    finally:
        await consumer.stop()
    return found


async def usage(kafka: KafkaSettings) -> list[UsageRecord]:
    """The records of topic `usage`, each checked as the worker checks it."""
    return [
        decode_usage(record.value or b"", content_type(record.headers)) for record in await records(kafka, Topic.USAGE)
    ]


class Judgement:
    """What a worker publishes that reads all of `usage` as if it had arrived at a certain instant."""

    def __init__(self, kafka: KafkaSettings, log: list[ConsumerRecord], catalog: Catalog, arrived_at: int) -> None:
        context = EngineContext(EngineSettings(), catalog)
        self._outbox: list[OutboxItem] = []
        rules = Chain(RuleBook.empty())
        for number in range(kafka.partitions):
            state = PartitionState(number, kafka.partitions, context.settings.period)
            for record in (record for record in log if record.partition == number):
                headers = tuple((name, bytes(value)) for name, value in record.headers)
                apply(state, Record(record.offset, arrived_at * 1000, record.key, record.value, headers), context)
            decide(state, arrived_at + 2 * context.settings.settle, rules, context)
            self._outbox += state.outbox

    def frames(self) -> dict[tuple[str, int], RatedFrame]:
        """The latest revision of each frame (those of these tests have one part)."""
        read = [decode_rated(item.value, JSON) for item in self._outbox if item.topic == "rated"]
        return {(frame.scope_id, frame.period_begin): frame for frame in read}

    def alerts(self) -> list[Alert]:
        return [decode_alert(item.value, JSON) for item in self._outbox if item.topic == "alerts"]

    def rejected(self) -> list[str]:
        """Why records were refused."""
        return [dict(item.headers)["reason"].decode() for item in self._outbox if item.topic == "rejected"]
