"""What the tests of the sink share: topics of their own, records as a worker writes them, a sink in this process.

As a program (`python -m tests.integration.sinks BOOTSTRAP PREFIX DSN POINT TIMES`) it is a sink of its own that kills
itself with SIGKILL when it comes to a named point for the given time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from prometheus_client import CollectorRegistry

import rater.stream.sink
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.model.codec import CONTENT_TYPE, JSON, encode_json
from rater.model.partition import partition_of
from rater.model.posted import PostedLines
from rater.model.rated import Alert, RatedFrame
from rater.model.usage import Collection
from rater.store import Store, StoreSettings
from rater.stream.interfaces import At, nowhere
from rater.stream.sink import Sink, SinkSettings

PARTITIONS = 2
SETTINGS = SinkSettings(max_delay=0.1)
Published = RatedFrame | Alert | Collection | PostedLines


async def own_topics(kafka: LaptopKafka) -> KafkaSettings:
    """Settings under a prefix that nobody else uses, with its topics."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"sink-{uuid4().hex[:8]}.", partitions=PARTITIONS)
    await create_topics(settings)
    return settings


async def publish(kafka: KafkaSettings, *records: Published | bytes) -> None:
    """Writes records where the worker would; bytes go to partition 0 of `rated` as they are."""
    producer = AIOKafkaProducer(**client_options(kafka), acks="all", linger_ms=5)
    await producer.start()
    try:
        sent = []
        for record in records:
            topic, key, value = _address(record)
            partition = 0 if key is None else partition_of(key, PARTITIONS)
            headers = [(CONTENT_TYPE, JSON.encode())]
            sent.append(await producer.send(kafka.topic(topic), value, key, partition, headers=headers))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def _address(record: Published | bytes) -> tuple[Topic, bytes | None, bytes]:
    if isinstance(record, bytes):
        return Topic.RATED, None, record
    topic = (
        Topic.RATED if isinstance(record, RatedFrame) else Topic.ALERTS if isinstance(record, Alert) else Topic.USAGE
    )
    return topic, record.scope_id.encode(), encode_json(record)


@asynccontextmanager
async def sinking(
    kafka: KafkaSettings,
    store: Store,
    settings: SinkSettings = SETTINGS,
    registry: CollectorRegistry | None = None,
    at: At = nowhere,
) -> AsyncIterator[Sink]:
    """A running sink, not necessarily ready; it is stopped at the end, and what it died of is raised."""
    sink, stop = Sink(kafka, store, settings, registry=registry, at=at), asyncio.Event()
    running = asyncio.create_task(sink.run(stop))
    try:
        yield sink
    finally:
        stop.set()
        await running


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits for a condition, asked in a thread of its own since it may read the store."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.1)


async def committed(kafka: KafkaSettings, topic: Topic, group: str = "sink") -> dict[int, int]:
    """The committed offset of each partition that has one."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(kafka.prefix + group)
    except GroupCoordinatorNotAvailableError:  # the broker makes its topic for offsets at the first use
        return {}
    finally:
        await admin.close()
    name = kafka.topic(topic)
    return {at.partition: found.offset for at, found in offsets.items() if at.topic == name and found.offset >= 0}


async def until_committed(
    kafka: KafkaSettings, topic: Topic, records: Sequence[Published], group: str = "sink"
) -> None:
    """Waits until as many records are committed as were published, given that nothing else is in the topic."""
    wanted: dict[int, int] = {}
    for record in records:
        partition = partition_of(record.scope_id.encode(), PARTITIONS)
        wanted[partition] = wanted.get(partition, 0) + 1
    async with asyncio.timeout(60):
        while await committed(kafka, topic, group) != wanted:
            await asyncio.sleep(0.1)


def main(bootstrap: str, prefix: str, dsn: str, point: str, times: int) -> None:
    """Runs a sink until it kills itself or is killed."""
    left = times
    rater.stream.sink.SESSION_MS = 6_000  # the least that a broker allows: successors wait that long for the dead

    def at(name: str, partition: int) -> None:
        nonlocal left
        print(name, flush=True)
        if name == point:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> None:
        kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix, partitions=PARTITIONS)
        settings = SinkSettings(max_delay=0.05, batch_rows=100)
        with Store(StoreSettings(dsn)) as store:
            await Sink(kafka, store, settings, at=at).run(asyncio.Event())

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
