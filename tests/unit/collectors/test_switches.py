"""A scope that is switched off is not asked for; on again, the time between is asked for, unless it is skipped."""

from __future__ import annotations

from typing import Any

import pytest

from collectors.history import History
from collectors.runner import Collector
from collectors.settings import CollectorSettings
from collectors.switches import NoSwitches, Switches
from rater.kafka import KafkaSettings
from rater.model.codec import JSON, encode_json
from rater.model.requests import InactiveTime, ScopeAdded, ScopeSwitched
from tests.unit.collectors.test_runner import METRICS, P, T, World


class Told(Switches):
    """Switches that a test says in place of the topic."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(), P)

    def say(self, active: bool, hour: float, inactive_time: InactiveTime = "bill", scope_id: str = "p1") -> None:
        begin = T + int(hour * P)
        self._take(encode_json(ScopeSwitched(scope_id, active, begin, "ann", begin, inactive_time)), JSON)


@pytest.fixture
def world() -> World:
    return World()


def collector(world: World, log: Any, switches: NoSwitches | Switches) -> Collector:
    """Which has everything to ask for since T."""
    settings = CollectorSettings(source="fake", since="2026-01-01T00:00:00Z", concurrency=1)
    return Collector(settings, METRICS[:1], P, world, world, log, History("fake", P), world.clock, switches=switches)


async def hours(world: World, asking: Collector) -> list[int]:
    """Which are asked for in a round."""
    world.asked.clear()
    await asking.round()
    return [hour for hour, _, _ in world.asked]


@pytest.mark.parametrize(("inactive_time", "asked"), [("bill", [1, 2]), ("skip", [])])
async def test_the_time_that_it_was_off(world: World, log: Any, inactive_time: InactiveTime, asked: list[int]) -> None:
    switches = Told()
    switches.say(False, 0.5)
    asking = collector(world, log, switches)
    assert await hours(world, asking) == [0]
    assert asking.status.open_periods == 0
    # on again at 02:50: of the hour in which that is, the engine expects nothing if it is skipped
    switches.say(True, 2.8, inactive_time)
    assert await hours(world, asking) == asked
    world.now += P
    assert await hours(world, asking) == [3]


async def test_other_scopes_other_records_and_nonsense_switch_nothing(world: World, log: Any) -> None:
    switches = Told()
    switches.say(False, 0, scope_id="p2")
    switches._take(encode_json(ScopeAdded("p1", T, "ann", T)), JSON)
    switches._take(b"nonsense", JSON)
    switches.say(True, 0)
    assert await hours(world, collector(world, log, switches)) == [0, 1, 2]
    assert await hours(world, collector(world, log, NoSwitches())) == [0, 1, 2]
