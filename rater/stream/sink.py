"""The sink: reads `rated`, `alerts`, `usage` and `rules` and keeps them in the store.

At least once: offsets are committed after the insert returned, and repeating an insert changes nothing
(`rater/store/README.md`). While Kafka or ClickHouse is away, the sink tries again, commits nothing and says in `red()`
why it is not ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from msgspec import Meta
from prometheus_client import CollectorRegistry

from rater.kafka import (
    REJECTED_MESSAGE_BYTES,
    KafkaSettings,
    KafkaUnavailableError,
    Topic,
    TopicsError,
    client_options,
    partitions_of,
)
from rater.model.codec import content_type, rejected_headers
from rater.model.rated import RejectedHeaders
from rater.store import Store, StoreError, StoreUnavailableError, delete_superseded, migrate, write
from rater.stream.interfaces import At, nowhere
from rater.stream.sink_metrics import Progress, SinkMetrics
from rater.stream.sink_rules import RulesHistory
from rater.stream.sink_work import Record, Work

__all__ = ["Sink", "SinkSettings"]

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 0.5  # how late `stop` is noticed while nothing comes
POLL_RECORDS = 500  # of 12 lines: 6 000 rows between two looks at the size of the batch
RETRY_SECONDS = 0.5
RETRY_SECONDS_MOST = 15.0
PRUNE_SECONDS = 600.0
STOP_SECONDS = 10.0
SESSION_MS = 15_000  # less, and the restart of a broker evicts everybody
POLL_INTERVAL_MS = 24 * 3600 * 1000  # during an outage of the store nothing is polled, and we stay in the group


class SinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `sink` of rater.yaml."""

    usage: bool = True
    """Whether every sample is kept too, as the audit trail."""
    max_delay: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    """Seconds that what was read may wait for more."""
    batch_rows: Annotated[int, Meta(ge=100, le=500_000)] = 20_000
    """What is not delayed any longer. An insert of 1 000 rows costs four times as much a row as one of 10 000."""
    keep_superseded: Annotated[int, Meta(ge=60)] = 3600
    """Seconds until the lines of a replaced revision are deleted; slower readers of them begin anew."""


