"""Closed frames that learn more: absolute revisions, gaps opened and resolved once, late usage, leaving the state."""

from __future__ import annotations

from decimal import Decimal

from rater.engine import decide
from rater.engine.alerts import gap_id
from rater.engine.take import MAX_SOURCES
from rater.model.codec import JSON, decode_rated
from rater.model.interval import Interval
from rater.model.labels import series_labels
from rater.model.rated import Alert, AlertKind, ClosedBy, FrameStatus, Line, MetricTotal
from rater.model.usage import Sample, Series
from rater.rating import Chain, RuleBook
from tests.unit.engine.builders import (
    GRACE,
    HALF,
    HOUR,
    HUGE,
    VM1,
    VM2,
    Bench,
    T,
    collection,
    failed,
    holes,
    plan,
    push,
    quantities,
    sample,
)

VM4 = Series({"id": "vm4"})


def test_a_revision_holds_absolute_values() -> None:
    # given a frame of two lines that was closed with a hole
    bench = Bench()
    both = [sample(T, "1"), sample(T, "10", series=1)]
    bench.take(plan("cpu"), collection(end=T + HALF, series=[VM1, VM2], samples=both), at=T + HOUR)
    first = bench.one(T + GRACE)

    # when the rest comes, of one resource
    bench.take(collection(T + HALF, T + HOUR, "2"), at=T + GRACE)
    second = bench.one(T + GRACE + 60)

    # then the whole frame is said again
    assert (first.revision, first.status, quantities(first)) == (0, FrameStatus.PARTIAL, {"vm1": 1, "vm2": 10})
    assert (second.revision, second.status, quantities(second)) == (1, FrameStatus.RATED, {"vm1": 3, "vm2": 10})
    assert (second.closed_by, second.closed_at) == (ClosedBy.COMPLETE, T + GRACE + 60)
    assert second.totals == [MetricTotal("cpu", "undefined", Decimal(13), Decimal("1.3"), 2)]
    assert {line.line_id for line in first.lines} == {line.line_id for line in second.lines}


def test_a_line_that_vanishes_is_repeated_with_zero_once() -> None:
    # given vm1 and vm2, then a better answer without vm1, then one with more of vm2
    bench = Bench()
    both = [sample(T, "1"), sample(T, "10", series=1)]
    bench.take(plan("cpu", until=T + HOUR), collection(series=[VM1, VM2], samples=both), at=T + HOUR)
    bench.one(T + HOUR)
    bench.take(collection(attempt=2, series=[VM2], qty="10"))
    second = bench.one(T + HOUR)
    bench.take(collection(attempt=3, series=[VM2], qty="11"))
    third = bench.one(T + HOUR)
    bench.take(collection(attempt=4, series=[VM1], qty="5"))
    fourth = bench.one(T + HOUR)

    # then
    assert (second.revision, quantities(second)) == (1, {"vm2": 10, "vm1": 0})
    gone = second.lines[-1]
    assert (gone.qty, gone.price, gone.groupby, gone.metadata) == (0, 0, VM1.groupby, VM1.metadata)
    assert second.totals == [MetricTotal("cpu", "undefined", Decimal(10), Decimal(1), 1)]
    assert (third.revision, quantities(third)) == (2, {"vm2": 11})
    assert (fourth.revision, quantities(fourth)) == (3, {"vm1": 5, "vm2": 0})


def test_a_metric_that_vanishes_leaves_zeros_with_its_unit() -> None:
    # given
    bench = Bench()
    disk = {"metric": "disk", "unit": "GiB", "series": [Series({"id": "d"}, {"size": "5"})]}
    bench.take(plan("disk"), collection(**disk), at=T + HOUR)
    assert (bench.one(T + HOUR).lines[0].unit, bench.state.scopes["A"].frames[T].revision) == ("GiB", 0)

    # when
    bench.take(collection(metric="disk", unit="GiB", attempt=2, qty=None))
    frame = bench.one(T + HOUR)

    # then
    assert (frame.status, frame.totals) == (FrameStatus.EMPTY, [])
    assert [(line.metric, line.unit, line.qty) for line in frame.lines] == [("disk", "GiB", 0)]


