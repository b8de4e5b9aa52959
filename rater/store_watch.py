"""Asks the store once a minute what alerts are made of, in the process that has it open, and tells Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry, Counter, Gauge

from rater.store import Store, StoreError
from rater.store.sight import disks, open_gaps

__all__ = ["WATCH_SECONDS", "StoreWatch"]

log = logging.getLogger(__name__)

WATCH_SECONDS = 60.0  # both questions take some milliseconds


class StoreWatch:
    """Runs until it is stopped. What cannot be asked is logged once and counted; it holds nothing else up.

    Values of a store that is away stay as they were: `rater_store_watch_timestamp_seconds` says how old they are.
    """

    def __init__(
        self,
        store: Store,
        registry: CollectorRegistry,
        *,
        tables: Callable[[], bool] = lambda: True,
        interval: float = WATCH_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`tables` says whether they are there: nothing is asked before. `interval` in seconds."""
        self._store = store
        self._tables = tables
        self._interval = interval
        self._clock = clock
        self._faults: dict[str, str] = {}
        self._metrics = _Metrics(registry)

    async def run(self, stop: asyncio.Event) -> None:
        """Asks once per interval until `stop`; in a thread of its own, which then has a client of its own."""
        loop = asyncio.get_running_loop()
        while not self._tables():
            if await _stopped_within(stop, min(1.0, self._interval)):
                return
        with ThreadPoolExecutor(1, "rater-watch") as thread:
            await loop.run_in_executor(thread, self.look)
            while not await _stopped_within(stop, self._interval):
                await loop.run_in_executor(thread, self.look)

    def look(self) -> None:
        """Asks once."""
        is_seen = self._asked("open gaps", self._gaps)
        self._asked("disks", self._disks)
        if is_seen:
            self._metrics.seen_at.set(self._clock())

    def _asked(self, what: str, ask: Callable[[], None]) -> bool:
        try:
            ask()
        except StoreError as fault:
            self._metrics.failures.inc()
            if self._faults.get(what) != type(fault).__name__:
                log.warning("the store cannot be asked for its %s: %s", what, fault)
            self._faults[what] = type(fault).__name__
            return False
        self._faults.pop(what, None)
        return True

    def _gaps(self) -> None:
        found = open_gaps(self._store)
        self._metrics.gaps.set(found.count)
        self._metrics.missing.set(found.missing_seconds)
        self._metrics.oldest.set(found.oldest)

    def _disks(self) -> None:
        for disk in disks(self._store):
            self._metrics.free.labels(disk.name).set(disk.free)
            self._metrics.size.labels(disk.name).set(disk.size)


class _Metrics:
    """What Prometheus is told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.gaps = Gauge(
            "rater_store_open_gaps", "Gaps neither resolved nor accepted: no bill is made of them", registry=registry
        )
        self.missing = Gauge(
            "rater_store_missing_seconds", "Time in open gaps, of all scopes and metrics together", registry=registry
        )
        self.oldest = Gauge(
            "rater_store_oldest_gap_timestamp_seconds", "Where the oldest open gap begins, 0: none", registry=registry
        )
        self.free = Gauge("rater_store_disk_free_bytes", "Room on a disk of the store", ["disk"], registry=registry)
        self.size = Gauge("rater_store_disk_size_bytes", "Size of a disk of the store", ["disk"], registry=registry)
        self.failures = Counter("rater_store_watch_failures", "Questions the store did not answer", registry=registry)
        self.seen_at = Gauge(
            "rater_store_watch_timestamp_seconds", "When the store last said how many gaps are open", registry=registry
        )


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
