"""Rating modules that run elsewhere, change points, or fail: what becomes of the frame, and of all the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.engine import decide, decode_snapshot, encode_snapshot, retry_unpriced
from rater.engine.closing import MAX_PENDING
from rater.model.codec import JSON, decode_rated
from rater.model.rated import AlertKind, FrameStatus, RatedFrame
from rater.model.rules import (
    Change,
    Field,
    FieldCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdDeleted,
    ThresholdRule,
)
from rater.model.usage import Series
from rater.rating import Chain, Failed, RatingFrame, RatingPoint, RuleBook, ScriptDone, ScriptJob
from tests.unit.engine.builders import GRACE, HOUR, VM1, VM2, Bench, T, collection, plan, quantities, sample


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def book(*more: Change) -> RuleBook:
    """cpu at 2 a unit, and one script after it."""
    changes = (
        ModuleSet("hashmap", True, 2),
        ServiceCreated(Service(uid(1), "cpu")),
        MappingCreated(MappingRule(uid(2), Decimal(2), service_id=uid(1))),
        ModuleSet("pyscripts", True, 1),
        ScriptCreated(Script(uid(3), "rebate", "data")),
        *more,
    )
    return RuleBook.empty().apply(RuleEvent(0, "test", "", 0, changes))[0]


def changed(before: RuleBook, *changes: Change) -> RuleBook:
    after, outcome = before.apply(RuleEvent(before.version, "test", "", 0, changes))
    assert after.version == before.version + 1, outcome
    return after


class Runner:
    """Stands for the sandbox: answers what the test says."""

    def __init__(self, answer: Callable[[ScriptJob], ScriptDone | Failed | None]) -> None:
        self.answer = answer
        self.jobs = 0

    def run(self, job: ScriptJob) -> ScriptDone | Failed | None:
        self.jobs += 1
        return self.answer(job)


def each(change: Callable[[RatingPoint], Iterable[RatingPoint]]) -> Callable[[ScriptJob], ScriptDone]:
    return lambda job: ScriptDone([after for point in job.frame.points for after in change(point)])


BOOM = Failed("pyscripts", "rebate", 3, "ZeroDivisionError: division by zero")


def bench_with(answer: Callable[[ScriptJob], ScriptDone | Failed | None], **settings: Any) -> tuple[Bench, Runner]:
    bench = Bench(Chain(book()), **settings)
    runner = Runner(answer)
    bench.context = msgspec.structs.replace(bench.context, scripts=runner)
    return bench, runner


def priced(frame: RatedFrame) -> dict[str, Decimal]:
    return {str(line.groupby["id"]): line.price for line in frame.lines}


def halved(point: RatingPoint) -> list[RatingPoint]:
    return [msgspec.structs.replace(point, price=point.price / 2)]


def test_a_script_has_the_last_word_on_the_price() -> None:
    bench, _ = bench_with(each(halved))
    bench.take(collection(qty="3"))
    assert priced(bench.one(T + HOUR)) == {"vm1": 3}


def test_a_frame_waits_for_its_script_and_is_decided_at_the_next_checkpoint() -> None:
    # given two hours, and a runner that knows nothing yet
    bench, runner = bench_with(lambda _: None)
    bench.take(plan("cpu", until=T + 2 * HOUR), collection(), collection(T + HOUR, T + 2 * HOUR))

    # when nothing is known, nothing is said
    assert bench.decide(T + 2 * HOUR) == []
    assert bench.alerts() == []

    # then it is asked again each time, until it knows
    asked = runner.jobs
    assert bench.decide(T + 2 * HOUR) == []
    assert runner.jobs == 2 * asked
    runner.answer = each(halved)
    assert [frame.period_begin for frame in bench.decide(T + 2 * HOUR)] == [T, T + HOUR]
    assert bench.decide(T + 2 * HOUR) == []


def test_a_frame_that_closes_by_grace_waits_too() -> None:
    bench, runner = bench_with(lambda _: None)
    bench.take(plan("cpu", until=T + HOUR), collection(end=T + HOUR // 2))
    assert bench.decide(T + GRACE) == []
    runner.answer = each(halved)
    frame = bench.one(T + GRACE)
    assert (frame.status, len(frame.gaps)) == (FrameStatus.PARTIAL, 1)


def test_only_so_many_frames_wait_at_once() -> None:
    # given more frames than that
    bench, runner = bench_with(lambda _: None)
    for hour in range(MAX_PENDING + 6):
        bench.take(collection(T + hour * HOUR, T + (hour + 1) * HOUR), at=T + hour * HOUR)
    now = T + (MAX_PENDING + 6) * HOUR

    # when they are due, then not all are asked for, and none is lost
    assert bench.decide(now) == []
    assert runner.jobs == MAX_PENDING
    runner.answer = each(halved)
    assert len(bench.decide(now)) == MAX_PENDING + 6


def test_a_script_that_fails_fails_its_frame_and_no_other() -> None:
    # given a script that cannot divide in the first hour
    bench, _ = bench_with(lambda job: BOOM if job.frame.period_begin == T else ScriptDone(list(job.frame.points)))
    bench.take(collection(), collection(T + HOUR, T + 2 * HOUR))

    # when
    bad, good = bench.decide(T + 2 * HOUR)

    # then
    reason = "script 'rebate', line 3: ZeroDivisionError: division by zero"
    assert (bad.status, bad.lines, bad.totals, bad.failure) == (FrameStatus.FAILED, [], [], reason)
    assert bad.coverage[0].covered == [(T, T + HOUR)]
    assert (good.status, good.failure) == (FrameStatus.RATED, "")
    (alert,) = bench.alerts()
    assert (alert.kind, alert.period_begin, alert.begin, alert.end) == (AlertKind.RATING_FAILED, T, T, T + HOUR)
    assert alert.reason == reason


def test_a_failed_frame_is_rated_once_the_script_is_repaired() -> None:
    # given a frame that failed
    bench, runner = bench_with(lambda _: BOOM)
    bench.take(plan("cpu", until=T + HOUR), collection())
    failed = bench.one(T + HOUR)
    (raised,) = bench.alerts()

    # when time passes, beyond the horizon for late usage, nothing is tried again
    asked = runner.jobs
    for hours in range(2, 10):
        assert bench.decide(T + hours * HOUR) == []
    assert runner.jobs == asked

    # and when a new version of the rules fails the same way, nothing new is said
    bench.rules = Chain(changed(book(), ModuleSet("pyscripts", True, 1)))
    assert bench.decide(T + 10 * HOUR) == []
    assert runner.jobs == asked + 1

    # then the repaired script rates it without anybody collecting again
    runner.answer = each(halved)
    bench.rules = Chain(changed(changed(book(), ModuleSet("x", False)), ModuleSet("x", False)))
    repaired = bench.one(T + 11 * HOUR)
    assert (failed.revision, repaired.revision, repaired.status) == (0, 1, FrameStatus.RATED)
    assert (repaired.rule_version, priced(repaired)) == (3, {"vm1": 1})
    (ended,) = bench.alerts()
    assert (ended.kind, ended.alert_id) == (AlertKind.RATING_REPAIRED, raised.alert_id)

    # and leaves the state as every other
    bench.decide(T + 11 * HOUR)
    assert not bench.state.scopes["A"].frames


def test_another_reason_is_another_revision() -> None:
    bench, runner = bench_with(lambda _: BOOM)
    bench.take(collection())
    bench.one(T + HOUR)
    runner.answer = lambda _: msgspec.structs.replace(BOOM, line=4)
    bench.rules = Chain(changed(book(), ModuleSet("x", False)))
    frame = bench.one(T + HOUR)
    assert (frame.revision, frame.failure[:23]) == (1, "script 'rebate', line 4")
    assert [alert.kind for alert in bench.alerts()] == [AlertKind.RATING_FAILED] * 2


def test_a_frame_that_was_rated_and_fails_repeats_its_lines_with_zero() -> None:
    bench, runner = bench_with(each(halved))
    bench.take(plan("cpu", until=T + HOUR), collection())
    bench.one(T + HOUR)
    runner.answer = lambda _: BOOM
    bench.take(collection(qty="5", attempt=2))
    frame = bench.one(T + HOUR)
    assert (frame.status, quantities(frame), frame.totals) == (FrameStatus.FAILED, {"vm1": 0}, [])


def test_a_frame_that_failed_by_chance_is_tried_again_by_itself() -> None:
    # given a script that takes too long on a machine under load, twice
    late = msgspec.structs.replace(BOOM, reason="takes more than 10 s", by_chance=True)
    bench, runner = bench_with(lambda _: late)
    bench.take(plan("cpu", until=T + HOUR), collection())
    assert bench.one(T + HOUR).status is FrameStatus.FAILED
    asked = runner.jobs

    # when time passes, it is asked again after 90 s and not before, and the same failure says nothing new
    assert bench.decide(T + HOUR + 89) == []
    assert runner.jobs == asked
    assert bench.decide(T + HOUR + 90) == []
    assert runner.jobs == asked + 1

    # then it is rated without anybody's doing
    runner.answer = lambda _: None
    assert bench.decide(T + HOUR + 180) == []
    runner.answer = each(halved)
    frame = bench.one(T + HOUR + 181)
    assert (frame.revision, frame.status) == (1, FrameStatus.RATED)
    assert bench.decide(T + HOUR + 400) == []


def test_usage_that_came_in_time_is_rated_however_long_its_script_waits() -> None:
    # given a frame that is rated, more of it a minute later, and a worker that is down beyond the horizon
    bench, runner = bench_with(each(halved))
    bench.take(plan("cpu", until=T + HOUR), collection())
    bench.one(T + HOUR)
    bench.take(collection(qty="7", attempt=2), at=T + HOUR + 60)
    runner.answer = lambda _: None

    # when its script has not run for a while
    for late in (0, 5, 10):
        assert bench.decide(T + 9 * HOUR + late) == []

    # then it stays, is rated once it has, and leaves
    runner.answer = each(halved)
    frame = bench.one(T + 9 * HOUR + 15)
    assert (frame.revision, quantities(frame)) == (1, {"vm1": 7})
    bench.decide(T + 9 * HOUR + 20)
    assert not bench.state.scopes["A"].frames


def test_frames_without_scripts_do_not_wait_for_those_that_have_some() -> None:
    # given a script from the 65th hour on, that never runs, and more frames than may wait
    later = T + MAX_PENDING * HOUR
    rules = RuleBook.empty().apply(
        RuleEvent(0, "t", "", 0, (ModuleSet("pyscripts", True), ScriptCreated(Script(uid(3), "s", "", end=later))))
    )[0]
    bench = Bench(Chain(rules))
    bench.context = msgspec.structs.replace(bench.context, scripts=Runner(lambda _: None))
    for number in range(MAX_PENDING + 3):
        bench.take(collection(T + number * HOUR, T + (number + 1) * HOUR), at=T + number * HOUR)

    # then those after it are decided
    now = T + (MAX_PENDING + 3) * HOUR
    assert [frame.period_begin for frame in bench.decide(now)] == [later, later + HOUR, later + 2 * HOUR]


def test_labels_beyond_64_kib_fail_the_frame_of_a_module_that_made_them() -> None:
    # given a script that makes labels that no message holds
    large = {"id": "vm1", "text": "\x01" * 20_000}
    bench, _ = bench_with(each(lambda point: [msgspec.structs.replace(point, groupby=large)]))
    bench.take(collection())
    frame = bench.one(T + HOUR)
    assert (frame.status, frame.lines) == (FrameStatus.FAILED, [])
    assert re.fullmatch(r"a point of metric 'cpu' was changed: its labels have 12\d{4} bytes: .*", frame.failure)


def test_labels_beyond_64_kib_of_a_source_put_the_point_aside_without_them() -> None:
    bench, _ = bench_with(each(halved))
    bench.take(collection(series=[Series({"text": "x" * 70_000}), VM1], samples=[sample(T), sample(T, series=1)]))
    frame = bench.one(T + HOUR)
    assert (frame.status, quantities(frame)) == (FrameStatus.PARTIAL, {"vm1": 1})
    (point,) = frame.quarantined
    assert (point.groupby, point.metadata) == ({}, {})
    assert "its labels have 70" in point.reason


def test_records_fit_into_a_message_whatever_scripts_make() -> None:
    # given a script that makes many points with labels that are just taken, rated or not
    def many(point: RatingPoint) -> Iterable[RatingPoint]:
        for number in range(120):
            labels = {"id": str(number), "text": "\x01" * 10_000}
            qty = Decimal("1e31") if number % 2 else Decimal(1)
            yield msgspec.structs.replace(point, qty=qty, groupby=labels)

    bench, _ = bench_with(each(many))
    bench.take(collection())
    decide(bench.state, T + HOUR, bench.rules, bench.context)

    # then each record is one that a broker takes, and no point is lost
    records = [item.value for item in bench.state.outbox if item.topic == "rated"]
    assert max(map(len, records)) < 2_000_000
    frames = [decode_rated(record, JSON) for record in records]
    assert sum(len(frame.lines) for frame in frames) == 60
    assert frames[0].quarantined[-1].reason.startswith("and ")


def test_points_made_alike_whose_sum_no_column_holds_fail_the_frame() -> None:
    def alike(point: RatingPoint) -> Iterable[RatingPoint]:
        return [msgspec.structs.replace(point, qty=Decimal("9e29"), groupby={"id": "all"})] * 2

    bench, _ = bench_with(each(alike))
    bench.take(collection())
    frame = bench.one(T + HOUR)
    assert (frame.status, frame.failure[:40]) == (FrameStatus.FAILED, "points of metric 'cpu' were made alike, ")


def test_an_origin_that_is_none_makes_a_new_line_and_no_error() -> None:
    bench, _ = bench_with(each(lambda point: [msgspec.structs.replace(point, origin=7)]))
    bench.take(collection())
    assert quantities(bench.one(T + HOUR)) == {"vm1": 1}


def test_a_restart_tries_what_has_no_price_once_more() -> None:
    # given a failed frame in a snapshot
    bench, runner = bench_with(lambda _: BOOM)
    bench.take(collection())
    bench.one(T + HOUR)
    settings = bench.context.settings
    bench.state = decode_snapshot(encode_snapshot(bench.state), 0, 1, settings)

    # when the worker starts again, with the module installed that was missing
    runner.answer = each(halved)
    retry_unpriced(bench.state)

    # then
    assert bench.one(T + HOUR).status is FrameStatus.RATED


def test_a_quarantined_point_is_rated_once_the_rules_can_read_it() -> None:
    # given a threshold on a label that holds text
    rules = book(
        FieldCreated(Field(uid(5), uid(1), "flavor")),
        ThresholdCreated(ThresholdRule(uid(6), Decimal(1), Decimal(1), field_id=uid(5))),
        ModuleSet("pyscripts", False),
    )
    bench = Bench(Chain(rules))
    bench.take(plan("cpu", until=T + HOUR), collection(qty="3"))
    first = bench.one(T + HOUR)
    assert (first.status, len(first.quarantined)) == (FrameStatus.PARTIAL, 1)

    # when it is taken away days later
    for hours in (2, 30):
        assert bench.decide(T + hours * HOUR) == []
    bench.rules = Chain(changed(rules, ThresholdDeleted(uid(6))))

    # then
    second = bench.one(T + 31 * HOUR)
    assert (second.status, second.quarantined, priced(second)) == (FrameStatus.RATED, [], {"vm1": 6})


def test_changed_labels_make_another_line_and_the_same_one_each_time() -> None:
    # given a script that names the team
    def named(point: RatingPoint) -> list[RatingPoint]:
        return [msgspec.structs.replace(point, groupby={**point.groupby, "team": "x"}, unit="h")]

    bench, runner = bench_with(each(named))
    bench.take(plan("cpu", until=T + HOUR), collection())
    first = bench.one(T + HOUR)

    # when a better answer comes, and the script has lost interest
    runner.answer = each(halved)
    bench.take(collection(qty="2", attempt=2))
    second = bench.one(T + HOUR)

    # then the line with the team is repeated with zero
    (line,) = first.lines
    assert (line.groupby, line.unit) == ({"id": "vm1", "team": "x"}, "h")
    assert [(found.groupby, found.qty) for found in second.lines] == [
        ({"id": "vm1"}, 2),
        ({"id": "vm1", "team": "x"}, 0),
    ]
    assert second.lines[1].line_id == line.line_id
    assert line.line_id != second.lines[0].line_id


def test_points_may_be_dropped_and_added() -> None:
    # given a script that drops vm2 and adds a base fee
    def with_fee(job: ScriptJob) -> ScriptDone:
        fee = RatingPoint("fee", "month", Decimal(1), Decimal("9.99"), {"id": "fee"}, {})
        return ScriptDone([*(p for p in job.frame.points if p.groupby["id"] != "vm2"), fee])

    bench, _ = bench_with(with_fee)
    bench.take(collection(series=[VM1, VM2], samples=[sample(T), sample(T, series=1)]))

    # when
    frame = bench.one(T + HOUR)

    # then
    assert quantities(frame) == {"vm1": 1, "fee": 1}
    assert [(total.metric, total.unit, total.price) for total in frame.totals] == [
        ("cpu", "undefined", 2),
        ("fee", "month", Decimal("9.99")),
    ]


def test_points_made_alike_are_added_up() -> None:
    # given a script that takes the resource away
    def nameless(point: RatingPoint) -> list[RatingPoint]:
        return [msgspec.structs.replace(point, groupby={"id": "all"})]

    bench, _ = bench_with(each(nameless))
    bench.take(collection(series=[VM1, VM2], samples=[sample(T, "1"), sample(T, "2", series=1)]))

    # then
    (line,) = bench.one(T + HOUR).lines
    assert (line.qty, line.price) == (3, 6)


def test_points_alike_but_for_their_units_fail_the_frame() -> None:
    def units(point: RatingPoint) -> list[RatingPoint]:
        return [point, msgspec.structs.replace(point, unit="other")]

    bench, _ = bench_with(each(units))
    bench.take(collection())
    frame = bench.one(T + HOUR)
    assert (frame.status, frame.lines) == (FrameStatus.FAILED, [])
    assert frame.failure.startswith("two points of metric 'cpu' differ only in their units, 'undefined' and 'other'")


@pytest.mark.parametrize("change", [{"qty": Decimal("1.1e30")}, {"price": Decimal("-1.1e30")}])
def test_a_point_beyond_the_bounds_of_the_columns_is_put_aside(change: dict[str, Decimal]) -> None:
    bench, _ = bench_with(each(lambda point: [msgspec.structs.replace(point, **change)]))
    bench.take(collection())
    frame = bench.one(T + HOUR)
    assert (frame.status, len(frame.quarantined), frame.lines) == (FrameStatus.PARTIAL, 1, [])


def test_modules_are_told_scope_and_period() -> None:
    seen: list[RatingFrame] = []

    def watch(job: ScriptJob) -> ScriptDone:
        seen.append(job.frame)
        return ScriptDone(list(job.frame.points))

    bench, _ = bench_with(watch)
    bench.take(collection(qty="3"))
    bench.one(T + HOUR)
    (given,) = seen
    assert (given.scope_id, given.period_begin, given.period_end, given.used) == ("A", T, T + HOUR, {})
    assert given.points == (
        RatingPoint("cpu", "undefined", Decimal(3), Decimal(6), {"id": "vm1"}, {"flavor": "tiny"}, 0),
    )
