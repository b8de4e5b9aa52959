"""What is expected of a scope: by plan, or by what was seen once; and what happens when that changes."""

from __future__ import annotations

from rater.engine import Expect
from rater.engine.coverage import expectations
from rater.engine.state import FOREVER, Scope
from rater.model.interval import Interval
from rater.model.rated import AlertKind, ClosedBy, FrameStatus, RatedFrame
from rater.model.usage import ScopePlan
from tests.unit.engine.builders import GRACE, HOUR, Bench, T, collection, failed, forced, holes, plan, push, sample


def statuses(frames: list[RatedFrame]) -> list[tuple[int, str]]:
    """Hour after T and status of each frame."""
    return [((frame.period_begin - T) // HOUR, frame.status.value) for frame in frames]


def test_a_planned_scope_without_any_record_gets_missing_frames() -> None:
    # given a plan, and a collector that never sends anything
    bench = Bench()
    bench.take(plan("cpu", "disk"), at=T)

    # when
    early = bench.decide(T + GRACE - 1)
    frames = bench.decide(T + GRACE)
    later = bench.decide(T + GRACE + HOUR)

    # then
    assert early == []
    (frame,) = frames
    assert (frame.status, frame.closed_by, frame.revision) == (FrameStatus.MISSING, ClosedBy.GRACE, 0)
    assert [(gap.metric, gap.source, gap.begin, gap.end, gap.reason) for gap in frame.gaps] == [
        ("cpu", "prom", T, T + HOUR, "no complete collection covers it"),
        ("disk", "prom", T, T + HOUR, "no complete collection covers it"),
    ]
    assert [(c.metric, c.source, c.expected, c.covered, c.collections) for c in frame.coverage] == [
        ("cpu", "prom", [Interval(T, T + HOUR)], [], []),
        ("disk", "prom", [Interval(T, T + HOUR)], [], []),
    ]
    assert statuses(later) == [(1, "missing")]


def test_a_plan_that_begins_within_a_period_expects_only_the_rest_of_it() -> None:
    bench = Bench()
    bench.take(plan("cpu", begin=T + 900, until=T + 2700), at=T)
    assert holes(bench.one(T + GRACE)) == [(15, 45)]


def test_a_plan_with_an_end_expects_nothing_beyond_it() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + 2 * HOUR), at=T)
    assert statuses(bench.decide(T + 9 * HOUR)) == [(0, "missing"), (1, "missing")]


def test_plans_of_one_source_add_up_where_they_do_not_overlap() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu", until=T + 600), plan("cpu", begin=T + 1200, until=T + 1800), at=T)

    # when, then
    frame = bench.one(T + GRACE)
    assert holes(frame) == [(0, 10), (20, 30)]
    assert frame.coverage[0].expected == [Interval(T, T + 600), Interval(T + 1200, T + 1800)]


def test_a_later_plan_replaces_an_earlier_one_within_its_own_time() -> None:
    # given disk instead of cpu, from the second half on
    bench = Bench()
    bench.take(plan("cpu"), plan("disk", begin=T + 1800), at=T)

    # when, then
    frame = bench.one(T + GRACE)
    assert [(gap.metric, gap.begin - T, gap.end - T) for gap in frame.gaps] == [("cpu", 0, 1800), ("disk", 1800, 3600)]


def test_plans_of_two_sources_stand_side_by_side() -> None:
    bench = Bench()
    bench.take(plan("cpu"), plan("cpu", source="other"), collection(), at=T + HOUR)
    frame = bench.one(T + GRACE)
    assert frame.status is FrameStatus.PARTIAL
    assert [(gap.metric, gap.source) for gap in frame.gaps] == [("cpu", "other")]


def test_of_a_scope_that_is_gone_nothing_is_expected_any_more() -> None:
    # given a scope that was deleted at 01:30
    bench = Bench()
    bench.take(plan("cpu"), plan(begin=T + HOUR + 1800), at=T)

    # when, then
    frames = bench.decide(T + 9 * HOUR)
    assert statuses(frames) == [(0, "missing"), (1, "missing")]
    assert [holes(frame) for frame in frames] == [[(0, 60)], [(60, 90)]]


def test_a_deletion_that_becomes_known_late_resolves_the_gaps_after_it() -> None:
    # given two frames that are missing
    bench = Bench()
    bench.take(plan("cpu"), at=T)
    assert len(bench.decide(T + GRACE + HOUR)) == 2
    bench.alerts()

    # when it turns out that the scope was deleted at 01:00
    bench.take(plan(begin=T + HOUR), at=T + GRACE + HOUR)

    # then
    assert [(f.period_begin, f.revision, f.status, f.gaps) for f in bench.decide(T + GRACE + HOUR)] == [
        (T + HOUR, 1, FrameStatus.EMPTY, [])
    ]
    assert [alert.kind for alert in bench.alerts()] == [AlertKind.GAP_RESOLVED]


