"""The rule book on a real Kafka: long logs, snapshots of it, writers at the same time, records that nobody can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, TopicsError, client_options, create_topics
from rater.model.codec import encode_json
from rater.model.rules import (
    Field,
    FieldCreated,
    Group,
    GroupCreated,
    MappingCreated,
    MappingDeleted,
    MappingRule,
    MappingUpdated,
    RuleEvent,
    Service,
    ServiceCreated,
)
from rater.rating import RuleBook, fold
from rater.rating.snapshot import encode_book
from rater.stream import rules_reader, rules_snapshot
from rater.stream.rules_history import LogRecord, read_changes, read_events
from rater.stream.rules_log import (
    NoVersionError,
    RuleConflictError,
    RulesFollower,
    append_event,
    append_events,
    read_rules,
    reading,
)
from rater.stream.rules_reader import RulesReader
from tests.unit.rating.builders import uid

GARBAGE = (b"\xff\x00no json", b'{"type":"rule_event","version":7}', b'{"type":"price_event"}', b"")


@pytest.fixture
async def topics(kafka: LaptopKafka, tmp_path: Path) -> KafkaSettings:
    """Topics of this test's own, one partition each."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=1)
    await create_topics(settings)
    return settings


def step(version: int, author: str = "ana") -> RuleEvent:
    """An event for a book of that version of 500 mappings that are created, changed and sometimes deleted."""
    if version == 0:
        changes: tuple = (ServiceCreated(Service(uid(1), "cpu")), FieldCreated(Field(uid(2), uid(1), "flavor")))
        return RuleEvent(0, author, "begin", 0, changes)
    turn, number = divmod(version - 1, 500)
    born = turn - turn % 3
    rule = MappingRule(uid(1000 * (born + 1) + number), Decimal(version), value=f"v{number}", field_id=uid(2))
    change = (MappingCreated(rule), MappingUpdated(rule), MappingDeleted(rule.mapping_id))[turn % 3]
    return RuleEvent(version, author, "", version, (change,))


@asynccontextmanager
async def producing(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**client_options(kafka), acks="all", linger_ms=20, max_batch_size=512 * 1024)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def write(kafka: KafkaSettings, *values: bytes) -> None:
    async with producing(kafka) as producer:
        for value in values:
            await producer.send(kafka.topic(Topic.RULES), value, partition=0)


async def put(kafka: KafkaSettings, *records: tuple[bytes, bytes | None]) -> None:
    """Into topic `rulebook`, as it is."""
    async with producing(kafka) as producer:
        for key, value in records:
            await producer.send_and_wait(kafka.topic(Topic.RULEBOOK), value, key=key, partition=0)


async def read_now(kafka: KafkaSettings) -> tuple[RuleBook, int]:
    """The book, and how many records of the log it took to know it."""
    async with reading(kafka) as reader:
        await reader.start()
        await reader.fold_to(await reader.end())
        return reader.book, reader.records_read


async def save(kafka: KafkaSettings) -> RulesReader:
    """A snapshot of what there is now, made by a reader of the whole log."""
    async with reading(kafka) as reader:
        await reader.start(most_offset=0)
        await reader.fold_to(await reader.end())
        await reader.write_snapshot()
        return reader


async def logged(kafka: KafkaSettings, limit: int = 0) -> list[LogRecord]:
    return [record async for record in read_events(kafka, limit)]


async def test_a_long_log_with_everything_in_it_is_read_from_a_snapshot(topics: KafkaSettings) -> None:
    # given 20 000 events, some of them twice, and some records that nobody can read
    events = [step(version) for version in range(20_000)]
    values = [encode_json(event) for event in events]
    for place in range(0, len(values), 1000):
        values[place:place] = [*GARBAGE, encode_json(events[0])]
    await write(topics, *values)
    expected, _ = fold(RuleBook.empty(), events)

    # when a worker follows the log
    without, read = await read_now(topics)
    follower = RulesFollower(topics)
    follower._late = 1.0
    following = asyncio.create_task(follower.run())
    async with asyncio.timeout(60):
        while await snapshots(topics) == 0:
            await asyncio.sleep(0.1)
    await follower.stop(following)

    # then it leaves a snapshot, and whoever reads next reads the log's end only, and has the same book
    assert (encode_book(without), read) == (encode_book(expected), len(values))
    book, read = await read_now(topics)
    assert (encode_book(book), read) == (encode_book(expected), 0)
    after = await append_event(topics, step(20_000))
    book, read = await read_now(topics)
    assert (book.version, read) == (after.version, 1) == (20_001, 1)
    assert encode_book(book) == encode_book(fold(expected, [step(20_000)])[0])
    assert [record.offset for record in await logged(topics, 3)] == [len(values) - 2, len(values) - 1, len(values)]


async def snapshots(topics: KafkaSettings) -> int:
    async with reading(topics) as reader:
        return len((await reader._shelf()).usable)
