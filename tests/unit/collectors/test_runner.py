"""The rounds of a collector: what it asks, what it says, and when it asks again. The source is a fake, time stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry

from collectors.collector_metrics import CollectorMetrics
from collectors.errors import NotSettledError, OversizedError, PublishError, SourceAwayError, SourceError
from collectors.history import History
from collectors.metrics_yml import Metric, read
from collectors.progress import CollectionHead
from collectors.runner import Collector
from collectors.settings import CollectorSettings, CompletenessSettings, EvidenceSettings
from collectors.source import Answer
from rater.model.interval import Interval
from rater.model.usage import Sample, ScopePlan, Series

T = 1_767_225_600
P = 3600
METRICS = read("metrics: {m: {unit: u}, n: {unit: v}}", "metrics.yml").metrics

Answerer = Callable[[str, str, Interval], Answer]


def _whole(scope_id: str, metric: str, period: Interval) -> Answer:
    return Answer([period])


class World:
    """A source and a fetcher whose answers a test sets, a clock that it moves, and what was asked."""

    def __init__(self) -> None:
        self.now = float(T + 3 * P + 600)
        self.scopes = {"p1"}
        self.fault: Exception | None = None
        self.answer: Answerer = _whole
        self.asked: list[tuple[int, str, str]] = []
        self.held_from = 0
        self.looked_back: list[int] = []

    def clock(self) -> float:
        return self.now

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        return []

    async def oldest(self, now: int) -> int:
        return self.held_from

    def session(self, period: Interval, now: int) -> Session:
        return Session(self, period)

    async def close(self) -> None: ...

    async def fetch(self, now: int, since: int) -> set[str]:
        self.looked_back.append(now - since)
        if self.fault:
            raise self.fault
        return set(self.scopes)


class Session:
    def __init__(self, world: World, period: Interval) -> None:
        self._world = world
        self._period = period

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        self._world.asked.append(((self._period.begin - T) // P, scope_id, metric.name))
        return self._world.answer(scope_id, metric.name, self._period)


@pytest.fixture
def world() -> World:
    return World()


def _collector(world: World, log: Any, history: History | None = None, **settings: Any) -> Collector:
    chosen = CollectorSettings(source="fake", **{"since": "2026-01-01T00:00:00Z", "concurrency": 1, **settings})
    history = history or History("fake", P)
    return Collector(chosen, METRICS, P, world, world, log, history, world.clock, spread=lambda pause: pause)


def _raise(fault: Exception) -> Answerer:
    def answer(scope_id: str, metric: str, period: Interval) -> Answer:
        raise fault

    return answer


async def test_everything_since_the_begin_is_asked_oldest_first(world: World, log: Any) -> None:
    """Given a new scope expected from 00:00; at 03:10; then three hours of each metric are asked, in order, once."""
    collector = _collector(world, log)

    await collector.round()
    await collector.round()

    assert world.asked == [(hour, "p1", name) for hour in range(3) for name in ("m", "n")]
    assert log.plans == [ScopePlan("fake", "p1", T, None, ["m", "n"])]
    assert [(d.source, d.begin - T, d.metric, d.unit, list(d.covers)) for d in log.drafts[:2]] == [
        ("fake", 0, "m", "u", [Interval(T, T + P)]),
        ("fake", 0, "n", "v", [Interval(T, T + P)]),
    ]
    assert {d.attempt for d in log.drafts} == {(T + 3 * P + 600) * 1000}
    assert (collector.status.published, collector.status.open_periods, collector.status.reached) == (6, 0, T + 3 * P)


class Sharing(Session):
    """A session that wants to know what will be asked."""

    told: ClassVar[list[Any]] = []

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        self.told.append({key: list(scopes) for key, scopes in asked.items()})

    async def close(self) -> None:
        self.told.append("closed")


async def test_a_session_that_shares_questions_knows_all_of_them_before(
    world: World, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two scopes, of which one lacks only one metric of the first hour
    history = History("fake", P)
    history.plans.take(ScopePlan("fake", "p1", T, T + P, ["m", "n"]))
    history.plans.take(ScopePlan("fake", "p2", T, T + P, ["m", "n"]))
    span = Interval(T, T + P)
    history.progress.take(CollectionHead("fake", "p2", "m", *span, 1, "c", covers=[span]))
    world.scopes = set()
    monkeypatch.setattr(Sharing, "told", [])
    monkeypatch.setattr(World, "session", lambda self, period, now: Sharing(self, period))

    # when, then
    await _collector(world, log, history).round()
    assert Sharing.told == [{"m": ["p1"], "n": ["p1", "p2"]}, "closed"]

    # and it is closed as well when the source goes away
    world.answer = _raise(SourceAwayError("away"))
    Sharing.told.clear()
    history.plans.take(ScopePlan("fake", "p1", T + P, T + 2 * P, ["m", "n"]))
    await _collector(world, log, history).round()
    assert Sharing.told == [{"m": ["p1"], "n": ["p1"]}, "closed"]


async def test_a_period_that_is_just_over_is_left_in_peace(world: World, log: Any) -> None:
    collector = _collector(world, log)
    world.now = T + 3 * P + 119
    await collector.round()
    before = max(world.asked)
    world.now = T + 3 * P + 120
    await collector.round()

    assert before == (1, "p1", "n")
    assert world.asked[-2:] == [(2, "p1", "m"), (2, "p1", "n")]


async def test_what_was_published_before_is_not_asked_again(world: World, log: Any) -> None:
    """Given a history with a plan and two of three hours of m; when started anew; then only the rest is asked."""
    history = History("fake", P)
    history.plans.take(ScopePlan("fake", "p1", T, None, ["m", "n"]))
    for hour in (0, 2):
        span = Interval(T + hour * P, T + (hour + 1) * P)
        history.progress.take(CollectionHead("fake", "p1", "m", *span, 1, f"c{hour}", covers=[span]))

    await _collector(world, log, history, since="").round()

    assert world.asked == [(0, "p1", "n"), (1, "p1", "m"), (1, "p1", "n"), (2, "p1", "n")]
    assert log.plans == [ScopePlan("fake", "p1", T + 3 * P, None, ["m", "n"])]  # repeated, for whoever reads back later


async def test_without_since_a_first_start_begins_with_the_present_period(world: World, log: Any) -> None:
    await _collector(world, log, since="").round()

    assert log.plans == [ScopePlan("fake", "p1", T + 3 * P, None, ["m", "n"])]
    assert world.asked == []


async def test_a_scope_that_appeared_while_nobody_looked_is_collected_from_then_on(world: World, log: Any) -> None:
    """Given a collector that was last up until 01:00 and a scope it never saw; then that is expected from 01:00 on."""
    history = History("fake", P)
    history.progress.take(CollectionHead("fake", "p0", "m", T, T + P, 1, "c", covers=[Interval(T, T + P)]))

    await _collector(world, log, history, since="").round()

    assert log.plans == [ScopePlan("fake", "p1", T + P, None, ["m", "n"])]


async def test_a_scope_that_appears_later_begins_where_it_was_last_not_there(world: World, log: Any) -> None:
    collector = _collector(world, log)
    await collector.round()
    world.now = T + 5 * P + 600
    world.scopes = {"p1", "p2"}
    await collector.round()

    assert log.plans[-1] == ScopePlan("fake", "p2", T + 3 * P, None, ["m", "n"])
    assert (3, "p2", "m") in world.asked


async def test_a_hole_is_said_with_its_reason_and_asked_again_until_it_is_filled(world: World, log: Any) -> None:
    """Given an answer that covers half an hour; then it is published with the reason, and asked with growing pauses.

    The same answer again says nothing new; a better one replaces it.
    """
    half = Answer([Interval(T, T + 1800)], note="dark: node-2")
    world.now = T + P + 600
    world.answer = lambda scope, metric, period: half if (metric, period.begin) == ("m", T) else Answer([period])
    collector = _collector(world, log)

    asked_at = []
    for minute in range(0, 60):
        world.now = T + P + 600 + 60 * minute
        before = len(world.asked)
        await collector.round()
        asked_at += [minute] * (len(world.asked) - before)

    assert asked_at == [0, 0, 1, 3, 7, 15, 31, 52, 52]  # pauses of 1, 2, 4 … minutes; at 52 the next hour is over
    assert [(d.metric, list(d.covers)) for d in log.drafts if d.begin == T] == [
        ("m", [Interval(T, T + 1800)]),
        ("n", [Interval(T, T + P)]),
    ]
    first = [f for f in log.failures if f.begin < T + P]
    assert [(f.begin, f.end, f.reason) for f in first] == [(T + 1800, T + P, "dark: node-2")]

    world.answer = _whole
    world.now += 6 * P
    await collector.round()

    assert [list(d.covers) for d in log.drafts if d.begin == T and d.metric == "m"][-1] == [Interval(T, T + P)]
    assert log.drafts[-1].attempt > log.drafts[0].attempt
    assert collector.status.open_periods == 0


async def test_an_answer_that_proves_and_holds_nothing_is_a_failure(world: World, log: Any) -> None:
    world.now = T + P + 600
    world.answer = lambda scope, metric, period: Answer([], note="no target has shown m")

    await _collector(world, log).round()

    assert log.drafts == []
    assert [(f.metric, f.begin, f.end, f.reason) for f in log.failures] == [
        (metric, T, T + P, "no target has shown m") for metric in ("m", "n")
    ]


async def test_an_error_of_one_question_leaves_the_others_alone(world: World, log: Any) -> None:
    def answer(scope_id: str, metric: str, period: Interval) -> Answer:
        if metric == "m":
            raise SourceError("too many samples")
        return Answer([period])

    world.answer = answer
    collector = _collector(world, log)
    await collector.round()
    world.now += 61
    await collector.round()

    assert [d.metric for d in log.drafts] == ["n"] * 3
    assert [(f.metric, f.begin - T, f.reason) for f in log.failures] == [
        ("m", hour * P, "too many samples") for hour in range(3)
    ]  # once, although asked twice
    assert len(world.asked) == 9
    assert (collector.status.open_periods, collector.status.oldest_open) == (3, T)


async def test_a_source_that_is_away_ends_the_round_and_is_told_beside_the_latest_gaps(world: World, log: Any) -> None:
    world.answer = _raise(SourceAwayError("no connection"))
    world.now = T + 10 * P + 600
    collector = _collector(world, log)

    await collector.round()
    await collector.round()

    assert world.asked == [(0, "p1", "m")]
    assert sorted({(f.begin - T) // P for f in log.failures}) == [0, 7, 8, 9]
    assert collector.status.fault == "no connection"

    world.now += 6
    world.answer = _whole
    await collector.round()
    assert len(log.drafts) == 20
    assert collector.status.fault == ""


async def test_what_is_not_settled_is_asked_soon_again_without_a_word(world: World, log: Any) -> None:
    world.now = T + P + 600
    world.answer = _raise(NotSettledError("lag"))
    collector = _collector(world, log)
    await collector.round()
    world.now += 29
    await collector.round()
    world.now += 1
    world.answer = _whole
    await collector.round()

    assert len(world.asked) == 4
    assert (len(log.failures), len(log.drafts)) == (0, 2)


async def test_nothing_is_asked_that_the_source_no_longer_has(world: World, log: Any) -> None:
    world.held_from = T + P + 1

    await _collector(world, log).round()

    assert world.asked == [(2, "p1", "m"), (2, "p1", "n")]


async def test_a_metric_that_is_not_expected_is_collected_without_a_plan(world: World, log: Any) -> None:
    completeness = CompletenessSettings(metrics={"n": EvidenceSettings(expected=False)})

    await _collector(world, log, completeness=completeness).round()

    assert log.plans == [ScopePlan("fake", "p1", T, None, ["m"])]
    assert (0, "p1", "n") in world.asked


async def test_a_scope_is_gone_only_after_it_was_left_out_for_long(world: World, log: Any) -> None:
    """Given p2 not named for an hour, named again, then left out for a day; then it is gone after that day."""
    world.scopes = {"p1", "p2"}
    collector = _collector(world, log, gone_after=86400)
    await collector.round()
    log.plans.clear()
    for hours, scopes in ((1, {"p1"}), (2, {"p1", "p2"}), (3, {"p1"}), (26, {"p1"})):
        world.now, world.scopes = T + (3 + hours) * P + 600, scopes
        await collector.round()
    before = [plan for plan in log.plans if not plan.metrics]
    world.now = T + 30 * P + 600
    await collector.round()
    await collector.round()

    assert before == []
    assert [plan for plan in log.plans if not plan.metrics] == [ScopePlan("fake", "p2", T + 31 * P, None, [])]
    assert (29, "p2", "m") in world.asked

    world.now = T + 40 * P + 600
    await collector.round()
    assert (30, "p2", "m") in world.asked  # what began before it was gone
    assert (31, "p2", "m") not in world.asked


@pytest.mark.parametrize("fault", [None, SourceError("away")])
async def test_a_fetcher_that_names_nobody_takes_nobody_away(world: World, log: Any, fault: Exception | None) -> None:
    collector = _collector(world, log, gone_after=1)
    await collector.round()
    world.scopes, world.fault = set(), fault
    for hour in range(4, 8):
        world.now = T + hour * P + 600
        await collector.round()

    assert all(plan.metrics for plan in log.plans)
    assert (6, "p1", "m") in world.asked


async def test_scopes_are_looked_for_since_they_were_last_known(world: World, log: Any) -> None:
    # given a collector that was last there three hours ago
    history = History("fake", P)
    history.progress.reached = T
    collector = _collector(world, log, history, since="")
    began = world.now

    # when it starts, and when ten minutes and a failed try later scopes are looked for again
    await collector.round()
    world.now, world.fault = began + 600, SourceError("no")
    await collector.round()
    world.now, world.fault = began + 1200, None
    await collector.round()

    # then nobody who came and went meanwhile is passed over
    assert world.looked_back == [3 * P + 600, 600, 1200]


async def test_the_first_look_goes_back_a_week_at_most(world: World, log: Any) -> None:
    world.fault = SourceError("no")
    await _collector(world, log, since="2020-01-01T00:00:00Z").round()
    assert world.looked_back == [7 * 86400]


async def test_a_first_fetch_that_fails_is_a_fault_of_the_round(world: World, log: Any) -> None:
    world.fault = SourceError("no such metric")
    collector = _collector(world, log)

    await collector.round()

    assert collector.status.fault == "no such metric"
    assert (log.plans, world.asked) == ([], [])


async def test_a_new_metric_is_planned_from_the_present_period_on(world: World, log: Any) -> None:
    history = History("fake", P)
    history.plans.take(ScopePlan("fake", "p1", T, None, ["m"]))

    await _collector(world, log, history).round()

    assert log.plans == [ScopePlan("fake", "p1", T + 3 * P, None, ["m", "n"])]
    assert world.asked == [(hour, "p1", "m") for hour in range(3)]


async def test_an_item_that_fits_into_no_record_is_a_failure_of_that_answer_alone(world: World, log: Any) -> None:
    publish = log.publish

    async def refuse(draft: Any) -> None:
        if draft.metric == "m":
            raise OversizedError("too large")
        await publish(draft)

    log.publish = refuse
    await _collector(world, log).round()

    assert {draft.metric for draft in log.drafts} == {"n"}
    assert {(failure.metric, failure.reason) for failure in log.failures} == {("m", "too large")}


async def test_kafka_away_leaves_everything_to_be_asked_again(world: World, log: Any) -> None:
    async def refuse(draft: object) -> None:
        raise PublishError("not confirmed")

    published, log.publish = log.publish, refuse
    collector = _collector(world, log)
    with pytest.raises(PublishError):
        await collector.round()
    log.publish = published
    await collector.round()

    assert len(log.drafts) == 6


async def test_plans_are_repeated_every_day(world: World, log: Any) -> None:
    collector = _collector(world, log)
    await collector.round()
    world.now += 86400
    await collector.round()

    assert log.plans[1:] == [ScopePlan("fake", "p1", T + 27 * P, None, ["m", "n"])]


async def test_a_long_backlog_is_interrupted_to_look_for_new_scopes(world: World, log: Any) -> None:
    def slow(scope_id: str, metric: str, period: Interval) -> Answer:
        world.now += 100
        return Answer([period])

    world.answer = slow
    world.now = T + 100 * P
    collector = _collector(world, log)

    await collector.round()
    world.scopes = {"p1", "p2"}
    await collector.round()

    assert len(world.asked) < 20
    assert "p2" in {plan.scope_id for plan in log.plans}


async def test_a_source_that_answers_again_is_asked_at_once_for_all_that_is_open(world: World, log: Any) -> None:
    """Given hours asked in vain so often that the next time is hours away; when one is answered; then all are asked."""
    world.answer = _raise(SourceError("too many samples"))
    collector = _collector(world, log)
    for minute in range(0, 600, 5):
        world.now = T + 3 * P + 600 + 60 * minute
        await collector.round()
    assert collector.status.open_periods == 26

    # when a period that is over since then is answered, with those that are due by chance
    world.answer = _whole
    world.now = T + 14 * P + 600
    before = len(world.asked)
    await collector.round()
    assert 13 in {asked[0] for asked in world.asked[before:]}
    assert collector.status.open_periods > 10
    # then the others follow in the next round, oldest first
    before = len(world.asked)
    world.now += 1
    await collector.round()
    hours = [asked[0] for asked in world.asked[before:]]
    assert hours == sorted(hours)
    assert collector.status.open_periods == 0


async def test_when_one_of_several_parts_of_a_source_is_back_what_the_others_lack_is_asked_at_once(
    world: World, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a source that has lacked half of an hour for so long that the next time is hours away
    recovered = [False]
    monkeypatch.setattr(World, "has_recovered", lambda self: recovered.pop() if recovered else False, raising=False)
    world.answer = lambda scope, metric, period: Answer([Interval(period.begin, period.begin + P // 2)])
    collector = _collector(world, log)
    for minute in range(0, 600, 5):
        world.now = T + 3 * P + 600 + 60 * minute
        await collector.round()
    # when a part of it answers again, which has all
    world.answer = _whole
    asked = len(world.asked)
    world.now += 1
    await collector.round()
    assert (len(world.asked), collector.status.open_periods) == (asked, 26)
    recovered.append(True)
    await collector.round()
    # then
    assert collector.status.open_periods == 0


async def test_after_an_outage_of_the_source_what_was_partly_answered_is_asked_at_once(world: World, log: Any) -> None:
    # given an hour of which the source knows only half, asked so often that the next time is hours away
    half = Answer([Interval(T, T + 1800)], note="dark: node-2")
    world.answer = lambda scope, metric, period: half if (metric, period.begin) == ("m", T) else Answer([period])
    collector = _collector(world, log)
    for minute in range(0, 600, 5):
        world.now = T + P + 600 + 60 * minute
        await collector.round()
    # when the source is away with the next hour, and comes back
    world.now, world.answer = T + 12 * P + 600, _raise(SourceAwayError("no connection"))
    await collector.round()
    world.now, world.answer = T + 12 * P + 660, _whole
    await collector.round()
    # then that hour is whole
    assert [list(d.covers) for d in log.drafts if (d.metric, d.begin) == ("m", T)][-1] == [Interval(T, T + P)]
    assert collector.status.open_periods == 0


async def test_points_that_an_expression_leaves_out_are_not_published_and_are_counted(world: World, log: Any) -> None:
    """Given three resources, one with 0; then it is left out, whatever the source, and the period is covered."""
    metrics = read(
        "metrics: {m: {unit: u, skip_datapoints_expression: \"datapoint['vol']['qty'] == 0\"}}", "metrics.yml"
    )

    def answer(scope_id: str, metric: str, period: Interval) -> Answer:
        series = [Series({"id": f"vm-{n}"}) for n in range(3)]
        return Answer([period], series=series, samples=[Sample(n, *period, Decimal(n)) for n in range(3)])

    world.answer = answer
    settings = CollectorSettings(source="fake", since="2026-01-01T00:00:00Z")
    collector = Collector(settings, metrics.metrics, P, world, world, log, History("fake", P), world.clock)
    await collector.round()

    assert [[s.qty for s in draft.samples] for draft in log.drafts] == [[Decimal(1), Decimal(2)]] * 3
    assert {draft.note for draft in log.drafts} == {"1 points left out by skip_datapoints_expression"}
    assert (collector.status.skipped, collector.status.open_periods) == (3, 0)


# --- replicas


class Chosen:
    """A seat that holds what a test says."""

    def __init__(self, *scopes: str) -> None:
        self.turn = 0
        self.scopes = set(scopes)

    def holds(self, scope_id: str) -> bool:
        return scope_id in self.scopes

    def move(self, *scopes: str) -> None:
        self.turn += 1
        self.scopes = set(scopes)


def _seated(world: World, log: Any, seat: Chosen, **settings: Any) -> Collector:
    chosen = CollectorSettings(source="fake", **{"since": "2026-01-01T00:00:00Z", "concurrency": 1, **settings})
    return Collector(
        chosen, METRICS, P, world, world, log, History("fake", P), world.clock, seat=seat, spread=lambda pause: pause
    )


async def test_a_replica_plans_and_asks_for_its_own_scopes_only(world: World, log: Any) -> None:
    world.scopes = {"p1", "p2", "p3"}
    collector = _seated(world, log, Chosen("p2"))

    await collector.round()

    assert {plan.scope_id for plan in log.plans} == {"p2"}
    assert {scope for _, scope, _ in world.asked} == {"p2"}
    assert (collector.status.scopes, collector.status.open_periods) == (1, 0)


async def test_scopes_that_come_from_another_replica_go_on_where_it_was(world: World, log: Any) -> None:
    """Given p1 here, and p2 of which another one published m of the first hour; when p2 comes, then the rest of it."""
    world.scopes = {"p1", "p2"}
    seat = Chosen("p1")
    collector = _seated(world, log, seat)
    await collector.round()
    world.asked.clear()
    log.plans.clear()

    gained = History("fake", P)
    gained.plans.take(ScopePlan("fake", "p2", T, None, ["m", "n"]))
    gained.progress.take(CollectionHead("fake", "p2", "m", T, T + P, 1, "c", covers=[Interval(T, T + P)]))
    seat.move("p1", "p2")
    collector.take_over(gained)
    await collector.round()

    assert world.asked == [(0, "p2", "n"), (1, "p2", "m"), (1, "p2", "n"), (2, "p2", "m"), (2, "p2", "n")]
    assert [(plan.scope_id, plan.begin) for plan in log.plans] == [("p2", T + 3 * P)]  # repeated; p1's is not old yet
    assert collector.status.scopes == 2


async def test_scopes_that_went_to_another_replica_are_forgotten(world: World, log: Any) -> None:
    world.scopes = {"p1", "p2"}
    seat = Chosen("p1", "p2")
    collector = _seated(world, log, seat)
    await collector.round()
    world.asked.clear()
    seat.move("p1")
    collector.take_over(History("fake", P))
    world.now += P
    await collector.round()

    assert {scope for _, scope, _ in world.asked} == {"p1"}
    assert collector.status.scopes == 1

    # and when p2 comes back, what became of it meanwhile is known from what was read back alone
    gained = History("fake", P)
    gained.plans.take(ScopePlan("fake", "p2", T, None, ["m", "n"]))
    for hour in range(4):
        span = Interval(T + hour * P, T + (hour + 1) * P)
        for metric in "mn":
            gained.progress.take(CollectionHead("fake", "p2", metric, *span, 1, f"{metric}{hour}", covers=[span]))
    world.asked.clear()
    seat.move("p1", "p2")
    collector.take_over(gained)
    await collector.round()
    assert world.asked == []


async def test_a_scope_that_appears_while_partitions_move_is_expected_from_when_it_was_last_not_there(
    world: World, log: Any
) -> None:
    """Given p2, named twice when nobody held it; when it comes here an hour later, then no minute of it is lost."""
    seat = Chosen("p1")
    collector = _seated(world, log, seat, since="")
    world.now = T + P + 600
    await collector.round()
    world.now = T + 2 * P - 10
    world.scopes = {"p1", "p2"}  # from here on, while p2's partition is on its way
    await collector.round()
    world.now = T + 2 * P + 400
    await collector.round()
    world.now = T + 3 * P + 200
    seat.move("p1", "p2")
    collector.take_over(History("fake", P))
    await collector.round()

    (plan,) = (plan for plan in log.plans if plan.scope_id == "p2")
    assert plan.begin == T + P  # the begin of the period in which it was last known not to be there


async def test_a_round_ends_when_scopes_move_and_says_nothing_more_of_those_that_went(world: World, log: Any) -> None:
    world.scopes = {"p1", "p2"}
    seat = Chosen("p1", "p2")

    def answer(scope_id: str, metric: str, period: Interval) -> Answer:
        seat.move("p1")
        return Answer([period])

    world.answer = answer
    await _seated(world, log, seat).round()

    assert {hour for hour, _, _ in world.asked} == {0}
    assert {draft.scope_id for draft in log.drafts} == {"p1"}


async def test_an_answer_for_a_scope_that_went_meanwhile_is_not_published(world: World, log: Any) -> None:
    seat = Chosen("p1")

    def answer(scope_id: str, metric: str, period: Interval) -> Answer:
        seat.move()
        return Answer([period])

    world.answer = answer
    collector = _seated(world, log, seat)
    await collector.round()

    assert len(world.asked) == 1
    assert log.drafts == []
    assert (collector.status.scopes, collector.status.open_periods) == (0, 0)  # they are somebody else's now


# --- many failures


async def test_a_metric_that_fails_for_everybody_does_not_keep_others_waiting(world: World, log: Any) -> None:
    """Given forty scopes whose m always fails; then n is collected, m is asked ten times, then those it spared."""
    world.scopes = {f"p{number:02d}" for number in range(40)}
    world.now = T + P + 600

    def answer(scope_id: str, metric: str, period: Interval) -> Answer:
        if metric == "m":
            raise SourceError("too slow")
        return Answer([period])

    world.answer = answer
    collector = _collector(world, log)
    await collector.round()

    assert len(log.drafts) == 40
    first = [scope for _, scope, metric in world.asked if metric == "m"]
    assert first == [f"p{number:02d}" for number in range(10)]
    assert len(log.failures) == 40
    assert sum("not asked: 10 questions in a row failed" in f.reason for f in log.failures) == 30

    world.now += 61
    await collector.round()
    second = [scope for _, scope, metric in world.asked if metric == "m"][10:]
    assert second == [f"p{number:02d}" for number in range(10, 20)]


async def test_a_source_that_asks_for_rest_gets_it(world: World, log: Any) -> None:
    world.answer = _raise(SourceAwayError("too many requests", retry_after=300))
    collector = _collector(world, log)
    await collector.round()
    world.now += 299
    await collector.round()
    assert len(world.asked) == 1
    world.now += 2
    await collector.round()
    assert len(world.asked) == 2


async def test_what_happened_is_counted_by_metric_and_reason(world: World, log: Any) -> None:
    """Given m whole, n dark for half an hour, then failing; then each counter says so, and how far behind each is."""
    registry = CollectorRegistry()
    counts = CollectorMetrics(registry, "fake")
    half = Answer([Interval(T, T + 1800)], note="dark")
    sample = Answer([Interval(T, T + P)], series=[Series({})], samples=[Sample(0, T, T + P, Decimal(1))])
    world.now = T + P + 600
    world.answer = lambda scope, metric, period: sample if metric == "m" else half
    settings = CollectorSettings(source="fake", since="2026-01-01T00:00:00Z", concurrency=1)
    collector = Collector(
        settings, METRICS, P, world, world, log, History("fake", P), world.clock, counts=counts, spread=lambda p: p
    )
    await collector.round()
    world.now += 61
    world.answer = _raise(SourceError("no"))
    await collector.round()

    def value(name: str, metric: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"rater_collector_{name}", {"source": "fake", "metric": metric, **labels})

    assert [value("answers_total", m) for m in "mn"] == [1, 1]
    assert [value("empty_answers_total", m) for m in "mn"] == [0, 1]
    assert [value("samples_total", m) for m in "mn"] == [1, 0]
    assert [value("published_total", m) for m in "mn"] == [1, 1]
    assert [value("retries_total", m) for m in "mn"] == [0, 1]
    assert value("failures_total", "n", reason="incomplete") == 1
    assert value("failures_total", "n", reason="failed") == 1
    assert [value("complete_until_timestamp_seconds", m) for m in "mn"] == [T + P, T]
    assert [value("behind_seconds", m) for m in "mn"] == [661, P + 661]
    assert registry.get_sample_value("rater_collector_up", {"source": "fake"}) == 1
