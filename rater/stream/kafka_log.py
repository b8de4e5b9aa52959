"""Snapshot chunks and published records on the real Kafka, behind the protocol `Log`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from rater.engine import OutboxItem
from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options
from rater.model.events import with_source
from rater.stream.interfaces import RestoreRefusedError, Run, StreamUnavailableError

__all__ = ["KafkaLog", "chunk_keys"]

IN_FLIGHT = 1000  # records sent before their acknowledgements are awaited
SLICE_BYTES = 512 * 1024  # sent in about 10 ms; others have their turn then
RECORD_COST = 4 * 1024  # bytes that are sent in the time that a small record takes
READ_SECONDS = 60.0
_OUTPUT = {"rated": Topic.RATED, "alerts": Topic.ALERTS, "rejected": Topic.REJECTED}


def chunk_keys(run_id: str, chunks: int) -> list[bytes]:
    """The keys of a run's chunks in `checkpoints`: `RUN:NUMBER/COUNT`."""
    return [f"{run_id}:{number}/{chunks}".encode() for number in range(chunks)]


class KafkaLog:
    """One idempotent producer for chunks and output. After an error it is thrown away: the next call makes a new one.

    An idempotent producer that lost its sequence stays dead (aiokafka issue 1017); repeating what it may have sent
    is harmless, since chunks without a pointer are never read and output is repeated byte for byte.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Ends the producer, waiting for nothing: whatever matters was awaited."""
        async with self._lock:
            await self._drop()

    async def write_chunks(self, partition: int, run_id: str, chunks: Sequence[bytes]) -> int:
        """Appends the chunks to `checkpoints`, each under its `chunk_key`."""
        topic = self._settings.topic(Topic.CHECKPOINTS)
        keys = chunk_keys(run_id, len(chunks))
        records = [(topic, key, chunk, ()) for key, chunk in zip(keys, chunks, strict=True)]
        return min(await self._send(partition, records))

    async def publish(self, partition: int, items: Sequence[OutboxItem]) -> None:
        """Appends the items to the partition of the same number of their topics, in order."""
        names = {output: self._settings.topic(topic) for output, topic in _OUTPUT.items()}
        records = [
            (names[item.topic], item.key, item.value, with_source(item.headers, names[item.topic])) for item in items
        ]
        for start in range(0, len(records), IN_FLIGHT):
            await self._send(partition, records[start : start + IN_FLIGHT])

    async def _send(
        self, partition: int, records: Sequence[tuple[str, bytes | None, bytes, Sequence[tuple[str, bytes]]]]
    ) -> list[int]:
        try:
            producer = await self._ready()
            sent = []
            size = 0
            for topic, key, value, headers in records:
                sent.append(await producer.send(topic, value, key=key, partition=partition, headers=list(headers)))
                size += RECORD_COST + len(value)
                if size > SLICE_BYTES:  # a send that finds room does not wait for anything
                    size = 0
                    await asyncio.sleep(0)
            return [(await future).offset for future in sent]
        except KafkaError as fault:
            async with self._lock:
                await self._drop()
            raise StreamUnavailableError(f"Kafka did not take what was written: {fault!r}") from fault

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    acks="all",
                    enable_idempotence=True,
                    compression_type="zstd",
                    max_request_size=REJECTED_MESSAGE_BYTES + 64 * 1024,
                    max_batch_size=256 * 1024,
                    request_timeout_ms=60_000,  # 20 s made workers give up in longer outages
                )
                try:
                    await producer.start()
                except KafkaError:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(5):
                    await producer.stop()
            except (KafkaError, TimeoutError):  # it is of no use any more, whatever it still has to say
                pass

    # --- reading

    @asynccontextmanager
    async def _reader(self, topic: Topic, partition: int) -> AsyncIterator[tuple[KafkaConsumer, TopicPartition]]:
        consumer = KafkaConsumer(
            **client_options(self._settings), enable_auto_commit=False, max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES
        )
        key = TopicPartition(self._settings.topic(topic), partition)
        try:
            await consumer.start()
            consumer.assign([key])
            yield consumer, key
        except KafkaError as fault:
            raise StreamUnavailableError(f"{key.topic} partition {partition} cannot be read: {fault!r}") from fault
        finally:
            await consumer.stop()

    async def first_offset(self, partition: int) -> int:
        """The oldest offset of the partition of `usage`."""
        async with self._reader(Topic.USAGE, partition) as (consumer, key):
            return int((await consumer.beginning_offsets([key]))[key])

    async def has_chunks(self, partition: int) -> bool:
        """Whether anything was ever written to the partition of `checkpoints`."""
        async with self._reader(Topic.CHECKPOINTS, partition) as (consumer, key):
            return bool((await consumer.end_offsets([key]))[key] > 0)

    async def read_chunks(self, partition: int, runs: Sequence[Run]) -> list[list[bytes]]:
        """The chunks of the runs; what lies between them is passed over."""
        found: dict[Run, list[bytes]] = {}
        async with self._reader(Topic.CHECKPOINTS, partition) as (consumer, key):
            begin = (await consumer.beginning_offsets([key]))[key]
            end = (await consumer.end_offsets([key]))[key]
            for run in sorted(runs, key=lambda run: run.first_offset):
                if not begin <= run.first_offset < end:
                    raise RestoreRefusedError(_missing(partition, run, f"checkpoints holds offsets {begin} to {end}"))
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        found[run] = await _read_run(consumer, key, partition, run, end)
                except TimeoutError:
                    raise StreamUnavailableError(f"checkpoints partition {partition} cannot be read in time") from None
        return [found[run] for run in runs]


async def _read_run(consumer: KafkaConsumer, key: TopicPartition, partition: int, run: Run, end: int) -> list[bytes]:
    """One run: its chunks stand one after the other, perhaps with those of another worker between them."""
    consumer.seek(key, run.first_offset)
    wanted = dict.fromkeys(chunk_keys(run.run_id, run.chunks))
    found: dict[bytes, bytes] = {}
    while len(found) < run.chunks and await consumer.position(key) < end:
        for record in (await consumer.getmany(key, timeout_ms=500, max_records=run.chunks)).get(key, []):
            if record.key in wanted:
                found[record.key] = record.value
    if len(found) < run.chunks:
        raise RestoreRefusedError(_missing(partition, run, f"{len(found)} of {run.chunks} chunks are there"))
    return [found[name] for name in wanted]


def _missing(partition: int, run: Run, what: str) -> str:
    return (
        f"the snapshot {run.run_id} of partition {partition} is missing at offset {run.first_offset}: "
        f"{what}. Starting without it would lose usage. `rater recover` shows what there is"
    )
