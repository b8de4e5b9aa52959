"""What the integration tests of the stream share: topics of their own, usage, and a worker in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings, Topic, client_options
from rater.model.codec import CONTENT_TYPE, JSON, encode_json
from rater.model.interval import Interval
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.usage import Collection, Sample, Series, UsageRecord
from rater.stream.settings import WorkerSettings
from rater.stream.worker import Worker

HOUR = 3600
T = 1_767_225_600  # 2026-01-01T00:00:00Z
CONTEXT = EngineContext(
    EngineSettings(settle=30), Catalog([MetricSpec("cpu"), MetricSpec("net", proof=Coverage.SAMPLES)])
)
SETTINGS = WorkerSettings(checkpoint_interval=0.3, session_timeout=6)
_numbers = itertools.count()


def collection(scope_id: str = "A", begin: int = T, **changes: object) -> Collection:
    fields: dict[str, object] = {
        "source": "test",
        "scope_id": scope_id,
        "metric": "cpu",
        "begin": begin,
        "end": begin + HOUR,
        "attempt": 1,
        "collection_id": f"{scope_id}-{begin}",
        "producer_id": "test",
        "sequence": next(_numbers),
        "covers": [Interval(begin, begin + HOUR)],
        "series": [Series({"id": "vm1"}, {"flavor": "tiny"})],
        "samples": [Sample(0, begin, begin + HOUR, Decimal("1.5"))],
    }
    return Collection(**{**fields, **changes})  # type: ignore[arg-type]  # keyword arguments of the tests


async def send(kafka: KafkaSettings, *records: UsageRecord) -> None:
    await send_raw(kafka, *[(record.scope_id.encode(), encode_json(record)) for record in records])


async def send_raw(kafka: KafkaSettings, *records: tuple[bytes | None, bytes], form: str = JSON) -> None:
    """Raw records; one without a key goes to partition 0."""
    producer = AIOKafkaProducer(**client_options(kafka), acks="all", max_request_size=8 * 1024 * 1024)
    await producer.start()
    try:
        for key, value in records:
            place = {"partition": 0} if key is None else {}
            headers = [(CONTENT_TYPE, form.encode())]
            await producer.send_and_wait(kafka.topic(Topic.USAGE), value, key=key, headers=headers, **place)
    finally:
        await producer.stop()


async def read(kafka: KafkaSettings, topic: Topic, count: int, seconds: float = 40) -> Sequence[ConsumerRecord]:
    """The first `count` records of a topic; fewer, if no more come in `seconds`."""
    consumer = AIOKafkaConsumer(**client_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        keys = [TopicPartition(kafka.topic(topic), p) for p in range(kafka.partitions)]
        consumer.assign(keys)
        await consumer.seek_to_beginning(*keys)
        found: list[ConsumerRecord] = []
        ends = asyncio.get_running_loop().time() + seconds
        while len(found) < count and asyncio.get_running_loop().time() < ends:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


@asynccontextmanager
async def working(
    kafka: KafkaSettings, context: EngineContext = CONTEXT, settings: WorkerSettings = SETTINGS, seconds: float = 40
) -> AsyncIterator[Worker]:
    """A worker that is ready; it is stopped at the end, and what it died of is raised."""
    worker, stop = Worker(kafka, context, settings), asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        async with asyncio.timeout(seconds):
            while worker.red() and not running.done():
                await asyncio.sleep(0.05)
        if not running.done():
            yield worker
    finally:
        stop.set()
        await running