def test_no_revision_says_what_was_said_before() -> None:
    # given a closed frame
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(qty="1.0"), at=T + HOUR)
    bench.one(T + HOUR)

    # when the same answer comes as another collection, cut and written in another way
    bench.take(collection(T, T + HALF, "0.50", attempt=2), collection(T + HALF, T + HOUR, "0.5", attempt=2))
    bench.take(collection(attempt=2, collection_id="again", samples=[sample(T, "0.1"), sample(T, "9e-1")]))

    # then
    assert bench.decide(T + HOUR + 60) == []
    assert bench.alerts() == []
    assert bench.state.scopes["A"].frames[T].revision == 0


def test_a_hole_is_opened_and_resolved_once_each() -> None:
    # given a frame that closed without its second half
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection(end=T + HALF), at=T + HOUR)
    frame = bench.one(T + GRACE)
    (opened,) = bench.alerts()

    # when later revisions come, with the same hole and without it
    bench.take(collection(end=T + HALF, qty="2", attempt=2), at=T + GRACE)
    second = bench.one(T + GRACE + 1)
    between = bench.alerts()
    bench.take(collection(T + HALF, T + HOUR, "5"), at=T + GRACE)
    third = bench.one(T + GRACE + 2)
    (resolved,) = bench.alerts()
    bench.take(collection(T + HALF, T + HOUR, "6", attempt=2), at=T + GRACE)
    bench.one(T + GRACE + 3)

    # then
    identity = gap_id("A", "cpu", "prom", T, Interval(T + HALF, T + HOUR), 0)
    assert opened == Alert(
        alert_id=identity,
        kind=AlertKind.GAP_OPENED,
        scope_id="A",
        metric="cpu",
        source="prom",
        period_begin=T,
        begin=T + HALF,
        end=T + HOUR,
        revision=0,
        raised_at=T + GRACE,
        reason="no complete collection covers it",
    )
    assert [gap.gap_id for gap in frame.gaps] == [gap.gap_id for gap in second.gaps] == [identity]
    assert (between, third.gaps) == ([], [])
    assert (resolved.alert_id, resolved.kind, resolved.revision) == (identity, AlertKind.GAP_RESOLVED, 2)
    assert (resolved.begin, resolved.end, resolved.raised_at) == (T + HALF, T + HOUR, T + GRACE + 2)
    assert bench.alerts() == []


def test_a_hole_that_is_filled_in_part_is_resolved_and_the_rest_opened() -> None:
    # given a missing hour
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), at=T)
    bench.one(T + GRACE)
    (whole,) = bench.alerts()

    # when its middle is collected
    bench.take(collection(T + 1200, T + 2400), at=T + GRACE)
    frame = bench.one(T + GRACE)

    # then
    assert (frame.status, frame.closed_by, holes(frame)) == (
        FrameStatus.PARTIAL,
        ClosedBy.GRACE,
        [(0, 20), (40, 60)],
    )
    first, last, resolved = bench.alerts()
    assert [(a.kind, a.begin - T, a.end - T) for a in (first, last)] == [
        (AlertKind.GAP_OPENED, 0, 1200),
        (AlertKind.GAP_OPENED, 2400, 3600),
    ]
    assert (resolved.kind, resolved.alert_id) == (AlertKind.GAP_RESOLVED, whole.alert_id)

    # and when the rest follows, in two steps
    bench.take(collection(T, T + 1200), at=T + GRACE)
    assert holes(bench.one(T + GRACE)) == [(40, 60)]
    assert [(a.kind, a.alert_id) for a in bench.alerts()] == [(AlertKind.GAP_RESOLVED, first.alert_id)]
    bench.take(collection(T + 2400, T + HOUR), at=T + GRACE)
    assert bench.one(T + GRACE).closed_by is ClosedBy.COMPLETE
    assert [(a.kind, a.alert_id) for a in bench.alerts()] == [(AlertKind.GAP_RESOLVED, last.alert_id)]


