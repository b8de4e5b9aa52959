"""Snapshots of the rule book in topic `rulebook`, so that nobody need fold the whole of topic `rules`.

A snapshot is only ever a shortcut: one that is torn, damaged, foreign or of another log is passed over, and the log
itself is read. Several writers at once do no harm, since no two snapshots share a key.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import NamedTuple

import cramjam
import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from rater.kafka import MAX_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options
from rater.rating import BOOK_FORMAT, BookSnapshotError, RuleBook, decode_book, encode_book

__all__ = [
    "FINGERPRINT",
    "Chunk",
    "Mark",
    "Shelf",
    "Snapshot",
    "consuming",
    "encode_chunk",
    "make_chunks",
    "mark_of",
    "read_shelf",
    "sorted_out",
    "superseded",
    "write_snapshot",
]

CHUNK_BYTES = 512 * 1024
COMPRESSION_LEVEL = 3
KEPT = 2  # snapshots; the one before the newest serves those who ask for a little history

_FOLD = ("rater.model.codec", "rater.model.rules", "rater.rating.book", "rater.rating.draft", "rater.rating.tables")
"""The modules that decide what a log folds to."""


def _fingerprint() -> str:
    """Who folds any log to the same book as we do: only their snapshots are taken.

    A release that does not know a kind of change, or refuses what another takes, ignores the event; its snapshot would
    carry that on for ever. So the code itself is part of it: nobody has to remember to count a version up.
    """
    terms = [metadata.version("rater"), metadata.version("msgspec"), str(BOOK_FORMAT)]
    digest = hashlib.blake2b("/".join(terms).encode(), digest_size=16)
    for name in _FOLD:
        digest.update(inspect.getsource(importlib.import_module(name)).encode())
    return digest.hexdigest()


FINGERPRINT = _fingerprint()


class Mark(NamedTuple):
    """The last record that a snapshot holds: it counts only for a log that has this very record there."""

    offset: int
    digest: bytes


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A record of topic `rulebook`: a part of a snapshot, and what there is to know of the whole."""

    fingerprint: str
    snapshot_id: str
    number: int
    count: int
    version: int
    offset: int
    digest: bytes
    checksum: bytes  # of all data
    data: bytes


class Snapshot(msgspec.Struct):
    """The chunks of one snapshot as far as they were found."""

    first: Chunk
    chunks: dict[int, Chunk]

    @property
    def version(self) -> int:
        """Of the book."""
        return self.first.version

    @property
    def mark(self) -> Mark:
        """Where in topic `rules` it was taken."""
        return Mark(self.first.offset, self.first.digest)

    def book(self) -> RuleBook:
        """Raises BookSnapshotError if it is damaged."""
        payload = b"".join(self.chunks[number].data for number in range(self.first.count))
        if _checksum(payload) != self.first.checksum:
            raise BookSnapshotError(f"snapshot {self.first.snapshot_id} of the rule book is damaged (checksum)")
        try:
            return decode_book(bytes(cramjam.zstd.decompress(payload)))
        except cramjam.DecompressionError as fault:
            raise BookSnapshotError(
                f"snapshot {self.first.snapshot_id} of the rule book is damaged ({fault})"
            ) from None


class Shelf(NamedTuple):
    """What topic `rulebook` held when it was read."""

    usable: list[Snapshot]
    """Whole and made by our like, the newest first. Whether they are sound shows when one is opened."""
    keys: dict[bytes, int]
    """Every key that is not deleted, with the offset in `rules` of its snapshot; -1 if it cannot be read."""

    @property
    def newest(self) -> int:
        """Offset in `rules` of the newest; -1 if there is none."""
        return self.usable[0].first.offset if self.usable else -1


def mark_of(record: ConsumerRecord) -> Mark:
    """The mark of a record of topic `rules`."""
    content = record.value or b""
    head = f"{record.offset}/{record.timestamp}/{len(content)}/".encode()
    return Mark(record.offset, hashlib.blake2b(head + content, digest_size=16).digest())


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Chunk).decode


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()


