"""Snapshot chunks and published records on the real Kafka, behind the protocol `Log`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from rater.engine import OutboxItem
from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaSettings, Topic, client_options
from rater.stream.interfaces import Pointer, RestoreRefusedError, StreamUnavailableError

__all__ = ["KafkaLog", "chunk_keys"]

IN_FLIGHT = 1000  # records sent before their acknowledgements are awaited
READ_SECONDS = 60.0
_OUTPUT = {"rated": Topic.RATED, "alerts": Topic.ALERTS, "rejected": Topic.REJECTED}


def chunk_keys(snapshot_id: str, chunks: int) -> list[bytes]:
    """The keys of a snapshot's chunks in `checkpoints`: `SNAPSHOT:NUMBER/COUNT`."""
    return [f"{snapshot_id}:{number}/{chunks}".encode() for number in range(chunks)]


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

    async def write_chunks(self, partition: int, snapshot_id: str, chunks: Sequence[bytes]) -> int:
        """Appends the chunks to `checkpoints`, each under its `chunk_key`."""
        topic = self._settings.topic(Topic.CHECKPOINTS)
        keys = chunk_keys(snapshot_id, len(chunks))
        records = [(topic, key, chunk, ()) for key, chunk in zip(keys, chunks, strict=True)]
        return min(await self._send(partition, records))

    async def publish(self, partition: int, items: Sequence[OutboxItem]) -> None:
        """Appends the items to the partition of the same number of their topics, in order."""
        records = [(self._settings.topic(_OUTPUT[item.topic]), item.key, item.value, item.headers) for item in items]
        for start in range(0, len(records), IN_FLIGHT):
            await self._send(partition, records[start : start + IN_FLIGHT])

    async def _send(
        self, partition: int, records: Sequence[tuple[str, bytes | None, bytes, Sequence[tuple[str, bytes]]]]
    ) -> list[int]:
        try:
            producer = await self._ready()
            sent = [
                await producer.send(topic, value, key=key, partition=partition, headers=list(headers))
                for topic, key, value, headers in records
            ]
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
    async def _reader(self, topic: Topic, partition: int) -> AsyncIterator[tuple[AIOKafkaConsumer, TopicPartition]]:
        consumer = AIOKafkaConsumer(
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

    async def read_chunks(self, partition: int, pointer: Pointer) -> list[bytes]:
        """The chunks `pointer` names; those of other snapshots between them are passed over."""
        async with self._reader(Topic.CHECKPOINTS, partition) as (consumer, key):
            begin = (await consumer.beginning_offsets([key]))[key]
            end = (await consumer.end_offsets([key]))[key]
            if not begin <= pointer.first_offset < end:
                raise RestoreRefusedError(_missing(partition, pointer, f"checkpoints holds offsets {begin} to {end}"))
            consumer.seek(key, pointer.first_offset)
            found: dict[bytes, bytes] = {}
            wanted = chunk_keys(pointer.snapshot_id, pointer.chunks)
            try:
                async with asyncio.timeout(READ_SECONDS):
                    while len(found) < pointer.chunks and await consumer.position(key) < end:
                        for record in (await consumer.getmany(key, timeout_ms=500)).get(key, []):
                            if record.key in wanted:
                                found[record.key] = record.value
            except TimeoutError:
                raise StreamUnavailableError(f"checkpoints partition {partition} cannot be read in time") from None
        if len(found) < pointer.chunks:
            raise RestoreRefusedError(
                _missing(partition, pointer, f"{len(found)} of {pointer.chunks} chunks are there")
            )
        return [found[key] for key in wanted]


def _missing(partition: int, pointer: Pointer, what: str) -> str:
    return (
        f"the snapshot {pointer.snapshot_id} of partition {partition} is missing at offset {pointer.first_offset}: "
        f"{what}. Starting without it would lose usage. `rater recover` shows what there is"
    )
