"""The sink: reads `rated`, `alerts`, `usage` and `rules` and keeps them in the store.

At least once: offsets are committed after the insert returned, and repeating an insert changes nothing
(`rater/store/README.md`). While Kafka or ClickHouse is away, the sink tries again, commits nothing and says in `red()`
why it is not ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from prometheus_client import CollectorRegistry

from rater.kafka import (
    METADATA_MS,
    REJECTED_MESSAGE_BYTES,
    KafkaConsumer,
    KafkaSettings,
    Topic,
    client_options,
    require_topics,
)
from rater.model.codec import content_type, rejected_headers
from rater.model.rated import RejectedHeaders
from rater.store import Batch, Store, StoreError, delete_superseded, enforce_retention, migrate, revision_of, write
from rater.stream.interfaces import At, nowhere
from rater.stream.sink_metrics import Progress, SinkMetrics
from rater.stream.sink_reader import Consumer, Reader, SinkSettings
from rater.stream.sink_rules import RulesHistory
from rater.stream.sink_work import Record
from rater.tracing import OFF, Tracing

__all__ = ["Sink", "SinkSettings"]

log = logging.getLogger(__name__)
T = TypeVar("T")

SESSION_MS = 15_000  # less, and the restart of a broker evicts everybody
POLL_INTERVAL_MS = 24 * 3600 * 1000  # during an outage of the store nothing is polled, and we stay in the group


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
        tracing: Tracing = OFF,
    ) -> None:
        metrics = SinkMetrics(
            registry or CollectorRegistry(), self._progress, self._succeeded_at, lambda: self._rules.version
        )
        self._thread = ThreadPoolExecutor(1, "rater-sink")
        needed = (Topic.RATED, Topic.ALERTS, Topic.REJECTED, Topic.USAGE)
        outside = _Services(kafka, store, self._thread, needed)

        def reader(name: str, *topics: Topic) -> Reader:
            of = {kafka.topic(topic): topic for topic in topics}
            return Reader(name, of, outside, settings, metrics, at, tracing=tracing)

        self._readers = [reader("sink", Topic.RATED, Topic.ALERTS), reader("sink-usage", Topic.USAGE)]
        self._rules = RulesHistory(kafka, store, outside.in_thread)

    def red(self) -> str:
        """Why the sink is not ready; empty if it is."""
        troubles = [reader.trouble for reader in self._readers] + [self._rules.trouble]
        return "; ".join(dict.fromkeys(filter(None, troubles)))

    def _progress(self) -> Iterator[Progress]:
        return (progress for reader in self._readers for progress in reader.progress())

    def _succeeded_at(self) -> Iterator[tuple[str, float]]:
        return ((reader.name, reader.succeeded_at()) for reader in self._readers)

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


class _StoreTables:
    """The tables of a store. Follows the protocol `Tables`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def revision_of(self, scope_id: str, period_begin: int) -> int | None:
        return revision_of(self._store, scope_id, period_begin)

    def write(self, batch: Batch, token: str) -> dict[str, int]:
        return write(self._store, batch, token)

    def delete_superseded(self, older_than_seconds: int) -> int:
        try:
            enforce_retention(self._store, int(time.time()))
        except StoreError as fault:
            log.warning("months beyond retention were not removed, will be tried again: %s", fault)
        return delete_superseded(self._store, older_than_seconds)


class _Services:
    """Kafka and the store. Follows the protocol `Outside`."""

    def __init__(self, kafka: KafkaSettings, store: Store, thread: ThreadPoolExecutor, needed: Sequence[Topic]) -> None:
        self.tables = _StoreTables(store)
        self._kafka = kafka
        self._store = store
        self._thread = thread
        self._needed = needed

    async def in_thread(self, call: Callable[[], T]) -> T:
        """One thread, since each thread that uses the store has a client of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def prepare(self) -> None:
        await require_topics(self._kafka, *self._needed)
        applied = await self.in_thread(lambda: migrate(self._store, newer_is_fine=True))
        if applied:
            log.info("tables brought to migration %d", applied[-1].number)

    def consumer(self, group: str, topics: Iterable[Topic], listener: ConsumerRebalanceListener) -> Consumer:
        consumer = KafkaConsumer(
            **client_options(self._kafka),
            group_id=self._kafka.prefix + group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            max_poll_interval_ms=POLL_INTERVAL_MS,
            metadata_max_age_ms=METADATA_MS,
            max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
        )
        consumer.subscribe([self._kafka.topic(topic) for topic in topics], listener=listener)
        found: Consumer = consumer
        return found

    async def reject(self, refused: Sequence[tuple[Record, str]]) -> None:
        producer = AIOKafkaProducer(**client_options(self._kafka), acks="all", max_request_size=REJECTED_MESSAGE_BYTES)
        await producer.start()
        try:
            topic = self._kafka.topic(Topic.REJECTED)
            for record, reason in refused:
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
