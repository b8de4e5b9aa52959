"""The order of a checkpoint and what a restart finds, with a log and a register that write down what they are told."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rater.engine import OutboxItem, Run
from rater.model.codec import JSON, decode_rated
from rater.model.usage import UsageRecord
from rater.stream.interfaces import Committed, FencedError, Pin
from rater.stream.keeper import Keeper
from tests.unit.engine.builders import GRACE, HOUR, Log, T, collection, context, plan, price_list

PIN = Pin(1, "us")
RULES = price_list()


class DiedError(Exception):
    pass


class Kafka:
    """A log and a register in memory. `said` is what happened, in order; `dies_at` is a point of the protocol."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.published: list[OutboxItem] = []
        self.committed: Committed | None = None
        self.dies_at = ""
        self.is_away = False
        self._runs: dict[str, list[bytes]] = {}

    def at(self, point: str, partition: int) -> None:
        if point == self.dies_at:
            raise DiedError

    async def write_chunks(self, partition: int, run_id: str, chunks: Sequence[bytes]) -> int:
        self.said.append("chunks")
        self._runs[run_id] = list(chunks)
        return 0

    async def read_chunks(self, partition: int, runs: Sequence[Run]) -> list[list[bytes]]:
        return [self._runs[run.run_id] for run in runs]

    async def has_chunks(self, partition: int) -> bool:
        return bool(self._runs)

    async def first_offset(self, partition: int) -> int:
        return 0

    async def publish(self, partition: int, items: Sequence[OutboxItem]) -> None:
        self.said.append("publish")
        self.published += items

    def pin(self) -> Pin:
        return PIN

    def log_end(self, partition: int) -> int | None:
        return None if self.is_away else 0

    async def fetch(self, partition: int) -> Committed | None:
        return self.committed

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        if pin != PIN:
            raise FencedError("somebody else's")
        self.said.append("commit")
        self.committed = committed

    def revisions(self) -> list[tuple[int, int]]:
        """(period begin, revision) of what was published, repetitions once."""
        frames = [decode_rated(item.value, JSON) for item in self.published if item.topic == "rated"]
        return list(dict.fromkeys((frame.period_begin, frame.revision) for frame in frames))


class Bench:
    """A partition of usage, and one keeper after the other."""

    def __init__(self) -> None:
        self.kafka = Kafka()
        self.usage = Log()
        self.now = T + HOUR
        self.keeper: Keeper | None = None

    async def restart(self, pin: Pin = PIN) -> Keeper:
        """A new process: only what is durable is left."""
        kafka: Any = self.kafka
        keeper = self.keeper = Keeper(0, context(), kafka, kafka, lambda: self.now, self.kafka.at)
        await keeper.restore(1, pin)
        for record in self.usage.records:
            keeper.apply(record)
        return keeper

    async def take(self, *records: UsageRecord) -> None:
        assert self.keeper is not None
        for record in records:
            self.keeper.apply(self.usage.add(record))

    async def checkpoint(self) -> None:
        assert self.keeper is not None
        await self.keeper.checkpoint(RULES)


@pytest.fixture
async def bench() -> Bench:
    """A keeper that has a whole hour to rate."""
    made = Bench()
    await made.restart()
    made.kafka.said.clear()
    await made.take(plan("cpu", until=T + 3 * HOUR), collection())
    return made


async def test_chunks_then_one_commit_then_the_output(bench: Bench) -> None:
    await bench.checkpoint()

    assert bench.kafka.said[-2:] == ["commit", "publish"]
    assert set(bench.kafka.said[:-2]) == {"chunks"}
    assert bench.kafka.revisions() == [(T, 0)]


@pytest.mark.parametrize("point", ["cut", "chunks_written", "before_commit"])
async def test_nothing_is_published_that_is_not_committed(bench: Bench, point: str) -> None:
    # given a process that dies before its commit
    bench.kafka.dies_at = point
    with pytest.raises(DiedError):
        await bench.checkpoint()

    # then nobody has seen anything of it
    assert bench.kafka.published == []


