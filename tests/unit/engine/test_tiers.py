"""Graduated prices over a month: the count goes on from frame to frame, whatever comes late."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from rater.engine import decode_snapshot, encode_snapshot
from rater.model.rated import AlertKind, RatedFrame
from rater.model.rules import (
    Change,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
    Tiers,
    TiersDeleted,
    TiersSet,
    TierStep,
)
from rater.model.usage import Collection
from rater.rating import Chain, RuleBook, ScriptDone, ScriptJob
from tests.unit.engine.builders import GRACE, HOUR, Bench, T, collection, plan

UID = "00000000-0000-4000-8000-00000000000{}"
DAY = 24 * HOUR


def rules(*more: Change) -> RuleBook:
    """cpu: the first 10 units of a month cost 1, all others 0.1."""
    steps = (TierStep(Decimal(1), Decimal(10)), TierStep(Decimal("0.1")))
    changes = (
        ModuleSet("hashmap", True),
        ServiceCreated(Service(UID.format(1), "cpu")),
        TiersSet(Tiers(UID.format(1), steps)),
        *more,
    )
    return RuleBook.empty().apply(RuleEvent(0, "test", "", 0, changes))[0]


def hour(number: int, qty: str | None = "4", **changes: Any) -> Collection:
    return collection(T + number * HOUR, T + (number + 1) * HOUR, qty, **changes)


def said(frames: list[RatedFrame]) -> list[tuple[int, int, Decimal]]:
    """(hour, revision, price)"""
    return [
        ((frame.period_begin - T) // HOUR, frame.revision, sum((line.price for line in frame.lines), Decimal(0)))
        for frame in frames
    ]


def bench_of(*records: Collection, **settings: int) -> Bench:
    bench = Bench(Chain(rules()), **settings)
    bench.take(plan("cpu", until=T + 31 * DAY), *records)
    return bench


def test_the_count_goes_on_from_hour_to_hour() -> None:
    bench = bench_of(hour(0), hour(1), hour(2))
    assert said(bench.decide(T + 3 * HOUR)) == [(0, 0, 4), (1, 0, 4), (2, 0, Decimal("2.2"))]


def test_the_count_begins_anew_with_the_month() -> None:
    # given the last hour of January and the first of February
    bench = Bench(Chain(rules()))
    end = T + 31 * DAY
    bench.take(collection(end - HOUR, end, "20"), collection(end, end + HOUR, "3"), at=end)
    assert [line.price for frame in bench.decide(end + HOUR) for line in frame.lines] == [11, 3]


def test_usage_that_comes_late_moves_the_hours_after_it() -> None:
    # given the second and third hour, and the first one lost
    bench = bench_of(hour(1), hour(2))
    assert said(bench.decide(T + 2 * HOUR)) == [(1, 0, 4)]
    assert said(bench.decide(T + GRACE)) == [(0, 0, 0), (2, 0, 4)]

    # when it comes
    bench.take(hour(0, "6"))

    # then each unit costs what it would have cost in order
    assert said(bench.decide(T + GRACE)) == [(0, 1, 6), (2, 1, Decimal("0.4"))]
    assert bench.decide(T + GRACE) == []


def test_only_hours_whose_price_moves_say_something_new() -> None:
    # given prices that are all in the last step
    bench = bench_of(hour(0, "100"), hour(1), hour(2))
    bench.decide(T + 3 * HOUR)
    bench.take(hour(0, "200", attempt=2))
    assert said(bench.decide(T + 3 * HOUR)) == [(0, 1, Decimal(29))]


def test_hours_wait_in_the_state_for_an_earlier_one_with_a_gap() -> None:
    # given an hour that was never collected, and a day after it
    bench = bench_of(*(hour(number) for number in range(1, 24)), late_horizon_periods=1)
    bench.decide(T + DAY)
    first = [price for _, _, price in said(bench.decide(T + DAY + GRACE))]
    assert len(bench.state.scopes["A"].frames) > 20

    # when it comes after all
    bench.take(hour(0))
    moved = said(bench.decide(T + DAY + GRACE))

    # then the hours in which the bound is reached are made again
    assert moved[:3] == [(0, 1, 4), (2, 1, Decimal("2.2")), (3, 1, Decimal("0.4"))]
    assert len(moved) == 3
    assert first

    # and once nothing earlier is waited for, they leave, and their count stays
    bench.decide(T + DAY + GRACE + 2 * HOUR)
    scope = bench.state.scopes["A"]
    assert T not in scope.frames
    assert sum(scope.months[T].used['["cpu",[]]'].values()) == 4 * 24


def test_the_count_is_part_of_the_snapshot() -> None:
    # given hours that have left the state
    bench = bench_of(hour(0), hour(1), late_horizon_periods=0, wait_periods=0)
    bench.decide(T + 2 * HOUR)
    bench.decide(T + 2 * HOUR)
    assert {T, T + HOUR}.isdisjoint(bench.state.scopes["A"].frames)

    # when the worker starts again
    bench.state = decode_snapshot(encode_snapshot(bench.state), 0, 1, bench.context.settings)
    bench.take(hour(2))

    # then it goes on
    assert said(bench.decide(T + 3 * HOUR)) == [(2, 0, Decimal("2.2"))]


def test_usage_before_hours_that_have_left_the_state_is_rated_and_named() -> None:
    # given the second hour, which has left, and a source that never planned the first
    bench = Bench(Chain(rules()), late_horizon_periods=0)
    bench.take(hour(1, "8"))
    bench.decide(T + 2 * HOUR)
    bench.decide(T + 2 * HOUR)
    assert T + HOUR not in bench.state.scopes["A"].frames

    # when the first one comes
    bench.take(collection(T, T + HOUR, "6", source="other"))
    frames = bench.decide(T + 10 * HOUR)

    # then it counts from zero, and what cannot be made again is named
    assert said(frames)[0] == (0, 0, 6)
    (alert,) = bench.alerts(AlertKind.SUSPICION)
    assert alert.metric == "cpu"
    assert alert.reason.startswith("the graduated prices of 1 later periods were made without this usage")


def test_counts_are_forgotten_when_nothing_can_come_any_more() -> None:
    # given a month of one hour
    bench = Bench(Chain(rules()), late_horizon_periods=1, gap_horizon_periods=3)
    bench.take(plan("cpu", until=T + HOUR), hour(0))
    bench.decide(T + HOUR)
    bench.decide(T + 2 * HOUR)
    end = T + 31 * DAY
    for now in (T + 10 * HOUR, end, end + 3 * HOUR - 1):
        bench.decide(now)
        assert T in bench.state.scopes["A"].months
    bench.decide(end + 3 * HOUR)
    assert not bench.state.scopes["A"].months


def test_a_count_that_moves_under_a_script_moves_the_hours_after_it() -> None:
    # given a script after hashmap that bills the first hour not at all
    class Free:
        def run(self, job: ScriptJob) -> ScriptDone:
            return ScriptDone([] if job.frame.period_begin == T else list(job.frame.points))

    modules = (ModuleSet("hashmap", True, 2), ModuleSet("pyscripts", True))
    bench = Bench(Chain(rules(ScriptCreated(Script(UID.format(3), "free", "data")), *modules)))
    bench.context = msgspec.structs.replace(bench.context, scripts=Free())
    bench.take(hour(0, "4"), hour(1, "4"))
    assert said(bench.decide(T + 2 * HOUR)) == [(0, 0, 0), (1, 0, 4)]

    # when more of it becomes known: its lines stay as they are, none
    bench.take(hour(0, "9", attempt=2))

    # then a revision of it says what was counted, and the next hour costs what it costs when all comes in order
    assert said(bench.decide(T + 2 * HOUR)) == [(0, 1, 0), (1, 1, Decimal("1.3"))]


def test_only_hours_of_the_same_month_wait_for_scripts() -> None:
    # given the last hour of a month, whose script has not run, and the first of the next
    end = T + 31 * DAY

    class Slow:
        def run(self, job: ScriptJob) -> ScriptDone | None:
            return ScriptDone(list(job.frame.points)) if job.frame.period_begin >= end else None

    script = ScriptCreated(Script(UID.format(3), "slow", "data"))
    bench = Bench(Chain(rules(script, ModuleSet("pyscripts", True))))
    bench.context = msgspec.structs.replace(bench.context, scripts=Slow())
    bench.take(collection(end - HOUR, end, "20"), collection(end, end + HOUR, "3"), at=end)
    assert [frame.period_begin for frame in bench.decide(end + HOUR)] == [end]


def test_rules_without_tiers_leave_later_hours_alone() -> None:
    # given two hours rated by tiers
    bench = bench_of(hour(0), hour(1))
    bench.decide(T + 2 * HOUR)

    # when they are gone, and the first hour is collected better
    book, _ = rules().apply(
        RuleEvent(
            1,
            "test",
            "",
            0,
            (
                TiersDeleted(UID.format(1)),
                MappingCreated(MappingRule(UID.format(2), Decimal(5), service_id=UID.format(1))),
            ),
        )
    )
    bench.rules = Chain(book)
    bench.take(hour(0, "1", attempt=2))

    # then
    assert said(bench.decide(T + 2 * HOUR)) == [(0, 1, 5)]


def test_later_hours_wait_for_the_scripts_of_earlier_ones() -> None:
    # given scripts that have run for the second hour only
    class Slow:
        known = False

        def run(self, job: ScriptJob) -> ScriptDone | None:
            return ScriptDone(list(job.frame.points)) if self.known or job.frame.period_begin > T else None

    runner = Slow()
    script = ScriptCreated(Script(UID.format(3), "slow", "data"))
    bench = Bench(Chain(rules(script, ModuleSet("pyscripts", True))))
    bench.context = msgspec.structs.replace(bench.context, scripts=runner)
    bench.take(hour(0, "9"), hour(1, "9"))

    # then no hour is rated on a count that is not known yet
    assert bench.decide(T + 2 * HOUR) == []
    runner.known = True
    assert said(bench.decide(T + 2 * HOUR)) == [(0, 0, 9), (1, 0, Decimal("1.8"))]
