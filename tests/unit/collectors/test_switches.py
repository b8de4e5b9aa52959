"""A scope that is switched off is not asked for; on again, the time between is asked for, unless it is skipped."""

from __future__ import annotations

from typing import Any

import pytest

from collectors.history import History
from collectors.runner import Collector
from collectors.settings import CollectorSettings
from collectors.switches import NoSwitches, Switches
from rater.kafka import KafkaSettings, Topic
from rater.model.codec import JSON, encode_json
from rater.model.requests import InactiveTime, ScopeAdded, ScopeSwitched, SwitchesSent
from tests.unit.collectors.test_runner import METRICS, P, T, World


class Told(Switches):
    """Switches that a test says in place of the topic."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(), P)

    def say(self, active: bool, hour: float, inactive_time: InactiveTime = "bill", scope_id: str = "p1") -> None:
        begin = T + int(hour * P)
        self._take(encode_json(ScopeSwitched(scope_id, active, begin, "ann", begin, inactive_time)), JSON, begin)

    def reach_usage(self, count: int) -> None:
        self._take(encode_json(SwitchesSent(count)), JSON, T)


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
    switches.reach_usage(2)
    assert await hours(world, asking) == asked
    world.now += P
    assert await hours(world, asking) == [3]


async def test_nothing_is_asked_before_the_engine_knows_that_a_scope_is_on(world: World, log: Any) -> None:
    """It would refuse what it gets, and nobody would send that again."""
    switches = Told()
    switches.say(False, 0.5)
    switches.say(True, 1.5)
    asking = collector(world, log, switches)
    assert await hours(world, asking) == [0]
    switches.reach_usage(1)
    assert await hours(world, asking) == []
    # off once more, and the first two have reached it by now
    switches.say(False, 2.5)
    switches.reach_usage(2)
    assert await hours(world, asking) == [1, 2]
    world.now += 2 * P
    assert await hours(world, asking) == []
    switches.reach_usage(2)
    switches.reach_usage(3)
    assert switches.is_off("p1", T + 3 * P)
    assert not switches.is_off("p1", T + 2 * P)
    switches.say(True, 4.5, "skip")
    switches.reach_usage(4)
    assert [hour for hour in range(6) if switches.is_off("p1", T + hour * P)] == [3, 4]


async def test_a_switch_from_a_clock_that_is_ahead_counts_from_when_it_came(world: World, log: Any) -> None:
    """Else the scope would be asked for while the engine, which refuses such a switch, refuses the answers."""
    switches, ahead = Told(), T + 100 * P
    for active, hour in ((False, 1), (True, 2)):
        record = ScopeSwitched("p1", active, ahead, "ann", ahead, "skip")
        switches._take(encode_json(record), JSON, T + hour * P)
    switches.reach_usage(2)
    assert [hour for hour in (0, 1, 2, 99, 100, 101) if switches.is_off("p1", T + hour * P)] == [1]


async def test_a_topic_that_is_made_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    topics: list[dict[Topic, int]] = [{}, {}]

    async def partitions(_kafka: KafkaSettings) -> dict[Topic, int]:
        return topics.pop()

    monkeypatch.setattr("collectors.switches.partitions_of", partitions)
    monkeypatch.setattr("collectors.switches.LOOK_SECONDS", 0.0)
    switches = Switches(KafkaSettings(), P)
    await switches.follow()
    await switches.follow()
    assert topics == []
    assert not switches.is_off("p1", T)


async def test_other_scopes_other_records_and_nonsense_switch_nothing(world: World, log: Any) -> None:
    switches = Told()
    switches.say(False, 0, scope_id="p2")
    switches._take(encode_json(ScopeAdded("p1", T, "ann", T)), JSON, T)
    switches._take(b"nonsense", JSON, T)
    switches.say(True, 0)
    switches.reach_usage(7)
    assert await hours(world, collector(world, log, switches)) == [0, 1, 2]
    assert await hours(world, collector(world, log, NoSwitches())) == [0, 1, 2]
