"""Records of `rated`, `alerts` and `usage` on their way into the store: decoded, checked, gathered into a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Protocol, TypeAlias

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from rater.kafka import Topic
from rater.model.codec import check_key, content_type, decode_alert, decode_rated_record, decode_usage, is_posted
from rater.model.errors import RejectedError
from rater.model.posted import PostedLines
from rater.model.usage import Collection, UsageRecord
from rater.store import Assembly, Batch, UnstorableError
from rater.stream.interfaces import Clock
from rater.tracing import MAX_LINKS, sampled_header

__all__ = ["Record", "Tables", "Work"]

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]


class Tables(Protocol):
    """What the sink does with the store. Every call blocks and may raise StoreError."""

    def revision_of(self, scope_id: str, period_begin: int) -> int | None:
        """The newest stored revision of a frame, None without one."""

    def write(self, batch: Batch, token: str) -> dict[str, int]:
        """Stores the batch; rows by table. `token` names its content."""

    def delete_superseded(self, older_than_seconds: int) -> int:
        """Deletes the lines of revisions that were replaced longer ago than this; how many revisions."""


class Work:
    """What a consumer has read since its partitions were assigned to it. Used in the thread, one call at a time."""

    def __init__(
        self,
        tables: Tables,
        topics: Mapping[str, Topic],
        monotonic: Clock,
        *,
        keeps_usage: bool = True,
        is_traced: bool = False,
    ) -> None:
        """`keeps_usage`: False to keep nothing of `usage` but posted lines, which are nowhere else.

        `is_traced`: whether `links` are gathered.
        """
        self._is_traced = is_traced
        self._topics = topics
        self._keeps_usage = keeps_usage
        self._tables = tables
        self._monotonic = monotonic
        self._waiting: deque[Record] = deque()
        self.assemblies: dict[TopicPartition, Assembly] = {}
        self.committed: dict[TopicPartition, int] = {}
        self._written_at: dict[TopicPartition, int] = {}
        """Timestamp of the last record read, in milliseconds."""
        self._renew()

    def _renew(self) -> None:
        self.batch = Batch()
        self.links: dict[str, None] = {}
        """The spans that records of the batch belong to, as far as they are recorded."""
        self.refused: list[tuple[Record, str]] = []
        self.began_at = 0.0

    def put(self, records: Iterable[Record]) -> None:
        """Queues records for `absorb`."""
        self._waiting.extend(records)
        self.began_at = self.began_at or self._monotonic()

    def absorb(self) -> None:
        """Turns what is queued into rows. Raises StoreError: call it again then."""
        while self._waiting:
            self._take(self._waiting[0])
            self._waiting.popleft()

    def _take(self, record: Record) -> None:
        partition = TopicPartition(record.topic, record.partition)
        assembly = self.assemblies.get(partition)
        if assembly is None:
            assembly = self.assemblies[partition] = Assembly(self._tables.revision_of)
            self.committed[partition] = record.offset
        self._written_at[partition] = record.timestamp
        if self._is_traced and len(self.links) < MAX_LINKS and (header := sampled_header(record.headers)):
            self.links[header] = None
        value, form = record.value or b"", content_type(record.headers)
        try:
            match self._topics[record.topic]:
                case Topic.RATED:
                    rated = decode_rated_record(value, form)
                    if not isinstance(rated, PostedLines):  # they came by `usage` already
                        assembly.take(record.offset, rated, self.batch)
                        return
                case Topic.ALERTS:
                    self.batch.add_alert(decode_alert(value, form))
                case Topic.USAGE if self._keeps_usage or is_posted(value, form):
                    self._take_usage(record.key, decode_usage(value, form))
        except (RejectedError, UnstorableError) as fault:
            self.refused.append((record, str(fault)))
        assembly.skip(record.offset)

    def _take_usage(self, key: bytes | None, usage: UsageRecord) -> None:
        """Raises RejectedError, for the reasons that the engine has: nobody may have what the other refuses."""
        if isinstance(usage, PostedLines):
            check_key(key, usage.scope_id)
            self.batch.add_posted(usage)
        elif isinstance(usage, Collection) and not usage.stored:
            self.batch.add_collection(usage)

    @property
    def offsets(self) -> dict[TopicPartition, int]:
        """What may be committed once the batch is stored, where it is new."""
        safe = {partition: assembly.safe_offset for partition, assembly in self.assemblies.items()}
        return {partition: offset for partition, offset in safe.items() if offset > self.committed[partition]}

    @property
    def token(self) -> str:
        """Names the batch by the records that it is made of.

        Their time is in it: of a topic that was made anew the first offsets are those of the old one, and its first
        batches would be dropped as repetitions.
        """
        content = [
            (*partition, self.committed[partition], assembly.next_offset, self._written_at[partition])
            for partition, assembly in self.assemblies.items()
        ]
        return blake2b(msgspec.msgpack.encode(sorted(content)), digest_size=16).hexdigest()

    @property
    def age(self) -> float:
        """Seconds since the oldest record that is not stored yet was read."""
        return self._monotonic() - self.began_at if self.began_at else 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read since the last batch."""
        return not self.began_at

    def finished(self, offsets: dict[TopicPartition, int]) -> None:
        """Notes that all so far is stored and these offsets are committed."""
        self.committed.update(offsets)
        for assembly in self.assemblies.values():
            assembly.written()
        self._renew()