class Sink:
    """One process' share of the sinks' work. `run` returns when `stop` is set.

    The store is used in one thread of the sink's own. `at` is told of `sink-inserted` and `sink-committed`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        store: Store,
        settings: SinkSettings,
        *,
        registry: CollectorRegistry | None = None,
        at: At = nowhere,
    ) -> None:
        self._kafka = kafka
        self._store = store
        metrics = SinkMetrics(registry or CollectorRegistry(), self._progress, self._since_success)
        self._thread = ThreadPoolExecutor(1, "rater-sink")
        topics = (Topic.RATED, Topic.ALERTS, Topic.REJECTED, *((Topic.USAGE,) if settings.usage else ()))
        shared = _Shared(kafka, store, settings, metrics, self._thread, at, topics)
        self._readers = [_Reader(shared, "sink", (Topic.RATED, Topic.ALERTS))]
        if settings.usage:
            self._readers.append(_Reader(shared, "sink-usage", (Topic.USAGE,)))
        self._rules = RulesHistory(kafka, store, shared.in_thread)

    def red(self) -> str:
        """Why the sink is not ready; empty if it is."""
        troubles = [reader.trouble for reader in self._readers] + [self._rules.trouble]
        return "; ".join(dict.fromkeys(filter(None, troubles)))

    def _progress(self) -> Iterator[Progress]:
        return (progress for reader in self._readers for progress in reader.progress())

    def _since_success(self) -> Iterator[tuple[str, float]]:
        return ((reader.name, reader.since_success()) for reader in self._readers)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. Raises what a person must mend: TopicsError, and at the start any StoreError but
        StoreUnavailableError.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for reader in self._readers:
                    group.create_task(reader.run(stop))
                group.create_task(self._rules.run(stop))
        except BaseExceptionGroup as faults:
            raise faults.exceptions[0] from None
        finally:
            await asyncio.to_thread(self._thread.shutdown)


class _Shared(msgspec.Struct, frozen=True):
    """What the readers have in common."""

    kafka: KafkaSettings
    store: Store
    settings: SinkSettings
    metrics: SinkMetrics
    thread: ThreadPoolExecutor
    at: At
    topics: tuple[Topic, ...]
    """All that the sink needs."""

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Runs what blocks. One thread, since each thread that uses the store has a client of its own."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, call)


class _DroppedError(Exception):
    """What was read will not be stored by us: the sink stops, or the partitions went elsewhere."""


class _Reader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One consumer group's member and what it reads."""

    def __init__(self, shared: _Shared, name: str, topics: tuple[Topic, ...]) -> None:
        self._shared = shared
        self.name = name
        self._topics = {shared.kafka.topic(topic): topic for topic in topics}
        self._rebalances = 0
        self._pruned_at = time.monotonic()
        self._succeeded_at = time.monotonic()
        self._fault: type[Exception] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._work = self._new_work()
        self.trouble = f"{name}: not started"

    def since_success(self) -> float:
        """Seconds since something was stored or nothing was left to store."""
        return time.monotonic() - self._succeeded_at

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
            log.warning("%s waits: %s", self.name, fault)
        self._fault = type(fault)

    def _worked(self) -> None:
        self._succeeded_at = time.monotonic()
        if self._fault is not None:
            log.info("%s goes on", self.name)
        self._fault, self.trouble = None, ""

    async def _insist(self, call: Callable[[], T], stop: asyncio.Event, seen: int) -> T:
        """Runs the call in the thread until the store takes it. Raises _DroppedError if we stop or there was another
        rebalance than `seen`.
        """
        pause = RETRY_SECONDS
        while True:
            try:
                result = await self._shared.in_thread(call)
            except StoreError as fault:
                self._shared.metrics.errors.labels(self.name).inc()
                self._failed(fault)
            else:
                return result
            await _sleep_unless(stop, pause)
            pause = min(2 * pause, RETRY_SECONDS_MOST)
            if stop.is_set() or seen != self._rebalances:
                raise _DroppedError

    # --- the membership

    async def run(self, stop: asyncio.Event) -> None:
        """Reads until `stop`, in as many memberships as it takes."""
        pause = RETRY_SECONDS
        while not stop.is_set():
            try:
                await self._prepare()
                pause = RETRY_SECONDS
                await self._consume(stop)
            except (KafkaError, KafkaUnavailableError, StoreUnavailableError) as fault:
                self._shared.metrics.restarts.labels(self.name).inc()
                self._failed(fault)
                await _sleep_unless(stop, pause)
                pause = min(2 * pause, RETRY_SECONDS_MOST)
            except _DroppedError:
                continue
        self.trouble = self.trouble or f"{self.name}: stopped"

    async def _prepare(self) -> None:
        """Raises TopicsError and what `run` repeats: KafkaUnavailableError, StoreUnavailableError."""
        there = await partitions_of(self._shared.kafka)
        missing = [self._shared.kafka.topic(topic) for topic in self._shared.topics if topic not in there]
        if missing:
            raise TopicsError(f"topics {', '.join(missing)} are missing: run `rater topics create`")
        applied = await self._shared.in_thread(lambda: migrate(self._shared.store))
        if applied:
            log.info("tables brought to migration %d", applied[-1].number)

    async def _consume(self, stop: asyncio.Event) -> None:
        consumer = AIOKafkaConsumer(
            **client_options(self._shared.kafka),
            group_id=self._shared.kafka.prefix + self.name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            max_poll_interval_ms=POLL_INTERVAL_MS,
            max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
        )
        consumer.subscribe(list(self._topics), listener=self)
        self._work, self._consumer = self._new_work(), consumer
        try:
            await consumer.start()
            self._worked()
            await self._read(consumer, stop)
        finally:
            self._work, self._consumer = self._new_work(), None
            await _stopped(consumer)

    def _new_work(self) -> Work:
        return Work(self._shared.store, self._topics)

    async def _read(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        settings, seen = self._shared.settings, self._rebalances
        while not stop.is_set():
            found = await _unless(stop, consumer.getmany(timeout_ms=self._patience_ms(), max_records=POLL_RECORDS))
            if seen != self._rebalances:
                self._work, seen = self._new_work(), self._rebalances
            work = self._work
            if found:
                work.put(record for records in found.values() for record in records)
                await self._insist(work.absorb, stop, seen)
            if work.is_empty:
                self._succeeded_at = time.monotonic()
            elif work.batch.weight >= settings.batch_rows or work.age >= settings.max_delay:
                await self._store(consumer, work, stop, seen)
            await self._prune()
        if not self._work.is_empty:  # so that after a stop in order little is read again
            await self._store(consumer, self._work, stop, seen)

    def _patience_ms(self) -> int:
        left = POLL_SECONDS if self._work.is_empty else self._shared.settings.max_delay - self._work.age
        return int(1000 * max(0.0, min(POLL_SECONDS, left)))

    async def _store(self, consumer: AIOKafkaConsumer, work: Work, stop: asyncio.Event, seen: int) -> None:
        """Inserts the batch, passes on what was refused, commits. In this order."""
        metrics, batch, token = self._shared.metrics, work.batch, work.token
        written = await self._insist(lambda: write(self._shared.store, batch, token), stop, seen)
        self._shared.at("sink-inserted", 0)
        await self._reject(work.refused)
        offsets = work.offsets
        if offsets and seen == self._rebalances:
            try:
                await consumer.commit(offsets)
            except IllegalStateError as fault:
                log.info("%s: partitions went elsewhere before the commit: %s", self.name, fault)
                return
        self._shared.at("sink-committed", 0)
        work.finished(offsets)
        self._worked()
        metrics.batches.labels(self.name).inc()
        for table, rows in written.items():
            metrics.rows.labels(table).inc(rows)
        now = time.time()
        for closed_at in batch.closed_at:
            metrics.queryable.observe(max(0.0, now - closed_at))

    async def _reject(self, refused: Sequence[tuple[Record, str]]) -> None:
        """Passes what cannot be kept on to `rejected`, whole. The worker has done so with what it could not read."""
        for record, reason in refused:
            self._shared.metrics.rejected.labels(self._topics[record.topic].value).inc()
            log.error("%s [%d] @%d cannot be kept: %s", record.topic, record.partition, record.offset, reason)
        ours = [item for item in refused if self._topics[item[0].topic] is not Topic.USAGE]
        if not ours:
            return
        producer = AIOKafkaProducer(
            **client_options(self._shared.kafka), acks="all", max_request_size=REJECTED_MESSAGE_BYTES
        )
        await producer.start()
        try:
            topic = self._shared.kafka.topic(Topic.REJECTED)
            for record, reason in ours:
                headers = rejected_headers(
                    RejectedHeaders(
                        reason=reason,
                        origin_topic=record.topic,
                        origin_partition=record.partition,
                        origin_offset=record.offset,
                        origin_timestamp_ms=record.timestamp,
                        origin_content_type=content_type(record.headers),
                    )
                )
                await producer.send_and_wait(topic, record.value, key=record.key, headers=list(headers))
        finally:
            await producer.stop()

    async def _prune(self) -> None:
        """Deletes superseded lines from time to time. Trouble with it holds nothing up."""
        if Topic.RATED not in self._topics.values() or time.monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = time.monotonic()
        store, seconds = self._shared.store, self._shared.settings.keep_superseded
        try:
            deleted = await self._shared.in_thread(lambda: delete_superseded(store, seconds))
        except StoreError as fault:
            log.warning("superseded lines were not deleted, will be tried again: %s", fault)
        else:
            if deleted:
                log.info("deleted the lines of %d superseded revisions", deleted)


async def _stopped(consumer: AIOKafkaConsumer) -> None:
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


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
