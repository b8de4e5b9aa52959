"""The acceptance of rework: whoever reads a period while it is reprocessed sees one whole revision, always.

Every insert is followed by a forced merge of its table, so that merges fall between the lines of a revision and its
frame row too: the moment at which a store without the revision in its key loses what was committed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from collectors.metrics_yml import Metric, load
from collectors.source import Answer
from deploy.local.kafka import LaptopKafka
from rater.model.errors import RaterError
from rater.model.interval import Interval
from rater.model.rated import AlertKind
from rater.model.usage import Sample, ScopePlan, Series
from rater.reports import StoreView, report_of
from rater.rework import Asking, Material, Runner, Wanted, materials, run_rework
from rater.store import Column, Store, lines
from rater.stream.rework_log import open_rework_log
from tests.integration.reworks import RULES, Cloud, cloud, until, write_settings
from tests.integration.streams import HOUR, T, collection, send

READS = 2_000
READERS = 2
PRICE = 2
SPAN = Interval(T, T + HOUR)


def size(number: int) -> int:
    """How many lines revision `number` has: growing and shrinking, so that half of one is no whole of another."""
    return 12 + 5 * (number * 7 % 11)


class MergingStore(Store):
    """A store in which every merge that may happen happens at once."""

    def insert(self, table: str, columns: Sequence[Column], token: str = "") -> None:
        super().insert(table, columns, token)
        self.command(f"OPTIMIZE TABLE {table} FINAL")


class ChangingSource:
    """A source of which each answer is another: the n-th has `size(n)` resources that used n each."""

    def __init__(self) -> None:
        self.number = 0

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        return []

    async def oldest(self, now: int) -> int:
        return 0

    def session(self, period: Interval, now: int) -> ChangingSource:
        return self

    async def close(self) -> None: ...

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        series, samples = resources(self.number)
        return Answer([SPAN], series=series, samples=samples)


def resources(number: int) -> tuple[list[Series], list[Sample]]:
    series = [Series({"id": f"vm{n}"}) for n in range(size(number))]
    return series, [Sample(n, T, T + HOUR, Decimal(number + 1)) for n in range(len(series))]


class Reader:
    """Reads the period over and over, in a thread: its lines, then its report."""

    def __init__(self, store: Store, reads: int) -> None:
        self._store = store
        self._reads = reads
        self.seen: list[int] = []
        self.faults: list[str] = []

    def __call__(self) -> None:
        view = StoreView(self._store)
        for turn in range(self._reads):
            read: Callable[[], int] = self._by_lines if turn % 2 else lambda: self._by_report(view)
            try:
                self.seen.append(read())
            except (RaterError, ValueError) as fault:  # the store's, the report's; or lines of two revisions
                self.faults.append(repr(fault))

    def _by_lines(self) -> int:
        """The revision that the lines are of, which must be all of it."""
        found = list(lines(self._store, "A", T, T + HOUR))
        [revision] = {line.revision for line in found} or {-1}
        told = [(line.groupby["id"], line.qty, line.price) for line in found]
        if revision < 0 or not is_whole(revision, told):
            self.faults.append(f"revision {revision} with {len(found)} lines of {size(max(revision, 0))}")
        return revision

    def _by_report(self, view: StoreView) -> int:
        """The revision whose total is reported."""
        report = report_of(view, "A", SPAN, T + HOUR)
        [row] = report.metrics
        number = int(row.qty / row.lines) - 1
        if (row.lines, row.price) != (size(number), size(number) * (number + 1) * PRICE):
            self.faults.append(f"a report of {row.lines} lines with price {row.price}")
        return number


def is_whole(revision: int, told: Iterable[tuple[str, Decimal, Decimal]]) -> bool:
    qty = Decimal(revision + 1)
    return sorted(told) == sorted((f"vm{n}", qty, PRICE * qty) for n in range(size(revision)))


async def reprocess(running: Cloud, source: ChangingSource) -> None:
    """Asks the source again for the period, and waits until the engine has answered."""
    wanted = Wanted(f"r{source.number}", "reprocess", "ann", "again")
    catalog = running.config.catalog
    metrics = load(running.directory / "metrics.yml").metrics
    asking = Asking(source, "test", metrics, wanted, catalog, lambda: T + 10 * HOUR + source.number)

    def found(*_: object) -> Iterable[Material]:
        return materials(running.view, "A", T, T + HOUR, HOUR)

    with ThreadPoolExecutor(1) as thread:
        async with open_rework_log(running.config.settings.kafka) as log:
            finished = await run_rework(running.view, thread, Runner(wanted, log), wanted, found(), found, asking.make)
    assert [alert.reason for alert in finished.of_kind(AlertKind.REWORK_REFUSED)] == []
    assert finished.went_well, finished


@asynccontextmanager
async def reading(store: Store) -> AsyncIterator[list[Reader]]:
    """Readers that are at it until each has read its share."""
    readers = [Reader(store, READS // READERS) for _ in range(READERS)]
    threads = [threading.Thread(target=reader) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        yield readers
    finally:
        for thread in threads:
            await asyncio.to_thread(thread.join)


@pytest.mark.slow
async def test_no_reader_ever_sees_less_than_one_whole_revision(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given a period that is closed and has left the state of the engine
    config = write_settings(kafka, tmp_path)
    (tmp_path / "metrics.yml").write_text("metrics: {cpu: {unit: undefined}}")
    async with cloud(config, tmp_path, rules=RULES.format(cpu=PRICE), kind=MergingStore) as running:
        series, samples = resources(0)
        await send(
            config.settings.kafka,
            ScopePlan("test", "A", T, T + HOUR, ["cpu"]),
            collection(series=series, samples=samples),
        )
        await until(running.frames)
        assert (running.frames()[0].revision, len(running.lines())) == (0, size(0))
        await until(lambda: running.store.rows("SELECT count() FROM usage FINAL") == [(size(0),)])
        # when it is reprocessed again and again while it is read
        source = ChangingSource()
        async with reading(running.store) as readers:
            while any(len(reader.seen) + len(reader.faults) < READS // READERS for reader in readers):
                source.number += 1
                await reprocess(running, source)
        # then each reader has seen whole revisions, never an older one after a newer, and many of them
        for reader in readers:
            assert reader.faults == [], reader.faults
            assert len(reader.seen) == READS // READERS
            assert reader.seen == sorted(reader.seen)
        assert len({number for reader in readers for number in reader.seen}) >= 5
        assert running.frames()[0].revision == source.number
