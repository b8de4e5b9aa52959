"""Which scopes are switched off, as topic `requests` tells it: nobody asks for what the engine would refuse."""

from __future__ import annotations

import logging
import time

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from collectors.errors import PublishError
from rater.kafka import (
    MAX_MESSAGE_BYTES,
    KafkaConsumer,
    KafkaSettings,
    KafkaUnavailableError,
    Topic,
    client_options,
    partitions_of,
)
from rater.model.codec import content_type, decoder
from rater.model.errors import RejectedError
from rater.model.requests import RequestRecord, ScopeSwitched, SwitchesSent
from rater.model.switches import Pauses, SwitchBook
from rater.model.usage import ScopeSwitch

__all__ = ["NoSwitches", "Switches"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # until the topic, which was not there, is looked for again
_decode = decoder(RequestRecord, "request")


class NoSwitches:
    """Every scope is on, for good."""

    def is_off(self, scope_id: str, period_begin: int) -> bool:
        """Never."""
        return False


class Switches:
    """The switches that were read so far. Call `follow` before asking.

    A scope is off at once, and on only when topic `usage` has the switch: what came before it would be refused, and
    nobody would send it again.
    """

    def __init__(self, kafka: KafkaSettings, period_seconds: int) -> None:
        self._kafka = kafka
        self._period = period_seconds
        self._key = TopicPartition(kafka.topic(Topic.REQUESTS), 0)
        self._consumer: KafkaConsumer | None = None
        self._look_at = 0.0
        self._forget()

    def _forget(self) -> None:
        self._book = SwitchBook()
        self._sent = 0
        self._pauses: dict[str, Pauses] = {}
        self._announced: dict[str, list[int]] = {}

    def is_off(self, scope_id: str, period_begin: int) -> bool:
        """Whether nothing is to be asked of the scope in that period: it is off, or was and that time was skipped."""
        found = self._pauses.get(scope_id)
        if found is not None and found.holds(period_begin):
            return True
        return any(period_begin >= begin for begin in self._announced.get(scope_id, ()))

    async def follow(self) -> None:
        """Reads what has come since. Raises PublishError."""
        try:
            if self._consumer is None and not await self._open():
                return
            assert self._consumer is not None, "it is open"
            end = (await self._consumer.end_offsets([self._key]))[self._key]
            while await self._consumer.position(self._key) < end:
                found = await self._consumer.getmany(self._key, timeout_ms=500)
                for record in found.get(self._key, []):
                    self._take(record.value or b"", content_type(record.headers), record.timestamp // 1000)
        except (KafkaError, KafkaUnavailableError) as fault:
            await self.stop()
            raise PublishError(f"topic requests on {self._kafka.bootstrap} cannot be read: {fault!r}") from fault

    async def _open(self) -> bool:
        """Whether there is such a topic; an installation may be older than it."""
        if time.monotonic() < self._look_at:
            return False
        if Topic.REQUESTS not in await partitions_of(self._kafka):
            self._look_at = time.monotonic() + LOOK_SECONDS
            log.info("there is no topic %s: every scope is on (`rater topics create`)", self._key.topic)
            return False
        self._forget()
        consumer = KafkaConsumer(
            **client_options(self._kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        self._consumer = consumer
        await consumer.start()
        consumer.assign([self._key])
        await consumer.seek_to_beginning(self._key)
        return True

    def _take(self, value: bytes, form: str, recorded_at: int) -> None:
        try:
            record = _decode(value, form)
        except RejectedError:
            return  # every reader ignores it
        if isinstance(record, ScopeSwitched):
            switch = self._book.take(record, recorded_at)
            if switch is not None and not switch.active:
                self._announced.setdefault(switch.scope_id, []).append(switch.begin)
        elif isinstance(record, SwitchesSent):
            for switch in self._book.switches[self._sent : record.count]:
                self._reaches_usage(switch)
            self._sent = max(self._sent, record.count)

    def _reaches_usage(self, switch: ScopeSwitch) -> None:
        """From here on the engine knows it before whatever is sent now."""
        before = self._pauses.get(switch.scope_id, Pauses())
        skips = switch.inactive_time == "skip"
        self._pauses[switch.scope_id] = before.after(
            switch.number, switch.begin, self._period, active=switch.active, skips=skips
        )
        if not switch.active:
            announced = self._announced[switch.scope_id]
            announced.pop(0)
            if not announced:
                del self._announced[switch.scope_id]

    async def stop(self) -> None:
        """Ends the connection; `follow` makes another one, and reads all of it."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
