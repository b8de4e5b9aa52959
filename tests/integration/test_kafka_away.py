"""A broker that is away: what has to do with it is stopped in order, however long that lasts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaConsumer, KafkaSettings, Topic, client_options, create_topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONSUMERS = 12
"""So that some are stopped while a fetch that failed pauses: that is where the library's cancellation gets out."""


async def test_consumers_of_a_broker_that_is_away_are_stopped(tmp_path: Path) -> None:
    broker = LaptopKafka(tmp_path / "kafka")
    await asyncio.to_thread(broker.start)
    settings = KafkaSettings(bootstrap=broker.bootstrap, partitions=1)
    consumers: list[KafkaConsumer] = []
    try:
        await create_topics(settings)
        key = TopicPartition(settings.topic(Topic.USAGE), 0)
        for _ in range(CONSUMERS):
            consumer = KafkaConsumer(**client_options(settings), enable_auto_commit=False)
            await consumer.start()
            consumer.assign([key])
            consumers.append(consumer)
        for consumer in consumers:
            await consumer.getmany(timeout_ms=10)  # from here on it fetches, again and again
    finally:
        await asyncio.to_thread(broker.stop)

    for consumer in consumers:
        await consumer.stop()
        await asyncio.sleep(0.017)

    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]  # a test runs in a task
    assert all(consumer._client._conns == {} for consumer in consumers)