@asynccontextmanager
async def consuming(settings: KafkaSettings) -> AsyncIterator[KafkaConsumer]:
    """A consumer without assignment, which reads from where it is told and nowhere else."""
    consumer = KafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",  # a log that was cut is read anew, not from wherever it now begins
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def read_shelf(settings: KafkaSettings) -> Shelf:
    """All snapshots. The topic must exist. Raises KafkaError."""
    place = TopicPartition(settings.topic(Topic.RULEBOOK), 0)
    values: dict[bytes, bytes] = {}
    async with consuming(settings) as consumer:
        end = (await consumer.end_offsets([place]))[place]
        begin = (await consumer.beginning_offsets([place]))[place]
        if begin < end:
            consumer.assign([place])
            consumer.seek(place, begin)
        while begin < end and await consumer.position(place) < end:
            for record in (await consumer.getmany(place, timeout_ms=500)).get(place, []):
                if record.value is None:
                    values.pop(record.key or b"", None)
                else:
                    values[record.key or b""] = record.value
    return sorted_out(values)


def sorted_out(values: dict[bytes, bytes]) -> Shelf:
    """A shelf from the values that stand under each key."""
    found: dict[str, Snapshot] = {}
    keys = {}
    for key, value in values.items():
        try:
            chunk = _decode(value)
        except msgspec.DecodeError:
            keys[key] = -1  # of another format: it is not ours to read
            continue
        keys[key] = chunk.offset
        if chunk.fingerprint == FINGERPRINT and key == _key(chunk):
            found.setdefault(chunk.snapshot_id, Snapshot(chunk, {})).chunks[chunk.number] = chunk
    whole = [snapshot for snapshot in found.values() if snapshot.chunks.keys() == set(range(snapshot.first.count))]
    return Shelf(sorted(whole, key=lambda snapshot: snapshot.first.offset, reverse=True), keys)


def encode_chunk(chunk: Chunk) -> tuple[bytes, bytes]:
    """Key and value of its record."""
    return _key(chunk), _encode(chunk)


def _key(chunk: Chunk) -> bytes:
    return f"{chunk.snapshot_id}/{chunk.number}".encode()


def make_chunks(book: RuleBook, mark: Mark) -> list[Chunk]:
    """The records of a snapshot. Takes seconds for a book of a million rules: call it in a thread."""
    payload = bytes(cramjam.zstd.compress(encode_book(book), level=COMPRESSION_LEVEL))
    parts = [payload[start : start + CHUNK_BYTES] for start in range(0, len(payload), CHUNK_BYTES)]
    terms = FINGERPRINT, uuid.uuid4().hex[:16]
    return [
        Chunk(*terms, number, len(parts), book.version, mark.offset, mark.digest, _checksum(payload), data)
        for number, data in enumerate(parts)
    ]


def superseded(shelf: Shelf) -> list[bytes]:
    """The keys to delete once a new snapshot stands: what is older than those that are kept with it, whoever wrote it.

    Only what was there before the new one was begun: so of several writers at once the last to begin deletes the
    others', nobody deletes its, and one whole snapshot is always left.
    """
    if len(shelf.usable) < KEPT - 1:
        return []
    oldest_kept = shelf.usable[KEPT - 2].first
    return [
        key
        for key, offset in shelf.keys.items()
        if offset < oldest_kept.offset or (offset == oldest_kept.offset and not key.startswith(_prefix(oldest_kept)))
    ]


def _prefix(chunk: Chunk) -> bytes:
    return f"{chunk.snapshot_id}/".encode()


async def write_snapshot(settings: KafkaSettings, chunks: list[Chunk], shelf: Shelf) -> None:
    """Writes a snapshot, then deletes those it supersedes. `shelf` was read before. Raises KafkaError.

    Nothing is retried for long: whoever comes next writes another one.
    """
    topic = settings.topic(Topic.RULEBOOK)
    producer = AIOKafkaProducer(
        **client_options(settings), acks="all", enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
    )
    try:
        await producer.start()
        for chunk in chunks:
            key, value = encode_chunk(chunk)
            await producer.send_and_wait(topic, value, key=key, partition=0)
        for key in superseded(shelf):
            await producer.send_and_wait(topic, None, key=key, partition=0)
    finally:
        await producer.stop()
