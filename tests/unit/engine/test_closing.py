"""When frames close: complete, by grace, by force; what wakes a scope; and what happens to offsets and clocks."""

from __future__ import annotations

import pytest

from rater.engine import EngineContext, EngineSettings, LogGapError, PartitionState, Record, apply, decide
from rater.model.codec import encode_json
from rater.model.metric import Catalog, MetricSpec
from rater.model.rated import AlertKind, ClosedBy, FrameStatus
from rater.model.usage import FrameBase, ReworkBegun
from tests.unit.engine.builders import (
    GRACE,
    HOUR,
    Bench,
    Log,
    T,
    collection,
    context,
    failed,
    forced,
    holes,
    plan,
    price_list,
    push,
    quantities,
    sample,
    state,
)

HALF = HOUR // 2


def test_a_frame_closes_as_soon_as_it_is_over_and_covered() -> None:
    # given usage of the hour, already before it is over
    bench = Bench()
    bench.take(plan("cpu"), collection(), at=T + 10)

    # when
    early, frame, again = bench.decide(T + HOUR - 1), bench.one(T + HOUR), bench.decide(T + HOUR)

    # then
    assert early == again == []
    assert (frame.scope_id, frame.period_begin, frame.period_end) == ("A", T, T + HOUR)
    assert (frame.revision, frame.status, frame.closed_by) == (0, FrameStatus.RATED, ClosedBy.COMPLETE)
    assert (frame.closed_at, frame.rule_version, frame.part, frame.parts) == (T + HOUR, 1, 0, 1)
    assert (frame.weak, frame.gaps, frame.quarantined, frame.version) == (False, [], [], 1)


def test_a_frame_waits_for_each_metric_and_source_that_is_expected() -> None:
    # given three answers of which two are in
    bench = Bench()
    bench.take(plan("cpu", "m_max"), plan("cpu", source="twin"), collection(), at=T + HOUR)
    bench.take(collection(metric="m_max"))
    assert bench.decide(T + HOUR) == []

    # when the third one comes
    bench.take(collection(source="twin"))

    # then
    assert bench.one(T + HOUR).closed_by is ClosedBy.COMPLETE


@pytest.mark.parametrize(("wait", "closes"), [(0, T + HOUR + 300), (1, T + 2 * HOUR), (5, T + 6 * HOUR)])
def test_a_frame_with_a_hole_closes_when_it_has_waited_long_enough(wait: int, closes: int) -> None:
    # given half of an hour; nothing touches the frame after 01:00
    bench = Bench(wait_periods=wait)
    bench.take(plan("cpu", until=T + HOUR), collection(end=T + HALF), at=T + HOUR)

    # when, then
    assert bench.decide(closes - 1) == []
    frame = bench.one(closes)
    assert (frame.status, frame.closed_by, frame.closed_at) == (FrameStatus.PARTIAL, ClosedBy.GRACE, closes)
    assert (quantities(frame), holes(frame)) == ({"vm1": 1}, [(30, 60)])


def test_a_frame_that_is_still_being_filled_is_not_closed() -> None:
    # given months later, old usage that is replayed, ten minutes at a time
    bench = Bench(settle=300)
    replay = T + 5000 * HOUR
    bench.take(plan("cpu", until=T + HOUR), at=replay)
    for step in range(5):
        begin = T + step * 600
        bench.take(collection(begin, begin + 600), at=replay + step * 299)
        assert bench.decide(replay + step * 299 + 298) == []

    # when it goes quiet, then
    quiet = replay + 4 * 299 + 300
    assert bench.decide(quiet - 1) == []
    assert holes(bench.one(quiet)) == [(50, 60)]


def test_a_broker_whose_clock_falls_behind_does_not_shorten_the_time_to_settle() -> None:
    # given a record before the frame's waiting ends, and one after it with an earlier hour of the broker
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(end=T + 600), at=T + GRACE - 10)
    bench.take(collection(T + 600, T + 1200), at=T + GRACE - 100)

    # when, then
    assert bench.decide(T + GRACE + 289) == []
    assert holes(bench.one(T + GRACE + 290)) == [(20, 60)]


