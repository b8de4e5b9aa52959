"""Topic `alerts` for listeners: each reads for itself, from a place that it names, and keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from rater.kafka import (
    REJECTED_MESSAGE_BYTES,
    KafkaConsumer,
    KafkaSettings,
    KafkaUnavailableError,
    Topic,
    TopicsError,
    client_options,
    require_topics,
)
from rater.model.codec import content_type, decode_alert, encode_json
from rater.model.errors import RaterError, RejectedError
from rater.model.partition import partition_of
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["AlertFeed", "FeedFullError", "FeedPlaceError", "Heard", "Listening"]

OPEN_SECONDS = 15.0
STOP_SECONDS = 5.0
RECORDS_AT_ONCE = 500
LOST = "lost"
"""Name of the event that says that alerts since the place that was named are gone."""


class FeedFullError(RaterError):
    """There are as many listeners as may be."""


class FeedPlaceError(RaterError):
    """A text that is no place in the topic."""


class Heard(NamedTuple):
    """An alert as one line of JSON; `place` is where to go on after it, `kind` the alert's kind, or LOST."""

    data: bytes
    place: str
    kind: str


class AlertFeed:
    """Opens listeners, a bounded number of them."""

    def __init__(self, settings: KafkaSettings, max_listeners: int) -> None:
        self._settings = settings
        self._max_listeners = max_listeners
        self._listening = 0

    @property
    def listeners(self) -> int:
        """How many there are."""
        return self._listening

    async def listen(self, scopes: Collection[str] | None, place: str) -> Listening:
        """Alerts of these scopes (None: all) from after `place` on; from now on if that is empty. Close it.

        Raises FeedFullError, FeedPlaceError, StreamUnavailableError.
        """
        if self._listening >= self._max_listeners:
            raise FeedFullError(f"{self._listening} listeners are there already, api.v3.max_listeners")
        self._listening += 1
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._open(scopes, place)
        except (KafkaError, KafkaUnavailableError, TopicsError, OSError, TimeoutError) as fault:
            self._listening -= 1
            raise StreamUnavailableError(f"topic alerts cannot be read: {fault!r}") from fault
        except BaseException:
            self._listening -= 1
            raise

    async def _open(self, scopes: Collection[str] | None, place: str) -> Listening:
        name = self._settings.topic(Topic.ALERTS)
        count = (await require_topics(self._settings, Topic.ALERTS))[Topic.ALERTS]
        consumer = KafkaConsumer(
            **client_options(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
        )
        try:
            await consumer.start()
            keys = [TopicPartition(name, number) for number in range(count)]
            wanted = _partitions(scopes, count)
            consumer.assign([keys[number] for number in wanted])
            ends = await consumer.end_offsets(keys)
            begins = await consumer.beginning_offsets(keys)
            reached = _offsets(place, [ends[key] for key in keys])
            lost = any(reached[number] < begins[keys[number]] for number in wanted)
            for number in wanted:
                consumer.seek(keys[number], max(reached[number], begins[keys[number]]))
        except BaseException:
            await _stop(consumer)
            raise
        return Listening(consumer, scopes, reached, self._left, lost=lost)

    def _left(self) -> None:
        self._listening -= 1


class Listening:
    """The alerts one after the other, for ever. Made by `AlertFeed.listen`."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        scopes: Collection[str] | None,
        reached: list[int],
        left: Callable[[], None],
        *,
        lost: bool,
    ) -> None:
        self._consumer = consumer
        self._scopes = None if scopes is None else frozenset(scopes)
        self._reached = reached
        self._left = left
        self._closed = False
        self._ready: deque[Heard] = deque()
        if lost:
            self._ready.append(Heard(b"{}", "", LOST))

    def __aiter__(self) -> Listening:
        return self

    async def __anext__(self) -> Heard:
        """Raises StreamUnavailableError."""
        while not self._ready:
            try:
                found = await self._consumer.getmany(timeout_ms=60_000, max_records=RECORDS_AT_ONCE)
            except KafkaError as fault:
                raise StreamUnavailableError(f"topic alerts cannot be read: {fault!r}") from fault
            for key, records in found.items():
                for record in records:
                    self._take(key.partition, record.offset, record.value or b"", record.headers)
        return self._ready.popleft()

    def _take(self, partition: int, offset: int, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        self._reached[partition] = offset + 1
        try:
            alert = decode_alert(value, content_type(headers))
        except RejectedError:
            return  # the sink has said so
        if self._scopes is None or alert.scope_id in self._scopes:
            self._ready.append(Heard(encode_json(alert), ".".join(map(str, self._reached)), alert.kind.value))

    async def aclose(self) -> None:
        """Ends the connection and makes room for somebody else."""
        if not self._closed:
            self._closed = True
            try:
                await _stop(self._consumer)
            finally:
                self._left()


def _partitions(scopes: Collection[str] | None, count: int) -> list[int]:
    """In which alerts of these scopes lie."""
    if scopes is None:
        return list(range(count))
    return sorted({partition_of(scope.encode(), count) for scope in scopes})


def _offsets(place: str, ends: Sequence[int]) -> list[int]:
    """Where each partition is gone on with. Partitions that came later are read from their begin.

    Raises FeedPlaceError, also for a place beyond the end: the topic is another one.
    """
    if not place:
        return list(ends)
    parts = place.split(".")
    if len(parts) > len(ends) or not all(part.isdecimal() and part.isascii() and len(part) < 19 for part in parts):
        raise FeedPlaceError("is none of ours")
    reached = [int(part) for part in parts] + [0] * (len(ends) - len(parts))
    if any(offset > end for offset, end in zip(reached, ends, strict=True)):
        raise FeedPlaceError("lies beyond the last alert: the topic was made anew")
    return reached


async def _stop(consumer: KafkaConsumer) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await consumer.stop()
