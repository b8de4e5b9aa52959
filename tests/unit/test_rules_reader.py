"""A snapshot holds exactly the rules up to its mark, whatever the reader folds while it is taken or written."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from rater.kafka import KafkaSettings
from rater.model.codec import CONTENT_TYPE, JSON, encode_json
from rater.model.rules import Group, GroupCreated, RuleEvent
from rater.stream import rules_reader
from rater.stream.rules_reader import IN_THREAD, RulesReader
from rater.stream.rules_snapshot import Chunk, Shelf

BATCH = IN_THREAD + 100  # so many are folded in a thread


class Buffered:
    """A consumer that has its records already: like aiokafka's it then answers without suspending."""

    def __init__(self, batches: list[list[ConsumerRecord]]) -> None:
        self._batches = batches
        self._position = 0

    async def getmany(self, key: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        batch = self._batches.pop(0)
        self._position = batch[-1].offset + 1
        return {key: batch}

    async def position(self, _key: TopicPartition) -> int:
        return self._position


def record(offset: int) -> ConsumerRecord:
    """The event that takes the rules from version `offset` to the next."""
    group = Group(f"00000000-0000-4000-8000-{offset:012d}", f"g{offset}")
    value = encode_json(RuleEvent(offset, "ana", "", 0, (GroupCreated(group),)))
    headers = ((CONTENT_TYPE, JSON.encode()),)
    return ConsumerRecord("rules", 0, offset, 0, 0, None, value, None, 0, len(value), headers)


def reader_of(batches: int) -> RulesReader:
    found = [[record(first + n) for n in range(BATCH)] for first in range(0, batches * BATCH, BATCH)]
    consumer = Buffered(found)
    return RulesReader(KafkaSettings(bootstrap="localhost:1"), consumer, has_shelf=True, asking=consumer)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
    """The first chunk of each snapshot that went to a shelf in place of Kafka's."""
    chunks: list[Chunk] = []

    async def empty(_settings: KafkaSettings) -> Shelf:
        return Shelf([], {})

    async def keep(_settings: KafkaSettings, found: list[Chunk], _shelf: Shelf) -> None:
        chunks.append(found[0])

    monkeypatch.setattr(rules_reader, "read_shelf", empty)
    monkeypatch.setattr(rules_reader, "write_snapshot", keep)
    return chunks


def test_a_snapshot_is_of_the_moment_it_was_asked_for(written: list[Chunk]) -> None:
    async def main() -> None:
        # given a reader that folded a batch
        reader = reader_of(batches=2)
        await reader.follow(1)
        # when it is to write a snapshot, and folds another batch before the task runs
        saving = asyncio.create_task(reader.write_snapshot())
        await reader.follow(1)
        await saving
        assert reader.book.version == 2 * BATCH

    asyncio.run(main())
    # then the snapshot is of the first batch
    assert [(chunk.version, chunk.offset) for chunk in written] == [(BATCH, BATCH - 1)]


@pytest.mark.parametrize("way", ["follow", "fold_records", "fold_to"])
def test_a_snapshot_taken_while_a_thread_folds_is_of_what_was_folded_before(written: list[Chunk], way: str) -> None:
    async def main() -> None:
        # given a reader that folded a batch
        reader = reader_of(batches=2)
        await reader.follow(1)
        # when a thread folds another, and a snapshot is taken meanwhile
        if way == "follow":
            folding = asyncio.create_task(reader.follow(1))
        elif way == "fold_to":
            folding = asyncio.create_task(reader.fold_to(2 * BATCH))
        else:
            folding = asyncio.create_task(_folded(reader))
        await asyncio.sleep(0)
        assert reader.book.version == BATCH, "the thread is at it"
        await reader.write_snapshot()
        await folding
        assert reader.book.version == 2 * BATCH
        await reader.write_snapshot()

    asyncio.run(main())
    # then its mark is that of its book, and so is the next one's
    assert [(chunk.version, chunk.offset) for chunk in written] == [(BATCH, BATCH - 1), (2 * BATCH, 2 * BATCH - 1)]


async def _folded(reader: RulesReader) -> None:
    await reader.fold_records([record(BATCH + n) for n in range(BATCH)])