def test_settling_counts_whole_seconds_from_the_end_of_the_last_one() -> None:
    # given a record half a second after T + 3 h, when the frame's waiting ends
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), at=T)
    record = Record(1, (T + GRACE) * 1000 + 500, b"A", encode_json(collection(end=T + HALF)))
    apply(bench.state, record, bench.context)

    # when, then
    assert bench.decide(T + GRACE + 300) == []
    assert holes(bench.one(T + GRACE + 301)) == [(30, 60)]


def test_repetitions_do_not_keep_a_frame_open() -> None:
    # given the same batch again, and the same part under another number, just before the frame's waiting ends
    bench = Bench()
    half = collection(end=T + HALF)
    bench.take(plan("cpu", until=T + HOUR), half, at=T + HOUR)
    bench.take(half, collection(end=T + HALF), at=T + GRACE - 10)

    # when, then
    assert holes(bench.one(T + GRACE)) == [(30, 60)]


def test_an_outage_that_goes_on_does_not_hide_the_gap() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), at=T)
    for minute in range(0, 180, 5):
        bench.take(failed(), at=T + minute * 60)
    assert bench.one(T + GRACE).status is FrameStatus.MISSING


def test_a_plan_that_comes_late_gives_its_frames_time_to_settle() -> None:
    # given a plan for hours that are long over, with and without an end
    for until in (None, T + HOUR):
        bench = Bench()
        bench.take(plan("cpu", until=until), at=T + 9 * HOUR)

        # when, then
        assert bench.decide(T + 9 * HOUR + 299) == []
        assert bench.decide(T + 9 * HOUR + 300)[0].period_begin == T


def test_a_change_of_the_plan_gives_open_frames_time_to_settle() -> None:
    # given a frame about to close, when the plan changes for a later time
    bench = Bench()
    bench.take(plan("cpu"), at=T)
    assert bench.decide(T + 2 * HOUR) == []
    bench.take(plan("cpu", "disk", begin=T + 90 * HOUR), at=T + GRACE - 1)

    # when, then
    assert bench.decide(T + GRACE + 298) == []
    assert bench.one(T + GRACE + 299).period_begin == T


def test_a_new_metric_of_a_source_without_plan_gives_open_frames_time_to_settle() -> None:
    # given a missing hour that is about to close, when the source sends another metric, of another hour
    bench = Bench()
    bench.take(collection(), at=T + HOUR)
    assert len(bench.decide(T + 2 * HOUR)) == 1
    late = T + HOUR + GRACE - 1
    bench.take(collection(T + 9 * HOUR, T + 10 * HOUR, metric="m_max"), at=late)

    # when, then
    assert bench.decide(late + 299) == []
    assert bench.one(late + 300).period_begin == T + HOUR


def test_an_operator_closes_a_frame_at_once() -> None:
    # given half an answer for an hour that is not over
    bench = Bench()
    bench.take(plan("cpu"), collection(end=T + HALF), at=T + 2000)

    # when
    bench.take(forced(), at=T + 2400)
    frame = bench.one(T + 2400)

    # then
    assert (frame.status, frame.closed_by, frame.closed_at) == (FrameStatus.PARTIAL, ClosedBy.FORCED, T + 2400)
    assert holes(frame) == [(30, 60)]

    # and what comes later makes the next revision, by what it is then
    bench.take(collection(T + HALF, T + HOUR), at=T + HOUR)
    later = bench.one(T + HOUR)
    assert (later.revision, later.status, later.closed_by) == (1, FrameStatus.RATED, ClosedBy.COMPLETE)


def test_force_on_a_closed_frame_says_nothing_new() -> None:
    bench = Bench()
    bench.take(plan("cpu"), collection(), at=T + HOUR)
    bench.one(T + HOUR)
    bench.take(forced())
    assert bench.decide(T + HOUR + 60) == []


