"""One member of the sink's consumer groups: reads, gathers, inserts, passes on what was refused, commits.

Knows neither sockets nor ClickHouse: consumer, tables, thread and clock are handed in, by the sink in production and by
the simulator in tests/sim. Offsets are committed after the insert returned, and never before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from msgspec import Meta

from rater.kafka import KafkaUnavailableError, Topic
from rater.log_fields import of
from rater.store import StoreError, StoreUnavailableError
from rater.stream.interfaces import At, Clock
from rater.stream.sink_metrics import Progress, SinkMetrics
from rater.stream.sink_work import Record, Tables, Work
from rater.tracing import OFF, Tracing

__all__ = ["Consumer", "Outside", "Reader", "SinkSettings", "sleep_unless"]

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 0.5  # how late `stop` is noticed while nothing comes
POLL_RECORDS = 500  # of 12 lines: 6 000 rows between two looks at the size of the batch
RETRY_SECONDS = 0.5
RETRY_SECONDS_MOST = 15.0
PRUNE_SECONDS = 600.0
STOP_SECONDS = 10.0


class SinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `sink` of rater.yaml."""

    usage: bool = True
    """Whether every sample is kept too, as the audit trail. Lines that were posted with their price are in any case."""
    max_delay: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    """Seconds that what was read may wait for more."""
    batch_rows: Annotated[int, Meta(ge=100, le=500_000)] = 20_000
    """What is not delayed any longer. An insert of 1 000 rows costs four times as much a row as one of 10 000."""
    keep_superseded: Annotated[int, Meta(ge=60)] = 3600
    """Seconds until the lines of a replaced revision are deleted; slower readers of them begin anew."""


class Consumer(Protocol):
    """What of aiokafka's consumer is used. It tells its listener of rebalances."""

    async def start(self) -> None:
        """Joins the group. Raises KafkaError."""

    async def stop(self) -> None:
        """Leaves it. Raises KafkaError."""

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[Record]]:
        """What comes within `timeout_ms`, by partition. Raises KafkaError."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits under the current membership. Raises IllegalStateError for partitions that went elsewhere, and
        KafkaError.
        """

    async def committed(self, partition: TopicPartition) -> int | None:
        """The group's offset; None if there is none. Raises KafkaError."""

    def highwater(self, partition: TopicPartition) -> int | None:
        """The offset after the last record, as last heard of."""


