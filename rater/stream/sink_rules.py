"""The history of the rules on its way from topic `rules` to the store, for audits in SQL.

At least once: where it goes on is what the store has, and repeating an insert changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from aiokafka.errors import KafkaError

from rater.kafka import KafkaSettings, KafkaUnavailableError, TopicsError
from rater.model.codec import encode_json
from rater.rating import Applied
from rater.store import RuleEventRow, Store, StoreError, migrate, newest_rule_version, write_rule_events
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_reader import LogRecord, RulesReader, open_rules

__all__ = ["RulesHistory"]

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 1.0
RETRY_SECONDS = 2.0
STOP_SECONDS = 5.0
_TROUBLE = (KafkaError, KafkaUnavailableError, StreamUnavailableError, TopicsError, StoreError)


class InThread(Protocol):
    """Runs what blocks in the thread that uses the store."""

    async def __call__(self, call: Callable[[], T], /) -> T:
        """What `call` gives or raises."""


class RulesHistory:
    """Keeps table `rule_events` up with the topic. `trouble` says why it cannot at the moment; empty if it can."""

    name = "sink-rules"

    def __init__(self, kafka: KafkaSettings, store: Store, in_thread: InThread) -> None:
        self._kafka = kafka
        self._store = store
        self._in_thread = in_thread
        self.trouble = f"{self.name}: not started"
        self.version: int | None = None
        """The newest that is stored; None as long as nobody could ask."""
        self._fault: type[Exception] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`. A client that hangs in an outage is left behind after 5 s."""
        following, stopped = asyncio.create_task(self._follow_on()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            following.cancel()
            stopped.cancel()
            await asyncio.wait({following}, timeout=STOP_SECONDS)
            self.trouble = f"{self.name}: stopped"
        if following.done() and not following.cancelled():
            following.result()

    async def _follow_on(self) -> None:
        while True:
            try:
                await self._follow()
            except _TROUBLE as fault:
                self.trouble = f"{self.name}: {fault}"
                if type(fault) is not self._fault:
                    log.warning("%s waits: %s", self.name, fault)
                self._fault = type(fault)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        await self._in_thread(partial(migrate, self._store, newer_is_fine=True))
        stored = await self._in_thread(partial(newest_rule_version, self._store))
        async with open_rules(self._kafka) as reader:
            await reader.start(most_version=stored)
            self._fault, self.trouble = None, ""
            while True:
                stored = self.version = await self._catch_up(reader, stored)
                await asyncio.sleep(POLL_SECONDS)

    async def _catch_up(self, reader: RulesReader, stored: int) -> int:
        async for records in reader.read(await reader.end()):
            rows = _rows(await reader.fold_records(records), stored)
            if rows:
                await self._in_thread(partial(write_rule_events, self._store, rows))
                stored = rows[-1].version
        return stored


def _rows(found: Sequence[LogRecord], stored: int) -> list[RuleEventRow]:
    """The versions after `stored`; what came to nothing stays in the log alone."""
    return [
        RuleEventRow(record.outcome.version, record.written_at, record.event.author, encode_json(record.event).decode())
        for record in found
        if record.event is not None and isinstance(record.outcome, Applied) and record.outcome.version > stored
    ]
