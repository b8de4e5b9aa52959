"""The sink: reads `rated`, `alerts` and `usage` and keeps them in the store.

At least once: offsets are committed after the insert returned, and repeating an insert changes nothing
(`rater/store/README.md`). While Kafka or ClickHouse is away, the sink tries again, commits nothing and says in `red()`
why it is not ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from msgspec import Meta
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rater.kafka import (
    REJECTED_MESSAGE_BYTES,
    KafkaSettings,
    KafkaUnavailableError,
    Topic,
    TopicsError,
    client_options,
    partitions_of,
)
from rater.model.codec import content_type, decode_alert, decode_rated, decode_usage, rejected_headers
from rater.model.errors import RejectedError
from rater.model.rated import RejectedHeaders
from rater.model.usage import Collection
from rater.store import (
    Assembly,
    Batch,
    Store,
    StoreError,
    StoreUnavailableError,
    UnstorableError,
    delete_superseded,
    migrate,
    revision_of,
    write,
)
from rater.stream.interfaces import At, nowhere

__all__ = ["Sink", "SinkMetrics", "SinkSettings"]

log = logging.getLogger(__name__)
T = TypeVar("T")
Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]

POLL_SECONDS = 0.5  # how late `stop` is noticed while nothing comes
POLL_RECORDS = 500  # of 12 lines: 6 000 rows between two looks at the size of the batch
RETRY_SECONDS = 0.5
RETRY_SECONDS_MOST = 15.0
PRUNE_SECONDS = 600.0
SESSION_MS = 15_000  # less, and the restart of a broker evicts everybody
POLL_INTERVAL_MS = 24 * 3600 * 1000  # during an outage of the store nothing is polled, and we stay in the group
_QUERYABLE = (0.5, 1, 2, 3, 5, 8, 13, 30, 60, 300, 1800, 7200, 86400)


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


class SinkMetrics:
    """What a sink tells Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("rater_sink_rows", "Rows inserted", ["table"], registry=registry)
        self.batches = Counter("rater_sink_batches", "Batches inserted", ["reader"], registry=registry)
        self.errors = Counter("rater_sink_errors", "Refusals of the store; repeated", ["reader"], registry=registry)
        self.restarts = Counter("rater_sink_restarts", "Memberships ended by Kafka", ["reader"], registry=registry)
        self.rejected = Counter("rater_sink_rejected", "Records that cannot be kept", ["topic"], registry=registry)
        self.lag = Gauge("rater_sink_lag", "Records not committed yet", ["topic", "partition"], registry=registry)
        self.unfinished = Gauge(
            "rater_sink_unfinished_frames", "Revisions of which parts are missing", ["partition"], registry=registry
        )
        self.queryable = Histogram(
            "rater_sink_queryable_seconds",
            "From closing a frame to finding it in the store",
            buckets=_QUERYABLE,
            registry=registry,
        )
        self.since_success = Gauge(
            "rater_sink_seconds_since_success",
            "Since something was stored or nothing was left to store",
            ["reader"],
            registry=registry,
        )


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
        metrics = SinkMetrics(registry or CollectorRegistry())
        self._thread = ThreadPoolExecutor(1, "rater-sink")
        shared = _Shared(kafka, store, settings, metrics, self._thread, at)
        self._readers = [_Reader(shared, "sink", (Topic.RATED, Topic.ALERTS))]
        if settings.usage:
            self._readers.append(_Reader(shared, "sink-usage", (Topic.USAGE,)))

    def red(self) -> str:
        """Why the sink is not ready; empty if it is."""
        return "; ".join(dict.fromkeys(reader.trouble for reader in self._readers if reader.trouble))

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. Raises what a person must mend: TopicsError, and at the start any StoreError but
        StoreUnavailableError.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for reader in self._readers:
                    group.create_task(reader.run(stop))
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

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Runs what blocks. One thread, since each thread that uses the store has a client of its own."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, call)


class _DroppedError(Exception):
    """What was read will not be stored by us: the sink stops, or the partitions went elsewhere."""


