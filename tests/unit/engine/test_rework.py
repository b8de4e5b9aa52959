"""Closed frames are rated again: a bracket of records counts at once or not at all, whoever remembers the frame."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.engine import decode_snapshot, encode_snapshot
from rater.engine.rework import REWORK_SECONDS
from rater.engine.settings import EngineSettings
from rater.engine.state import Frame
from rater.model.interval import Interval
from rater.model.rated import Alert, AlertKind, FrameStatus, MetricTotal, RatedFrame
from rater.model.usage import Collection, FrameBase, ReworkBegun, ReworkEnded, ReworkLines, Series, UsageRecord
from rater.rating import Chain
from tests.unit.engine.builders import (
    GRACE,
    HALF,
    HOUR,
    VM1,
    VM2,
    Bench,
    T,
    collection,
    holes,
    plan,
    price_list,
    push,
    quantities,
    sample,
)
from tests.unit.engine.test_tiers import bench_of, hour, rules, said

BOTH = [sample(T, "1"), sample(T, "10", series=1)]
DONE, REFUSED, ABANDONED = AlertKind.REWORK_DONE, AlertKind.REWORK_REFUSED, AlertKind.REWORK_ABANDONED


def base_of(frame: RatedFrame) -> FrameBase:
    """As the store knows it."""
    return FrameBase(
        revision=frame.revision,
        digest=frame.digest,
        rule_version=frame.rule_version,
        closed_at=frame.closed_at,
        expected_until=frame.expected_until,
        failed=bool(frame.failure),
        totals=frame.totals,
        gaps=frame.gaps,
    )


def begun(frame: RatedFrame, rework_id: str = "r1", **changes: Any) -> ReworkBegun:
    made = ReworkBegun(rework_id, "rerate", "A", frame.period_begin, "kim", "wrong price", base_of(frame))
    return msgspec.structs.replace(made, **changes)


def lines_of(frame: RatedFrame, rework_id: str = "r1") -> ReworkLines:
    series = [Series(line.groupby, line.metadata) for line in frame.lines if line.qty]
    return ReworkLines(rework_id, "A", frame.period_begin, "cpu", series)


def ended(frame: RatedFrame, records: int, rework_id: str = "r1") -> ReworkEnded:
    return ReworkEnded(rework_id, "A", frame.period_begin, records)


def again(part: Collection, rework_id: str = "r1", producer_id: str = "") -> Collection:
    """What the store has, sent once more."""
    producer_id = producer_id or rework_id + part.producer_id
    return msgspec.structs.replace(part, rework_id=rework_id, stored=True, producer_id=producer_id)


def bracket(frame: RatedFrame, *parts: Collection) -> list[UsageRecord]:
    return [begun(frame), lines_of(frame), *(again(part) for part in parts), ended(frame, 1 + len(parts))]


def gone_bench(*parts: Collection, **settings: Any) -> tuple[Bench, RatedFrame]:
    """A frame of two lines that was closed and has left the state."""
    bench = Bench(late_horizon_periods=0, gap_horizon_periods=0, **settings)
    first = collection(series=[VM1, VM2], samples=BOTH, collection_id="c", producer_id="q")
    bench.take(plan("cpu", until=T + HOUR), *(parts or (first,)), at=T + HOUR)
    frame = bench.one(T + GRACE)
    assert T not in bench.state.scopes["A"].frames
    bench.alerts()
    return bench, frame


def stored() -> Collection:
    """What the frame of `gone_bench` was made of."""
    return collection(series=[VM1, VM2], samples=BOTH, collection_id="c", producer_id="q")


def only(alerts: list[Alert]) -> Alert:
    (alert,) = alerts
    return alert


def test_a_frame_that_has_left_the_state_is_rated_by_the_rules_of_now() -> None:
    # given
    bench, frame = gone_bench()
    bench.rules = Chain(rules())

    # when its usage comes again, but nothing is said before the end
    bench.take(*bracket(frame, stored())[:-1], at=T + 5 * HOUR)
    assert bench.decide(T + 5 * HOUR) == []
    bench.take(bracket(frame, stored())[-1])
    new = bench.one(T + 5 * HOUR)

    # then it is the next revision, by the new rules, and says so
    assert (new.revision, new.rework_id, new.status) == (1, "r1", FrameStatus.RATED)
    assert quantities(new) == {"vm1": 1, "vm2": 10}
    assert new.digest != frame.digest
    alert = only(bench.alerts())
    assert alert.kind is DONE
    assert alert.rework is not None
    assert (alert.rework.base_revision, alert.rework.revision, alert.rework.author) == (0, 1, "kim")
    assert (alert.rework.before, alert.rework.after) == (frame.totals, new.totals)
    assert alert.rework.before == [MetricTotal("cpu", "undefined", Decimal(11), Decimal("1.1"), 2)]
    assert alert.rework.after == [MetricTotal("cpu", "undefined", Decimal(11), Decimal("10.1"), 2)]
    # and it leaves the state again, its revision remembered
    scope = bench.state.scopes["A"]
    assert scope.frames == {}
    assert scope.evicted == [Interval(T, T + HOUR)]
    assert scope.revised == {T: (1, T + 5 * HOUR)}


def test_a_line_that_vanishes_is_said_with_zero() -> None:
    bench, frame = gone_bench()
    parts = [stored(), collection(series=[VM2], qty="7", attempt=2, collection_id="new")]
    bench.take(*bracket(frame, *parts), at=T + 5 * HOUR)
    assert quantities(bench.one(T + 5 * HOUR)) == {"vm2": 7, "vm1": 0}


def test_what_comes_to_the_same_is_no_revision() -> None:
    # given
    bench, frame = gone_bench()

    # when
    bench.take(*bracket(frame, stored()), at=T + 5 * HOUR)

    # then it is told, and nothing is published
    assert bench.decide(T + 5 * HOUR) == []
    alert = only(bench.alerts())
    assert alert.kind is DONE
    assert alert.rework is not None
    assert (alert.rework.base_revision, alert.rework.revision) == (0, 0)
    assert alert.rework.after == frame.totals
    assert bench.state.scopes["A"].frames == {}


def test_without_a_digest_a_revision_is_made_in_any_case() -> None:
    bench, frame = gone_bench()
    records = bracket(frame, stored())
    records[0] = begun(frame, base=msgspec.structs.replace(base_of(frame), digest=""))
    bench.take(*records, at=T + 5 * HOUR)
    assert bench.one(T + 5 * HOUR).revision == 1


def test_a_gap_of_long_ago_is_resolved_under_its_own_id() -> None:
    # given half an hour that nobody collected, and the frame has left
    bench, frame = gone_bench(collection(end=T + HALF, collection_id="half", producer_id="q"))
    (gap,) = frame.gaps

    # when
    half = collection(end=T + HALF, collection_id="half", producer_id="q")
    rest = collection(T + HALF, T + HOUR, "2", collection_id="rest", stored=False)
    bench.take(*bracket(frame, half, rest), at=T + 5 * HOUR)
    new = bench.one(T + 5 * HOUR)

    # then
    assert (holes(new), quantities(new)) == ([], {"vm1": 3})
    resolved = only(bench.alerts(AlertKind.GAP_RESOLVED))
    assert resolved.alert_id == gap.gap_id


def test_a_frame_whose_gap_stays_is_left_in_the_state_and_takes_what_comes() -> None:
    # given a frame with a gap that was forgotten early
    bench, frame = gone_bench(collection(end=T + HALF, collection_id="half", producer_id="q"))
    half = collection(end=T + HALF, qty="5", attempt=2, collection_id="half2", producer_id="q")
    bench.context = msgspec.structs.replace(bench.context, settings=EngineSettings())

    # when it is reworked in vain, and the rest comes later, as any late usage
    bench.take(*bracket(frame, half), at=T + 5 * HOUR)
    second = bench.one(T + 5 * HOUR)
    bench.take(collection(T + HALF, T + HOUR, "2"))
    third = bench.one(T + 5 * HOUR)

    # then
    assert (second.revision, second.gaps) == (1, frame.gaps)
    assert (third.revision, holes(third), quantities(third), third.rework_id) == (2, [], {"vm1": 7}, "")


def test_pushed_samples_come_again_into_a_frame_that_was_forgotten() -> None:
    # given
    bench = Bench(late_horizon_periods=0, gap_horizon_periods=0, expect={"push": "planned"})
    first = push(sample(T, "1", T + HOUR), producer_id="q")
    bench.take(first, at=T + HOUR)
    frame = bench.one(T + GRACE)
    late = push(sample(T, "2", T + HOUR))
    bench.take(late)
    assert only(bench.alerts()).kind is AlertKind.LATE_USAGE

    # when all that the store has of it is sent
    net = ReworkLines("r1", "A", T, "net", [VM1])
    bench.take(begun(frame), net, again(first), again(late), ended(frame, 3), at=T + 5 * HOUR)

    # then the late ones count, once
    assert quantities(bench.one(T + 5 * HOUR)) == {"vm1": 3}


def test_pushed_samples_that_a_frame_in_the_state_does_not_have_are_not_passed_over() -> None:
    # given a frame that had left when a batch came for it, and that a rework without that batch has brought back
    bench = Bench(late_horizon_periods=0, expect={"push": "planned"})
    first, late = push(sample(T, "1", T + HOUR), producer_id="q"), push(sample(T, "2", T + HOUR))
    bench.take(plan("net", until=T + HOUR, source="push"), first, at=T + HOUR)
    frame = bench.one(T + GRACE)
    net = ReworkLines("r1", "A", T, "net", [VM1])
    bench.take(late, plan("cpu", until=T + HOUR))
    bench.take(begun(frame), net, again(first), ended(frame, 2), at=T + 5 * HOUR)
    partial = bench.one(T + 5 * HOUR)
    assert partial.status is FrameStatus.PARTIAL
    bench.alerts()

    # when all that the store has of it is sent
    both = [again(first, "r2"), again(late, "r2")]
    bench.take(begun(partial, "r2"), *both, ended(partial, 2, "r2"))

    # then nobody is told that it was done
    assert bench.decide(T + 5 * HOUR) == []
    alert = only(bench.alerts())
    assert (alert.kind, alert.reason[:17]) == (ABANDONED, "1 pushed samples ")


def test_a_frame_in_the_state_is_rated_by_the_rules_of_now_and_nothing_counts_twice() -> None:
    # given a closed frame of collected and pushed usage
    bench = Bench(expect={"push": "planned"})
    cpu, net = collection(producer_id="q", qty="4"), push(sample(T, "3", T + HOUR), producer_id="q2")
    bench.take(plan("cpu", until=T + HOUR), cpu, net, at=T + HOUR)
    frame = bench.one(T + HOUR)

    # when
    bench.rules = Chain(rules())
    bench.take(begun(frame), lines_of(frame), again(cpu), again(net), ended(frame, 3))
    new = bench.one(T + HOUR)

    # then
    assert [(line.metric, line.qty, line.price) for line in new.lines] == [("cpu", 4, 4), ("net", 3, 0)]
    assert (new.revision, new.rework_id) == (1, "r1")
    assert only(bench.alerts(DONE)).revision == 1


def test_a_frame_in_the_state_waits_for_the_end_of_its_rework() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    frame = bench.one(T + HOUR)

    # when other usage comes while it is under way
    bench.take(begun(frame), collection(attempt=5, qty="9"))

    # then it is rated with the rework, not before, and does not leave meanwhile
    assert bench.decide(T + HOUR + 60) == []
    bench.take(ended(frame, 0))
    new = bench.one(T + HOUR + 60)
    assert (new.revision, quantities(new)) == (1, {"vm1": 9})


def test_other_usage_stays_late_while_a_forgotten_frame_is_open() -> None:
    bench, frame = gone_bench()
    bench.take(*bracket(frame, stored())[:-1], at=T + 5 * HOUR)
    bench.take(collection(attempt=9, qty="9"))
    assert only(bench.alerts()).kind is AlertKind.LATE_USAGE
    assert "late" in bench.rejected()[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"period_begin": T + 1}, "not the begin of a period"),
        ({"scope_id": "nobody"}, "scope 'nobody'"),
        ({"period_begin": T - HOUR}, "nothing was ever collected or planned of this period"),
    ],
)
def test_what_cannot_be_reworked_is_refused(change: dict[str, Any], reason: str) -> None:
    # given
    bench, frame = gone_bench()

    # when
    bench.take(begun(frame, **change), at=T + 5 * HOUR)

    # then the record lies in rejected, and whoever asked is told
    assert reason in bench.rejected()[0]
    alert = only(bench.alerts())
    assert (alert.kind, alert.raised_at) == (REFUSED, T + 5 * HOUR)
    assert reason in alert.reason
    assert alert.rework is not None
    assert (alert.rework.base_revision, alert.rework.revision) == (0, 0)


def test_a_frame_that_is_open_is_not_reworked() -> None:
    bench, frame = gone_bench()
    bench.take(plan("cpu", begin=T + HOUR, until=T + 2 * HOUR), at=T + HOUR)
    bench.take(begun(frame, period_begin=T + HOUR))
    assert "not closed yet" in only(bench.alerts()).reason


@pytest.mark.parametrize("remembered", [True, False])
def test_a_stale_base_is_refused(*, remembered: bool) -> None:
    # given a frame that has revision 1, in the state or out of it, and a rework that goes on from revision 0
    bench, frame = gone_bench()
    if remembered:
        bench.context = msgspec.structs.replace(bench.context, settings=EngineSettings(late_horizon_periods=9))
    new = collection(attempt=2, qty="7", collection_id="new")
    bench.take(*bracket(frame, stored(), new), at=T + 5 * HOUR)
    assert bench.one(T + 5 * HOUR).revision == 1
    assert bool(bench.state.scopes["A"].frames) is remembered
    bench.alerts()

    # when
    bench.take(begun(frame, "r2"))

    # then
    assert "based on revision 0 and the frame has revision 1" in only(bench.alerts()).reason


def test_a_base_that_the_state_does_not_know_yet_is_refused() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    frame = bench.one(T + HOUR)
    bench.take(begun(frame, base=msgspec.structs.replace(base_of(frame), revision=3)))
    assert "based on revision 3 and the frame has revision 0" in only(bench.alerts()).reason


def test_a_revision_is_forgotten_a_week_after_its_frame_left() -> None:
    # given a frame that left with revision 1
    bench, frame = gone_bench()
    bench.take(*bracket(frame, stored(), collection(attempt=2, qty="7", collection_id="n")), at=T + 5 * HOUR)
    bench.one(T + 5 * HOUR)
    scope = bench.state.scopes["A"]
    assert list(scope.revised) == [T]

    # when another one leaves more than a week later
    later = T + 10 * 24 * HOUR
    bench.take(plan("cpu", begin=later, until=later + HOUR), collection(later, later + HOUR), at=later + HOUR)
    bench.decide(later + HOUR)

    # then
    assert scope.revised == {}


def test_two_reworks_of_a_frame_do_not_overlap() -> None:
    # given
    bench, frame = gone_bench()
    bench.take(begun(frame), at=T + 5 * HOUR)

    # when somebody else begins, and sends
    bench.take(begun(frame, "r2", author="lee"), again(stored(), "r2"), ended(frame, 1, "r2"))

    # then they are told by whom the frame is taken, and nothing of theirs counts
    refusal = only(bench.alerts())
    assert (refusal.kind, refusal.reason) == (REFUSED, "rework r1 of kim is under way: wrong price")
    assert len(bench.rejected()) == 3
    bench.take(*bracket(frame, stored())[1:])
    bench.decide(T + 5 * HOUR)
    assert only(bench.alerts()).kind is DONE


@pytest.mark.parametrize("remembered", [True, False])
def test_a_rework_that_begins_anew_begins_anew(*, remembered: bool) -> None:
    # given one that was broken off by an error of its sender
    if remembered:
        bench = Bench()
        bench.take(plan("cpu", until=T + HOUR), stored(), at=T + HOUR)
        frame = bench.one(T + HOUR)
        bench.alerts()
    else:
        bench, frame = gone_bench()
    bench.take(begun(frame), lines_of(frame), again(stored(), producer_id="first try"), at=T + 5 * HOUR)

    # when all of it is sent again
    bench.rules = Chain(rules())
    bench.take(*bracket(frame, stored()))

    # then it counts once
    assert quantities(bench.one(T + 5 * HOUR)) == {"vm1": 1, "vm2": 10}


def test_a_rework_of_which_a_record_is_missing_changes_nothing() -> None:
    # given one whose second collection was refused
    bench, frame = gone_bench()
    wrong = again(collection(unit="GiB", collection_id="n"))
    bench.take(begun(frame), lines_of(frame), again(stored()), wrong, ended(frame, 3), at=T + 5 * HOUR)

    # when, then
    assert bench.decide(T + 5 * HOUR) == []
    alert = only(bench.alerts())
    assert alert.kind is ABANDONED
    assert alert.reason.startswith("2 of 3 records were taken")
    scope = bench.state.scopes["A"]
    assert (scope.frames, scope.evicted) == ({}, [Interval(T, T + HOUR)])


def fresh(**changes: Any) -> Collection:
    """What a source answered now, for a rework of kind reprocess."""
    made = collection(attempt=9, qty="7", collection_id="r1/cpu")
    return msgspec.structs.replace(made, rework_id="r1", **changes)


def remembered_bench() -> tuple[Bench, RatedFrame]:
    """A closed frame of two lines that is in the state."""
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), stored(), at=T + HOUR)
    return bench, bench.one(T + HOUR)


def test_of_a_frame_in_the_state_all_of_a_rework_counts_at_its_end() -> None:
    # given a frame of which other usage comes meanwhile
    bench, frame = remembered_bench()
    parts = [fresh(parts=2, part=number, producer_id="r", sequence=number) for number in (0, 1)]
    bench.take(begun(frame, kind="reprocess"), *parts, collection(T, T + HOUR, metric="disk", unit="GiB"))

    # when a worker goes on from a checkpoint
    snapshot = encode_snapshot(bench.state)
    bench.state = decode_snapshot(snapshot, 0, 1, bench.context.settings)
    bench.take(ended(frame, 2))

    # then
    (new,) = bench.decide(T + HOUR + 60)
    found = {(line.metric, str(line.groupby["id"])): line.qty for line in new.lines}
    assert found == {("cpu", "vm1"): 14, ("cpu", "vm2"): 0, ("disk", "vm1"): 1}
    assert new.rework_id == "r1"


@pytest.mark.parametrize("is_ended", [True, False])
def test_a_frame_in_the_state_takes_nothing_of_a_rework_of_which_a_record_is_missing(*, is_ended: bool) -> None:
    # given an answer to one of two metrics
    bench, frame = remembered_bench()
    bench.take(begun(frame, kind="reprocess"), fresh(), at=T + HOUR + 60)

    # when the rest never comes
    if is_ended:
        bench.take(ended(frame, 2))

    # then the frame says what it said
    assert bench.decide(T + HOUR + 60 + REWORK_SECONDS) == []
    assert only(bench.alerts()).kind is ABANDONED


def test_a_frame_in_the_state_takes_nothing_of_a_rework_that_contradicts_itself() -> None:
    # given two parts of one collection that do not cover the same, and a whole one of another metric
    bench, frame = remembered_bench()
    one = fresh(parts=2, part=0, producer_id="r1")
    other = fresh(parts=2, part=1, producer_id="r2", covers=[])
    whole = fresh(metric="m_max", producer_id="r3")

    # when
    bench.take(begun(frame, kind="reprocess"), whole, one, other, ended(frame, 3), at=T + HOUR + 60)

    # then
    assert bench.decide(T + HOUR + 60) == []
    alert = only(bench.alerts())
    assert alert.kind is ABANDONED
    assert "contradicts an earlier part" in alert.reason


def test_of_a_frame_in_the_state_what_came_better_meanwhile_holds() -> None:
    bench, frame = remembered_bench()
    better = collection(attempt=10, qty="5", collection_id="better")
    bench.take(begun(frame, kind="reprocess"), fresh(), better, ended(frame, 1), at=T + HOUR + 60)
    assert quantities(bench.one(T + HOUR + 60)) == {"vm1": 5, "vm2": 0}


@pytest.mark.parametrize("remembered", [True, False])
def test_a_rework_that_never_ends_is_given_up(*, remembered: bool) -> None:
    # given
    if remembered:
        bench = Bench()
        bench.take(plan("cpu", until=T + HOUR), stored(), at=T + HOUR)
        frame = bench.one(T + HOUR)
    else:
        bench, frame = gone_bench()
    bench.take(begun(frame), collection(attempt=2, qty="7"), at=T + HOUR + 60)
    bench.alerts()

    # when its time is over
    gives_up = T + HOUR + 60 + REWORK_SECONDS
    before = bench.decide(gives_up - 1)
    after = bench.decide(max(gives_up, bench.state.decided_at))

    # then it is told; of a frame in the state what was held back counts
    assert before == []
    assert only(bench.alerts()).kind is ABANDONED
    assert [(f.revision, quantities(f), f.rework_id) for f in after] == (
        [(1, {"vm1": 7, "vm2": 0}, "")] if remembered else []
    )


def test_records_outside_of_a_rework_are_refused() -> None:
    # given
    bench, frame = gone_bench()
    bench.take(lines_of(frame), again(stored()), ended(frame, 0), at=T + 5 * HOUR)
    assert [text[:11] for text in bench.rejected()] == ["rework 'r1'"] * 3

    # when records come after its end, before it is decided, or of a scope that nobody knows
    bench.take(*bracket(frame, stored()))
    bench.take(again(stored()), ended(frame, 0), msgspec.structs.replace(ended(frame, 0), scope_id="nobody"))

    # then
    reasons = bench.rejected()
    assert ["has ended" in text for text in reasons] == [True, True, False]
    assert "is not under way" in reasons[2]


def test_within_a_rework_ranges_are_cut_to_the_period() -> None:
    bench, frame = gone_bench()
    bench.take(begun(frame), again(collection(T, T + 2 * HOUR)), at=T + 5 * HOUR)
    assert "spans periods" in bench.rejected()[0]


def test_a_batch_of_a_rework_that_comes_twice_counts_once() -> None:
    bench, frame = gone_bench()
    part = again(collection(attempt=2, qty="7", collection_id="new"))
    bench.take(begun(frame), part, part, ended(frame, 1), at=T + 5 * HOUR)
    assert quantities(bench.one(T + 5 * HOUR)) == {"vm1": 7}


def test_graduated_prices_go_on_from_what_came_before_the_frame() -> None:
    # given three hours at 4 units, of which all have left the state
    bench = bench_of(hour(0), hour(1), hour(2), late_horizon_periods=0, gap_horizon_periods=0)
    frames = bench.decide(T + 3 * HOUR)
    assert min(bench.state.scopes["A"].frames) == T + 3 * HOUR
    last = frames[2]

    # when the third is rated again, of 5 units
    more = hour(2, "5", attempt=2, collection_id="more")
    bench.take(begun(last), again(more), ended(last, 1), at=T + 3 * HOUR)

    # then it counts from 8 on: 2 at 1, 3 at 0.1; and what it used is kept again
    assert said(bench.decide(T + 3 * HOUR)) == [(2, 1, Decimal("2.3"))]
    (used,) = bench.state.scopes["A"].months[T].used.values()
    assert used == {T: 4, T + HOUR: 4, T + 2 * HOUR: 5}

    # and one that is given up leaves the count as it was
    bench.take(begun(frames[1], "r2"), ended(frames[1], 1, "r2"))
    assert used == {T: 4, T + HOUR: 4, T + 2 * HOUR: 5}


def test_an_hour_that_used_nothing_of_graduated_prices_is_opened_again() -> None:
    # given an hour of usage and one without, which have left
    bench = bench_of(hour(0), hour(1, None), late_horizon_periods=0, gap_horizon_periods=0)
    _, empty = bench.decide(T + 2 * HOUR)
    bench.alerts()

    # when the empty one turns out not to be
    bench.take(begun(empty), again(hour(1, "8", attempt=2)), ended(empty, 1), at=T + 2 * HOUR)

    # then it counts from 4 on: 6 at 1, 2 at 0.1
    assert said(bench.decide(T + 2 * HOUR)) == [(1, 1, Decimal("6.2"))]


def test_a_month_whose_graduated_prices_are_forgotten_is_not_rated_again() -> None:
    # given
    bench = bench_of(hour(0), late_horizon_periods=0, gap_horizon_periods=0)
    (frame,) = bench.decide(T + HOUR)
    bench.take(plan(begin=T + HOUR))
    for later in (32, 33, 64, 65):
        bench.decide(T + later * 24 * HOUR)
    scope = bench.state.scopes["A"]
    assert (scope.months, scope.forgotten) == ({}, [T])

    # when, then
    bench.alerts()
    bench.take(begun(frame))
    assert "graduated prices" in only(bench.alerts()).reason


def test_a_new_hour_of_a_month_whose_graduated_prices_are_forgotten_says_so() -> None:
    # given a month of which the cheap part was reached, long ago
    bench = Bench(Chain(rules()), late_horizon_periods=0, gap_horizon_periods=0)
    bench.take(plan("cpu", until=T + HOUR), hour(0, "10"))
    for day in (1, 32, 33, 64, 65):
        bench.decide(T + day * 24 * HOUR)
    assert bench.state.scopes["A"].forgotten == [T]
    bench.alerts()

    # when an hour of it is planned and collected for the first time
    now = T + 65 * 24 * HOUR
    bench.take(plan("cpu", begin=T + 5 * HOUR, until=T + 6 * HOUR), hour(5), at=now)

    # then its price may be wrong, and that is told
    assert said(bench.decide(now)) == [(5, 0, 4)]
    suspicion = only(bench.alerts())
    assert (suspicion.kind, suspicion.metric) == (AlertKind.SUSPICION, "cpu")
    assert "no longer counted" in suspicion.reason


def test_a_rework_under_way_survives_a_restart() -> None:
    # given
    bench, frame = gone_bench()
    bench.take(*bracket(frame, stored(), collection(attempt=2, qty="7", collection_id="n"))[:-1], at=T + 5 * HOUR)

    # when
    settings = bench.context.settings
    bench.state = decode_snapshot(encode_snapshot(bench.state), 0, 1, settings)
    bench.take(ended(frame, 3))

    # then
    assert bench.one(T + 5 * HOUR).revision == 1


def test_a_frame_keeps_what_a_rework_starts_from() -> None:
    bench = Bench(price_list())
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    frame = bench.one(T + HOUR)
    held: Frame = bench.state.scopes["A"].frames[T]
    assert (held.totals, held.rule_version, held.digest.hex()) == (frame.totals, 1, frame.digest)


def test_late_usage_of_a_month_with_graduated_prices_comes_right_by_reworks_in_order() -> None:
    # given three hours of 4 units that have left the state: 4 at 1, 4 at 1, 2 at 1 and 2 at 0.1
    bench = bench_of(hour(0), hour(1), hour(2), late_horizon_periods=0, gap_horizon_periods=0)
    first, *others = bench.decide(T + 3 * HOUR)
    bench.alerts()

    # when the first hour turns out to have used 8, then the hours after it are named
    bench.take(begun(first), again(hour(0, "8", attempt=2, collection_id="more")), ended(first, 1))
    assert said(bench.decide(T + 3 * HOUR)) == [(0, 1, Decimal(8))]
    (named,) = bench.alerts(AlertKind.SUSPICION)
    assert named.reason.startswith("the graduated prices of 2 later periods")

    # and rated again in order they are what they would have been
    for frame in others:
        number = (frame.period_begin - T) // HOUR
        bench.take(begun(frame), again(hour(number)), ended(frame, 1))
        bench.alerts()
        prices = said(bench.decide(T + 3 * HOUR))
        assert prices == [(number, 1, Decimal("2.2") if number == 1 else Decimal("0.4"))]