def test_a_hole_that_opens_again_is_another_gap() -> None:
    # given a gap that was resolved because nothing was expected any more
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), at=T)
    bench.one(T + GRACE)
    bench.take(plan(until=T + HOUR), at=T + GRACE)
    bench.one(T + GRACE)

    # when it is expected after all
    bench.take(plan("cpu", until=T + HOUR), at=T + GRACE)
    bench.one(T + GRACE)

    # then
    first, resolved, again = bench.alerts()
    assert [a.kind for a in (first, resolved, again)] == [
        AlertKind.GAP_OPENED,
        AlertKind.GAP_RESOLVED,
        AlertKind.GAP_OPENED,
    ]
    assert first.alert_id == resolved.alert_id != again.alert_id
    assert again.revision == 2


def test_a_gap_says_why_the_source_gave_no_answer() -> None:
    # given failures before and after the frame exists, of which the last one counts
    bench = Bench()
    bench.take(failed(reason="timeout"), plan("cpu", "disk", until=T + HOUR), failed(reason="HTTP 503"), at=T)

    # when
    frame = bench.one(T + GRACE)

    # then
    reasons = {gap.metric: gap.reason for gap in frame.gaps}
    assert reasons == {"cpu": "HTTP 503", "disk": "no complete collection covers it"}
    assert {alert.metric: alert.reason for alert in bench.alerts()} == reasons


def test_a_failure_over_several_periods_is_the_reason_in_each() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + 2 * HOUR), failed(T + HALF, T + HOUR + HALF), at=T)
    assert [frame.gaps[0].reason for frame in bench.decide(T + GRACE + HOUR)] == ["timeout", "timeout"]


def test_closed_frames_leave_after_the_late_horizon_and_those_with_gaps_later() -> None:
    # given one whole frame and one with a gap
    bench = Bench(late_horizon_periods=2, gap_horizon_periods=5)
    bench.take(plan("cpu", until=T + 2 * HOUR), collection(), at=T + HOUR)
    bench.one(T + HOUR)
    bench.one(T + HOUR + GRACE)
    scope = bench.state.scopes["A"]
    assert list(scope.frames) == [T + HOUR]  # the first one left at T + 3 h
    assert scope.evicted == [Interval(T, T + HOUR)]

    # when, then
    bench.decide(T + 9 * HOUR - 1)
    assert list(scope.frames) == [T + HOUR]
    bench.decide(T + 9 * HOUR)
    assert (scope.frames, scope.evicted) == ({}, [Interval(T, T + 2 * HOUR)])


def test_a_revision_does_not_prolong_the_stay_of_its_frame() -> None:
    # given a frame that closed at 01:00, and again at 02:00
    bench = Bench(late_horizon_periods=2)
    bench.take(plan("cpu", until=T + HOUR), collection(), at=T + HOUR)
    bench.one(T + HOUR)
    bench.take(collection(attempt=2, qty="2"), at=T + 2 * HOUR)
    assert bench.one(T + 2 * HOUR).revision == 1

    # when, then
    bench.decide(T + 3 * HOUR)
    assert bench.state.scopes["A"].frames == {}


def test_the_gap_horizon_is_never_less_than_the_late_one() -> None:
    bench = Bench(late_horizon_periods=4, gap_horizon_periods=0)
    bench.take(plan("cpu", until=T + HOUR), at=T)
    bench.one(T + GRACE)
    bench.decide(T + GRACE + 4 * HOUR - 1)
    assert list(bench.state.scopes["A"].frames) == [T]
    bench.decide(T + GRACE + 4 * HOUR)
    assert bench.state.scopes["A"].frames == {}


