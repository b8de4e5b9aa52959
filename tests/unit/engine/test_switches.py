"""A scope that is switched off: nothing is expected or taken; on again, the time between is owed, or stays unbilled."""

from __future__ import annotations

from typing import Any

from rater.engine import decode_snapshot, encode_snapshot
from rater.engine.state import PartitionState
from rater.model.rated import AlertKind, ClosedBy, FrameStatus, RatedFrame
from rater.model.usage import ScopeSwitch
from tests.unit.engine.builders import GRACE, HOUR, Bench, T, collection, failed, forced, plan, push, sample


def off(at: int = T + HOUR, number: int = 1) -> ScopeSwitch:
    return ScopeSwitch("A", number, False, at, "ann")


def on(at: int, number: int = 2, inactive_time: Any = "bill") -> ScopeSwitch:
    return ScopeSwitch("A", number, True, at, "ann", inactive_time)


def told(frames: list[RatedFrame]) -> list[tuple[int, int, str, str]]:
    """(hour, revision, status, closed_by)."""
    return [((f.period_begin - T) // HOUR, f.revision, f.status.value, f.closed_by.value) for f in frames]


def bench_with_hour_0(**settings: Any) -> Bench:
    """Hour 0 is rated, and more is expected without end."""
    bench = Bench(**settings)
    bench.take(plan("cpu"), collection(), at=T + HOUR)
    assert told(bench.decide(T + HOUR)) == [(0, 0, "rated", "complete")]
    return bench


def test_nothing_is_expected_of_a_scope_that_is_off() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), at=T + HOUR)
    # the newest frame says that nothing more is expected; then comes nothing at all
    (last,) = bench.decide(T + HOUR + 60)
    assert (last.revision, last.expected_until) == (1, T + HOUR)
    assert bench.decide(T + 99 * HOUR) == []
    assert bench.alerts() == []


def test_the_period_that_has_begun_is_still_owed() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR + 60), at=T + HOUR + 60)
    bench.decide(T + 2 * HOUR)
    (missing,) = bench.decide(T + HOUR + GRACE)
    assert (missing.period_begin, missing.status, missing.expected_until) == (
        T + HOUR,
        FrameStatus.MISSING,
        T + 2 * HOUR,
    )


def test_what_comes_for_it_all_the_same_is_refused_whole() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), at=T + HOUR)
    bench.decide(T + HOUR)
    bench.take(
        collection(T + HOUR, T + 2 * HOUR),
        collection(T, T + 2 * HOUR, attempt=9),
        push(sample(T + HOUR + 60), begin=T + HOUR, end=T + 2 * HOUR),
        failed(T + HOUR, T + 2 * HOUR),
        at=T + 2 * HOUR,
    )
    first, second, third = bench.rejected()
    assert f"is switched off in 1 of 1 period(s), from {T + HOUR} on" in first
    assert "in 1 of 2 period(s)" in second
    assert "switched off" in third
    # of the time before it, it is taken
    bench.take(collection(T, T + HOUR, qty="2", attempt=3), at=T + 2 * HOUR)
    assert bench.rejected() == []
    assert told(bench.decide(T + 2 * HOUR)) == [(0, 2, "rated", "complete")]
    assert bench.decide(T + 99 * HOUR) == []


def test_switched_on_the_time_between_is_owed_and_collected_afterwards() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), at=T + HOUR)
    bench.decide(T + HOUR)
    bench.take(on(T + 50 * HOUR + 60), at=T + 50 * HOUR + 60)
    # one hour of it is collected at once, the rest is a named gap
    bench.take(collection(T + HOUR, T + 2 * HOUR))
    assert told(bench.decide(T + 50 * HOUR + 120))[0] == (1, 0, "rated", "complete")
    frames = bench.decide(T + 50 * HOUR + 600)
    assert told(frames)[:2] == [(2, 0, "missing", "grace"), (3, 0, "missing", "grace")]
    assert len(bench.alerts(AlertKind.GAP_OPENED)) == len(frames) == 46
    # and what is collected later resolves it
    bench.take(collection(T + 2 * HOUR, T + 3 * HOUR), at=T + 51 * HOUR)
    assert told(bench.decide(T + 51 * HOUR))[0] == (2, 1, "rated", "complete")


