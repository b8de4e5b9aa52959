"""The worker: a Faust app around one keeper per partition, supervised so that an outage ends without a restart.

Every error that leaves the state in doubt ends the *membership*, not the process: the app is stopped, all state is
dropped, and a new app restores it from what is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import faust
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from rater.engine import EngineContext, LogGapError, Record
from rater.kafka import OPTIONAL_TOPICS, KafkaSettings, KafkaUnavailableError, Topic, TopicsError, partitions_of
from rater.model.errors import RaterError
from rater.rating import Module
from rater.stream.app import Message, make_app
from rater.stream.interfaces import (
    At,
    Clock,
    CommitUnknownError,
    FencedError,
    Log,
    Register,
    RestoreRefusedError,
    StreamUnavailableError,
    nowhere,
)
from rater.stream.kafka_log import KafkaLog
from rater.stream.keeper import Keeper
from rater.stream.metrics import WorkerMetrics
from rater.stream.register import FaustRegister
from rater.stream.rules_log import RulesFollower
from rater.stream.settings import WorkerSettings

__all__ = ["Parts", "Worker"]

log = logging.getLogger(__name__)

REVOKE_SECONDS = 5.0  # for the last checkpoint; the group waits for us meanwhile
RETRY_SECONDS = 2.0
STOP_SECONDS = 20.0
FENCED_SECONDS = 30.0  # a fenced partition is assigned again well before, or something is wrong
_TROUBLE = (FencedError, KafkaError, KafkaUnavailableError, StreamUnavailableError)
"""What ends the membership and not the worker."""


class _MembershipLostError(RaterError):
    """The app has to be started anew; nothing is lost."""


class Parts:
    """What a worker is made of. Tests replace single parts by defective ones, to see that the suite notices."""

    def __init__(self, kafka: KafkaSettings, at: At = nowhere, clock: Clock = time.time) -> None:
        self.kafka = kafka
        self.at = at
        self.clock = clock

    def log(self) -> KafkaLog:
        """Where snapshots and output go."""
        return KafkaLog(self.kafka)

    def register(self, app: faust.App) -> Register:
        """Where commits go."""
        return FaustRegister(app, self.kafka.topic(Topic.USAGE))

    def keeper(self, partition: int, context: EngineContext, log: Log, register: Register) -> Keeper:
        """Who keeps a partition."""
        return Keeper(partition, context, log, register, self.clock, self.at)


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
        self._context = context
        self._settings = settings
        self._parts = parts or Parts(kafka)
        self._rules = RulesFollower(kafka, modules)
        self._keepers: dict[int, Keeper] = {}
        self._assigned: set[int] = set()
        self._trouble: str = "not started"
        self._failure: asyncio.Future[None] | None = None
        self._metrics = WorkerMetrics(registry or CollectorRegistry(), lambda: self._keepers)

    def red(self) -> str:
        """Why this worker is not ready; empty if it is. Ready: every assigned partition is restored."""
        if self._trouble:
            return self._trouble
        if self._rules.rules is None:
            return "the rule book is not read yet"
        waiting = sorted(p for p in self._assigned if not self._is_restored(p))
        return f"partitions {waiting} are not restored yet" if waiting else ""

    def _is_restored(self, partition: int) -> bool:
        keeper = self._keepers.get(partition)
        return keeper is not None and keeper.is_restored

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. Raises RestoreRefusedError, SnapshotError, LogGapError or TopicsError.

        A gap in the log is believed only if it is still there after a restore.
        """
        follower = asyncio.create_task(self._rules.run())
        gap = ""
        try:
            while not stop.is_set():
                try:
                    await self._run_app(stop)
                except LogGapError as fault:
                    if str(fault) == gap:
                        raise
                    gap = str(fault)
                    await self._start_anew(fault, stop)
                except (_MembershipLostError, *_TROUBLE) as fault:
                    await self._start_anew(fault, stop)
        finally:
            await self._rules.stop(follower)

    async def _start_anew(self, fault: Exception, stop: asyncio.Event) -> None:
        self._trouble = str(fault)
        log.warning("the worker starts anew: %s", fault)
        self._metrics.restarts.inc()
        await _sleep_unless(stop, RETRY_SECONDS)

    # --- one membership

    async def _run_app(self, stop: asyncio.Event) -> None:
        partitions = await self._count_partitions()
        self._failure = asyncio.get_running_loop().create_future()
        app = make_app(self._kafka, self._settings, self._consume)
        membership = _Membership(partitions, self._parts.log(), self._parts.register(app))
        app.on_rebalance_complete.connect(self._handler(lambda: self._on_assigned(app, membership)), weak=False)
        app.on_partitions_revoked.connect(self._handler(self._on_revoked), weak=False)
        try:
            await app.start()
            self._trouble = ""
            await self._tick_until(stop)
        finally:
            self._trouble = self._trouble or "stopped"
            await self._end(app, membership)

    async def _count_partitions(self) -> int:
        counts = await partitions_of(self._kafka)
        missing = [self._kafka.topic(topic) for topic in Topic if topic not in counts and topic not in OPTIONAL_TOPICS]
        if missing:
            raise TopicsError(f"topics {', '.join(missing)} are missing: run `rater topics create`")
        usage = counts[Topic.USAGE]
        for topic in (Topic.RATED, Topic.ALERTS, Topic.CHECKPOINTS, Topic.REJECTED):
            if counts[topic] < usage:
                raise TopicsError(
                    f"topic {self._kafka.topic(topic)} has {counts[topic]} partitions, usage has {usage}: "
                    "give it as many"
                )
        return usage

    def _handler(self, call: Callable[[], Any]) -> Callable[..., Any]:
        """A signal handler whose errors end the membership: Faust would only log them."""

        async def handle(*_: Any, **__: Any) -> None:
            try:
                await call()
            except Exception as fault:  # noqa: BLE001  the supervised boundary: whatever it is, it ends the membership
                self._fail(fault)

        return handle

    def _fail(self, fault: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(fault)

    async def _tick_until(self, stop: asyncio.Event) -> None:
        assert self._failure is not None
        stopped = asyncio.create_task(stop.wait())
        awaited: list[asyncio.Future[Any]] = [stopped, self._failure]
        try:
            while not stop.is_set():
                await asyncio.wait(
                    awaited,
                    timeout=self._settings.checkpoint_interval,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if self._failure.done():
                    self._raise_failure(self._failure)
                if not stop.is_set():
                    await self._checkpoint_all()
        finally:
            stopped.cancel()

    def _raise_failure(self, failure: asyncio.Future[None]) -> None:
        try:
            failure.result()
        except (RaterError, KafkaError):
            raise
        except Exception as fault:  # the supervised boundary: whatever it is, it ends the membership
            log.exception("the worker failed")
            raise _MembershipLostError(f"unexpected: {fault!r}") from fault

    async def _end(self, app: faust.App, membership: _Membership) -> None:
        """A last checkpoint, then the app. An app that cannot stop ends the process: its supervisor starts it again."""
        await self._on_revoked()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await membership.log.close()
                await app.stop()
        except TimeoutError:
            raise RestoreRefusedError(
                f"Faust did not stop within {STOP_SECONDS:.0f} s: start the worker again"
            ) from None

    # --- partitions

    async def _on_assigned(self, app: faust.App, membership: _Membership) -> None:
        """Restores every assigned partition, also the idle ones: their frames close by the clock."""
        await self._rules.ready.wait()
        assigned = {tp.partition for tp in app.consumer.assignment() if tp.topic == self._kafka.topic(Topic.USAGE)}
        pin = membership.register.pin()
        self._assigned = assigned
        self._keepers = {
            partition: self._parts.keeper(partition, self._context, membership.log, membership.register)
            for partition in sorted(assigned)
        }
        try:
            await asyncio.gather(*(k.restore(membership.partitions, pin) for k in self._keepers.values()))
        except FencedError as fault:
            log.info("the partitions moved on while they were restored: %s", fault)
            return
        self._metrics.restores.inc(len(assigned))
        log.info("restored partitions %s in generation %d", sorted(assigned), pin.generation)

    async def _on_revoked(self) -> None:
        """A last checkpoint while the group still waits for us; then all state is dropped."""
        keepers, self._keepers = self._keepers, {}
        self._assigned = set()
        if not keepers:
            return
        try:
            async with asyncio.timeout(REVOKE_SECONDS):
                await asyncio.gather(*(self._last_checkpoint(keeper) for keeper in keepers.values()))
        except TimeoutError:
            log.warning("no time for a last checkpoint: its records will be read again")

    async def _last_checkpoint(self, keeper: Keeper) -> None:
        assert self._rules.rules is not None or not keeper.is_restored, "restored only with rules"
        if self._rules.rules is None:
            return
        try:
            await keeper.checkpoint(self._rules.rules)
        except (FencedError, StreamUnavailableError) as fault:
            log.info("partition %d: no last checkpoint: %s", keeper.partition, fault)

    async def _checkpoint_all(self) -> None:
        if self._rules.rules is not None:
            await asyncio.gather(*(self._checkpoint(keeper) for keeper in list(self._keepers.values())))

    async def _checkpoint(self, keeper: Keeper) -> None:
        assert self._rules.rules is not None
        if keeper.fenced and self._parts.clock() - keeper.checkpointed_at > FENCED_SECONDS:
            raise _MembershipLostError(f"partition {keeper.partition} was fenced and not assigned anew")
        if not keeper.is_restored:
            return
        began = time.monotonic()
        try:
            await keeper.checkpoint(self._rules.rules)
        except CommitUnknownError:
            raise
        except FencedError as fault:
            self._metrics.fenced.inc()
            log.warning("fenced, waiting for the next assignment: %s", fault)
            return
        except StreamUnavailableError as fault:
            self._trouble = str(fault)
            self._metrics.failed_checkpoints.inc()
            log.warning("partition %d: checkpoint failed, will be repeated: %s", keeper.partition, fault)
            return
        self._trouble = ""
        self._metrics.checkpoint_seconds.observe(time.monotonic() - began)

    def _consume(self, message: Message) -> None:
        """One message of `usage`. Those of partitions that were revoked meanwhile are passed over."""
        keeper = self._keepers.get(message.partition)
        if keeper is None or not keeper.is_restored:
            return
        record = Record(
            offset=message.offset,
            timestamp_ms=int(message.timestamp * 1000),
            key=message.key,
            value=message.value or b"",
            headers=_headers(message.headers),
        )
        try:
            keeper.apply(record)
        except Exception as fault:  # noqa: BLE001  the supervised boundary: Faust would skip the record and go on
            self._keepers.pop(message.partition, None)
            self._fail(fault)


class _Membership:
    """What lives as long as one app."""

    def __init__(self, partitions: int, log: KafkaLog, register: Register) -> None:
        self.partitions = partitions
        self.log = log
        self.register = register


def _headers(headers: Any) -> tuple[tuple[str, bytes], ...]:
    if not headers:
        return ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return tuple((str(name), bytes(value or b"")) for name, value in pairs)  # a header may have no value


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
