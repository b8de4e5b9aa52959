"""The report of a scope: its sums, and every way in which it is refused."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from rater.model.interval import Interval
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricTotal, QuarantinedPoint
from rater.reports import (
    AcceptedGap,
    AcceptedHole,
    Hole,
    MonthError,
    NoFramesError,
    Report,
    ReportRefusedError,
    compute,
    month_interval,
)
from rater.reports.statement import MetricRow
from rater.store import FrameRow, TotalRow

BEGIN = 1_767_571_200  # 2026-01-05T00:00:00Z
HOUR = 3600
MONTH = month_interval("2026-01")


def total(metric: str = "cpu", qty: str = "1", price: str = "0.1", unit: str = "core", n: int = 1) -> MetricTotal:
    return MetricTotal(metric, unit, Decimal(qty), Decimal(price), n)


def gap(begin: int, end: int, metric: str = "cpu") -> Gap:
    return Gap("0" * 32, metric, "prom", begin, end, "no complete collection covers it")


def frame(
    hour: int,
    status: FrameStatus = FrameStatus.RATED,
    *,
    totals: tuple[MetricTotal, ...] = (),
    gaps: tuple[Gap, ...] = (),
    quarantined: tuple[QuarantinedPoint, ...] = (),
    weak: bool = False,
    revision: int = 0,
    until: int | None = BEGIN,
) -> FrameRow:
    begin = BEGIN + hour * HOUR
    return FrameRow(
        scope_id="projA",
        period_begin=begin,
        period_end=begin + HOUR,
        revision=revision,
        status=status,
        closed_by=ClosedBy.COMPLETE,
        weak=weak,
        rule_version=3,
        closed_at=begin + HOUR,
        expected_until=until,
        line_count=sum(one.n for one in totals),
        totals=list(totals),
        coverage=[],
        gaps=list(gaps),
        quarantined=list(quarantined),
    )


def report(frames: list[FrameRow], span: Interval = MONTH, due: int = MONTH.end) -> Report:
    """As `report_of` asks: the frames of the span, and how far the scope's frames reach in all."""
    known = Interval(frames[0].period_begin, frames[-1].period_end) if frames else None
    return compute("projA", span, known, [one for one in frames if span.begin <= one.period_begin < span.end], due)


def test_sums_are_exact_and_grouped_by_metric_and_unit() -> None:
    # given amounts whose sum needs more than 28 digits
    frames = [
        frame(0, totals=(total(price="1000000000000000000000"), total("disk", "2", "1", "GiB"))),
        frame(1, totals=(total(price="0.00000000000000000000000000000001", n=4),), weak=True, revision=2),
        frame(2, FrameStatus.EMPTY),
    ]
    # when
    found = report(frames)
    # then
    assert [(row.metric, row.unit, str(row.price), row.lines) for row in found.metrics] == [
        ("cpu", "core", "1000000000000000000000.00000000000000000000000000000001", 5),
        ("disk", "GiB", "1", 1),
    ]
    assert str(found.price) == "1000000000000000000001.00000000000000000000000000000001"
    assert (found.frames, found.empty_frames, found.weak_frames, found.revised_frames) == (3, 1, 1, 1)
    assert (found.known_begin, found.known_end) == (BEGIN, BEGIN + 3 * HOUR)
    assert found.rule_versions == [3]


def test_periods_in_which_the_scope_was_off_are_counted_for_themselves() -> None:
    off = msgspec.structs.replace(frame(1, FrameStatus.EMPTY), closed_by=ClosedBy.INACTIVE)
    rated = msgspec.structs.replace(frame(2, totals=(total(),)), closed_by=ClosedBy.INACTIVE)
    found = report([frame(0, FrameStatus.EMPTY), off, rated])
    assert (found.frames, found.empty_frames, found.inactive_frames) == (3, 2, 1)


def test_a_hole_over_several_frames_is_named_once_to_the_minute() -> None:
    # given a silence from 09:10 to 11:10 in three frames
    frames = [
        frame(8),
        frame(9, FrameStatus.PARTIAL, gaps=(gap(BEGIN + 9 * HOUR + 600, BEGIN + 10 * HOUR),)),
        frame(10, FrameStatus.MISSING, gaps=(gap(BEGIN + 10 * HOUR, BEGIN + 11 * HOUR),)),
        frame(11, FrameStatus.PARTIAL, gaps=(gap(BEGIN + 11 * HOUR, BEGIN + 11 * HOUR + 600),)),
    ]
    # when
    with pytest.raises(ReportRefusedError) as refused:
        report(frames)
    # then
    assert len(refused.value.holes) == 1
    assert "projA: cpu from prom: 2026-01-05 09:10 to 2026-01-05 11:10 UTC (2 h): no complete" in str(refused.value)
    assert refused.value.exit_status == 3


