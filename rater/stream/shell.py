"""What a worker does between the calls of its group: restore, apply, checkpoint, give back, start anew.

Knows neither Faust nor sockets: membership, log, register, rules and clock are handed in, by the worker in production
and by the simulator in tests/sim. Every error that leaves the state in doubt ends the *membership*, not the process:
all state is dropped and restored from what is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from aiokafka.errors import KafkaError

from rater.engine import EngineContext, LogGapError, Record
from rater.kafka import KafkaUnavailableError
from rater.log_fields import of
from rater.model.errors import RaterError
from rater.rating import Chain
from rater.stream.interfaces import (
    Clock,
    CommitUnknownError,
    FencedError,
    Log,
    Pin,
    Register,
    RestoreRefusedError,
    StreamUnavailableError,
)
from rater.stream.keeper import Keeper
from rater.stream.metrics import WorkerMetrics

__all__ = ["Join", "MakeKeeper", "Membership", "Rules", "Shell"]

log = logging.getLogger(__name__)

REVOKE_SECONDS = 5.0  # for the last checkpoint; the group waits for us meanwhile
RETRY_SECONDS = 2.0
STOP_SECONDS = 20.0
STUCK_SECONDS = 120.0  # a client may wait for a broker that is away much longer, and say nothing
FENCED_SECONDS = 30.0  # a fenced partition is assigned again well before, or something is wrong
_TROUBLE = (FencedError, KafkaError, KafkaUnavailableError, StreamUnavailableError)
"""What ends the membership and not the worker."""


class Rules(Protocol):
    """Where the newest rules are."""

    ready: asyncio.Event
    """Set once `rules` is there."""

    @property
    def rules(self) -> Chain | None:
        """The newest known."""


class Membership(Protocol):
    """One stay in the consumer group. While it lasts it calls `assigned`, `revoked` and `consume` of the shell."""

    @property
    def partitions(self) -> int:
        """How many topic `usage` has."""

    @property
    def log(self) -> Log:
        """Where snapshots and output go."""

    @property
    def register(self) -> Register:
        """Where commits go."""

    def assigned(self) -> set[int]:
        """The partitions that are ours now."""

    async def start(self) -> None:
        """Joins. Raises KafkaError."""

    async def stop(self) -> None:
        """Leaves, and lets go of all connections."""


Join: TypeAlias = Callable[["Shell"], Awaitable[Membership]]
"""A membership of the shell, not started. Raises KafkaError, KafkaUnavailableError, TopicsError."""
MakeKeeper: TypeAlias = Callable[[int, EngineContext, Log, Register], Keeper]


class _MembershipLostError(RaterError):
    """The group has to be joined anew; nothing is lost."""


class Shell:
    """One process' share of the stream. `run` returns when `stop` is set and raises only what a person must mend."""

    def __init__(
        self,
        context: EngineContext,
        rules: Rules,
        join: Join,
        make_keeper: MakeKeeper,
        clock: Clock,
        checkpoint_interval: float,
        make_metrics: Callable[[Callable[[], Mapping[int, Keeper]]], WorkerMetrics],
    ) -> None:
        """`checkpoint_interval` in seconds; `make_metrics` is given what tells the keepers of this moment."""
        self._context = context
        self._rules = rules
        self._join = join
        self._make_keeper = make_keeper
        self._clock = clock
        self._interval = checkpoint_interval
        self._keepers: dict[int, Keeper] = {}
        self._assigned: set[int] = set()
        self._is_shared_out = False
        """Whether the group has told us what is ours, nothing perhaps, since it last began to share out."""
        self._restored_as: tuple[Pin, set[int]] | None = None
        self._trouble = "not started"
        self._failure: asyncio.Future[None] | None = None
        self._metrics = make_metrics(lambda: self._keepers)

    def red(self) -> str:
        """Why the worker is not ready; empty if it is. Ready: we know what is assigned, and all of it is restored.

        While the group shares out anew nobody is ready: who exchanges workers one by one has to wait for it.
        """
        if self._trouble:
            return self._trouble
        if self._rules.rules is None:
            return "the rule book is not read yet"
        if not self._is_shared_out:
            return "the group has not shared out the partitions yet"
        waiting = sorted(p for p in self._assigned if not self._is_restored(p))
        if waiting:
            return f"partitions {waiting} are not restored yet"
        late = self._clock() - max(STUCK_SECONDS, 2 * self._interval)
        stuck = sorted(p for p, keeper in self._keepers.items() if keeper.settled_at < late)
        return f"no checkpoint of partitions {stuck} has ended for minutes: Kafka may be away" if stuck else ""

    def _is_restored(self, partition: int) -> bool:
        keeper = self._keepers.get(partition)
        return keeper is not None and keeper.is_restored

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. Raises RestoreRefusedError, SnapshotError, LogGapError or TopicsError.

        A gap in the log is believed only if it is still there after a restore.
        """
        gap = ""
        while not stop.is_set():
            try:
                await self._stay(stop)
            except LogGapError as fault:
                if str(fault) == gap:
                    raise
                gap = str(fault)
                await self._start_anew(fault, stop)
            except (_MembershipLostError, *_TROUBLE) as fault:
                await self._start_anew(fault, stop)

    async def _start_anew(self, fault: Exception, stop: asyncio.Event) -> None:
        self._trouble = str(fault)
        log.warning("the worker starts anew: %s", fault)
        self._metrics.restarts.inc()
        await _sleep_unless(stop, RETRY_SECONDS)

    # --- one membership

    async def _stay(self, stop: asyncio.Event) -> None:
        membership = await self._join(self)
        self._restored_as, self._is_shared_out = None, False
        self._failure = asyncio.get_running_loop().create_future()
        try:
            await membership.start()
            self._trouble = ""
            await self._tick_until(stop)
        finally:
            self._trouble = self._trouble or "stopped"
            await self._end(membership)

    def _fail(self, fault: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(fault)
            self._failure.exception()  # another fault may end the membership first: this one is not worth a log line

    async def _tick_until(self, stop: asyncio.Event) -> None:
        assert self._failure is not None
        stopped = asyncio.create_task(stop.wait())
        awaited: list[asyncio.Future[Any]] = [stopped, self._failure]
        try:
            while not stop.is_set():
                await asyncio.wait(awaited, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
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

    async def _end(self, membership: Membership) -> None:
        """A last checkpoint, then the group. What cannot stop ends the process: its supervisor starts it again."""
        await self._give_back()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await membership.stop()
        except TimeoutError:
            raise RestoreRefusedError(
                f"the group was not left within {STOP_SECONDS:.0f} s: start the worker again"
            ) from None

    # --- what the membership calls

    async def assigned(self, membership: Membership) -> None:
        """The group has given us partitions. An error ends the membership: Faust would only log it."""
        try:
            await self._restore(membership)
        except Exception as fault:  # noqa: BLE001  the supervised boundary: whatever it is, it ends the membership
            self._fail(fault)

    async def revoked(self) -> None:
        """The group takes all partitions back, and waits for us."""
        self._is_shared_out = False
        try:
            await self._give_back()
        except Exception as fault:  # noqa: BLE001  the supervised boundary: whatever it is, it ends the membership
            self._fail(fault)

    def consume(self, partition: int, record: Record) -> None:
        """One record of `usage`. Those of partitions that were revoked meanwhile are passed over."""
        keeper = self._keepers.get(partition)
        if keeper is None or not keeper.is_restored:
            return
        try:
            keeper.apply(record)
        except Exception as fault:  # noqa: BLE001  the supervised boundary: Faust would skip the record and go on
            self._keepers.pop(partition, None)
            self._fail(fault)

    # --- partitions

    async def _restore(self, membership: Membership) -> None:
        """Restores every assigned partition, also the idle ones: their frames close by the clock."""
        await self._rules.ready.wait()
        assigned = membership.assigned()
        pin = membership.register.pin()
        if (pin, assigned) == self._restored_as:
            # Told twice of one assignment, or after its end, as Faust may when rebalances come fast: a keeper of it may
            # still be at its checkpoint, and the broker could not tell the commits of two under one membership apart.
            return
        self._restored_as = (pin, assigned)
        self._assigned, self._is_shared_out = assigned, True
        self._keepers = {
            partition: self._make_keeper(partition, self._context, membership.log, membership.register)
            for partition in sorted(assigned)
        }
        try:
            await asyncio.gather(*(k.restore(membership.partitions, pin) for k in self._keepers.values()))
        except FencedError as fault:
            log.info("the partitions moved on while they were restored: %s", fault)
            return
        self._trouble = ""  # of a partition that went elsewhere nothing more is heard
        self._metrics.restores.inc(len(assigned))
        log.info("restored partitions %s in generation %d", sorted(assigned), pin.generation)

    async def _give_back(self) -> None:
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
            told = of(partition=keeper.partition)
            log.info("partition %d: no last checkpoint: %s", keeper.partition, fault, extra=told)
        self._metrics.count(keeper.news())

    async def _checkpoint_all(self) -> None:
        if self._rules.rules is not None:
            await asyncio.gather(*(self._checkpoint(keeper) for keeper in list(self._keepers.values())))

    async def _checkpoint(self, keeper: Keeper) -> None:
        assert self._rules.rules is not None
        if keeper.fenced and self._clock() - keeper.checkpointed_at > FENCED_SECONDS:
            raise _MembershipLostError(f"partition {keeper.partition} was fenced and not assigned anew")
        if not keeper.is_restored:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await keeper.checkpoint(self._rules.rules)
        except CommitUnknownError:
            raise
        except FencedError as fault:
            self._metrics.fenced.inc()
            told = of(partition=keeper.partition)
            log.warning("fenced, waiting for the next assignment: %s", fault, extra=told)
            return
        except StreamUnavailableError as fault:
            self._trouble = str(fault)
            self._metrics.failed_checkpoints.inc()
            told = of(partition=keeper.partition)
            log.warning("partition %d: checkpoint failed, will be repeated: %s", keeper.partition, fault, extra=told)
            return
        finally:
            news = keeper.news()
            self._metrics.count(news)
        self._trouble = ""
        if news.checkpoint_bytes:
            self._metrics.checkpoint_seconds.observe(loop.time() - began)


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
