"""The commit that fences: one OffsetCommit under exactly the membership that the state was restored in.

The one file that touches private API of Faust and aiokafka, whose public `commit()` uses whatever membership is
current and so lets a worker that missed a rebalance overwrite its successor (measured: docs/architecture.md). Both
are pinned in pyproject.toml; tests/integration/test_register.py is the contract with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import faust
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest

from rater.stream.interfaces import (
    Clock,
    Committed,
    CommitUnknownError,
    FencedError,
    Pin,
    RestoreRefusedError,
    StreamUnavailableError,
)

__all__ = ["FaustRegister"]

T = TypeVar("T")

# Kafka's error codes of OffsetCommit: org.apache.kafka.common.protocol.Errors
_OK = 0
_FENCED = {22: "illegal generation", 25: "unknown member", 27: "rebalance in progress", 82: "fenced instance"}
_COORDINATOR_MOVED = {15, 16}
_NO_ANSWER = -100  # ours: the connection broke
_LATER = {_NO_ANSWER, 7, 14}  # 7 request timed out, 14 coordinator is loading

COMMIT_SECONDS = 60.0  # a broker killed and restarted is back after 9 s and its start
ANSWER_SECONDS = 70.0  # beyond that the consumer's thread itself is stuck
BACKOFF_SECONDS = 0.2
FRESH_SECONDS = 10.0  # a consumer that reads asks the broker at least every 1.5 s


class FaustRegister:
    """The offsets of the consumer group of a Faust app, for one topic. Follows the protocol `Register`."""

    def __init__(self, app: faust.App, topic: str, clock: Clock = time.time) -> None:
        self._app = app
        self._topic = topic
        self._clock = clock

    def pin(self) -> Pin:
        """The generation that Faust was last assigned partitions in, and our member id."""
        coordinator = self._coordinator()
        return Pin(int(self._app.consumer_generation_id), str(coordinator.member_id))

    async def fetch(self, partition: int) -> Committed | None:
        """What is committed; the public `committed()` drops the metadata."""
        key = TopicPartition(self._topic, partition)
        found = await self._in_consumer_thread(lambda: self._coordinator().fetch_committed_offsets([key]))
        return Committed(found[key].offset, found[key].metadata) if key in found else None

    def log_end(self, partition: int) -> int | None:
        """As the broker said with its last answer, unless that is too long ago to rely on."""
        consumer = self._consumer_thread()._ensure_consumer()
        key = TopicPartition(self._topic, partition)
        try:
            told_ms = consumer.last_poll_timestamp(key)
            end = consumer.highwater(key)
        except AssertionError:  # how aiokafka says that the partition is not ours any more
            return None
        if told_ms is None or self._clock() - told_ms / 1000 > FRESH_SECONDS:
            return None
        return int(end)

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        """Replaces the value of the partition, retrying while the coordinator moves, loads or is away.

        Only the same commit is ever repeated. When the time is up its fate is unknown: it may lie in a socket and
        arrive after a later one, which the broker would accept. So it raises CommitUnknownError, and the caller
        leaves the group: a commit of an old membership is refused.
        """
        # A group without members takes a commit of generation -1 from anybody: it would be no fence at all.
        assert pin.generation > 0, "only an assigned member may commit"
        assert pin.member_id, "only a member may commit"
        try:
            await self._in_consumer_thread(lambda: self._commit(partition, committed, pin))
        except StreamUnavailableError as fault:
            raise CommitUnknownError(f"partition {partition}: the fate of a commit is unknown: {fault}") from fault

    async def _commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        coordinator = self._coordinator()
        async with asyncio.timeout(COMMIT_SECONDS):
            while True:
                try:
                    code = await self._ask(coordinator, partition, committed, pin)
                except KafkaError as fault:
                    if not fault.retriable:
                        raise
                    code = _NO_ANSWER
                if code == _OK:
                    return
                if code in _FENCED:
                    raise FencedError(f"partition {partition} belongs to another worker now ({_FENCED[code]})")
                if code in _COORDINATOR_MOVED:
                    coordinator.coordinator_dead()
                elif code not in _LATER:
                    raise RestoreRefusedError(f"partition {partition}: the broker refuses the commit, code {code}")
                await asyncio.sleep(BACKOFF_SECONDS)

    async def _ask(self, coordinator: Any, partition: int, committed: Committed, pin: Pin) -> int:
        await coordinator.ensure_coordinator_known()
        request = OffsetCommitRequest(
            coordinator.group_id,
            pin.generation,
            pin.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            [(self._topic, [(partition, committed.offset, committed.metadata)])],
        )
        response = await coordinator._send_req(request)
        return int(response.topics[0][1][0][1])

    def _coordinator(self) -> Any:
        return self._consumer_thread()._ensure_consumer()._coordinator

    def _consumer_thread(self) -> Any:
        return self._app.consumer._thread  # type: ignore[attr-defined]  # private: see the module's docstring

    async def _in_consumer_thread(self, call: Callable[[], Awaitable[T]]) -> T:
        """Runs a call in the thread and loop of Faust's consumer, where its coordinator lives."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer: T = await self._consumer_thread().call_thread(call)
                return answer
        except TimeoutError:
            raise StreamUnavailableError("the group coordinator does not answer in time") from None
        except KafkaError as fault:
            raise StreamUnavailableError(f"the group coordinator cannot be reached: {fault!r}") from fault
