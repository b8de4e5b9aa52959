"""This replica's seat among all collectors of one source: which scopes are its own.

Replicas share the partitions of topic `usage` as a consumer group, and a scope belongs to whoever holds the partition
in which its records lie: so what was proven of it is read back from exactly these. Nothing is consumed and no offset
is committed: the group is there for its memberships alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from collectors.errors import PublishError, SeatLostError
from collectors.topic import usage_partitions
from rater.kafka import METADATA_MS, KafkaConsumer, KafkaSettings, KafkaUnavailableError, Topic, client_options
from rater.model.partition import partition_of

__all__ = ["KafkaSeat", "Seat", "WholeSeat"]

log = logging.getLogger(__name__)

SESSION_MS = 10_000  # a replica that died is missed after so long: its scopes have moved within 30 s
_HEARTBEAT_MS = 3_000
_POLL_MS = 1000
_STOP_SECONDS = 10.0
_ASSIGN_SECONDS = 60.0


class Seat(Protocol):
    """Which scopes are this replica's own, now."""

    @property
    def turn(self) -> int:
        """Grows with each change of what it holds."""

    def holds(self, scope_id: str) -> bool:
        """Whether the scope is its own."""


class WholeSeat:
    """The only replica, for good: every scope is its own."""

    turn = 0

    def holds(self, scope_id: str) -> bool:
        """Always."""
        return True


class KafkaSeat(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A member of the group `PREFIXcollector.SOURCE`. While partitions are being moved it holds none."""

    def __init__(self, kafka: KafkaSettings, source: str, session_ms: int = SESSION_MS) -> None:
        self.turn = 0
        self._kafka = kafka
        self._group = f"{kafka.prefix}collector.{source}"
        self._session_ms = session_ms
        self._held: frozenset[int] | None = None
        self._trouble = ""
        self._settled = asyncio.Event()
        self._moving = asyncio.Event()
        self._consumer: Any = None
        self._polling: asyncio.Task[None] | None = None
        self._partition = lru_cache(maxsize=100_000)(lambda scope_id: partition_of(scope_id.encode(), kafka.partitions))

    async def start(self) -> None:
        """Joins the group. Raises PublishError if Kafka cannot be used, or `usage` is not as the settings say."""
        await usage_partitions(self._kafka)

        class Sticky(StickyPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
            """Few scopes move. A class of its own, since the library keeps what a member had on the class."""

        try:
            consumer = KafkaConsumer(
                **client_options(self._kafka),
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                session_timeout_ms=self._session_ms,
                heartbeat_interval_ms=min(_HEARTBEAT_MS, self._session_ms // 3),
                metadata_max_age_ms=METADATA_MS,
                partition_assignment_strategy=(Sticky,),
            )
            consumer.subscribe([self._kafka.topic(Topic.USAGE)], listener=self)
            self._consumer = consumer
            await consumer.start()
        except (KafkaError, KafkaUnavailableError) as fault:
            await self.stop()
            raise PublishError(
                f"the group of collectors on {self._kafka.bootstrap} cannot be joined: {fault}"
            ) from fault
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Leaves the group, so that others have the scopes at once."""
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            await asyncio.wait({polling})
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self.on_partitions_revoked(())
            try:
                await asyncio.wait_for(consumer.stop(), _STOP_SECONDS)
            except (TimeoutError, KafkaError) as fault:
                log.warning("the group of collectors was not left in order: %r", fault)

    async def held(self) -> frozenset[int]:
        """The partitions that it holds; waits while they are being moved.

        Raises SeatLostError if that lasts, or if the membership has ended; `restart` helps.
        """
        if self._polling is None or self._polling.done():
            raise SeatLostError("the membership in the group of collectors has ended")
        while self._held is None:
            try:
                await asyncio.wait_for(self._settled.wait(), _ASSIGN_SECONDS)
            except TimeoutError:
                why = f" ({self._trouble})" if self._trouble else ""
                raise SeatLostError(
                    f"Kafka at {self._kafka.bootstrap} has not said for {_ASSIGN_SECONDS:g} s which scopes are to be "
                    f"collected here{why}"
                ) from None
        return self._held

    async def restart(self) -> None:
        """Joins the group anew. Raises PublishError."""
        await self.stop()
        await self.start()

    async def moves(self, seconds: float) -> None:
        """Waits until partitions come or go, so long at most."""
        self._moving.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._moving.wait(), seconds)

    def holds(self, scope_id: str) -> bool:
        """Whether the scope's partition is held now."""
        return self._held is not None and self._partition(scope_id) in self._held

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Everything may go elsewhere: until it is known what stays, nothing is asked."""
        self._held = None
        self.turn += 1
        self._settled.clear()
        self._moving.set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """These are held. Paused, since their records are read by nobody here."""
        partitions = list(assigned)
        if partitions and self._consumer is not None:
            self._consumer.pause(*partitions)
        self._held = frozenset(partition.partition for partition in partitions)
        self.turn += 1
        self._settled.set()
        log.info("scopes of %d of %d partitions are collected here", len(self._held), self._kafka.partitions)

    async def _poll(self) -> None:
        """The library takes a member that never polls for dead."""
        while True:
            try:
                await self._consumer.getmany(timeout_ms=_POLL_MS)
                self._trouble = ""
            except KafkaError as fault:
                self._trouble = repr(fault)
                log.warning("group of collectors: %s", self._trouble)
                await asyncio.sleep(_POLL_MS / 1000)
