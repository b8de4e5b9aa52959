"""`rater recover`: what is left of each partition's state, and the pointer set anew after a person has agreed.

For the three cases in which a worker refuses to start: the pointer is gone, the snapshot it names is gone, or
records of the log are gone. No worker may run meanwhile.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

import cramjam
import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from rater.engine import EngineSettings, Run, SnapshotError, decode_manifest
from rater.kafka import KafkaConsumer, KafkaSettings, Topic, client_options, require_topics
from rater.model.errors import RaterError
from rater.stream.interfaces import Pointer, RestoreRefusedError, StreamUnavailableError
from rater.stream.pointer import decode_pointer, encode_pointer

__all__ = ["RecoverError", "Remains", "Snapshot", "inspect", "repair"]

READ_SECONDS = 120.0
COORDINATOR_SECONDS = 20.0


class RecoverError(RaterError):
    """The repair was refused."""


class Snapshot(msgspec.Struct, frozen=True):
    """A complete and readable snapshot in `checkpoints`."""

    pointer: Pointer
    next_offset: int
    written_ms: int
    scopes: int


class Remains(msgspec.Struct, frozen=True):
    """What there is of one partition."""

    partition: int
    committed_offset: int
    """-1 if nothing is committed."""
    pointer: Pointer | None
    trouble: str
    """Why a worker would not start from it; empty if it would."""
    snapshots: list[Snapshot]
    """Newest first."""
    usage_begin: int
    usage_end: int

    @property
    def proposal(self) -> Snapshot | None:
        """The newest snapshot whose records are all still in the log."""
        return next((s for s in self.snapshots if self.usage_begin <= s.next_offset <= self.usage_end), None)


def _group(kafka: KafkaSettings) -> str:
    return f"{kafka.prefix}worker"


async def inspect(kafka: KafkaSettings, settings: EngineSettings) -> list[Remains]:
    """Reads every partition of `checkpoints` as a whole. Raises TopicsError, StreamUnavailableError."""
    count = (await require_topics(kafka, Topic.USAGE))[Topic.USAGE]
    admin = AIOKafkaAdminClient(**client_options(kafka))
    reader = KafkaConsumer(**client_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await admin.start()
        await reader.start()
        committed = await _committed(admin, _group(kafka))
        return [await _inspect_one(kafka, settings, reader, committed, count, p) for p in range(count)]
    except (KafkaError, TimeoutError) as fault:
        raise StreamUnavailableError(f"Kafka at {kafka.bootstrap} cannot be read: {fault!r}") from fault
    finally:
        await reader.stop()
        await admin.close()


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """What the group has committed. A broker that has served no group yet takes a moment to make its topic for them."""
    async with asyncio.timeout(COORDINATOR_SECONDS):
        while True:
            try:
                return dict(await admin.list_consumer_group_offsets(group))
            except GroupCoordinatorNotAvailableError:
                await asyncio.sleep(0.2)


async def _inspect_one(
    kafka: KafkaSettings,
    settings: EngineSettings,
    reader: KafkaConsumer,
    committed: dict[TopicPartition, OffsetAndMetadata],
    partitions: int,
    partition: int,
) -> Remains:
    usage = TopicPartition(kafka.topic(Topic.USAGE), partition)
    begin = (await reader.beginning_offsets([usage]))[usage]
    end = (await reader.end_offsets([usage]))[usage]
    snapshots = await _snapshots(kafka, settings, reader, partitions, partition)
    held = committed.get(usage)
    pointer: Pointer | None = None
    trouble = ""
    try:
        pointer = decode_pointer(held.metadata) if held is not None and held.offset >= 0 else None
    except RestoreRefusedError as fault:
        trouble = str(fault)
    if not trouble:
        trouble = _trouble(pointer, held.offset if held is not None else -1, snapshots, begin, partitions)
    return Remains(partition, held.offset if held is not None else -1, pointer, trouble, snapshots, begin, end)


def _trouble(pointer: Pointer | None, offset: int, snapshots: Sequence[Snapshot], begin: int, partitions: int) -> str:
    if pointer is None:
        return "snapshots exist, but nothing points at them" if snapshots else ""
    if pointer.partitions != partitions:
        return f"usage had {pointer.partitions} partitions and now has {partitions}"
    if pointer.chunks and all(s.pointer.snapshot_id != pointer.snapshot_id for s in snapshots):
        return f"the snapshot {pointer.snapshot_id} that the pointer names is missing or damaged"
    if offset < begin:
        return f"records {offset} to {begin} of usage are gone: collect that time again"
    return ""


async def _snapshots(
    kafka: KafkaSettings, settings: EngineSettings, reader: KafkaConsumer, partitions: int, partition: int
) -> list[Snapshot]:
    """Every complete snapshot of the partition that can be read, newest first."""
    key = TopicPartition(kafka.topic(Topic.CHECKPOINTS), partition)
    reader.assign([key])
    end = (await reader.end_offsets([key]))[key]
    await reader.seek_to_beginning(key)
    open_ones: dict[str, dict[int, tuple[int, int, bytes]]] = {}
    whole: set[Run] = set()
    found: list[Snapshot] = []
    async with asyncio.timeout(READ_SECONDS):
        while await reader.position(key) < end:
            for record in (await reader.getmany(key, timeout_ms=500)).get(key, []):
                run_id, _, place = record.key.decode().partition(":")
                number, _, count = place.partition("/")
                chunks = open_ones.setdefault(run_id, {})
                chunks[int(number)] = (record.offset, record.timestamp, record.value)
                if len(chunks) == int(count):
                    payload = b"".join(chunks[number][2] for number in sorted(chunks))
                    first_offset = min(offset for offset, _, _ in open_ones.pop(run_id).values())
                    run = Run(run_id, first_offset, len(chunks), zlib.crc32(payload))
                    whole.add(run)
                    snapshot = _read(run, payload, record.timestamp, whole, settings, partitions, partition)
                    found += [snapshot] if snapshot is not None else []
    return found[::-1]


def _read(
    run: Run,
    payload: bytes,
    written_ms: int,
    whole: set[Run],
    settings: EngineSettings,
    partitions: int,
    partition: int,
) -> Snapshot | None:
    """The snapshot whose manifest this run is; None if it is another run, or if not all that it names is `whole`."""
    try:
        manifest = decode_manifest(bytes(cramjam.zstd.decompress(payload)), partition, partitions, settings)
    except (SnapshotError, cramjam.DecompressionError):
        return None  # not one that a worker could go on from
    named = {run for segment in manifest.segments for run in segment.runs} | set(manifest.outbox)
    if not named <= whole:
        return None
    scopes = manifest.scopes or len(manifest.state.scopes)
    return Snapshot(Pointer(*run, partitions), manifest.state.next_offset, written_ms, scopes)


async def repair(kafka: KafkaSettings, partition: int, snapshot: Snapshot) -> None:
    """Makes `snapshot` the state of the partition. Raises RecoverError while workers are in the group.

    Frames that were closed after this snapshot are decided again: their revisions may come twice with other content.
    """
    admin = AIOKafkaAdminClient(**client_options(kafka))
    consumer = KafkaConsumer(**client_options(kafka), group_id=_group(kafka), enable_auto_commit=False)
    key = TopicPartition(kafka.topic(Topic.USAGE), partition)
    try:
        await admin.start()
        await _refuse_if_alive(admin, _group(kafka))
        consumer.assign([key])
        await consumer.start()
        value = OffsetAndMetadata(snapshot.next_offset, encode_pointer(snapshot.pointer))
        await consumer.commit({key: value})
    except KafkaError as fault:
        raise StreamUnavailableError(f"the pointer could not be set: {fault!r}") from fault
    finally:
        await consumer.stop()
        await admin.close()


async def _refuse_if_alive(admin: AIOKafkaAdminClient, group: str) -> None:
    for response in await admin.describe_consumer_groups([group]):
        for _code, _name, state, _kind, _protocol, members, *_rest in response.groups:
            if members:
                raise RecoverError(f"{len(members)} worker(s) are running (group {group}, {state}): stop them first")
