"""The watch over the store tells Prometheus what a bill waits for, and goes on while the store is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rater.model.rated import AlertKind
from rater.store import Batch, Store, StoreUnavailableError, migrate, write
from rater.store_watch import StoreWatch
from tests.unit.store.builders import JANUARY, a_gap_alert, memory_store


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """Three gaps: one resolved, one accepted, one open."""
    with memory_store() as store:
        migrate(store)
        batch = Batch()
        for gap in (1, 2, 3):
            batch.add_alert(a_gap_alert(True, 0, gap=gap))
        batch.add_alert(a_gap_alert(False, 1, gap=1))
        batch.add_alert(
            a_gap_alert(True, -1, JANUARY + 9000, 2, kind=AlertKind.GAP_ACCEPTED, reason="lost", author="kim")
        )
        write(store, batch)
        yield store


class Away:
    """A store that answers only when it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_away = False

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self.is_away:
            raise StoreUnavailableError("away")
        return self._store.rows(sql)


def test_open_gaps_are_those_that_are_neither_resolved_nor_accepted(store: Store) -> None:
    registry = CollectorRegistry()
    StoreWatch(store, registry, clock=lambda: 77.0).look()

    values = {name: registry.get_sample_value(f"rater_store_{name}") for name in ("open_gaps", "missing_seconds")}
    assert values == {"open_gaps": 1, "missing_seconds": 60}
    assert registry.get_sample_value("rater_store_oldest_gap_timestamp_seconds") == JANUARY + 3 * 60
    assert registry.get_sample_value("rater_store_watch_timestamp_seconds") == 77
    disk = {"disk": "default"}
    free = registry.get_sample_value("rater_store_disk_free_bytes", disk)
    size = registry.get_sample_value("rater_store_disk_size_bytes", disk)
    assert free is not None
    assert size is not None
    assert 0 < free < size


def test_a_store_that_is_away_leaves_the_values_and_is_told_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry, now = CollectorRegistry(), [10.0]
    away: Any = Away(store)
    watch = StoreWatch(away, registry, clock=lambda: now[0])
    watch.look()
    away.is_away, now[0] = True, 20.0
    watch.look()
    watch.look()

    assert registry.get_sample_value("rater_store_open_gaps") == 1
    assert registry.get_sample_value("rater_store_watch_timestamp_seconds") == 10
    assert registry.get_sample_value("rater_store_watch_failures_total") == 4
    assert [record.getMessage() for record in caplog.records] == [
        "the store cannot be asked for its open gaps: away",
        "the store cannot be asked for its disks: away",
    ]
    # and when it is back
    away.is_away = False
    watch.look()
    assert registry.get_sample_value("rater_store_watch_timestamp_seconds") == 20


async def test_it_asks_when_the_tables_are_there_and_ends_at_once(store: Store) -> None:
    registry, there, stop = CollectorRegistry(), asyncio.Event(), asyncio.Event()
    watch = StoreWatch(store, registry, tables=there.is_set, interval=0.01)
    running = asyncio.create_task(watch.run(stop))
    await asyncio.sleep(0.05)
    assert registry.get_sample_value("rater_store_watch_timestamp_seconds") == 0
    there.set()
    async with asyncio.timeout(30):
        while not registry.get_sample_value("rater_store_watch_timestamp_seconds"):
            await asyncio.sleep(0.01)
    began = time.monotonic()
    stop.set()
    await running
    assert time.monotonic() - began < 30
