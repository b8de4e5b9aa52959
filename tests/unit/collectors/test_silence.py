"""A source that has proven nothing for longer than expected is told once, and told again when it is back."""

from __future__ import annotations

from typing import Any

import pytest

from collectors.errors import SourceAwayError
from collectors.history import History
from collectors.runner import Collector
from collectors.settings import CollectorSettings
from collectors.silence import Silence
from collectors.source import Answer
from rater.model.interval import Interval
from rater.model.rated import Alert, AlertKind
from rater.model.usage import ScopePlan
from tests.unit.collectors.test_runner import METRICS, P, T, World, _raise, _whole

AFTER = P + 900


class Alerts:
    def __init__(self) -> None:
        self.found: list[Alert] = []

    async def alert(self, alert: Alert) -> None:
        self.found.append(alert)


def _silence(started_at: int = T) -> Silence:
    return Silence("cloud", AFTER, P, started_at)


def test_nothing_is_told_before_its_time_or_while_nothing_waits() -> None:
    silence = _silence()
    assert silence.look(T + AFTER, 1, T - P, "") is None
    assert silence.look(T + AFTER + 1, 0, T - P, "") is None
    assert silence.look(T + AFTER + 1, 1, T - P, "") is not None


def test_replicas_and_those_who_start_anew_tell_the_same_silence_under_the_same_id() -> None:
    first = _silence().look(T + AFTER + 1, 5, T - P, "away")
    second = _silence(T + 60).look(T + AFTER + 99, 3, T - P, "refused")
    other = _silence().look(T + AFTER + 1, 5, T, "away")
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.alert_id == second.alert_id != other.alert_id
    assert (first.begin, first.end, first.period_begin, first.scope_id) == (T - P, T + AFTER + 1, T - P, "")
    assert (
        first.reason == "source cloud has proven nothing since 2025-12-31T23:00:00Z; 5 periods wait for it; last: away"
    )


def test_a_source_that_never_proved_anything_says_so() -> None:
    found = _silence().look(T + AFTER + 1, 1, 0, "")
    assert found is not None
    assert found.reason == "source cloud has proven nothing so far; 1 periods wait for it"


@pytest.fixture
def world() -> World:
    return World()


def _collector(world: World, log: Any, alerts: Alerts, history: History | None = None) -> Collector:
    settings = CollectorSettings(source="fake", since="2026-01-01T00:00:00Z", concurrency=1)
    return Collector(
        settings, METRICS, P, world, world, log, history or History("fake", P), world.clock,
        alerts=alerts, spread=lambda pause: pause,
    )  # fmt: skip


async def test_an_outage_of_the_source_is_told_once_and_so_is_its_end(world: World, log: Any) -> None:
    """Given a source away from 03:10 to 06:10; then it is told 75 minutes after its last proof, and when it is back."""
    alerts = Alerts()
    collector = _collector(world, log, alerts)
    await collector.round()
    begun = world.now
    world.answer = _raise(SourceAwayError("no connection"))
    while world.now < begun + 3 * P:
        world.now += 60
        await collector.round()

    (silent,) = alerts.found
    assert (silent.kind, silent.source, silent.begin) == (AlertKind.SOURCE_SILENT, "fake", T + 3 * P)
    assert begun + AFTER < silent.raised_at <= begun + AFTER + 60
    assert silent.reason.endswith("; last: no connection")

    world.answer = _whole
    world.now += 60
    await collector.round()
    await collector.round()
    _, back = alerts.found
    assert (back.kind, back.alert_id) == (AlertKind.SOURCE_BACK, silent.alert_id)


async def test_an_answer_that_proves_nothing_is_silence_too(world: World, log: Any) -> None:
    world.answer = lambda scope, metric, period: Answer([], note="dark")
    alerts = Alerts()
    collector = _collector(world, log, alerts)
    for _ in range(2):
        world.now += P
        await collector.round()

    assert [alert.kind for alert in alerts.found] == [AlertKind.SOURCE_SILENT]


async def test_a_gap_that_nobody_can_fill_makes_no_silence(world: World, log: Any) -> None:
    """Given one scope, expected until 03:00, with one hour that is never answered; then there is nothing to hear."""
    history = History("fake", P)
    history.plans.take(ScopePlan("fake", "p1", T, T + 3 * P, ["m", "n"]))
    world.scopes = set()
    world.answer = lambda scope, metric, period: Answer([] if period.begin == T else [Interval(*period)])
    alerts = Alerts()
    collector = _collector(world, log, alerts, history)
    for _ in range(9):
        await collector.round()
        world.now += P

    assert collector.status.open_periods == 2
    assert alerts.found == []
