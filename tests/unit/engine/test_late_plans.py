"""What is expected of a frame may be said after it has left the state: then an alert says so, to the minute."""

from __future__ import annotations

from rater.model.interval import Interval
from rater.model.rated import Alert, AlertKind, FrameStatus, RatedFrame
from rater.model.usage import ScopePlan
from tests.unit.engine.builders import GRACE, HALF, HOUR, Bench, T, collection, holes, plan, push, sample
from tests.unit.engine.test_rework import again, begun, bracket, ended


def told(alerts: list[Alert]) -> list[tuple[str, str, int, int]]:
    assert all(alert.kind is AlertKind.LATE_PLAN for alert in alerts)
    return [(alert.metric, alert.source, alert.begin, alert.end) for alert in alerts]


def gone_bench(*metrics: str, hours: int = 1, **settings: int) -> tuple[Bench, list[RatedFrame]]:
    """Frames that were closed with nothing but cpu in them and have left the state."""
    bench = Bench(late_horizon_periods=0, gap_horizon_periods=0, **settings)
    until = T + hours * HOUR
    parts = [collection(T + n * HOUR, T + (n + 1) * HOUR, collection_id=f"c{n}") for n in range(hours)]
    bench.take(plan(*(metrics or ("cpu",)), until=until), *parts, at=until)
    frames = bench.decide(until + GRACE)
    assert (len(frames), bench.state.scopes["A"].frames) == (hours, {})
    bench.alerts()
    return bench, frames


def test_what_is_expected_more_of_frames_that_have_left_is_told_once() -> None:
    # given two frames that have left
    bench, _ = gone_bench(hours=2)

    # when a plan says from the middle of the first on that disk is expected, too, in them and in what is to come
    late = plan("cpu", "disk", begin=T + HALF)
    bench.take(late, late, at=T + 20 * HOUR)

    # then what is new of it is told, and of frames that are still to come nothing
    (alert,) = bench.alerts()
    assert told([alert]) == [("disk", "prom", T + HALF, T + 2 * HOUR)]
    assert (alert.scope_id, alert.period_begin, alert.revision, alert.raised_at) == ("A", T, -1, T + 20 * HOUR)
    assert "what is expected here changed" in alert.reason
    assert bench.state.scopes["A"].evicted == [Interval(T, T + 2 * HOUR)]


def test_a_plan_that_says_the_same_of_them_tells_nothing() -> None:
    bench, _ = gone_bench()
    bench.take(plan("cpu", begin=T, until=T + 5 * HOUR), at=T + 20 * HOUR)
    assert bench.alerts() == []


def test_what_is_no_longer_expected_of_them_is_told_too() -> None:
    bench, _ = gone_bench("cpu", "disk")
    bench.take(plan("cpu", begin=T, until=T + HALF), at=T + 20 * HOUR)
    assert told(bench.alerts()) == [("disk", "prom", T, T + HALF)]


def test_each_change_has_an_alert_of_its_own() -> None:
    bench, _ = gone_bench()
    for metrics in (("cpu", "disk"), ("cpu",), ("cpu", "disk")):
        bench.take(plan(*metrics, begin=T, until=T + HOUR), at=T + 20 * HOUR)
    alerts = bench.alerts()
    assert told(alerts) == [("disk", "prom", T, T + HOUR)] * 3
    assert len({alert.alert_id for alert in alerts}) == 3


def test_a_rework_names_what_is_missing_then() -> None:
    # given a plan that came late
    bench, (frame,) = gone_bench()
    bench.take(plan("cpu", "disk", begin=T, until=T + HOUR), at=T + 20 * HOUR)
    bench.alerts()

    # when the frame is rated again from what was stored
    bench.take(*bracket(frame, collection(collection_id="c0")), at=T + 20 * HOUR)
    new = bench.one(T + 20 * HOUR)

    # then it has the gap
    assert (new.revision, new.status, holes(new)) == (1, FrameStatus.PARTIAL, [(0, 60)])
    assert [alert.metric for alert in bench.alerts(AlertKind.GAP_OPENED)] == ["disk"]


def test_a_frame_that_is_there_for_a_rework_only_is_told_of_as_well() -> None:
    # given a frame that a rework has opened again; when the plan comes before the rework is given up
    bench, (frame,) = gone_bench()
    bench.take(begun(frame), again(collection(collection_id="c0")), at=T + 20 * HOUR)
    bench.take(plan("cpu", "disk", begin=T, until=T + HOUR))
    bench.decide(T + 40 * HOUR)

    # then it has left without having said anything, and the alert is there
    assert bench.state.scopes["A"].evicted == [Interval(T, T + HOUR)]
    alerts = [alert for alert in bench.alerts() if alert.kind is not AlertKind.REWORK_ABANDONED]
    assert told(alerts) == [("disk", "prom", T, T + HOUR)]


def test_frames_in_the_state_say_it_themselves() -> None:
    # given a closed frame that is still there, one of them under a rework
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    frame = bench.one(T + HOUR)
    bench.take(begun(frame))

    # when, then
    bench.take(plan("cpu", "disk", begin=T, until=T + HOUR), ended(frame, 0))
    assert holes(bench.one(T + 2 * HOUR)) == [(0, 60)]
    assert [alert.kind for alert in bench.alerts()] == [AlertKind.GAP_OPENED, AlertKind.REWORK_DONE]


def test_a_source_without_plan_owes_what_lies_between_its_first_samples() -> None:
    # given a source that was first seen in the fourth hour, and frames of three hours before that have left
    bench, _ = gone_bench(hours=3)
    bench.take(push(sample(T + 3 * HOUR, end=T + 4 * HOUR), begin=T + 3 * HOUR, end=T + 4 * HOUR), at=T + 20 * HOUR)
    assert bench.alerts() == []

    # when samples of the first come
    bench.take(push(sample(T), begin=T, end=T + HOUR))

    # then they are told as late, and the hours between as not known to be owed
    owed, late = bench.alerts()
    assert (late.kind, late.begin, late.end) == (AlertKind.LATE_USAGE, T, T + HOUR)
    assert told([owed]) == [("net", "push", T + HOUR, T + 3 * HOUR)]


def test_the_first_plan_of_such_a_source_takes_back_what_it_owed() -> None:
    # given a source that owes since it was seen, and whose frames have left with gaps
    bench = Bench(late_horizon_periods=0, gap_horizon_periods=0)
    bench.take(push(sample(T, end=T + HOUR)), at=T + HOUR)
    bench.decide(T + 4 * HOUR)
    assert bench.state.scopes["A"].evicted
    (left,) = bench.state.scopes["A"].evicted
    bench.alerts()

    # when its first plan says that nothing is expected from the second hour on
    bench.take(ScopePlan("push", "A", T + HOUR, None, []), at=T + 20 * HOUR)
    assert told(bench.alerts()) == [("net", "push", T + HOUR, left.end)]