def test_holes_of_different_metrics_and_reasons_are_named_apart() -> None:
    # given
    spot = (BEGIN, BEGIN + HOUR)
    quarantined = QuarantinedPoint("disk", "", "n/a", "is no number", {}, {})
    frames = [
        frame(0, FrameStatus.PARTIAL, gaps=(gap(*spot, "cpu"), gap(*spot, "disk")), quarantined=(quarantined,)),
        frame(1, FrameStatus.FAILED),
    ]
    # when
    with pytest.raises(ReportRefusedError) as refused:
        report(frames)
    # then
    assert [(hole.metric, hole.source) for hole in refused.value.holes] == [
        ("cpu", "prom"),
        ("disk", ""),
        ("disk", "prom"),
        ("", ""),
    ]
    assert "projA: disk: 2026-01-05 00:00 to 2026-01-05 01:00 UTC (1 h): quarantined 'n/a': is no" in str(refused.value)


@pytest.mark.parametrize("status", [FrameStatus.MISSING, FrameStatus.PARTIAL, FrameStatus.FAILED])
def test_every_unsound_status_refuses_even_without_a_gap(status: FrameStatus) -> None:
    with pytest.raises(ReportRefusedError, match="everything: 2026-01-05 00:00 to 2026-01-05 01:00"):
        report([frame(0, status)])


def test_a_frame_that_is_not_there_between_others_refuses() -> None:
    with pytest.raises(ReportRefusedError, match=r"01:00 to 2026-01-05 03:00 UTC \(2 h\): its frame is not closed yet"):
        report([frame(0), frame(3)])


def test_a_break_around_the_span_refuses_and_is_cut_to_the_span() -> None:
    # given frames on both sides of the span and none in it
    span = Interval(BEGIN + 2 * HOUR, BEGIN + 4 * HOUR)
    # when
    with pytest.raises(ReportRefusedError) as refused:
        report([frame(0), frame(9)], span)
    # then
    assert [(hole.begin, hole.end) for hole in refused.value.holes] == [span]


def test_holes_outside_the_span_do_not_count() -> None:
    # given
    frames = [frame(0, FrameStatus.FAILED), frame(1, totals=(total(),)), frame(2), frame(3, FrameStatus.MISSING)]
    # when
    found = report(frames, Interval(BEGIN + HOUR, BEGIN + 3 * HOUR))
    # then
    assert (found.frames, found.price) == (2, Decimal("0.1"))


def test_no_frames_at_all_is_an_error_of_its_own() -> None:
    with pytest.raises(NoFramesError, match="nothing is known of scope 'projA'"):
        report([])


def test_holes_of_seconds_are_told_in_seconds() -> None:
    hole = Hole(BEGIN, BEGIN + 61, "cpu", "", "why")
    assert hole.text("projA") == "projA: cpu: 2026-01-05 00:00 to 2026-01-05 00:01:01 UTC (1 min 1 s): why"


@pytest.mark.parametrize(
    ("text", "begin", "days"), [("2026-01", 1_767_225_600, 31), ("2024-02", 1_706_745_600, 29), ("2026-12", None, 31)]
)
def test_months_are_intervals(text: str, begin: int | None, days: int) -> None:
    span = month_interval(text)
    assert span.end - span.begin == days * 24 * HOUR
    assert begin in (None, span.begin)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "26-01", "january", "9999-12", "2026-01-01", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(MonthError, match="2026-01"):
        month_interval(text)


def test_frames_that_should_be_there_by_now_are_holes() -> None:
    # given usage that is expected without end, and a last frame that ends at two o'clock
    frames = [frame(0), frame(1, until=None)]

    # when frames until four o'clock are due, then the two hours after it are a hole
    with pytest.raises(ReportRefusedError) as refused:
        report(frames, due=BEGIN + 4 * HOUR)
    assert [(hole.begin, hole.end) for hole in refused.value.holes] == [(BEGIN + 2 * HOUR, BEGIN + 4 * HOUR)]

    # and only one of them, if nothing is expected any more from three o'clock on
    with pytest.raises(ReportRefusedError) as refused:
        report([frame(0), frame(1, until=BEGIN + 3 * HOUR)], due=BEGIN + 4 * HOUR)
    assert [(hole.begin, hole.end) for hole in refused.value.holes] == [(BEGIN + 2 * HOUR, BEGIN + 3 * HOUR)]

    # but none while they are not due, or nothing was expected after the last frame
    assert report(frames, due=BEGIN + 2 * HOUR).frames == 2
    assert report([frame(0), frame(1, until=BEGIN + 2 * HOUR)]).frames == 2