def test_a_clock_that_goes_back_decides_nothing_new() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu"), at=T)
    assert len(bench.decide(T + GRACE)) == 1

    # when the clock falls behind, and usage of the closed hour comes
    bench.take(collection(), at=T + GRACE)
    frame = bench.one(T + HOUR)

    # then time stands still
    assert (frame.revision, frame.closed_at) == (1, T + GRACE)
    assert bench.state.decided_at == T + GRACE


def test_decide_returns_how_many_revisions_it_made() -> None:
    # given three scopes, of which two have a whole hour
    bench = Bench()
    bench.take(collection(), collection(scope_id="B"), collection(scope_id="C", end=T + HALF, covers=[]))

    # when, then
    assert decide(bench.state, T + HOUR, bench.rules, bench.context) == 2
    assert decide(bench.state, T + HOUR, bench.rules, bench.context) == 0


def test_a_quiet_scope_is_woken_by_the_clock_alone_and_no_later() -> None:
    # given a scope with an open frame that will close at T + 3 h 100 s, and a closed one that leaves at T + 3 h
    bench = Bench(settle=100)
    bench.take(plan("cpu", until=T + 2 * HOUR), collection(), at=T + HOUR)
    bench.one(T + HOUR)
    scope = bench.state.scopes["A"]
    assert (scope.dirty, scope.wake_at) == (False, T + 2 * HOUR)

    # when nothing but the clock moves
    bench.decide(T + 2 * HOUR - 1)
    assert scope.wake_at == T + 2 * HOUR
    bench.decide(T + 2 * HOUR)

    # then it sleeps to the next period's begin at the latest, or until a frame may close or leave
    assert scope.wake_at == T + 3 * HOUR
    assert (T in scope.frames) is True
    bench.decide(T + 3 * HOUR)
    assert list(scope.frames) == [T + HOUR]
    bench.take(collection(T + HOUR, T + HOUR + HALF), at=T + 4 * HOUR - 10)
    bench.decide(T + 4 * HOUR)
    assert scope.wake_at == T + 4 * HOUR + 90
    assert holes(bench.one(T + 4 * HOUR + 90)) == [(90, 120)]


def test_a_closed_frame_leaves_within_a_period_too() -> None:
    # given a frame that closed at 01:00:40
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    bench.one(T + HOUR + 40)
    scope = bench.state.scopes["A"]

    # when, then
    bench.decide(T + 3 * HOUR)
    assert scope.wake_at == T + 3 * HOUR + 40
    bench.decide(T + 3 * HOUR + 39)
    assert list(scope.frames) == [T]
    bench.decide(T + 3 * HOUR + 40)
    assert scope.frames == {}


def test_a_late_decision_makes_all_frames_that_are_due_in_order() -> None:
    bench = Bench()
    bench.take(plan("cpu"), at=T)
    frames = bench.decide(T + 12 * HOUR + 1800)
    assert [frame.period_begin for frame in frames] == [T + hour * HOUR for hour in range(10)]
    assert bench.state.scopes["A"].made_until == T + 12 * HOUR


def test_frames_of_every_scope_close_for_themselves() -> None:
    bench = Bench()
    bench.take(collection(), collection(scope_id="B", qty="2"))
    assert [(f.scope_id, f.lines[0].qty) for f in bench.decide(T + HOUR)] == [("A", 1), ("B", 2)]


@pytest.mark.parametrize(
    ("qty", "written", "price"),
    [("3", "3", "0.3"), ("10.00", "10", "1"), ("1e2", "100", "10"), ("1e-38", "1E-38", "0")],
)
def test_quantities_and_prices_have_one_way_to_be_written(qty: str, written: str, price: str) -> None:
    bench = Bench()
    bench.take(collection(qty=qty))
    frame = bench.one(T + HOUR)
    assert [(str(line.qty), str(line.price)) for line in frame.lines] == [(written, price)]
    assert [(str(total.qty), str(total.price)) for total in frame.totals] == [(written, price)]


