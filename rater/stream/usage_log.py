"""Writes finished records to topic `usage` for a service that answers somebody: bounded, and plain about outages.

Whoever calls repeats what was not confirmed, and the engine knows repetitions; so the writer keeps nothing of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from rater.kafka import KafkaSettings, KafkaUnavailableError, Topic, TopicsError, client_options, partitions_of
from rater.log_fields import of
from rater.model.codec import CONTENT_TYPE, MSGPACK
from rater.model.errors import RaterError
from rater.stream.interfaces import StreamUnavailableError
from rater.tracing import OFF, Span, Tracing

__all__ = ["UsageWriter", "WriterFullError"]

log = logging.getLogger(__name__)

_HEADERS = [(CONTENT_TYPE, MSGPACK.encode())]
_BATCH_BYTES = 1_000_000  # at least one record of the largest size that its writers make
_PROBE_SECONDS = 1.0
_STOP_SECONDS = 5.0


class WriterFullError(RaterError):
    """So much waits for the broker already that no more is taken; nothing of this call was written."""


class UsageWriter:
    """Writes records to `usage` while `run` runs.

    Without Kafka's idempotence: the engine drops repetitions by their sequence numbers, and a producer without it never
    has to be made anew after an outage.
    """

    def __init__(
        self, kafka: KafkaSettings, *, confirm_seconds: float, max_waiting_bytes: int, tracing: Tracing = OFF
    ) -> None:
        """`confirm_seconds`: how long the broker may take. `max_waiting_bytes`: how much may wait for it."""
        self._kafka = kafka
        self._tracing = tracing
        self._confirm_seconds = confirm_seconds
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._producer: AIOKafkaProducer | None = None
        self._trouble = "not connected to Kafka yet"
        self._troubled = asyncio.Event()

    def red(self) -> str:
        """Why nothing can be written now; empty while all is well."""
        return self._trouble

    async def write(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Write records (key, msgpack value); returns when the broker has confirmed every one.

        Raises WriterFullError, with nothing written; StreamUnavailableError, after which any of them may be in the log.
        """
        if self._producer is None or self._trouble:
            raise StreamUnavailableError(self._trouble)
        size = sum(len(value) for _, value in records)
        if self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
            raise WriterFullError(f"{self._waiting_bytes} bytes wait for Kafka already")
        self._waiting_bytes += size
        try:
            async with asyncio.timeout(self._confirm_seconds):
                with self._publishing(len(records)):
                    await self._deliver(self._producer, records)
        except TimeoutError:
            raise self._fail(f"did not confirm within {self._confirm_seconds:g} s") from None
        except KafkaError as fault:
            raise self._fail(f"refused a record: {fault!r}") from fault
        finally:
            self._waiting_bytes -= size

    def _publishing(self, records: int) -> AbstractContextManager[Span]:
        """The span that the records name."""
        return self._tracing.span(
            "publish usage",
            "producer",
            messaging__system="kafka",
            messaging__operation__type="send",
            messaging__destination__name=self._kafka.topic(Topic.USAGE),
            messaging__batch__message_count=records,
        )

    async def _deliver(self, producer: AIOKafkaProducer, records: Sequence[tuple[bytes, bytes]]) -> None:
        name = self._kafka.topic(Topic.USAGE)
        headers = [*_HEADERS, *self._tracing.headers()]
        sent = []
        try:
            for key, value in records:
                future = await producer.send(name, value, key=key, headers=headers)
                future.add_done_callback(_retrieve)
                sent.append(future)
            await asyncio.gather(*sent)
        finally:
            for future in sent:
                future.cancel()  # nothing, for those that are done

    def _fail(self, what: str) -> StreamUnavailableError:
        trouble = f"Kafka at {self._kafka.bootstrap} {what}"
        if not self._trouble:
            log.warning("nothing can be written to usage: %s", trouble, extra=of(topic=self._kafka.topic(Topic.USAGE)))
        self._trouble = trouble
        self._troubled.set()
        return StreamUnavailableError(trouble)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the connection until `stop`; a broker that is away is waited for. Raises TopicsError."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._connect(stop)
                self._troubled.clear()
                troubled = asyncio.create_task(self._troubled.wait())
                await asyncio.wait({stopping, troubled}, return_when=asyncio.FIRST_COMPLETED)
                troubled.cancel()
        finally:
            stopping.cancel()

    async def close(self) -> None:
        """Disconnect. What is under way then is not confirmed."""
        producer, self._producer = self._producer, None
        self._trouble = "the writer was closed"
        if producer is not None:
            await self._stop(producer)

    async def _connect(self, stop: asyncio.Event) -> None:
        """Until the topic is seen, and a producer is there; or until `stop`."""
        while not stop.is_set():
            try:
                await self._see_topic()
                if self._producer is None:
                    self._producer = await self._start()
            except (KafkaUnavailableError, KafkaError) as fault:
                trouble = str(fault) if isinstance(fault, RaterError) else f"Kafka at {self._kafka.bootstrap}: {fault}"
                if trouble != self._trouble:
                    log.warning("waiting for Kafka: %s", trouble)
                self._trouble = trouble
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _PROBE_SECONDS)
            else:
                if self._trouble:
                    log.info("usage can be written to %s", self._kafka.bootstrap)
                self._trouble = ""
                return

    async def _see_topic(self) -> None:
        """Raises KafkaUnavailableError if it is not there, TopicsError if it has another number of partitions."""
        name, wanted = self._kafka.topic(Topic.USAGE), self._kafka.partitions
        found = (await partitions_of(self._kafka)).get(Topic.USAGE)
        if found is None:  # may be on its way: `rater up` makes it meanwhile
            raise KafkaUnavailableError(
                f"topic {name} does not exist on {self._kafka.bootstrap}: run `rater topics create`"
            )
        if found != wanted:
            raise TopicsError(f"topic {name} has {found} partitions, kafka.partitions says {wanted}: set it to {found}")

    async def _start(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_options(self._kafka),
            acks="all",
            compression_type="zstd",
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 * _BATCH_BYTES,
            linger_ms=2,
            request_timeout_ms=int(self._confirm_seconds * 1000),  # what nobody waits for any more is not sent later
        )
        try:
            await producer.start()
        except BaseException:
            await self._stop(producer)
            raise
        return producer

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        # it waits for what is under way, which request_timeout_ms ends; a broker that is away is not waited for so long
        stopping = asyncio.create_task(producer.stop())
        await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
        if not stopping.done():
            await producer.client.close()
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)


def _retrieve(sent: asyncio.Future[object]) -> None:
    """Whoever waits has the exception; of those that nobody waits for any more it would be reported as unhandled."""
    if not sent.cancelled():
        sent.exception()
