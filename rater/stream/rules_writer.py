"""How an event comes into topic `rules`: checked before it is sent, confirmed by Kafka, and its fate read back.

`RulesAppender` is for a service that answers somebody, and connects when the first event has to be written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from rater.kafka import MAX_MESSAGE_BYTES, KafkaSettings, Topic, client_options
from rater.model.codec import CONTENT_TYPE, JSON, encode_json
from rater.model.document import instant_text
from rater.model.errors import RaterError, RejectedError
from rater.model.rules import RuleEvent
from rater.rating import Ignored, IgnoredReason, Outcome
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_reader import LogRecord, RulesReader, decode_event

__all__ = [
    "CONFIRM_SECONDS",
    "RuleConflictError",
    "RulesAppender",
    "append_value",
    "conflict_text",
    "encoded_event",
    "open_appender",
    "writing",
]

_HEADERS = [(CONTENT_TYPE, JSON.encode())]
_STOP_SECONDS = 5.0
CONFIRM_SECONDS = 10.0
"""After which an event that a service writes is not sent any more."""


class RuleConflictError(RaterError):
    """Somebody else changed the rules first, or the event breaks a rule of the rule book.

    `applied` events of those that were to be appended stand, all others came to nothing.
    """

    def __init__(self, message: str, applied: int = 0) -> None:
        super().__init__(message)
        self.applied = applied


class RulesAppender:
    """Appends events one after the other. Belongs to one reader, whose place in the log it moves on."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def connect(self) -> None:
        """Readies the connection, so that what fails here has written nothing. Raises KafkaError."""
        if self._producer is None:
            producer = _producer(self._settings, request_timeout_ms=int(CONFIRM_SECONDS * 1000))
            try:
                await producer.start()
            except BaseException:
                await _stop(producer)
                raise
            self._producer = producer

    async def append(self, reader: RulesReader, event: RuleEvent) -> Outcome:
        """What became of the event; the book of `reader` is the one right behind it.

        Raises RuleConflictError for an event that no topic or reader would take, with nothing written;
        StreamUnavailableError, KafkaError, after which it may or may not be in the log.
        """
        outcome = reader.book.apply(event)[1]  # an event that cannot apply any more need not stand in the log
        if isinstance(outcome, Ignored):
            return outcome
        assert self._producer is not None, "`connect` comes first"
        return await append_value(reader, self._producer, self._settings, encoded_event(event))

    async def close(self) -> None:
        """Ends the connection. What is under way may still arrive."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


@asynccontextmanager
async def open_appender(settings: KafkaSettings) -> AsyncIterator[RulesAppender]:
    """An appender, not connected."""
    appender = RulesAppender(settings)
    try:
        yield appender
    finally:
        await appender.close()


def encoded_event(event: RuleEvent) -> bytes:
    """The event as a record's value. Raises RuleConflictError if no reader could read it."""
    value = encode_json(event)
    try:
        decode_event(value, JSON)
    except RejectedError as fault:
        raise RuleConflictError(f"the rules were not changed: no reader could read the event: {fault}") from None
    return value


async def append_value(
    reader: RulesReader, producer: AIOKafkaProducer, settings: KafkaSettings, value: bytes
) -> Outcome:
    """What became of the event, by the fold that all readers make."""
    try:
        sent = await producer.send_and_wait(settings.topic(Topic.RULES), value, partition=0, headers=_HEADERS)
    except MessageSizeTooLargeError:
        raise RuleConflictError(
            f"the rules were not changed: the event has {len(value)} bytes, one record holds {MAX_MESSAGE_BYTES}: "
            "change less at once"
        ) from None
    except KafkaError as fault:
        raise StreamUnavailableError(
            f"Kafka at {settings.bootstrap} did not confirm the rules, which may or may not be there "
            f"(`rater rules log` tells): {fault!r}"
        ) from fault
    await reader.fold_to(sent.offset)
    found: list[LogRecord] = []
    async for records in reader.read(sent.offset + 1):
        found += await reader.fold_records(records)
    assert [record.offset for record in found] == [sent.offset], "the log gives back what it took"
    assert found[0].outcome is not None, "it can be read"
    return found[0].outcome


def conflict_text(outcome: Ignored, last: RuleEvent | None, applied: int = 0, total: int = 1) -> str:
    """Why events after the first `applied` of `total` came to nothing; `last` is the newest event that applied."""
    done = f"{applied} of {total} events were applied and stand, the others were not" if applied else ""
    who = ""
    if outcome.reason is IgnoredReason.VERSION_CONFLICT and last is not None:
        why = f" ({last.reason})" if last.reason else ""
        who = f". The last change is by {last.author} at {instant_text(last.created_at)}{why}"
    return f"{done or 'the rules were not changed'}: {outcome.message}{who}"


@asynccontextmanager
async def writing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer while the block runs. Raises KafkaError."""
    producer = _producer(settings)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


def _producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **client_options(settings), acks="all", enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES, **options
    )


async def _stop(producer: AIOKafkaProducer) -> None:
    """It waits for what is under way; a broker that is away is not waited for so long."""
    stopping = asyncio.create_task(producer.stop())
    await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
    if not stopping.done():
        await producer.client.close()
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
