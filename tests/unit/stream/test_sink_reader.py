"""The order of the sink: the insert has returned before offsets are committed, and a batch keeps its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from rater.kafka import Topic
from rater.model.codec import encode_json
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import RatedFrame
from rater.store import Batch, StoreUnavailableError, write
from rater.stream.interfaces import nowhere
from rater.stream.sink_metrics import SinkMetrics
from rater.stream.sink_reader import Reader, SinkSettings
from rater.tracing import OFF, Tracing
from rater.tracing.header import written
from tests.unit.store.builders import a_frame, a_line
from tests.unit.tracing.traced import Traced, links

RATED, USAGE = TopicPartition("rated", 0), TopicPartition("usage", 0)


class World:
    """Consumer, tables and everything else that a reader needs; `said` is what happened, in order."""

    def __init__(self, frames: Sequence[RatedFrame]) -> None:
        self.said: list[str] = []
        self.tokens: list[list[str]] = []
        self.refusals = 0
        self.stop = asyncio.Event()
        self.tables = self
        self._tokens: list[str] = []
        self._records = [
            SimpleNamespace(
                topic="rated", partition=0, offset=n, timestamp=0, key=b"", value=encode_json(frame), headers=()
            )
            for n, frame in enumerate(frames)
        ]

    # --- the tables

    def revision_of(self, scope_id: str, period_begin: int) -> int | None:
        return None

    def write(self, batch: Batch, token: str) -> dict[str, int]:
        self._tokens = []
        self.tokens.append(self._tokens)
        return write(self, batch, token)  # type: ignore[arg-type]  # of a store it uses `insert` alone

    def insert(self, table: str, columns: Any, token: str = "") -> None:
        self._tokens.append(token)
        if self.refusals:
            self.refusals -= 1
            self.said.append(f"{table} refused")
            raise StoreUnavailableError("away")
        self.said.append(table)

    # --- the consumer

    async def start(self) -> None: ...

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[Any]]:
        await asyncio.sleep(0)
        found, self._records = self._records, []
        return {RATED: found} if found else {}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.said.append(f"commit {offsets[RATED]}")
        self.stop.set()

    async def committed(self, partition: TopicPartition) -> int | None:
        return None

    def highwater(self, partition: TopicPartition) -> int | None:
        return None

    # --- the rest

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        return call()

    async def prepare(self) -> None: ...

    def consumer(self, group: str, topics: Any, listener: Any) -> Any:
        consumer = SimpleNamespace(
            **{name: getattr(self, name) for name in ("start", "getmany", "commit", "committed", "highwater")}
        )
        consumer.stop = self.start
        return consumer

    async def reject(self, refused: Any) -> None:
        raise AssertionError(refused)


async def read(
    world: Any,
    topics: Mapping[str, Topic] | None = None,
    registry: CollectorRegistry | None = None,
    tracing: Tracing = OFF,
) -> None:
    """Runs a reader until its first commit."""
    metrics = SinkMetrics(registry or CollectorRegistry(), lambda: (), lambda: ())
    topics, settings = topics or {"rated": Topic.RATED}, SinkSettings(max_delay=0.05)
    async with asyncio.timeout(30):
        await Reader("sink", topics, world, settings, metrics, nowhere, tracing=tracing).run(world.stop)


async def test_lines_then_the_frame_then_the_commit() -> None:
    world = World([a_frame(lines=[a_line(1)]), a_frame("other", lines=[a_line(2)])])

    await read(world)

    assert world.said == ["lines", "frames", "commit 2"]


async def test_nothing_is_committed_while_the_store_refuses_and_the_batch_keeps_its_name() -> None:
    # given a store that is away for two inserts
    world = World([a_frame(lines=[a_line(1)])])
    world.refusals = 2

    # when a reader runs
    await read(world)

    # then it committed after the insert, which it repeated under the same name
    assert world.said == ["lines refused", "lines refused", "lines", "frames", "commit 1"]
    assert world.tokens[0] == world.tokens[1] == world.tokens[2][:1]


async def test_two_readers_of_the_same_records_give_the_batch_one_name() -> None:
    worlds = [World([a_frame(lines=[a_line(1)])]) for _ in range(2)]

    for world in worlds:
        await read(world)

    assert worlds[0].tokens == worlds[1].tokens


class Forgetful(World):
    """Its `usage` has one record, at offset 7; `group_at` is the group's offset."""

    def __init__(self, group_at: int | None) -> None:
        super().__init__([])
        self._group_at = group_at
        post = PostedLines("a", "0" * 32, [PostedLine(0, "cpu", 0, 1, Decimal(1))])
        self._records = [
            SimpleNamespace(
                topic="usage", partition=0, offset=7, timestamp=0, key=b"a", value=encode_json(post), headers=()
            )
        ]

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[Any]]:
        found = await super().getmany(timeout_ms=timeout_ms, max_records=max_records)
        return {USAGE: found[RATED]} if found else {}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await super().commit({RATED: offsets[USAGE]})

    async def committed(self, partition: TopicPartition) -> int | None:
        return self._group_at


@pytest.mark.parametrize(("group_at", "lost"), [(3, 4), (7, 0), (None, 0)])
async def test_what_the_topic_forgot_before_it_was_stored_is_told(
    group_at: int | None, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    world = Forgetful(group_at)

    await read(world, {"usage": Topic.USAGE}, registry)

    assert world.said == ["posted", "commit 8"]
    assert (registry.get_sample_value("rater_sink_lost_total", {"topic": "usage"}) or 0) == lost
    assert ("post them again" in caplog.text) is bool(lost)


async def test_an_insert_links_to_what_was_traced_of_it_and_to_each_once() -> None:
    traced, headers = Traced(0.0), [written(1, 2), written(1, 2), written(3, 4), written(5, 6)[:-1] + "0", ""]
    world = World([a_frame(f"s{n}", lines=[a_line(n)]) for n in range(5)])
    for record, header in zip(world._records, headers, strict=True):
        record.headers = (*record.headers, ("traceparent", header.encode())) if header else record.headers

    await read(world, tracing=traced.tracing)

    [insert] = traced.spans
    assert links(insert) == [written(1, 2), written(3, 4)]
    assert (insert.attributes or {})["rater.group"] == "sink"
    assert insert.status.is_ok


async def test_an_insert_of_nothing_traced_is_not_traced() -> None:
    traced = Traced(1.0)
    world = World([a_frame(lines=[a_line(1)])])

    await read(world, tracing=traced.tracing)

    assert world.said == ["lines", "frames", "commit 1"]
    assert traced.names == []