class _Work:
    """What a consumer has read since its partitions were assigned to it. Used in the thread, one call at a time."""

    def __init__(self, store: Store, topics: dict[str, Topic]) -> None:
        self._topics = topics
        self._stored = lambda scope_id, period_begin: revision_of(store, scope_id, period_begin)
        self._waiting: deque[Record] = deque()
        self.assemblies: dict[TopicPartition, Assembly] = {}
        self.committed: dict[TopicPartition, int] = {}
        self._renew()

    def _renew(self) -> None:
        self.batch = Batch()
        self.refused: list[tuple[Record, str]] = []
        self.began_at = 0.0

    def put(self, records: Iterable[Record]) -> None:
        """Queues records for `absorb`."""
        self._waiting.extend(records)
        self.began_at = self.began_at or time.monotonic()

    def absorb(self) -> None:
        """Turns what is queued into rows. Raises StoreError: call it again then."""
        while self._waiting:
            self._take(self._waiting[0])
            self._waiting.popleft()

    def _take(self, record: Record) -> None:
        partition = TopicPartition(record.topic, record.partition)
        assembly = self.assemblies.get(partition)
        if assembly is None:
            assembly = self.assemblies[partition] = Assembly(self._stored)
            self.committed[partition] = record.offset
        value, form = record.value or b"", content_type(record.headers)
        try:
            match self._topics[record.topic]:
                case Topic.RATED:
                    assembly.take(record.offset, decode_rated(value, form), self.batch)
                    return
                case Topic.ALERTS:
                    self.batch.add_alert(decode_alert(value, form))
                case Topic.USAGE:
                    usage = decode_usage(value, form)
                    if isinstance(usage, Collection):
                        self.batch.add_collection(usage)
        except (RejectedError, UnstorableError) as fault:
            self.refused.append((record, str(fault)))
        assembly.skip(record.offset)

    @property
    def offsets(self) -> dict[TopicPartition, int]:
        """What may be committed once the batch is stored, where it is new."""
        safe = {partition: assembly.safe_offset for partition, assembly in self.assemblies.items()}
        return {partition: offset for partition, offset in safe.items() if offset > self.committed[partition]}

    @property
    def token(self) -> str:
        """Names the batch by the records that it is made of."""
        content = [(*partition, self.committed[partition], a.next_offset) for partition, a in self.assemblies.items()]
        return blake2b(msgspec.msgpack.encode(sorted(content)), digest_size=16).hexdigest()

    def finished(self, offsets: dict[TopicPartition, int]) -> None:
        """Notes that all so far is stored and these offsets are committed."""
        self.committed.update(offsets)
        for assembly in self.assemblies.values():
            assembly.written()
        self._renew()


class _Reader(ConsumerRebalanceListener):
    """One consumer group's member and what it reads."""

    def __init__(self, shared: _Shared, name: str, topics: tuple[Topic, ...]) -> None:
        self._shared = shared
        self._name = name
        self._topics = {shared.kafka.topic(topic): topic for topic in topics}
        self._rebalances = 0
        self._pruned_at = time.monotonic()
        self._succeeded_at = time.monotonic()
        self._fault: type[Exception] | None = None
        self.trouble = f"{name}: not started"
        shared.metrics.since_success.labels(name).set_function(lambda: time.monotonic() - self._succeeded_at)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """From here on others may read them: what we read and did not commit, they will read again."""
        self._rebalances += 1

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Work begins anew from what is committed."""
        self._rebalances += 1

    # --- what may fail and is tried again

    def _failed(self, fault: Exception) -> None:
        """Notes why nothing goes on; logged once for each kind of fault, since its text changes with every attempt."""
        self.trouble = f"{self._name}: {fault}"
        if type(fault) is not self._fault:
            log.warning("%s waits: %s", self._name, fault)
        self._fault = type(fault)

    def _worked(self) -> None:
        self._succeeded_at = time.monotonic()
        if self._fault is not None:
            log.info("%s goes on", self._name)
        self._fault, self.trouble = None, ""

    async def _insist(self, call: Callable[[], T], stop: asyncio.Event, gave_up: Callable[[], bool]) -> T:
        """Runs the call in the thread until the store takes it. Raises _DroppedError if that is not wanted any more."""
        pause = RETRY_SECONDS
        while True:
            try:
                result = await self._shared.in_thread(call)
            except StoreError as fault:
                self._shared.metrics.errors.labels(self._name).inc()
                self._failed(fault)
            else:
                return result
            await _sleep_unless(stop, pause)
            pause = min(2 * pause, RETRY_SECONDS_MOST)
            if stop.is_set() or gave_up():
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
                self._shared.metrics.restarts.labels(self._name).inc()
                self._failed(fault)
                await _sleep_unless(stop, pause)
                pause = min(2 * pause, RETRY_SECONDS_MOST)
            except _DroppedError:
                continue
        self.trouble = self.trouble or f"{self._name}: stopped"