class Outside(Protocol):
    """What the readers share of the world: the store, in a thread of its own, and topics."""

    @property
    def tables(self) -> Tables:
        """Where rows go. Used with `in_thread` only."""

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Runs what blocks: what `call` gives or raises."""

    async def prepare(self) -> None:
        """Topics and tables are there. Raises TopicsError, KafkaUnavailableError, StoreError."""

    def consumer(self, group: str, topics: Iterable[Topic], listener: ConsumerRebalanceListener) -> Consumer:
        """A consumer, not started, that commits only when told to. `group` without the prefix."""

    async def reject(self, refused: Sequence[tuple[Record, str]]) -> None:
        """Puts records into `rejected`, whole, each with its reason. Raises KafkaError."""


class _DroppedError(Exception):
    """What was read will not be stored by us: the sink stops, or the partitions went elsewhere."""


class Reader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One consumer group's member and what it reads. `trouble` says why nothing goes on; empty if it does."""

    def __init__(
        self,
        name: str,
        topics: Mapping[str, Topic],
        outside: Outside,
        settings: SinkSettings,
        metrics: SinkMetrics,
        at: At,
        *,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
        tracing: Tracing = OFF,
    ) -> None:
        """`topics` by their names at the broker. `clock` gives seconds since the epoch, `monotonic` since any time."""
        self.name = name
        self.trouble = f"{name}: not started"
        self._topics = topics
        self._outside = outside
        self._settings = settings
        self._metrics = metrics
        self._at = at
        self._clock = clock
        self._monotonic = monotonic
        self._tracing = tracing
        self._rebalances = 0
        self._pruned_at = self._succeeded_at = monotonic()
        self._fault: type[Exception] | None = None
        self._consumer: Consumer | None = None
        self._work = self._new_work()

    def succeeded_at(self) -> float:
        """When something was stored or nothing was left to store; seconds since the epoch."""
        return self._clock() - (self._monotonic() - self._succeeded_at)

    def progress(self) -> Iterator[Progress]:
        """How far it is with each partition of which it has read something."""
        for partition, assembly in list(self._work.assemblies.items()):
            end = self._consumer.highwater(partition) if self._consumer else None
            lag = max(0, (end or 0) - self._work.committed[partition])
            yield Progress(self._topics[partition.topic].value, partition.partition, lag, assembly.unfinished)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Everything that is not committed will be read again, by us or by others: work begins anew.

        Called before every rebalance (they are eager), and aiokafka hands no record out between this call and the next
        assignment: what `getmany` answers later belongs to that one.
        """
        self._rebalances += 1

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing: records of this assignment may have been handed out already."""

    # --- what may fail and is tried again

    def _failed(self, fault: Exception) -> None:
        """Notes why nothing goes on; logged once for each kind of fault, since its text changes with every attempt."""
        self.trouble = f"{self.name}: {fault}"
        if type(fault) is not self._fault:
            log.warning("%s waits: %s", self.name, fault, extra=of(group=self.name))
        self._fault = type(fault)

    def _worked(self) -> None:
        self._succeeded_at = self._monotonic()
        if self._fault is not None:
            log.info("%s goes on", self.name, extra=of(group=self.name))
        self._fault, self.trouble = None, ""

    async def _insist(self, call: Callable[[], T], stop: asyncio.Event, seen: int) -> T:
        """Runs the call in the thread until the store takes it. Raises _DroppedError if we stop or there was another
        rebalance than `seen`.
        """
        pause = RETRY_SECONDS
        while True:
            try:
                result = await self._outside.in_thread(call)
            except StoreError as fault:
                self._metrics.errors.labels(self.name).inc()
                self._failed(fault)
            else:
                return result
            await sleep_unless(stop, pause)
            pause = min(2 * pause, RETRY_SECONDS_MOST)
            if stop.is_set() or seen != self._rebalances:
                raise _DroppedError

    # --- the membership

    async def run(self, stop: asyncio.Event) -> None:
        """Reads until `stop`, in as many memberships as it takes. Raises TopicsError, and at the start any StoreError
        but StoreUnavailableError.
        """
        pause = RETRY_SECONDS
        while not stop.is_set():
            try:
                await self._outside.prepare()
                pause = RETRY_SECONDS
                await self._consume(stop)
            except (KafkaError, KafkaUnavailableError, StoreUnavailableError) as fault:
                self._metrics.restarts.labels(self.name).inc()
                self._failed(fault)
                await sleep_unless(stop, pause)
                pause = min(2 * pause, RETRY_SECONDS_MOST)
            except _DroppedError:
                continue
        self.trouble = self.trouble or f"{self.name}: stopped"

    async def _consume(self, stop: asyncio.Event) -> None:
        consumer = self._outside.consumer(self.name, self._topics.values(), self)
        self._work, self._consumer = self._new_work(), consumer
        try:
            await consumer.start()
            self._worked()
            await self._read(consumer, stop)
        finally:
            self._work, self._consumer = self._new_work(), None
            await _stopped(consumer)

    def _new_work(self) -> Work:
        return Work(
            self._outside.tables,
            self._topics,
            self._monotonic,
            keeps_usage=self._settings.usage,
            is_traced=self._tracing.is_on,
        )

    async def _read(self, consumer: Consumer, stop: asyncio.Event) -> None:
        settings, seen = self._settings, self._rebalances
        while not stop.is_set():
            found = await _unless(stop, consumer.getmany(timeout_ms=self._patience_ms(), max_records=POLL_RECORDS))
            if seen != self._rebalances:
                self._work, seen = self._new_work(), self._rebalances
            work = self._work
            if found:
                await _unless(stop, self._tell_lost(consumer, work, found))
                work.put(record for records in found.values() for record in records)
                await self._insist(work.absorb, stop, seen)
            if work.is_empty:
                self._succeeded_at = self._monotonic()
            elif work.batch.weight >= settings.batch_rows or work.age >= settings.max_delay:
                await self._store(consumer, work, stop, seen)
            await self._prune()
        if not self._work.is_empty:  # so that after a stop in order little is read again
            await self._store(consumer, self._work, stop, seen)

    async def _tell_lost(
        self, consumer: Consumer, work: Work, found: Mapping[TopicPartition, Sequence[Record]]
    ) -> None:
        """Says of which records of `usage` the topic had no more when their turn came: it keeps them for some days.

        Posted lines among them are nowhere else, and nobody expects them. Other topics have transactions, and so holes.
        """
        for partition, records in found.items():
            if self._topics[partition.topic] is not Topic.USAGE or not records:
                continue
            known = work.assemblies.get(partition)
            expected = known.next_offset if known else await consumer.committed(partition)
            if expected is not None and (lost := records[0].offset - expected) > 0:
                self._metrics.lost.labels(Topic.USAGE.value).inc(lost)
                log.error(
                    "%s [%d]: %d records from offset %d on are gone (retention shorter than the sink was away?): usage "
                    "is not stored, and lines that were posted then are lost: post them again",
                    partition.topic, partition.partition, lost, expected,
                    extra=of(topic=partition.topic, partition=partition.partition, offset=expected, group=self.name),
                )  # fmt: skip

    def _patience_ms(self) -> int:
        left = POLL_SECONDS if self._work.is_empty else self._settings.max_delay - self._work.age
        return int(1000 * max(0.0, min(POLL_SECONDS, left)))

    async def _store(self, consumer: Consumer, work: Work, stop: asyncio.Event, seen: int) -> None:
        """As `_stored`, with a span that has a link to each that was recorded of what is inserted."""
        if not work.links:
            await self._stored(consumer, work, stop, seen)
            return
        with self._tracing.span(
            "insert",
            "client",
            parent="",
            links=list(work.links),
            db__system__name="clickhouse",
            rater__group=self.name,
            rater__weight=work.batch.weight,
        ):
            await self._stored(consumer, work, stop, seen)

    async def _stored(self, consumer: Consumer, work: Work, stop: asyncio.Event, seen: int) -> None:
        """Inserts the batch, passes on what was refused, commits. In this order."""
        metrics, batch, token = self._metrics, work.batch, work.token
        written = await self._insist(lambda: self._outside.tables.write(batch, token), stop, seen)
        self._at("sink-inserted", 0)
        await self._reject(work.refused)
        offsets = work.offsets
        if offsets and seen == self._rebalances:
            try:
                await consumer.commit(offsets)
            except IllegalStateError as fault:
                told = of(group=self.name)
                log.info("%s: partitions went elsewhere before the commit: %s", self.name, fault, extra=told)
                return
        self._at("sink-committed", 0)
        work.finished(offsets)
        self._worked()
        metrics.batches.labels(self.name).inc()
        for table, rows in written.items():
            metrics.rows.labels(table).inc(rows)
        now = self._clock()
        for closed_at in batch.closed_at:
            metrics.queryable.observe(max(0.0, now - closed_at))

    async def _reject(self, refused: Sequence[tuple[Record, str]]) -> None:
        """Passes what cannot be kept on to `rejected`, whole. The worker has done so with what it could not read.

        The reason may quote the record, so the log does not have it.
        """
        for record, _ in refused:
            self._metrics.rejected.labels(self._topics[record.topic].value).inc()
            log.error(
                "%s [%d] @%d cannot be kept: topic rejected says why",
                record.topic,
                record.partition,
                record.offset,
                extra=of(topic=record.topic, partition=record.partition, offset=record.offset, group=self.name),
            )
        ours = [item for item in refused if self._topics[item[0].topic] is not Topic.USAGE]
        if ours:
            await self._outside.reject(ours)

    async def _prune(self) -> None:
        """Deletes superseded lines from time to time. Trouble with it holds nothing up."""
        if Topic.RATED not in self._topics.values() or self._monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = self._monotonic()
        tables, seconds = self._outside.tables, self._settings.keep_superseded
        try:
            deleted = await self._outside.in_thread(lambda: tables.delete_superseded(seconds))
        except StoreError as fault:
            log.warning("superseded lines were not deleted, will be tried again: %s", fault, extra=of(group=self.name))
        else:
            if deleted:
                log.info("deleted the lines of %d superseded revisions", deleted)


async def _stopped(consumer: Consumer) -> None:
    """Ends a consumer; a broker that does not answer cannot hold it up."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await consumer.stop()
    except (TimeoutError, KafkaError) as fault:
        log.info("the consumer did not leave its group in order: %r", fault)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result, or None if `stop` was set before: what waits for a group that cannot form waits without end."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stopped.cancel()
        task.cancel()


async def sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    """Waits, or returns at once when `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