def test_another_period_is_possible() -> None:
    # given periods of five minutes
    settings = EngineContext(EngineSettings(period=300), Catalog([MetricSpec("cpu")]))
    five = PartitionState(0, 1, 300)
    apply(five, Log().add(collection(T, T + 600)), settings)

    # when, then
    assert decide(five, T + 600, price_list(), settings) == 2
    assert list(five.scopes["A"].frames) == [T, T + 300]


def test_a_state_of_another_period_is_not_decided() -> None:
    with pytest.raises(AssertionError, match="checked at restore"):
        decide(PartitionState(0, 1, 300), T, price_list(), context())


def test_a_record_that_was_applied_before_is_passed_over() -> None:
    # given
    log, partition, terms = Log(), state(), context()
    first, second = log.add(collection()), log.add(collection(T + HOUR, T + 2 * HOUR))

    # when, then
    assert [apply(partition, record, terms) for record in (first, first, second, first)] == [True, False, True, False]
    assert partition.next_offset == 2


def test_the_first_record_may_have_any_offset() -> None:
    partition = state()
    assert apply(partition, Record(41, 0, b"A", encode_json(collection())), context())
    assert partition.next_offset == 42


@pytest.mark.parametrize("offset", [6, 7, 1000])
def test_a_hole_in_the_log_stops_everything(offset: int) -> None:
    # given a state that has read up to offset 5
    partition = state()
    partition.next_offset = 5
    record = Record(offset, 0, b"A", encode_json(collection()))

    # when, then
    with pytest.raises(LogGapError, match=f"usage partition 0: expected offset 5, got {offset}"):
        apply(partition, record, context())
    assert (partition.next_offset, partition.scopes, partition.outbox) == (5, {}, [])


def test_a_record_without_key_and_value_is_refused_and_the_log_goes_on() -> None:
    bench = Bench()
    bench.take_raw(b"", key=None)
    assert len(bench.rejected()) == 1
    bench.take(collection())
    assert len(bench.decide(T + HOUR)) == 1


def test_a_worker_that_reads_from_behind_takes_nothing_for_missing_that_may_lie_ahead() -> None:
    # given the first of two metrics of a frame of long ago, and more of the log to read
    bench = Bench()
    bench.take(plan("cpu", "disk", until=T + HOUR), collection(), at=T + HOUR)
    days_later = T + 50 * HOUR

    # when it is decided by a clock that is far ahead of the log, then nothing is missing yet
    assert bench.decide(days_later, caught_up=False) == []
    assert bench.alerts() == []

    # when the rest is read, then the frame is complete; and a next one closes by the hours of the log
    bench.take(collection(metric="disk", unit="GiB"), at=T + HOUR)
    assert bench.one(days_later).closed_by is ClosedBy.COMPLETE
    bench.take(plan("cpu", begin=T + HOUR, until=T + 2 * HOUR), at=T + 2 * HOUR)
    assert bench.decide(days_later, caught_up=False) == []
    bench.take(plan("cpu", begin=T - HOUR, until=T, source="other"), at=T + HOUR + GRACE)
    assert bench.decide(days_later, caught_up=False)[-1].closed_by is ClosedBy.GRACE


def test_a_rework_and_lost_batches_wait_for_the_log_too() -> None:
    # given a rework that was begun and not ended, and a hole in the numbers of a producer, in a log read from behind
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    frame = bench.one(T + HOUR)
    base = FrameBase(0, frame.digest, 1, T + HOUR)
    bench.take(ReworkBegun("r", "rerate", "A", T, "kim", "", base), push(sample(T), sequence=1))

    # when, then
    bench.decide(T + 9 * HOUR, caught_up=False)
    assert bench.alerts() == []
    bench.decide(T + 9 * HOUR)
    assert {alert.kind for alert in bench.alerts()} >= {AlertKind.REWORK_ABANDONED, AlertKind.BATCHES_LOST}