@pytest.mark.parametrize("point", ["committed", "before_publish"])
async def test_what_is_committed_is_published_by_whoever_comes_next(bench: Bench, point: str) -> None:
    # given a process that dies after its commit and before its output
    bench.kafka.dies_at = point
    with pytest.raises(DiedError):
        await bench.checkpoint()
    assert bench.kafka.published == []

    # when another one starts, hours later
    bench.kafka.dies_at = ""
    bench.now += GRACE
    await bench.restart()

    # then it publishes what was decided
    assert bench.kafka.revisions() == [(T, 0)]


async def test_revisions_go_on_after_a_restart(bench: Bench) -> None:
    # given a rated hour
    await bench.checkpoint()

    # when it is collected again, each time after a restart
    for attempt in (2, 3):
        await bench.restart()
        await bench.take(collection(qty=str(attempt), attempt=attempt, collection_id=f"again-{attempt}"))
        await bench.checkpoint()

    # then the next revisions say so, and none is said a second time
    assert bench.kafka.revisions() == [(T, 0), (T, 1), (T, 2)]
    assert len({item.value for item in bench.kafka.published if item.topic == "rated"}) == 3


async def test_records_that_come_while_a_thread_decides_wait_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a scope that is decided in a thread, and records that come meanwhile
    monkeypatch.setattr(importlib.import_module("rater.engine.decide"), "LONG_POINTS", 0)
    assert bench.keeper is not None
    state, threads = bench.keeper.state, 0

    async def to_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal threads
        threads += 1
        if threads == 1:
            await bench.take(collection(T + HOUR, T + 2 * HOUR, qty="2"), collection(attempt=2, qty="3"))
            assert state.next_offset == 2  # nobody touches the state but the thread
        return await in_thread(work, *arguments)

    in_thread = asyncio.to_thread
    monkeypatch.setattr(asyncio, "to_thread", to_thread)

    # when
    await bench.checkpoint()

    # then the thread has rated what there was, and the cut holds what came
    assert bench.kafka.revisions() == [(T, 0)]
    assert bench.kafka.committed is not None
    assert (threads, bench.kafka.committed.offset, state.next_offset) == (1, 4, 4)

    # and the next checkpoint rates that, also after a restart
    bench.now += HOUR
    await bench.restart()
    await bench.checkpoint()
    assert bench.kafka.revisions() == [(T, 0), (T, 1), (T + HOUR, 0)]


async def test_an_error_in_the_thread_ends_all_checkpoints(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(importlib.import_module("rater.engine.decide"), "LONG_POINTS", 0)

    async def to_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        raise DiedError

    monkeypatch.setattr(asyncio, "to_thread", to_thread)

    # when, then
    with pytest.raises(DiedError):
        await bench.checkpoint()
    await bench.checkpoint()
    assert bench.kafka.said == []


async def test_nothing_to_write_counts_only_while_kafka_answers(bench: Bench) -> None:
    """Nothing becomes due without the end of the log: a worker would look well for as long as Kafka is away."""
    assert bench.keeper is not None
    while bench.keeper.is_due():
        await bench.checkpoint()
    for is_away, settled_at in ((True, bench.now), (False, bench.now + 2)):
        bench.now += 1
        bench.kafka.is_away = is_away
        await bench.checkpoint()
        assert (bench.keeper.settled_at, bench.keeper.is_due()) == (settled_at, False)


async def test_who_is_fenced_publishes_nothing(bench: Bench) -> None:
    # given a keeper that was restored under a membership that is over
    await bench.restart(Pin(0, "them"))

    # when it wants to commit
    with pytest.raises(FencedError):
        await bench.checkpoint()

    # then it has published nothing, and does nothing any more
    assert bench.kafka.published == []
    await bench.checkpoint()
    assert "commit" not in bench.kafka.said
