"""What collectors write to Kafka: collections, scope plans and failures to `usage`, unreadable lines to `rejected`.

Every call returns when the broker has confirmed; what it did not confirm raises PublishError and is to be published
again as a new attempt, which replaces whatever of the first one arrived.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from collectors.errors import PublishError
from collectors.parts import CollectionDraft, encode_parts
from collectors.topic import usage_partitions
from rater.kafka import (
    REJECTED_MESSAGE_BYTES,
    KafkaSettings,
    KafkaUnavailableError,
    Topic,
    client_options,
)
from rater.model.codec import CONTENT_TYPE, MSGPACK, Headers, encode_json, encode_msgpack, rejected_headers
from rater.model.events import event_headers, with_source
from rater.model.rated import Alert, RejectedHeaders
from rater.model.usage import CollectionFailed, ScopePlan
from rater.tracing import OFF, Span, Tracing

__all__ = ["CollectionDraft", "Publisher", "UsageLog"]

_HEADERS: Headers = ((CONTENT_TYPE, MSGPACK.encode()),)
_BATCH_BYTES = 256 * 1024  # several parts per request; the broker's default limit of a batch is 1 MB
_MAX_IN_FLIGHT = 512  # parts that wait for the broker: 9 MB at 500 samples each
_STOP_SECONDS = 20.0


class UsageLog(Protocol):
    """Where collectors publish. `Publisher` is the one that writes to Kafka; tests use a list."""

    async def publish(self, draft: CollectionDraft) -> None:
        """Publish a collection as a whole. Raises PublishError."""

    async def plan(self, plan: ScopePlan) -> None:
        """Publish what is expected of a scope. Raises PublishError."""

    async def failed(self, failure: CollectionFailed) -> None:
        """Publish that a source gave no whole answer. Raises PublishError."""

    async def reject(self, value: bytes, headers: RejectedHeaders) -> None:
        """Publish something that cannot be read, whole, to `rejected`. Raises PublishError."""


class Publisher:
    """An idempotent producer: `async with Publisher(settings) as publisher: await publisher.publish(draft)`.

    Concurrent calls are welcome: their records share requests, and no more than some hundred parts wait at a time.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        compression: Literal["zstd"] | None = "zstd",  # lz4 would cost 0.7 µs per sample in the event loop
        confirm_seconds: float = 120.0,
        tracing: Tracing = OFF,
    ) -> None:
        """`confirm_seconds`: how long the broker may take to confirm before PublishError is raised."""
        self.producer_id = uuid.uuid4().hex
        self._tracing = tracing
        self._kafka = kafka
        self._compression = compression
        self._confirm_seconds = confirm_seconds
        self._producer: AIOKafkaProducer | None = None
        self._sequences: dict[str, int] = {}
        self._scopes: dict[str, asyncio.Lock] = {}
        self._collections = 0
        self._room = asyncio.Semaphore(_MAX_IN_FLIGHT)

    async def __aenter__(self) -> Publisher:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect. Raises PublishError if the broker cannot be used or topic `usage` is not as the settings say."""
        try:
            await usage_partitions(self._kafka)
            producer = AIOKafkaProducer(
                **client_options(self._kafka),
                acks="all",
                enable_idempotence=True,
                compression_type=self._compression,
                max_batch_size=_BATCH_BYTES,
                max_request_size=REJECTED_MESSAGE_BYTES,
                linger_ms=2,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
        except KafkaUnavailableError as fault:
            raise PublishError(str(fault)) from fault
        except KafkaError as fault:
            raise PublishError(f"Kafka at {self._kafka.bootstrap} cannot be used: {fault}") from fault
        self._producer = producer

    async def stop(self) -> None:
        """Wait some seconds for what is under way, then disconnect."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await asyncio.wait_for(producer.stop(), _STOP_SECONDS)
        except TimeoutError:
            await producer.client.close()  # the broker is away: whoever waits has got its PublishError

    async def restart(self) -> None:
        """Connect anew. An idempotent producer that was fenced or lost its sequence never works again."""
        await self.stop()
        await self.start()

    async def publish(self, draft: CollectionDraft) -> None:
        """Publish a collection, cut into parts. Raises PublishError.

        Of one scope one collection is under way at a time: none with higher sequence numbers may arrive before one that
        fails, or the numbers of that one would look like lost batches.
        """
        async with self._scopes.setdefault(draft.scope_id, asyncio.Lock()):
            first = self._sequences.get(draft.scope_id, 0)
            self._collections += 1
            records = encode_parts(draft, f"{self.producer_id}-{self._collections}", self.producer_id, first)
            self._sequences[draft.scope_id] = first + len(records)
            key = draft.scope_id.encode()
            try:
                with self._publishing(len(records)):
                    headers = (*_HEADERS, *self._tracing.headers())
                    await self._deliver([(Topic.USAGE, key, record, headers) for record in records])
            except BaseException:
                self._begin_count()
                raise

    def _publishing(self, records: int) -> AbstractContextManager[Span]:
        """The span that the records of a collection name."""
        return self._tracing.span(
            "publish usage",
            "producer",
            messaging__system="kafka",
            messaging__operation__type="send",
            messaging__destination__name=self._kafka.topic(Topic.USAGE),
            messaging__batch__message_count=records,
        )

    async def send(self, scope_id: str, records: Sequence[bytes]) -> None:
        """Publish encoded records of a scope as they are, in order. Raises PublishError.

        Whoever numbers them must send what was not confirmed once more, with the same numbers.
        """
        async with self._scopes.setdefault(scope_id, asyncio.Lock()):
            key = scope_id.encode()
            await self._deliver([(Topic.USAGE, key, record, _HEADERS) for record in records])

    def _begin_count(self) -> None:
        """Counts anew under another id: whether the numbers that were used arrived is not known."""
        self.producer_id = uuid.uuid4().hex
        self._sequences.clear()

    async def plan(self, plan: ScopePlan) -> None:
        """Publish what is expected of a scope. Raises PublishError."""
        await self._deliver([(Topic.USAGE, plan.scope_id.encode(), encode_msgpack(plan), _HEADERS)])

    async def failed(self, failure: CollectionFailed) -> None:
        """Publish that a source gave no whole answer. Raises PublishError."""
        headers = (*_HEADERS, *self._tracing.headers())
        await self._deliver([(Topic.USAGE, failure.scope_id.encode(), encode_msgpack(failure), headers)])

    async def reject(self, value: bytes, headers: RejectedHeaders) -> None:
        """Publish something that cannot be read, whole, to `rejected`. Raises PublishError."""
        await self._deliver([(Topic.REJECTED, None, value, rejected_headers(headers))])

    async def alert(self, alert: Alert) -> None:
        """Publish an alert of a source. Raises PublishError."""
        key, value = alert.source.encode(), encode_json(alert)
        headers = with_source(event_headers(alert, key, value), self._kafka.topic(Topic.ALERTS))
        await self._deliver([(Topic.ALERTS, key, value, headers)])

    async def _deliver(self, records: list[tuple[Topic, bytes | None, bytes, Headers]]) -> None:
        try:
            async with asyncio.timeout(self._confirm_seconds):
                sent = [await self._send(*record) for record in records]
                await asyncio.gather(*sent)
        except TimeoutError:
            raise PublishError(
                f"Kafka at {self._kafka.bootstrap} did not confirm within {self._confirm_seconds:g} s: is it up?"
            ) from None
        except KafkaError as fault:
            raise PublishError(f"Kafka at {self._kafka.bootstrap} refused a record: {fault}") from fault

    async def _send(self, topic: Topic, key: bytes | None, value: bytes, headers: Headers) -> asyncio.Future[Any]:
        if self._producer is None:
            raise PublishError("the publisher is not started")
        await self._room.acquire()
        try:
            sent: asyncio.Future[Any] = await self._producer.send(
                self._kafka.topic(topic), value, key=key, headers=list(headers)
            )
        except BaseException:
            self._room.release()
            raise
        sent.add_done_callback(self._release)
        return sent

    def _release(self, sent: asyncio.Future[Any]) -> None:
        self._room.release()
        if not sent.cancelled():
            sent.exception()  # whoever waits has it; without this a timed-out wait would be reported as unhandled
