"""Checkpoints that are made in slices while records come, that fail half way, and snapshots that are not whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from rater.engine import LogGapError, PartitionState, Record, Run, decode_snapshot, encode_snapshot
from rater.stream.interfaces import Committed, Pin, RestoreRefusedError, StreamUnavailableError
from rater.stream.keeper import Keeper
from tests.unit.engine.builders import HOUR, Log, T, collection, context, plan, price_list

PIN = Pin(1, "us")
RULES = price_list()
SCOPES = ["A", "B", "C"]


class Kafka:
    """A log and a register in memory; `meanwhile` is called whenever chunks are written."""

    def __init__(self) -> None:
        self.committed: Committed | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        self.runs: dict[str, list[bytes]] = {}
        self.fails = False

    async def write_chunks(self, partition: int, run_id: str, chunks: Sequence[bytes]) -> int:
        self.meanwhile()
        if self.fails:
            raise StreamUnavailableError("the broker is away")
        self.runs[run_id] = list(chunks)
        return 0

    async def read_chunks(self, partition: int, runs: Sequence[Run]) -> list[list[bytes]]:
        return [self.runs[run.run_id] for run in runs]

    async def has_chunks(self, partition: int) -> bool:
        return bool(self.runs)

    async def first_offset(self, partition: int) -> int:
        return 0

    async def publish(self, partition: int, items: Sequence[Any]) -> None:
        self.meanwhile()

    def log_end(self, partition: int) -> int | None:
        return 0

    async def fetch(self, partition: int) -> Committed | None:
        return self.committed

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        self.committed = committed


async def restored(kafka: Kafka) -> Keeper:
    log: Any = kafka
    keeper = Keeper(0, context(), log, log, lambda: T + HOUR)
    await keeper.restore(1, PIN)
    return keeper


def frozen(state: PartitionState) -> PartitionState:
    return decode_snapshot(encode_snapshot(state), 0, 1, context().settings)


def plans(usage: Log) -> list[Record]:
    return [
        usage.add(msgspec.structs.replace(plan("cpu", until=T + 3 * HOUR), scope_id=scope_id)) for scope_id in SCOPES
    ]


@pytest.fixture
async def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
async def keeper(kafka: Kafka) -> Keeper:
    """With some scopes that are safe."""
    made = await restored(kafka)
    usage = Log()
    for record in plans(usage):
        made.apply(record)
    for scope_id in SCOPES:
        made.apply(usage.add(collection(scope_id=scope_id)))
    await made.checkpoint(RULES)
    return made


def next_record(keeper: Keeper, scope_id: str) -> Record:
    usage = Log()
    record = usage.add(collection(T + HOUR, T + 2 * HOUR, scope_id=scope_id))
    return Record(keeper.state.next_offset, record.timestamp_ms, record.key, record.value, record.headers)


async def test_what_comes_while_chunks_are_written_is_left_for_the_next_checkpoint(
    kafka: Kafka, keeper: Keeper
) -> None:
    # given a change, and what the state is then
    keeper.apply(next_record(keeper, "A"))
    before = frozen(keeper.state)

    # when records of all scopes come while it is made safe
    def come() -> None:
        for scope_id in SCOPES:
            keeper.apply(next_record(keeper, scope_id))

    kafka.meanwhile = come
    await keeper.checkpoint(RULES)

    # then a restart finds the state of the cut
    kafka.meanwhile = lambda: None
    again = await restored(kafka)
    assert again.state.next_offset == before.next_offset < keeper.state.next_offset
    assert again.state.scopes["B"] == before.scopes["B"] != keeper.state.scopes["B"]


async def test_a_checkpoint_that_failed_is_written_anew(kafka: Kafka, keeper: Keeper) -> None:
    # given one that Kafka did not take
    keeper.apply(next_record(keeper, "A"))
    kafka.fails = True
    with pytest.raises(StreamUnavailableError):
        await keeper.checkpoint(RULES)

    # when the next one succeeds
    kafka.fails = False
    await keeper.checkpoint(RULES)

    # then nothing is missing
    assert (await restored(kafka)).state.scopes == keeper.state.scopes


async def test_little_is_written_when_little_has_changed(keeper: Keeper) -> None:
    everything = keeper.snapshots.written_bytes
    keeper.apply(next_record(keeper, "A"))
    await keeper.checkpoint(RULES)
    await keeper.checkpoint(RULES)
    assert keeper.snapshots.written_bytes < everything / 2
    assert keeper.snapshots.segments == 2


async def test_a_damaged_chunk_of_any_run_is_refused(kafka: Kafka, keeper: Keeper) -> None:
    # given the runs of the only checkpoint: the segment, the outbox, the manifest
    assert len(kafka.runs) == 3

    # then a bit that has changed in any of them keeps the worker from starting
    for run_id, (chunk,) in list(kafka.runs.items()):
        kafka.runs[run_id] = [chunk[:-1] + bytes([chunk[-1] ^ 1])]
        with pytest.raises(RestoreRefusedError, match=r"damaged \(checksum\)\. See `rater recover`"):
            await restored(kafka)
        kafka.runs[run_id] = [chunk]
    assert (await restored(kafka)).state.scopes == keeper.state.scopes


async def test_an_error_in_a_record_is_followed_by_no_checkpoint(kafka: Kafka, keeper: Keeper) -> None:
    # given a state of which nobody knows what it holds
    was = kafka.committed
    with pytest.raises(LogGapError):
        keeper.apply(Record(99, 0, b"A", b""))

    # then it is not made durable
    await keeper.checkpoint(RULES)
    assert kafka.committed == was
