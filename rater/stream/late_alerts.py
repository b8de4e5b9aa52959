"""The alerts of usage and plans that came too late, read by the sinks' processes together: each goes to one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from rater.kafka import REJECTED_MESSAGE_BYTES, KafkaConsumer, KafkaSettings, Topic, client_options, require_topics
from rater.model.codec import content_type, decode_alert
from rater.model.errors import RejectedError
from rater.model.rated import Alert, AlertKind
from rater.stream.interfaces import StreamUnavailableError

__all__ = ["GROUP", "KafkaLateAlerts", "open_late_alerts"]

GROUP = "rework-late"
SESSION_MS = 15_000  # as the sink's: less, and the restart of a broker evicts everybody
POLL_INTERVAL_MS = 24 * 3600 * 1000  # while frames are rated again nothing is polled, and we stay in the group


class KafkaLateAlerts:
    """One member of the group. Made by `open_late_alerts`."""

    def __init__(self, settings: KafkaSettings, consumer: KafkaConsumer) -> None:
        self._settings = settings
        self._consumer = consumer

    async def late(self, seconds: float) -> list[Alert]:
        """The LATE_USAGE and LATE_PLAN alerts after the last call; waits this long for the first.

        Raises StreamUnavailableError.
        """
        try:
            found = await self._consumer.getmany(timeout_ms=int(seconds * 1000))
        except KafkaError as fault:
            raise self._unavailable(fault) from fault
        late: list[Alert] = []
        for records in found.values():
            for record in records:
                try:
                    alert = decode_alert(record.value or b"", content_type(record.headers))
                except RejectedError:
                    continue  # the sink has said so
                if alert.kind in (AlertKind.LATE_USAGE, AlertKind.LATE_PLAN):
                    late.append(alert)
        return late

    async def done(self) -> None:
        """What was read need not be read again. Raises StreamUnavailableError, also after a rebalance."""
        try:
            await self._consumer.commit()
        except KafkaError as fault:
            raise self._unavailable(fault) from fault

    def _unavailable(self, fault: KafkaError) -> StreamUnavailableError:
        return StreamUnavailableError(f"Kafka at {self._settings.bootstrap}: topic alerts: {fault!r}")


@asynccontextmanager
async def open_late_alerts(settings: KafkaSettings) -> AsyncIterator[KafkaLateAlerts]:
    """A member of the group, which goes on where the last one was done. Raises TopicsError, StreamUnavailableError."""
    await require_topics(settings, Topic.ALERTS)
    consumer = KafkaConsumer(
        settings.topic(Topic.ALERTS),
        **client_options(settings),
        group_id=settings.prefix + GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        max_poll_interval_ms=POLL_INTERVAL_MS,
        max_partition_fetch_bytes=REJECTED_MESSAGE_BYTES,
    )
    try:
        await consumer.start()
        yield KafkaLateAlerts(settings, consumer)
    except KafkaError as fault:
        raise StreamUnavailableError(f"Kafka at {settings.bootstrap}: topic alerts: {fault!r}") from fault
    finally:
        await consumer.stop()