def test_posted_lines_are_added_and_neither_fill_a_hole_nor_make_one() -> None:
    # given a frame, a hole after it, and lines that were posted for that time
    rows = [TotalRow("cpu", "core", Decimal(1), Decimal("1e-38"), 2)]
    whole = [frame(hour, totals=(total(price="1e30"),)) for hour in range(3)]
    known = Interval(whole[0].period_begin, whole[-1].period_end)

    # when, then: the hole is one with them and without them
    with pytest.raises(ReportRefusedError):
        compute("projA", MONTH, known, [whole[0], whole[2]], whole[-1].period_end, rows)
    found = compute("projA", MONTH, known, whole, whole[-1].period_end, rows)
    assert found.price == Decimal("3" + "0" * 30 + "." + "0" * 37 + "1")
    assert found.posted == [MetricRow("cpu", "core", Decimal(1), Decimal("1e-38"), 2)]
    assert [row.price for row in found.metrics] == [Decimal("3e30")]


def test_a_scope_of_which_all_was_posted_has_a_report() -> None:
    rows = [TotalRow("cpu", "core", Decimal(1), Decimal(5), 2)]
    found = compute("projA", MONTH, None, [], MONTH.end, rows)
    assert (found.price, found.frames, found.metrics) == (5, 0, [])
    assert (found.known_begin, found.known_end) == (MONTH.begin, MONTH.end)
    with pytest.raises(NoFramesError):
        compute("projA", MONTH, None, [], MONTH.end, [])


def accepted(number: int, author: str = "kim", reason: str = "the meter is gone") -> AcceptedGap:
    return AcceptedGap("projA", BEGIN, f"{number:032x}", BEGIN, author, reason)


def numbered(number: int, begin: int, end: int, metric: str = "cpu") -> Gap:
    return Gap(f"{number:032x}", metric, "prom", begin, end, "no answer")


def test_what_was_accepted_is_listed_and_no_hole() -> None:
    hour = BEGIN + HOUR
    frames = [
        frame(0, FrameStatus.PARTIAL, totals=(total(),), gaps=(numbered(1, hour - 600, hour),)),
        frame(1, FrameStatus.MISSING, gaps=(numbered(2, hour, hour + HOUR),)),
        frame(2, FrameStatus.PARTIAL, gaps=(numbered(3, hour + HOUR, hour + HOUR + 60, "net"),)),
    ]
    by_id = {one.gap_id: one for one in (accepted(1), accepted(2), accepted(3, "ann"))}
    known = Interval(BEGIN, BEGIN + 3 * HOUR)

    found = compute("projA", MONTH, known, frames, MONTH.end, accepted=by_id)

    assert found.price == Decimal("0.1")
    assert found.accepted == [
        AcceptedHole(Hole(hour - 600, hour + HOUR, "cpu", "prom", "no answer"), "kim", "the meter is gone"),
        AcceptedHole(Hole(hour + HOUR, hour + HOUR + 60, "net", "prom", "no answer"), "ann", "the meter is gone"),
    ]
    assert found.accepted[0].text("projA") == (
        "projA: cpu from prom: 2026-01-05 00:50 to 2026-01-05 02:00 UTC (1 h 10 min): no answer; accepted by kim: "
        "the meter is gone"
    )


def test_one_gap_that_is_not_accepted_is_enough_to_refuse() -> None:
    holes = (numbered(1, BEGIN, BEGIN + 60), numbered(2, BEGIN + 600, BEGIN + 660))
    frames = [frame(0, FrameStatus.PARTIAL, gaps=holes)]

    with pytest.raises(ReportRefusedError) as refused:
        compute(
            "projA", MONTH, Interval(BEGIN, BEGIN + HOUR), frames, MONTH.end, accepted={holes[0].gap_id: accepted(1)}
        )
    assert [(hole.begin, hole.end) for hole in refused.value.holes] == [(BEGIN + 600, BEGIN + 660)]
    assert "rater gaps accept" in str(refused.value)


def test_what_has_no_price_cannot_be_accepted() -> None:
    hole = numbered(1, BEGIN, BEGIN + 60)
    point = QuarantinedPoint("cpu", "prom", "NaN", "is no number", {}, {})
    frames = [frame(0, FrameStatus.PARTIAL, gaps=(hole,), quarantined=(point,))]

    with pytest.raises(ReportRefusedError) as refused:
        compute("projA", MONTH, Interval(BEGIN, BEGIN + HOUR), frames, MONTH.end, accepted={hole.gap_id: accepted(1)})
    assert "quarantined" in refused.value.holes[0].reason
