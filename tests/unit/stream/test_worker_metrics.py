"""What a worker says at /metrics of a partition that it keeps."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from rater.stream.keeper import Keeper
from rater.stream.metrics import WorkerMetrics
from tests.unit.engine.builders import GRACE, HALF, HOUR, T, collection, plan
from tests.unit.stream.test_keeper import Bench


class Watched:
    """A keeper, and the metrics of the worker that has it."""

    def __init__(self, keeper: Keeper) -> None:
        self.registry = CollectorRegistry()
        self.keeper = keeper
        self.metrics = WorkerMetrics(self.registry, lambda: {0: keeper}, lambda: 7)

    def value(self, name: str, **labels: str) -> float | None:
        self.metrics.count(self.keeper.news())
        return self.registry.get_sample_value(f"rater_worker_{name}", labels)

    def of_partition(self, name: str, **labels: str) -> float | None:
        return self.value(name, partition="0", **labels)


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.restart()
    return made


async def test_it_counts_what_came_and_what_became_of_it(bench: Bench) -> None:
    assert bench.keeper is not None
    watched = Watched(bench.keeper)
    assert watched.of_partition("rejected_records_total", reason="unknown_metric") == 0
    assert watched.value("revisions_total", status="partial") == 0
    # given an hour that is whole, half of the next one, something twice, and something that nobody can take
    await bench.take(plan("cpu", until=T + 2 * HOUR), collection(sequence=1), collection(sequence=1))
    await bench.take(collection(T + HOUR, T + HOUR + HALF), collection(metric="unheard-of"))
    assert watched.of_partition("frames", status="open") == 2
    assert watched.of_partition("watermark_timestamp_seconds") == T + HOUR
    assert watched.value("source_heard_timestamp_seconds", source="prom") == T + HOUR
    # when both are over
    bench.now = T + HOUR + GRACE
    await bench.checkpoint()
    # then
    assert watched.value("revisions_total", status="rated") == 1
    assert watched.value("revisions_total", status="partial") == 1
    assert watched.of_partition("frames", status="open") == 0
    assert watched.of_partition("open_gaps") == 1
    assert watched.value("alerts_total", kind="gap_opened") == 1
    assert watched.value("published_records_total", topic="rated") == 2
    assert watched.value("published_records_total", topic="rejected") == 1
    assert (watched.value("checkpoint_bytes_total") or 0) > 100
    assert watched.of_partition("parts_total") == watched.of_partition("samples_total") == 2
    assert watched.of_partition("repeated_parts_total") == 1
    assert watched.of_partition("rejected_records_total", reason="unknown_metric") == 1
    assert watched.value("rule_version") == 7


async def test_counts_of_records_are_the_same_with_whoever_comes_next(bench: Bench) -> None:
    await bench.take(plan("cpu"), collection(sequence=1), collection(sequence=1))
    await bench.checkpoint()
    again = Watched(await bench.restart())

    assert again.of_partition("parts_total") == 1
    assert again.of_partition("repeated_parts_total") == 1
    assert again.value("revisions_total", status="rated") == 0  # this process has decided nothing


async def test_a_checkpoint_with_nothing_to_write_is_not_old(bench: Bench) -> None:
    assert bench.keeper is not None
    watched = Watched(bench.keeper)
    bench.now += 600
    assert watched.of_partition("checkpoint_timestamp_seconds") == bench.now - 600
    await bench.checkpoint()

    assert watched.of_partition("checkpoint_timestamp_seconds") == bench.now


async def test_a_partition_that_went_elsewhere_leaves_nothing_behind(bench: Bench) -> None:
    assert bench.keeper is not None
    watched = Watched(bench.keeper)
    bench.keeper.fenced = True

    assert watched.of_partition("next_offset") is None