def test_a_plan_that_asks_for_more_opens_a_gap_in_a_closed_frame() -> None:
    # given a frame that is complete
    bench = Bench()
    bench.take(plan("cpu"), collection(), at=T + HOUR)
    assert bench.one(T + HOUR).status is FrameStatus.RATED

    # when
    bench.take(plan("cpu", "disk"), at=T + HOUR)
    frame = bench.one(T + HOUR + 60)

    # then
    assert (frame.revision, frame.status, frame.closed_by) == (1, FrameStatus.PARTIAL, ClosedBy.GRACE)
    assert [gap.metric for gap in frame.gaps] == ["disk"]
    assert [line.qty for line in frame.lines] == [1]


def test_a_plan_that_says_nothing_new_changes_nothing() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu"), collection(), at=T + HOUR)
    bench.one(T + HOUR)

    # when
    bench.take(plan("cpu", begin=T + 600), at=T + 9 * HOUR)

    # then neither a revision, nor a later hour for the next frames to close
    assert bench.state.scopes["A"].planned_ms == (T + HOUR) * 1000
    assert not bench.state.scopes["A"].dirty
    assert statuses(bench.decide(T + HOUR + GRACE)) == [(1, "missing")]


def test_what_was_seen_once_is_expected_from_then_on() -> None:
    # given a collection from 00:30 on, and no plan
    bench = Bench()
    bench.take(collection(T + 1800, T + HOUR), at=T + HOUR)

    # when
    first = bench.one(T + HOUR)
    rest = bench.decide(T + HOUR + GRACE)

    # then
    assert (first.status, first.gaps) == (FrameStatus.RATED, [])
    assert first.coverage[0].expected == [Interval(T + 1800, T + HOUR)]
    assert statuses(rest) == [(1, "missing")]


def test_what_was_seen_earlier_moves_the_expectation_back() -> None:
    # given
    bench = Bench()
    bench.take(collection(T + 2 * HOUR, T + 3 * HOUR), collection(), at=T + 3 * HOUR)

    # when, then: the hour between them is a hole
    assert statuses(bench.decide(T + HOUR + GRACE)) == [(0, "rated"), (1, "missing"), (2, "rated")]


def test_a_source_that_counts_only_by_plan_is_not_expected_for_being_seen() -> None:
    # given
    bench = Bench(expect={"prom": "planned"})
    bench.take(collection(), at=T + HOUR)

    # when, then: the frame closes by grace, as nothing says that it is whole
    assert bench.decide(T + GRACE - 1) == []
    frame = bench.one(T + 9 * HOUR)
    assert (frame.status, frame.closed_by) == (FrameStatus.RATED, ClosedBy.GRACE)
    assert frame.coverage[0].expected == []


def test_a_planned_source_is_not_expected_for_being_seen() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), collection(metric="m_max"), at=T + HOUR)
    frames = bench.decide(T + 9 * HOUR)
    assert statuses(frames) == [(0, "rated")]
    assert {c.metric: c.expected for c in frames[0].coverage} == {"cpu": [Interval(T, T + HOUR)], "m_max": []}


def test_a_source_without_plan_that_is_declared_gone_owes_everything_until_then() -> None:
    # given a source that was last heard of at 01:00
    bench = Bench()
    bench.take(collection(), at=T + HOUR)
    bench.one(T + HOUR)

    # when it is declared gone from 03:30 on
    bench.take(plan(begin=T + 3 * HOUR + 1800), at=T + 3 * HOUR)

    # then the hours of its silence are holes, not hours in which nothing was expected
    frames = bench.decide(T + 12 * HOUR)
    assert statuses(frames) == [(1, "missing"), (2, "missing"), (3, "missing")]
    assert [holes(frame) for frame in frames] == [[(60, 120)], [(120, 180)], [(180, 210)]]


def test_a_first_plan_takes_over_from_its_begin_on() -> None:
    # given cpu and m_max seen since 00:00, and a plan for cpu alone from 02:00 to 03:00
    bench = Bench()
    bench.take(collection(), collection(metric="m_max"), at=T + HOUR)
    bench.take(plan("cpu", begin=T + 2 * HOUR, until=T + 3 * HOUR), at=T + HOUR)

    # when
    frames = bench.decide(T + 12 * HOUR)

    # then
    assert statuses(frames) == [(0, "rated"), (1, "missing"), (2, "missing")]
    assert [[gap.metric for gap in frame.gaps] for frame in frames] == [[], ["cpu", "m_max"], ["cpu"]]


