"""The rule book on a real Kafka: long logs, snapshots of it, writers at the same time, records that nobody can read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import cramjam
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, TopicsError, client_options, create_topics, partitions_of
from rater.model.codec import JSON, encode_json
from rater.model.rules import (
    Field,
    FieldCreated,
    MappingCreated,
    MappingDeleted,
    MappingRule,
    MappingUpdated,
    RuleEvent,
    Service,
    ServiceCreated,
)
from rater.rating import Applied, Ignored, RuleBook, fold
from rater.rating.snapshot import encode_book
from rater.store import Store, StoreSettings
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
from rater.stream.rules_reader import RulesReader, decode_event
from rater.stream.rules_snapshot import Chunk, encode_chunk
from tests.integration.sinks import sinking, until
from tests.integration.streams import working
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


def services(*names: str, version: int = 0, author: str = "ana", reason: str = "") -> RuleEvent:
    changes = tuple(ServiceCreated(Service(uid(int.from_bytes(name.encode(), "big")), name)) for name in names)
    return RuleEvent(version, author, reason, 1_767_225_600, changes)


async def shortened(topics: KafkaSettings) -> tuple[bytes, int]:
    """A log of 300 events with a snapshot: the bytes of its book, and its records."""
    await write(topics, *(encode_json(step(version)) for version in range(300)))
    await save(topics)
    book, read = await read_now(topics)
    assert read == 0, "the snapshot is used"
    return encode_book(book), 300


async def taken_apart(topics: KafkaSettings) -> tuple[Chunk, list[Chunk]]:
    """Deletes the snapshot and gives its chunks, split into more than one."""
    async with reading(topics) as reader:
        (found,) = (await reader._shelf()).usable
    (chunk,) = found.chunks.values()
    data = [chunk.data[:1000], chunk.data[1000:2000], chunk.data[2000:]]
    await put(topics, (encode_chunk(chunk)[0], None))
    parts = [
        msgspec.structs.replace(chunk, snapshot_id="parts", number=number, count=len(data), data=part)
        for number, part in enumerate(data)
    ]
    return chunk, parts


FAULTS: dict[str, Callable[[list[Chunk]], list[Chunk]]] = {
    "torn": lambda chunks: chunks[:-1],
    "without its begin": lambda chunks: chunks[1:],
    "damaged": lambda chunks: [*chunks[:-1], msgspec.structs.replace(chunks[-1], data=chunks[-1].data[:-1] + b"?")],
    "of another release": lambda chunks: [msgspec.structs.replace(chunk, fingerprint="old") for chunk in chunks],
    "of another log": lambda chunks: [msgspec.structs.replace(chunk, digest=b"x" * 16) for chunk in chunks],
    "of a longer log": lambda chunks: [msgspec.structs.replace(chunk, offset=300) for chunk in chunks],
    "of no book": lambda chunks: holding(chunks, bytes(cramjam.zstd.compress(b"\x91\x09"))),
    "not compressed": lambda chunks: holding(chunks, b"plain"),
}


def holding(chunks: list[Chunk], payload: bytes) -> list[Chunk]:
    """The chunks with this in place of a book, and a checksum that is right."""
    checksum = hashlib.blake2b(payload, digest_size=16).digest()
    data = [payload, *[b""] * (len(chunks) - 1)]
    return [
        msgspec.structs.replace(chunk, data=part, checksum=checksum) for chunk, part in zip(chunks, data, strict=True)
    ]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_snapshot_that_is_not_right_costs_time_only(topics: KafkaSettings, fault: str) -> None:
    expected, records = await shortened(topics)
    _, chunks = await taken_apart(topics)
    await put(topics, *map(encode_chunk, FAULTS[fault](chunks)))

    book, read = await read_now(topics)

    assert (encode_book(book), read) == (expected, records)


async def test_a_snapshot_in_several_chunks_is_put_together_and_foreign_records_between_are_passed_over(
    topics: KafkaSettings,
) -> None:
    expected, _ = await shortened(topics)
    _, chunks = await taken_apart(topics)
    first, second, third = map(encode_chunk, chunks)
    moved = (b"elsewhere/0", first[1])
    await put(topics, third, (b"junk", b"\xff"), moved, first, (b"more", msgspec.msgpack.encode([1])), second)

    book, read = await read_now(topics)

    assert (encode_book(book), read) == (expected, 0)


async def test_many_writers_of_snapshots_at_once_leave_one_that_counts(topics: KafkaSettings) -> None:
    for begin in (0, 300, 600):
        # given readers of one growing log, all of which want to save it
        await write(topics, *(encode_json(step(version)) for version in range(begin, begin + 300)))
        async with AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(reading(topics)) for _ in range(4)]
            for reader in readers:
                await reader.start()
                await reader.fold_to(await reader.end())
            assert [reader.records_read for reader in readers] == [300] * 4

            # when they do it at the same time
            await asyncio.gather(*(reader.write_snapshot() for reader in readers))

        # then there is one to start from
        book, read = await read_now(topics)
        assert (book.version, read) == (begin + 300, 0)

    # and those that are older than the two newest are deleted
    async with reading(topics) as reader:
        shelf = await reader._shelf()
    assert set(shelf.keys.values()) == {599, 899}
    assert len(shelf.usable) <= 8


async def test_without_the_topic_of_snapshots_everything_goes_on(topics: KafkaSettings) -> None:
    # given an installation made before there were snapshots
    admin = AIOKafkaAdminClient(**client_options(topics))
    await admin.start()
    await admin.delete_topics([topics.topic(Topic.RULEBOOK)])
    await admin.close()
    async with asyncio.timeout(30):
        while Topic.RULEBOOK in await partitions_of(topics):
            await asyncio.sleep(0.1)

    await append_event(topics, step(0))
    async with working(topics) as worker:
        assert worker.red() == ""
    async with reading(topics) as reader:
        await reader.start()
        await reader.fold_to(await reader.end())
        assert reader.book.version == 1
        assert not reader.wants_snapshot(0)
    # and it can be had later
    assert await create_topics(topics) == [topics.topic(Topic.RULEBOOK)]
    async with reading(topics) as reader:
        assert reader.wants_snapshot(0)


async def test_a_log_that_has_lost_its_beginning_is_refused(topics: KafkaSettings) -> None:
    """Else the first events would be missing, all others expect another version, and every price would be 0."""
    await write(topics, *(encode_json(step(version)) for version in range(3)))
    admin = AIOKafkaAdminClient(**client_options(topics))
    await admin.start()
    await admin.delete_records({TopicPartition(topics.topic(Topic.RULES), 0): RecordsToDelete(before_offset=2)})
    await admin.close()

    with pytest.raises(TopicsError, match="has lost its first 2 records"):
        await read_rules(topics)


async def test_several_writers_at_once_lose_no_event_and_share_the_versions(topics: KafkaSettings) -> None:
    # given three people who each add three services, starting over whenever somebody else was faster
    lost = 0

    async def add(author: str) -> list[int]:
        nonlocal lost
        versions = []
        for number in range(3):
            while True:
                seen = (await read_rules(topics)).version
                event = services(f"{author}{number}", version=seen, author=author)
                try:
                    versions.append((await append_event(topics, event)).version)
                    break
                except RuleConflictError:
                    lost += 1
        return versions

    # when they do it at the same time
    won = await asyncio.gather(*(add(author) for author in "pqr"))

    # then each version was one's, all services are there, and every reader says so
    assert sorted(version for versions in won for version in versions) == list(range(1, 10))
    book = await read_rules(topics)
    assert {service.name for service in book.services.values()} == {f"{who}{n}" for who in "pqr" for n in range(3)}
    records = await logged(topics)
    applied = [record for record in records if isinstance(record.outcome, Applied)]
    assert len(applied) == book.version == 9
    assert len(records) <= 9 + lost  # those who saw in time that they were late wrote nothing
    told = {version: author for author, versions in zip("pqr", won, strict=True) for version in versions}
    assert {record.outcome.version: record.event.author for record in applied} == told


async def test_a_change_between_two_events_of_one_plan_leaves_what_was_applied_and_says_so(
    topics: KafkaSettings,
) -> None:
    plan = [services("a", version=0), services("b", version=1), services("c", version=2)]
    rival = services("z", version=1, author="bob", reason="urgent")
    told = []

    def advance(done: int, total: int) -> None:
        told.append((done, total))
        with ThreadPoolExecutor(1) as other:
            other.submit(asyncio.run, append_event(topics, rival)).result()

    with pytest.raises(RuleConflictError) as caught:
        await append_events(topics, plan, advance)

    assert told == [(1, 3)]
    assert caught.value.applied == 1
    text = str(caught.value)
    assert text.startswith("1 of 3 events were applied and stand, the others were not: expects version 1 ")
    assert text.endswith("The last change is by bob at 2026-01-01T00:00:00Z (urgent)")
    assert sorted(service.name for service in (await read_rules(topics)).services.values()) == ["a", "z"]


async def test_an_event_that_nobody_could_read_or_that_cannot_apply_is_not_written(topics: KafkaSettings) -> None:
    for event, reason in (
        (services("a", author=""), "no reader could read the event"),
        (services("a", "a"), "is taken"),
        (services("a", version=4), "expects version 4 of the rule book, which is at 0"),
    ):
        with pytest.raises(RuleConflictError, match=reason):
            await append_event(topics, event)

    assert await logged(topics) == []


async def test_the_history_tells_of_each_record_what_became_of_it(topics: KafkaSettings) -> None:
    values = [services("a"), services("b"), services("b", version=1)]
    await write(topics, encode_json(values[0]), *GARBAGE, encode_json(values[1]), encode_json(values[2]))

    records = await logged(topics)

    assert [record.offset for record in records] == list(range(7))
    assert [record.event for record in records] == [values[0], *[None] * 4, values[1], values[2]]
    assert [type(record.outcome) for record in records] == [Applied, *[type(None)] * 4, Ignored, Applied]
    assert [record.first_bytes for record in records[1:5]] == list(GARBAGE)
    reasons = ("no rule event as application/json", "version 7 of rule event is unknown", "price_event", "truncated")
    for record, reason in zip(records[1:5], reasons, strict=True):
        assert reason in record.fault
        assert record.written_at > 1_767_225_600
    assert [record.offset for record in await logged(topics, 2)] == [5, 6]
    befores = [before.version async for _, before in read_changes(topics, 3)]
    assert befores == [1, 1, 1]


async def test_the_book_as_of_a_version(topics: KafkaSettings) -> None:
    events = [step(version) for version in range(200)]
    await write(topics, *map(encode_json, events[:150]))
    await save(topics)
    await write(topics, encode_json(events[0]), *map(encode_json, events[150:]))

    for version in (0, 1, 77, 150, 151, 200):
        expected, _ = fold(RuleBook.empty(), events[:version])
        assert encode_book(await read_rules(topics, version)) == encode_book(expected)
    with pytest.raises(NoVersionError, match="are at version 200: there is no version 201"):
        await read_rules(topics, 201)


async def test_the_sink_keeps_the_history_in_the_store(topics: KafkaSettings, tmp_path: Path) -> None:
    # given a log with two versions, and what came to nothing
    await write(topics, encode_json(services("a", reason="first")), *GARBAGE, encode_json(services("late")))
    await append_event(topics, services("b", version=1, author="bob"))

    def stored() -> list[tuple[object, ...]]:
        return store.rows("SELECT version, author, event FROM rule_events FINAL ORDER BY version")

    with Store(StoreSettings(dsn=f"chdb://{tmp_path / 'store'}")) as store:
        # when a sink runs, and another after it, while rules are changed
        async with sinking(topics, store) as sink:
            await until(lambda: sink.red() == "")
            await until(lambda: len(stored()) == 2)
        await append_event(topics, services("c", version=2))
        async with sinking(topics, store):
            await until(lambda: len(stored()) == 3)
            await append_event(topics, services("d", version=3))
            await until(lambda: len(stored()) == 4)

        # then the store has each version once, with its event
        assert [row[:2] for row in stored()] == [(1, "ana"), (2, "bob"), (3, "ana"), (4, "ana")]
        assert [decode_event(str(row[2]).encode(), JSON) for row in stored()] == [
            services("a", reason="first"),
            services("b", version=1, author="bob"),
            services("c", version=2),
            services("d", version=3),
        ]
        # and a time that is not that of the writer's clock but of the log
        assert store.rows("SELECT min(recorded_at) > toDateTime('2026-01-02 00:00:00', 'UTC') FROM rule_events") == [
            (1,)
        ]