def test_labels_leave_with_the_last_frame_that_needs_them() -> None:
    # given vm1 and vm2 in the first hour
    bench = Bench()
    bench.take(plan("cpu", until=T + 2 * HOUR), at=T)
    bench.take(collection(series=[VM1, VM2], samples=[sample(T), sample(T, series=1)]), at=T + HOUR)
    bench.one(T + HOUR)

    # and in the second one vm3, which a better answer replaced by vm2, and half of an answer with vm4
    second = {"begin": T + HOUR, "end": T + 2 * HOUR}
    bench.take(collection(**second, series=[HUGE]), at=T + 2 * HOUR)
    assert quantities(bench.one(T + 2 * HOUR)) == {"vm3": 1}
    bench.take(collection(**second, attempt=2, series=[VM2]), at=T + 2 * HOUR)
    assert quantities(bench.one(T + 2 * HOUR)) == {"vm2": 1, "vm3": 0}
    bench.take(collection(**second, attempt=3, part=0, parts=2, series=[VM4]), at=T + 2 * HOUR)
    assert _known(bench) == {"vm1", "vm2", "vm3", "vm4"}

    # when the first frame leaves, and then the second one
    bench.decide(T + 3 * HOUR)
    kept = _known(bench)
    bench.decide(T + 4 * HOUR)

    # then vm3 is gone too: its zero was said
    assert kept == {"vm2", "vm4"}
    assert _known(bench) == set()


def _known(bench: Bench) -> set[str]:
    return {str(series_labels(series)[0]["id"]) for series in bench.state.scopes["A"].series.values()}


def test_usage_for_frames_that_have_left_is_refused_and_alerted() -> None:
    # given three frames of which the first two have left
    bench = Bench(late_horizon_periods=2)
    bench.take(plan("cpu", until=T + 3 * HOUR), collection(end=T + 2 * HOUR), at=T + 2 * HOUR)
    assert len(bench.decide(T + 2 * HOUR)) == 2
    bench.decide(T + 4 * HOUR)
    record = collection(T + HALF, T + 3 * HOUR, collection_id="late", samples=[sample(T + HALF), sample(T + 2 * HOUR)])

    # when
    bench.take(record, record, at=T + 4 * HOUR + 5)

    # then it is refused whole, once, with an alert
    (reason,) = bench.rejected()
    assert reason.startswith(f"late: 2 period(s) from {T} on were closed and have left the state")
    (alert,) = bench.alerts()
    assert (alert.kind, alert.scope_id, alert.metric, alert.source) == (AlertKind.LATE_USAGE, "A", "cpu", "prom")
    assert (alert.period_begin, alert.begin, alert.end) == (T, T + HALF, T + 2 * HOUR)
    assert (alert.revision, alert.raised_at) == (-1, T + 4 * HOUR + 5)
    assert alert.reason.startswith("2 samples came after their frames had left the state")

    # and what of it belongs to a frame that is still open is taken
    frame = bench.one(T + 4 * HOUR + 5)
    assert (frame.period_begin, frame.revision, quantities(frame)) == (T + 2 * HOUR, 0, {"vm1": 1})


def test_late_usage_has_an_alert_of_its_own_for_each_part_attempt_and_range() -> None:
    # given a frame that has left
    bench = Bench(late_horizon_periods=0)
    bench.take(collection(), at=T + HOUR)
    bench.one(T + HOUR)

    # when parts come that share their collection's id, one of them twice
    halves = [(T, T + HALF), (T + HALF, T + HOUR)]
    bench.take(*(collection(begin, end, collection_id="mine") for begin, end in halves))
    bench.take(*(collection(collection_id="mine", part=part, parts=2) for part in (0, 1, 1)))
    bench.take(collection(collection_id="mine", attempt=2))

    # then
    ids = [alert.alert_id for alert in bench.alerts(AlertKind.LATE_USAGE)]
    assert (len(ids), len(set(ids)), ids[3] == ids[4]) == (6, 5, True)


def test_late_pushed_samples_are_refused_too() -> None:
    bench = Bench(late_horizon_periods=0)
    bench.take(push(sample(T, end=T + HOUR)), at=T + HOUR)
    bench.one(T + HOUR)
    bench.take(push(sample(T)), at=T + HOUR)
    assert len(bench.rejected()) == 1
    assert [alert.kind for alert in bench.alerts()] == [AlertKind.LATE_USAGE]


