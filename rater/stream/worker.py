"""The worker: the shell on a Faust app, supervised so that an outage ends without a restart of the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import faust
from prometheus_client import CollectorRegistry

from rater.engine import EngineContext, Record
from rater.kafka import OPTIONAL_TOPICS, KafkaSettings, Topic, TopicsError, require_topics
from rater.rating import Module
from rater.stream.app import Message, make_app
from rater.stream.garbage import keep_aside
from rater.stream.interfaces import At, Clock, Log, Register, nowhere
from rater.stream.kafka_log import KafkaLog
from rater.stream.keeper import Keeper
from rater.stream.metrics import WorkerMetrics
from rater.stream.register import FaustRegister
from rater.stream.rules_log import RulesFollower
from rater.stream.settings import WorkerSettings
from rater.stream.shell import Shell
from rater.stream.traces import Traces
from rater.tracing import OFF, Tracing

__all__ = ["Parts", "Worker"]


class Parts:
    """What a worker is made of. Tests replace single parts by defective ones, to see that the suite notices."""

    def __init__(
        self, kafka: KafkaSettings, at: At = nowhere, clock: Clock = time.time, tracing: Tracing = OFF
    ) -> None:
        self.kafka = kafka
        self.at = at
        self.clock = clock
        self.tracing = tracing

    def log(self) -> KafkaLog:
        """Where snapshots and output go."""
        return KafkaLog(self.kafka)

    def register(self, app: faust.App) -> Register:
        """Where commits go."""
        return FaustRegister(app, self.kafka.topic(Topic.USAGE), self.clock)

    def keeper(self, partition: int, context: EngineContext, log: Log, register: Register) -> Keeper:
        """Who keeps a partition."""
        return Keeper(partition, context, log, register, self.clock, self.at, traces=self.traces(partition))

    def traces(self, partition: int) -> Traces | None:
        """What the partition's spans are made by; None while nothing is traced."""
        if not self.tracing.is_on:
            return None
        return Traces(self.tracing, partition, self.kafka.topic(Topic.USAGE), self.clock)


class Worker:
    """One process' share of the stream. `run` returns when `stop` is set and raises only what a person must mend."""

    def __init__(
        self,
        kafka: KafkaSettings,
        context: EngineContext,
        settings: WorkerSettings,
        *,
        parts: Parts | None = None,
        registry: CollectorRegistry | None = None,
        modules: Mapping[str, Module] | None = None,
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._parts = parts or Parts(kafka)
        self._rules = RulesFollower(kafka, modules)
        metrics = registry or CollectorRegistry()
        self._shell = Shell(
            context,
            self._rules,
            self._join,
            self._parts.keeper,
            self._parts.clock,
            settings.checkpoint_interval,
            lambda keepers: WorkerMetrics(metrics, keepers, lambda: self._rules.version),
        )

    def red(self) -> str:
        """Why this worker is not ready; empty if it is. Ready: every assigned partition is restored."""
        return self._shell.red()

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. Raises RestoreRefusedError, SnapshotError, LogGapError or TopicsError."""
        follower = asyncio.create_task(self._rules.run())
        garbage = asyncio.create_task(keep_aside())
        try:
            await self._shell.run(stop)
        finally:
            garbage.cancel()
            await self._rules.stop(follower)

    async def _join(self, shell: Shell) -> _FaustMembership:
        return _FaustMembership(self._kafka, self._settings, self._parts, shell, await self._count_partitions())

    async def _count_partitions(self) -> int:
        counts = await require_topics(self._kafka, *(topic for topic in Topic if topic not in OPTIONAL_TOPICS))
        usage = counts[Topic.USAGE]
        for topic in (Topic.RATED, Topic.ALERTS, Topic.CHECKPOINTS, Topic.REJECTED):
            if counts[topic] < usage:
                raise TopicsError(
                    f"topic {self._kafka.topic(topic)} has {counts[topic]} partitions, usage has {usage}: "
                    "give it as many"
                )
        return usage


class _FaustMembership:
    """One Faust app, from its start to its end. Follows the protocol `Membership`."""

    def __init__(
        self, kafka: KafkaSettings, settings: WorkerSettings, parts: Parts, shell: Shell, partitions: int
    ) -> None:
        self.partitions = partitions
        self._topic = kafka.topic(Topic.USAGE)
        self._shell = shell
        self._app = make_app(kafka, settings, self._consume)
        self.log = parts.log()
        self.register = parts.register(self._app)
        self._app.on_rebalance_complete.connect(self._on_assigned, weak=False)
        self._app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    def assigned(self) -> set[int]:
        """The partitions of `usage` that Faust's consumer has now."""
        return {tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._topic}

    async def start(self) -> None:
        """Starts the app."""
        await self._app.start()

    async def stop(self) -> None:
        """Ends log and app."""
        await self.log.close()
        await self._app.stop()

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        await self._shell.assigned(self)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self._shell.revoked()

    def _consume(self, message: Message) -> None:
        record = Record(
            offset=message.offset,
            timestamp_ms=int(message.timestamp * 1000),
            key=message.key,
            value=message.value or b"",
            headers=_headers(message.headers),
        )
        self._shell.consume(message.partition, record)


def _headers(headers: Any) -> tuple[tuple[str, bytes], ...]:
    if not headers:
        return ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return tuple((str(name), bytes(value or b"")) for name, value in pairs)  # a header may have no value
