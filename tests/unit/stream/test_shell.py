"""The shell between the calls of its group: what it restores, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rater.engine import EngineContext
from rater.stream.interfaces import Log, Pin, Register, StreamUnavailableError
from rater.stream.keeper import News
from rater.stream.metrics import WorkerMetrics
from rater.stream.shell import Shell
from tests.unit.engine.builders import context, price_list

UNSHARED = "the group has not shared out the partitions yet"


class Group:
    """A membership that a test moves on by hand. Follows the protocol `Membership`."""

    def __init__(self) -> None:
        self.partitions = 2
        self.places = {0, 1}
        self.generation = 1
        self.log: Any = None
        self.register: Any = SimpleNamespace(pin=lambda: Pin(self.generation, "us"))

    def assigned(self) -> set[int]:
        return set(self.places)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Bench:
    """A shell in a group, and the keepers it made: partition, and whether they were restored under which generation."""

    def __init__(self) -> None:
        self.group = Group()
        self.made: list[tuple[int, int]] = []
        self.now = 1000.0
        self.is_away = False
        self.stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        rules: Any = SimpleNamespace(ready=asyncio.Event(), rules=price_list())
        rules.ready.set()
        self.shell = Shell(context(), rules, self._join, self._keeper, lambda: self.now, 60.0, _metrics)

    async def _join(self, shell: Shell) -> Any:
        return self.group

    def _keeper(self, partition: int, terms: EngineContext, log: Log, register: Register) -> Any:
        async def restore(partitions: int, pin: Pin) -> None:
            self.made.append((partition, pin.generation))

        async def checkpoint(rules: Any) -> None:
            if self.is_away:
                raise StreamUnavailableError("Kafka is away")

        return SimpleNamespace(
            partition=partition,
            restore=restore,
            checkpoint=checkpoint,
            is_restored=True,
            fenced=False,
            news=News,
            settled_at=self.now,
        )

    @contextmanager
    def checkpoints_fail(self) -> Iterator[None]:
        self.is_away = True
        yield
        self.is_away = False

    async def assigned(self) -> None:
        group: Any = self.group
        await self.shell.assigned(group)


def _metrics(keepers: Callable[[], Any]) -> WorkerMetrics:
    return WorkerMetrics(CollectorRegistry(), dict)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_every_assignment_is_restored_under_its_own_membership(bench: Bench) -> None:
    await bench.assigned()
    await bench.shell.revoked()
    bench.group.generation = 2
    await bench.assigned()

    assert bench.made == [(0, 1), (1, 1), (0, 2), (1, 2)]


async def test_an_assignment_that_is_told_twice_is_restored_once(bench: Bench) -> None:
    """The keeper of the first time may be at its checkpoint: under one membership the broker takes commits of both."""
    await bench.assigned()
    await bench.assigned()
    await bench.shell.revoked()
    await bench.assigned()

    assert bench.made == [(0, 1), (1, 1)]


async def test_a_new_membership_restores_whatever_its_generation(bench: Bench) -> None:
    # given a shell that joins anew after trouble
    for _ in range(2):
        stop = asyncio.Event()
        running = asyncio.create_task(bench.shell.run(stop))
        while bench.shell.red() != UNSHARED:
            await asyncio.sleep(0)
        await bench.assigned()
        assert bench.shell.red() == ""
        stop.set()
        await running

    assert bench.made == [(0, 1), (1, 1), (0, 1), (1, 1)]


async def test_who_waits_for_its_share_is_not_ready(bench: Bench) -> None:
    """Else a rolling upgrade would end the next worker while the group still waits for this one."""
    running = asyncio.create_task(bench.shell.run(bench.stop))
    while bench.shell.red() == "not started":
        await asyncio.sleep(0)
    assert bench.shell.red() == UNSHARED

    bench.group.places = set()  # more workers than partitions: nothing is a share, too
    await bench.assigned()
    assert bench.shell.red() == ""

    await bench.shell.revoked()
    assert bench.shell.red() == UNSHARED

    bench.stop.set()
    await running


async def test_trouble_with_partitions_that_went_elsewhere_is_over(bench: Bench) -> None:
    """Nobody would ever say that it is: who has no partition makes no checkpoint."""
    running = asyncio.create_task(bench.shell.run(bench.stop))
    while bench.shell.red() == "not started":
        await asyncio.sleep(0)
    await bench.assigned()
    with bench.checkpoints_fail():
        await bench.shell._checkpoint_all()
    assert bench.shell.red() == "Kafka is away"

    await bench.shell.revoked()
    bench.group.places, bench.group.generation = set(), 2
    await bench.assigned()
    assert bench.shell.red() == ""
    bench.stop.set()
    await running


async def test_a_worker_whose_checkpoints_do_not_end_is_not_ready(bench: Bench) -> None:
    """The Kafka client waits for a broker that is away, for many minutes, without an error."""
    running = asyncio.create_task(bench.shell.run(bench.stop))
    while bench.shell.red() == "not started":
        await asyncio.sleep(0)
    await bench.assigned()
    bench.now += 120
    assert bench.shell.red() == ""
    bench.now += 1
    assert bench.shell.red().startswith("no checkpoint of partitions [0, 1] has ended for minutes")
    bench.stop.set()
    await running