def test_a_revision_of_many_lines_is_sent_in_parts() -> None:
    # given 3 000 resources with labels of 1 000 characters
    bench = Bench()
    series = [Series({"id": f"vm{n}", "text": "x" * 1000}) for n in range(3000)]
    samples = [Sample(n, T, T + HOUR, Decimal(n)) for n in range(3000)]
    bench.take(collection(series=series, samples=samples), plan("disk"))

    # when
    bench.decide(T)
    assert bench.decide(T + GRACE - 1) == []
    frames = bench.decide(T + GRACE)

    # then each part is small, says the same of the frame, and each line stands in one of them
    assert [(frame.part, frame.parts) for frame in frames] == [(part, 5) for part in range(5)]
    assert all(len(frame.lines) > 500 for frame in frames[:-1])
    lines: list[Line] = [line for frame in frames for line in frame.lines]
    assert sorted(line.qty for line in lines) == list(range(3000))
    assert len({(f.revision, f.status, f.totals[0].qty, f.gaps[0].gap_id) for f in frames}) == 1
    assert frames[0].totals[0].qty == sum(range(3000))


def test_no_message_of_many_lines_is_larger_than_a_broker_takes() -> None:
    # given labels whose characters take three bytes each
    bench = Bench()
    series = [Series({"id": f"vm{n}", "text": "€" * 250}) for n in range(4000)]
    bench.take(collection(series=series, samples=[Sample(n, T, T, Decimal(1)) for n in range(4000)]))

    # when
    decide(bench.state, T + HOUR, bench.rules, bench.context)

    # then
    messages = [item.value for item in bench.state.outbox]
    assert len(messages) == 5
    assert max(map(len, messages)) < 4 * 1024 * 1024
    assert sum(len(decode_rated(message, JSON).lines) for message in messages) == 4000


def resolutions(bench: Bench) -> list[str]:
    return [alert.reason for alert in bench.alerts(AlertKind.GAP_RESOLVED)]


def test_a_resolved_gap_says_why() -> None:
    # given a gap of an hour
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), at=T + HOUR)
    bench.one(T + GRACE)

    # when half of it is collected, the plan moves, the rest is collected, and it is withdrawn
    said = []
    for record in (
        collection(end=T + HALF),
        plan(begin=T + HALF, until=T + HALF + 60),
        collection(T + HALF, T + HOUR, "2"),
    ):
        bench.take(record)
        bench.one(T + GRACE)
        said.append(resolutions(bench))

    # then
    assert said == [
        ["covered in part: a smaller gap is left"],
        ["another gap takes its place"],
        ["covered by a later collection"],
    ]


def test_a_gap_that_is_no_longer_expected_is_no_gap() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), at=T + HOUR)
    bench.one(T + GRACE)
    bench.take(plan(until=T + HOUR))
    bench.one(T + GRACE)
    assert resolutions(bench) == ["no longer expected"]


def test_coverage_in_shreds_is_bounded_and_what_is_left_out_is_a_gap() -> None:
    # given instants of a second each, every other second, by so many sources that each may say little
    bench = Bench(Chain(RuleBook.empty()), expect={f"s{n}": "planned" for n in range(400)})
    spread = [Interval(T + 2 * n, T + 2 * n + 1) for n in range(100)]
    for number in range(400):
        covers = [*spread, Interval(T + 1000, T + 1100)]
        bench.take(collection(qty=None, covers=covers, source=f"s{number}"), at=T)
    bench.take(plan("cpu", source="s0", until=T + HOUR), at=T)

    # when
    frame = bench.one(T + GRACE)

    # then the longest ones are kept, in order
    entry = frame.coverage[0]
    assert entry.covered == [*spread[:7], Interval(T + 1000, T + 1100)]
    assert len(holes(frame)) == 8


def test_a_scope_takes_no_end_of_sources() -> None:
    # given as many as it takes
    bench = Bench()
    for number in range(MAX_SOURCES):
        bench.take(collection(source=f"s{number}"))
    assert bench.rejected() == []

    # when, then one more is refused, by usage or by plan; those that are known go on
    bench.take(collection(source="other"), plan("cpu", source="other"), collection(T + HOUR, T + 2 * HOUR, source="s1"))
    assert ["'other' would be number 51" in reason for reason in bench.rejected()] == [True, True]