def test_a_first_plan_for_the_past_leaves_nothing_to_being_seen() -> None:
    bench = Bench()
    bench.take(collection(T + 2 * HOUR, T + 3 * HOUR), plan("cpu", until=T + HOUR), at=T + 3 * HOUR)
    scope = bench.state.scopes["A"]
    assert scope.seen == {}
    assert scope.plans == {"prom": {"cpu": [Interval(T, T + HOUR)]}}


def test_a_wrong_date_of_a_source_without_plan_cannot_make_frames_without_end() -> None:
    # given usage of 1970 from a source that would owe every hour since
    bench = Bench()
    record = collection(HOUR, 2 * HOUR)

    # when
    bench.take(record, at=T + HOUR)

    # then
    (reason,) = bench.rejected()
    assert reason.startswith("source 'prom' has no plan and would owe everything since 3600, more than 20000 periods")
    assert bench.state.scopes == {}


def test_old_usage_is_taken_from_a_source_whose_plan_says_what_is_expected() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu", begin=HOUR, until=2 * HOUR), collection(HOUR, 2 * HOUR), at=T + HOUR)

    # when, then
    assert bench.rejected() == []
    assert bench.one(T + HOUR).status is FrameStatus.RATED


def test_old_usage_is_taken_from_a_source_that_counts_only_by_plan() -> None:
    bench = Bench(expect={"prom": "planned"})
    bench.take(collection(HOUR, 2 * HOUR), at=T + HOUR)
    assert bench.rejected() == []


def test_a_pushed_sample_makes_its_source_expected() -> None:
    bench = Bench()
    bench.take(push(sample(T, end=T + HOUR)), at=T + HOUR)
    assert statuses(bench.decide(T + HOUR + GRACE)) == [(0, "rated"), (1, "missing")]


def test_a_plan_or_a_failure_for_a_frame_that_has_left_brings_nothing_back() -> None:
    # given a frame that has left the state
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    bench.one(T + HOUR)
    bench.decide(T + 9 * HOUR)
    assert bench.state.scopes["A"].frames == {}

    # when
    bench.take(plan("cpu", "disk", until=T + HOUR), failed(), at=T + 9 * HOUR)

    # then
    assert bench.state.scopes["A"].frames == {}
    assert bench.decide(T + 12 * HOUR) == []


def test_a_frame_that_has_left_cannot_be_forced() -> None:
    # given
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    bench.one(T + HOUR)
    bench.decide(T + 9 * HOUR)

    # when
    bench.take(forced())

    # then
    assert bench.rejected() == [f"the frame of period {T} was closed and has left the state"]


def test_expectations_are_clipped_to_the_period_and_sorted() -> None:
    # given
    scope = Scope(
        plans={"z": {"disk": [Interval(T - 50, T + 50)], "cpu": [Interval(T + HOUR, FOREVER)]}},
        seen={"a": {"disk": T + 3000, "cpu": T + HOUR}},
    )

    # when, then
    assert list(expectations(scope, Interval(T, T + HOUR)).items()) == [
        (("disk", "a"), [Interval(T + 3000, T + HOUR)]),
        (("disk", "z"), [Interval(T, T + 50)]),
    ]


def test_a_frame_says_until_when_its_scope_is_expected() -> None:
    # given a scope planned without end, whose first hour is closed
    bench = Bench()
    bench.take(ScopePlan("prom", "A", T, None, ["cpu"]), collection())
    (first,) = bench.decide(T + HOUR)
    assert first.expected_until is None

    # when it turns out to be gone since the end of that hour
    bench.take(ScopePlan("prom", "A", T + HOUR))
    (second,) = bench.decide(T + HOUR + 60)

    # then the last frame says so, in a revision of its own, once
    assert (second.period_begin, second.revision, second.expected_until) == (T, 1, T + HOUR)
    bench.take(ScopePlan("prom", "A", T + HOUR, T + 2 * HOUR, ["cpu"]))
    assert bench.decide(T + HOUR + 90) == []

    # and a frame of which nothing is expected says its own end
    other = Bench(expect={"prom": Expect.PLANNED}, wait_periods=0, settle=0)
    other.take(collection())
    (alone,) = other.decide(T + 3 * HOUR)
    assert alone.expected_until == T + HOUR


def test_a_failure_where_nothing_is_expected_makes_no_frame() -> None:
    # given a source that fails for a scope that nobody planned
    bench = Bench()
    bench.take(failed(), at=T + HOUR)

    # then no frame claims that nothing was used
    assert bench.decide(T + 12 * HOUR) == []
    assert bench.state.scopes["A"].frames == {}