def test_switched_on_with_skip_the_time_between_stays_unbilled_and_its_frames_say_so() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), at=T + HOUR)
    bench.decide(T + HOUR)
    bench.take(on(T + 3 * HOUR + 60, inactive_time="skip"), at=T + 3 * HOUR + 60)
    # the hour in which it was switched on had begun without it
    assert told(bench.decide(T + 4 * HOUR))[-3:] == [(n, 0, "empty", "inactive") for n in (1, 2, 3)]
    bench.take(collection(T + 2 * HOUR, T + 3 * HOUR), collection(T + 4 * HOUR, T + 5 * HOUR), at=T + 5 * HOUR)
    assert len(bench.rejected()) == 1
    assert told(bench.decide(T + 5 * HOUR)) == [(4, 0, "rated", "complete")]
    assert bench.alerts() == []


def test_a_switch_that_is_repeated_changes_nothing() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), on(T + 2 * HOUR), off(T + HOUR), on(T + 2 * HOUR), at=T + 2 * HOUR)
    assert not bench.state.scopes["A"].pauses.is_off
    assert bench.state.scopes["A"].pauses.number == 2


def test_a_source_without_plan_owes_nothing_while_it_is_off() -> None:
    bench = Bench()
    bench.take(push(sample(T)), at=T + HOUR)
    bench.take(off(T + HOUR), at=T + HOUR)
    assert [frame.expected_until for frame in bench.decide(T + GRACE)] == [T + HOUR]
    bench.take(on(T + 9 * HOUR, inactive_time="skip"), at=T + 9 * HOUR)
    bench.decide(T + 9 * HOUR)
    (frame,) = bench.decide(T + 9 * HOUR + GRACE)
    assert told([frame]) == [(9, 0, "missing", "grace")]


def test_plans_while_it_is_off_count_when_it_is_on() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), plan("cpu", "disk", begin=T + 2 * HOUR, until=T + 3 * HOUR), at=T + HOUR)
    assert [f.period_begin for f in bench.decide(T + 4 * HOUR)] == [T]
    bench.take(on(T + 4 * HOUR), at=T + 4 * HOUR)
    bench.decide(T + 4 * HOUR)
    frames = bench.decide(T + 5 * HOUR + 600)
    assert [len(frame.gaps) for frame in frames if frame.period_begin < T + 3 * HOUR] == [1, 2]


def test_a_switch_for_the_past_is_told_of_frames_that_have_left() -> None:
    bench = bench_with_hour_0(late_horizon_periods=0)
    bench.decide(T + HOUR + 1)
    assert bench.state.scopes["A"].evicted
    bench.take(off(T), at=T + HOUR + 2)
    (alert,) = bench.alerts(AlertKind.LATE_PLAN)
    assert (alert.begin, alert.end, alert.source) == (T, T + HOUR, "prom")


def test_a_gap_that_is_no_longer_owed_is_resolved() -> None:
    bench = Bench()
    bench.take(plan("cpu"), at=T + HOUR)
    bench.decide(T + GRACE)
    bench.alerts()
    bench.take(off(T), at=T + GRACE)
    # hours 1 and 2 were waited for, and are no longer
    assert told(bench.decide(T + GRACE)) == [(n, int(n == 0), "empty", "inactive") for n in range(3)]
    assert [alert.kind for alert in bench.alerts()] == [AlertKind.GAP_RESOLVED]


def test_a_forced_frame_is_closed_by_force() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), forced(T + HOUR), at=T + HOUR)
    assert told(bench.decide(T + HOUR))[-1] == (1, 0, "empty", "forced")


def test_switches_that_cannot_be_right_are_refused() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + 30 * HOUR), at=T + HOUR)
    bench.take(off(T - 30_000 * HOUR), at=T + HOUR)
    ahead, long_ago = bench.rejected()
    assert "more than 24 hours after it came" in ahead
    assert "more than 20000 periods" in long_ago
    assert not bench.state.scopes["A"].pauses.is_off


def test_a_scope_can_be_off_before_anything_of_it_came() -> None:
    bench = Bench()
    bench.take(off(T), plan("cpu"), collection(), at=T + HOUR)
    assert len(bench.rejected()) == 1
    assert bench.decide(T + 9 * HOUR) == []


def test_the_snapshot_has_it() -> None:
    bench = bench_with_hour_0()
    bench.take(off(T + HOUR), on(T + 3 * HOUR, inactive_time="skip"), at=T + 3 * HOUR)
    back: PartitionState = decode_snapshot(encode_snapshot(bench.state), 0, 1, bench.context.settings)
    assert back.scopes["A"].pauses == bench.state.scopes["A"].pauses
    assert back.scopes["A"].pauses.skipped == [(T + HOUR, T + 3 * HOUR)]
    assert ClosedBy("inactive") is ClosedBy.INACTIVE
