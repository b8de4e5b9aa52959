"""Each invariant is broken once in a small log made by hand, and says so; unbroken, none says anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec
import pytest

from rater.audit import (
    AlertEntry,
    Commit,
    Invariant,
    RatedEntry,
    Setup,
    Stored,
    StoredFrame,
    StoredGap,
    StoredLine,
    UsageEntry,
    Violation,
    check_logs,
    ledger,
    offsets_never_go_back,
    revisions_contiguous,
    roots,
    store_is_best_of_rated,
)
from rater.audit.cases import cases_of_logs, truth_of
from rater.audit.truth import Piece
from rater.model.codec import encode_json
from rater.model.interval import Interval
from rater.model.rated import (
    Alert,
    AlertKind,
    ClosedBy,
    CollectionRef,
    FrameStatus,
    Gap,
    Line,
    MetricCoverage,
    MetricTotal,
    QuarantinedPoint,
    RatedFrame,
)
from rater.model.usage import Collection, Sample, ScopePlan, UsageRecord
from tests.unit.engine.builders import CATALOG, HOUR, VM1, VM2, T, not_a_number

SETUP = Setup(HOUR, CATALOG)
GAP = Gap("ab" * 16, "cpu", "prom", T + HOUR, T + HOUR + 600, "no complete collection covers it")


def usage() -> list[UsageRecord]:
    """Two hours of two resources are planned, and the second lacks its first ten minutes."""
    return [
        ScopePlan("prom", "A", T, T + 2 * HOUR, ["cpu"]),
        answer(T, Interval(T, T + HOUR)),
        answer(T + HOUR, Interval(T + HOUR + 600, T + 2 * HOUR)),
    ]


def answer(begin: int, covers: Interval, **changes: object) -> Collection:
    samples = [Sample(number, covers.begin, begin + HOUR, Decimal(number + 1)) for number in (0, 1)]
    part = Collection(
        "prom", "A", "cpu", begin, begin + HOUR, 1, f"c{begin}", "p", begin, covers=[covers],
        series=[VM1, VM2], samples=samples,
    )  # fmt: skip
    return msgspec.structs.replace(part, **changes)


def frame(begin: int, revision: int = 0, **changes: object) -> RatedFrame:
    """What the engine says of that usage, at 0.1 a unit."""
    covered = [Interval(T, T + HOUR)] if begin == T else [Interval(T + HOUR + 600, T + 2 * HOUR)]
    gaps = [] if begin == T else [GAP]
    made = RatedFrame(
        scope_id="A",
        period_begin=begin,
        period_end=begin + HOUR,
        revision=revision,
        status=FrameStatus.PARTIAL if gaps else FrameStatus.RATED,
        closed_by=ClosedBy.GRACE if gaps else ClosedBy.COMPLETE,
        weak=False,
        rule_version=1,
        closed_at=begin + 3 * HOUR,
        part=0,
        parts=1,
        lines=lines(),
        totals=[MetricTotal("cpu", "undefined", Decimal(3), Decimal("0.3"), 2)],
        coverage=[
            MetricCoverage(
                "cpu", "prom", [Interval(begin, begin + HOUR)], covered, "proven",
                [CollectionRef(f"c{begin}", 1, begin, begin + HOUR, 2)],
            )
        ],
        gaps=gaps,
        quarantined=[],
        expected_until=T + 2 * HOUR,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def lines() -> list[Line]:
    return [line(1), line(2)]


def line(number: int, **changes: object) -> Line:
    series = (VM1, VM2)[number - 1]
    identity = _identity(number)
    made = Line(
        identity, "cpu", "undefined", Decimal(number), Decimal(number) / 10, dict(series.groupby), dict(series.metadata)
    )
    return msgspec.structs.replace(made, **changes)


def _identity(number: int) -> str:
    from rater.model.labels import canonical_series, line_id

    series = (VM1, VM2)[number - 1]
    return line_id("A", "cpu", canonical_series(series.groupby, series.metadata)).hex()


def opened(**changes: object) -> Alert:
    alert = Alert(
        GAP.gap_id, AlertKind.GAP_OPENED, "A", "cpu", "prom", T + HOUR, GAP.begin, GAP.end, 0, T + 4 * HOUR, GAP.reason
    )
    return msgspec.structs.replace(alert, **changes)


def of_usage(records: Iterable[UsageRecord], refused: dict[int, str] | None = None) -> list[UsageEntry]:
    return [
        UsageEntry(record, 0, offset, (T + HOUR) * 1000, (refused or {}).get(offset, ""))
        for offset, record in enumerate(records)
    ]


def of_rated(*frames: RatedFrame) -> list[RatedEntry]:
    return [RatedEntry(one, encode_json(one), 0, offset) for offset, one in enumerate(frames)]


def of_alerts(*alerts: Alert) -> list[AlertEntry]:
    return [AlertEntry(one, encode_json(one), 0, offset) for offset, one in enumerate(alerts)]


def stored(*frames: RatedFrame) -> Stored:
    """The rows that a sink makes of these frames and the alert."""
    gap = StoredGap("A", T + HOUR, GAP, (0, T + 4 * HOUR), None)
    return Stored(
        [
            StoredFrame(msgspec.structs.replace(one, lines=[]), len(one.lines), len(one.gaps), len(one.quarantined))
            for one in frames
        ],
        [StoredLine("A", one.period_begin, one.revision, one.rule_version, of) for one in frames for of in one.lines],
        [gap],
    )


def check(
    rated: list[RatedEntry],
    alerts: list[AlertEntry] | None = None,
    records: list[UsageEntry] | None = None,
    rows: Stored | None = None,
    until: int = T + 2 * HOUR,
) -> list[Violation]:
    return check_logs(
        of_usage(usage()) if records is None else records,
        rated,
        of_alerts(opened()) if alerts is None else alerts,
        SETUP,
        until,
        stored=rows,
        price_of=lambda _metric, qty, _groupby, _metadata: qty / 10,
    )


FIRST, SECOND = frame(T), frame(T + HOUR)


def test_what_is_right_breaks_nothing() -> None:
    assert check(of_rated(FIRST, SECOND, FIRST), of_alerts(opened(), opened()), rows=stored(FIRST, SECOND)) == []


def changed(number: int, **changes: object) -> list[Line]:
    """The lines with one of them changed."""
    return [line(n, **(changes if n == number else {})) for n in (1, 2)]


@pytest.mark.parametrize(
    ("invariant", "first"),
    [
        (Invariant.EVERY_SAMPLE_ONCE, {"lines": lines()[:1]}),
        (Invariant.EVERY_SAMPLE_ONCE, {"lines": [*lines(), line(1, line_id="cd" * 16)]}),
        (Invariant.EVERY_SAMPLE_ONCE, {"lines": [*lines(), line(1)]}),
        (
            Invariant.EVERY_SAMPLE_ONCE,
            {"quarantined": [QuarantinedPoint("cpu", "", "1", "x", dict(VM1.groupby), dict(VM1.metadata))]},
        ),
        (Invariant.EVERY_SAMPLE_ONCE, {"status": FrameStatus.FAILED, "failure": "a script"}),
        (Invariant.QUANTITIES_ADD_UP, {"lines": changed(1, qty=Decimal("1.5"))}),
        (Invariant.BEST_REVISION_IS_TRUTH, {"lines": changed(1, price=Decimal(7))}),
        (Invariant.BEST_REVISION_IS_TRUTH, {"lines": changed(1, unit="GiB")}),
        (Invariant.BEST_REVISION_IS_TRUTH, {"lines": changed(1, metadata={"flavor": "huge"})}),
        (Invariant.BEST_REVISION_IS_TRUTH, {"status": FrameStatus.EMPTY}),
        (Invariant.BEST_REVISION_IS_TRUTH, {"weak": True}),
        (
            Invariant.BEST_REVISION_IS_TRUTH,
            {"coverage": [msgspec.structs.replace(FIRST.coverage[0], covered=[Interval(T, T + 60)])]},
        ),
        (
            Invariant.BEST_REVISION_IS_TRUTH,
            {"coverage": [msgspec.structs.replace(FIRST.coverage[0], expected=[Interval(T, T + 60)])]},
        ),
        (Invariant.BEST_REVISION_IS_TRUTH, {"coverage": [msgspec.structs.replace(FIRST.coverage[0], proof="weak")]}),
        (Invariant.BEST_REVISION_IS_TRUTH, {"quarantined": [QuarantinedPoint("cpu", "prom", "NaN", "x", {}, {})]}),
        (Invariant.PERIODS_ACCOUNTED, {"gaps": [msgspec.structs.replace(GAP, begin=T, end=T + 60)]}),
        (Invariant.PERIODS_ACCOUNTED, {"gaps": [msgspec.structs.replace(GAP, source="other")]}),
        (
            Invariant.PERIODS_ACCOUNTED,
            {"coverage": [msgspec.structs.replace(FIRST.coverage[0], covered=[Interval(T, T + 2 * HOUR)])]},
        ),
        (Invariant.TOTALS_ARE_SUMS, {"totals": []}),
        (Invariant.TOTALS_ARE_SUMS, {"totals": [msgspec.structs.replace(FIRST.totals[0], price=Decimal(1))]}),
        (Invariant.TOTALS_ARE_SUMS, {"totals": [msgspec.structs.replace(FIRST.totals[0], n=1)]}),
    ],
)
def test_a_frame_that_says_something_wrong_is_found(invariant: Invariant, first: dict[str, object]) -> None:
    found = check(of_rated(frame(T, **first), SECOND))
    assert (invariant, "A", T) in {(one.invariant, one.scope_id, one.period_begin) for one in found}
    assert {one.period_begin for one in found} <= {T, GAP.begin}


def test_a_collection_that_is_in_no_log_is_found() -> None:
    # given a frame that names one more collection
    more = CollectionRef("made-up", 1, T, T + HOUR, 0)
    entry = msgspec.structs.replace(FIRST.coverage[0], collections=[*FIRST.coverage[0].collections, more])
    # when / then
    found = check(of_rated(frame(T, coverage=[entry]), SECOND))
    assert [one.invariant for one in found] == [Invariant.EVERY_SAMPLE_ONCE]


@pytest.mark.parametrize(
    ("invariant", "frames"),
    [
        (Invariant.ONE_PAYLOAD, [FIRST, SECOND, frame(T, closed_at=T)]),
        (
            Invariant.ONE_PAYLOAD,
            [frame(T, part=0, parts=2), frame(T, part=1, parts=2, lines=[line(1, qty=Decimal(0))]), SECOND],
        ),
        (Invariant.REVISIONS_CONTIGUOUS, [FIRST, SECOND, frame(T, 2)]),
        (Invariant.REVISIONS_CONTIGUOUS, [frame(T, 1), SECOND]),
        (Invariant.REVISIONS_CONTIGUOUS, [frame(T, 1), FIRST, SECOND]),
        (Invariant.REVISIONS_CONTIGUOUS, [FIRST, frame(T, 1, parts=2), SECOND]),
        (Invariant.NO_FRAME_MISSING, [SECOND]),
        (Invariant.NO_FRAME_MISSING, [FIRST]),
    ],
)
def test_a_topic_that_says_something_wrong_is_found(invariant: Invariant, frames: list[RatedFrame]) -> None:
    found = check(of_rated(*frames))
    assert invariant in {one.invariant for one in found}


def test_the_oldest_revisions_may_be_gone_from_the_topic_but_none_between() -> None:
    assert list(revisions_contiguous(of_rated(frame(T, 3), frame(T, 4)), from_begin=False)) == []
    assert len(list(revisions_contiguous(of_rated(frame(T, 3), frame(T, 5)), from_begin=False))) == 1


RESOLVED = opened(kind=AlertKind.GAP_RESOLVED, revision=1)
COVERED = frame(
    T + HOUR,
    1,
    gaps=[],
    coverage=[msgspec.structs.replace(SECOND.coverage[0], covered=[Interval(T + HOUR, T + 2 * HOUR)])],
)


@pytest.mark.parametrize(
    ("alerts", "frames", "expected"),
    [
        ([], [SECOND], "told as open"),
        ([opened(), opened(revision=1)], [SECOND], "one alert that the gap opened"),
        ([RESOLVED], [SECOND, COVERED], "one alert that the gap opened"),
        ([opened(), RESOLVED, opened(kind=AlertKind.GAP_RESOLVED, revision=0)], [SECOND, COVERED], "at most one alert"),
        ([opened(), RESOLVED], [SECOND], "revision 1 that resolves it"),
        ([opened(), RESOLVED], [SECOND, frame(T + HOUR, 1, gaps=[])], "coverage of what was resolved"),
        ([opened(), RESOLVED], [SECOND, frame(T + HOUR, 1)], "told as open"),
        ([opened()], [SECOND, COVERED], "a gap of the newest revision"),
    ],
)
def test_gaps_that_are_told_wrongly_are_found(alerts: list[Alert], frames: list[RatedFrame], expected: str) -> None:
    found = check(of_rated(FIRST, *frames), of_alerts(*alerts))
    texts = [one.expected for one in found if one.invariant is Invariant.GAPS_ALERTED_ONCE]
    assert any(expected in text for text in texts), texts


def test_a_gap_that_was_covered_is_resolved_once() -> None:
    # given the missing ten minutes, collected on their own
    late = answer(
        T + HOUR, Interval(T + HOUR, T + HOUR + 600), end=T + HOUR + 600, samples=[], series=[],
        collection_id="late", sequence=1,
    )  # fmt: skip
    entry = COVERED.coverage[0]
    named = [CollectionRef("late", 1, T + HOUR, T + HOUR + 600, 0), *entry.collections]
    second = msgspec.structs.replace(
        COVERED, coverage=[msgspec.structs.replace(entry, collections=named)], status=FrameStatus.RATED
    )
    # when / then
    records = of_usage([*usage(), late])
    assert check(of_rated(FIRST, SECOND, second), of_alerts(opened(), RESOLVED), records) == []


def test_offsets_that_go_back_are_found() -> None:
    def seen(offset: int, partition: int = 0, group: str = "worker") -> Commit:
        return Commit(group, "usage", partition, offset)

    assert list(offsets_never_go_back([seen(1), seen(1), seen(0, 1), seen(0, 0, "sink"), seen(5)])) == []
    (one,) = offsets_never_go_back([seen(3), seen(7), seen(5), seen(7)])
    assert (one.invariant, one.expected, one.found) == (Invariant.OFFSETS_NEVER_GO_BACK, "offset 7 or later", "5")


def _without_line(rows: Stored) -> Stored:
    return msgspec.structs.replace(rows, lines=rows.lines[1:])


def _with_lines(**changes: object) -> Callable[[Stored], Stored]:
    def change(rows: Stored) -> Stored:
        first = msgspec.structs.replace(rows.lines[0], line=line(1, **changes))
        return msgspec.structs.replace(rows, lines=[first, *rows.lines[1:]])

    return change


def _with_frames(*more: StoredFrame, **changes: object) -> Callable[[Stored], Stored]:
    def change(rows: Stored) -> Stored:
        head = msgspec.structs.replace(rows.frames[0].frame, **changes)
        first = msgspec.structs.replace(rows.frames[0], frame=head)
        return msgspec.structs.replace(rows, frames=[first, *rows.frames[1:], *more])

    return change


def _with_gaps(*gaps: StoredGap) -> Callable[[Stored], Stored]:
    return lambda rows: msgspec.structs.replace(rows, gaps=gaps)


TOLD = StoredGap("A", T + HOUR, GAP, (0, T), None)
AGAIN = StoredFrame(frame(T, lines=[], closed_at=T), 2, 0, 0)
BARE = StoredFrame(frame(T, 1, lines=[]), 2, 0, 0)


@pytest.mark.parametrize(
    ("invariant", "table", "change"),
    [
        (Invariant.FRAMES_HAVE_THEIR_LINES, "frames", _without_line),
        (Invariant.FRAMES_HAVE_THEIR_LINES, "frames", _with_frames(BARE)),
        (Invariant.STORE_IS_BEST_OF_RATED, "lines", _without_line),
        (Invariant.STORE_IS_BEST_OF_RATED, "lines", _with_lines(price=Decimal(9))),
        (Invariant.STORE_IS_BEST_OF_RATED, "lines", _with_lines(metadata={"flavor": "huge"})),
        (Invariant.STORE_IS_BEST_OF_RATED, "frames", _with_frames(closed_by=ClosedBy.FORCED)),
        (Invariant.STORE_IS_BEST_OF_RATED, "frames", _with_frames(digest="ab" * 16)),
        (Invariant.STORE_IS_BEST_OF_RATED, "frames", _with_frames(digest="ab" * 16, rework_id="r1")),
        (Invariant.STORE_IS_BEST_OF_RATED, "frames", _with_frames(BARE)),
        (Invariant.NO_FRAME_MISSING, "frames", lambda rows: msgspec.structs.replace(rows, frames=rows.frames[1:])),
        (Invariant.ONE_PAYLOAD, "frames", _with_frames(AGAIN)),
        (
            Invariant.ONE_PAYLOAD,
            "lines",
            lambda rows: msgspec.structs.replace(
                rows, lines=[*rows.lines, StoredLine("A", T, 0, 1, line(1, qty=Decimal(2)))]
            ),
        ),
        (
            Invariant.FRAMES_HAVE_THEIR_LINES,
            "lines",
            lambda rows: msgspec.structs.replace(
                rows, lines=[msgspec.structs.replace(rows.lines[0], rule_version=2), *rows.lines[1:]]
            ),
        ),
        (Invariant.GAPS_ALERTED_ONCE, "gaps", _with_gaps()),
        (Invariant.GAPS_ALERTED_ONCE, "gaps", _with_gaps(msgspec.structs.replace(TOLD, resolved=(0, T)))),
        (Invariant.GAPS_ALERTED_ONCE, "gaps", _with_gaps(msgspec.structs.replace(TOLD, opened=None, resolved=(0, T)))),
        (Invariant.GAPS_ALERTED_ONCE, "gaps", _with_gaps(msgspec.structs.replace(TOLD, opened=(4, T)))),
        (Invariant.GAPS_ALERTED_ONCE, "gaps", _with_gaps(TOLD, msgspec.structs.replace(TOLD, period_begin=T - HOUR))),
        (
            Invariant.GAPS_ALERTED_ONCE,
            "gaps",
            _with_gaps(msgspec.structs.replace(TOLD, gap=msgspec.structs.replace(GAP, end=T + 2 * HOUR))),
        ),
        (Invariant.GAPS_ALERTED_ONCE, "gaps", _with_gaps(TOLD, msgspec.structs.replace(TOLD, period_begin=T))),
    ],
)
def test_rows_that_are_wrong_are_found(invariant: Invariant, table: str, change: Callable[[Stored], Stored]) -> None:
    found = check(of_rated(FIRST, SECOND), rows=change(stored(FIRST, SECOND)))
    assert (invariant, table) in {(one.invariant, row.table) for one in found for row in one.rows}


def test_rows_of_a_superseded_revision_are_no_fault() -> None:
    # given a revision that replaced another one, of which all rows are still there
    newer = frame(T, 1)
    rows = stored(FIRST, SECOND, newer)
    # when / then
    assert check(of_rated(FIRST, SECOND, newer), rows=rows) == []
    # and a store that was read after the topic may be ahead of it
    assert list(store_is_best_of_rated(of_rated(FIRST), rows, at_rest=False)) == []
    assert [one.found for one in store_is_best_of_rated(of_rated(FIRST), rows)] == ["revision 1"]


def test_lines_that_vanished_do_not_count() -> None:
    # given a revision that repeats a line with zero
    gone = line(1, line_id="ef" * 16, qty=Decimal(0), price=Decimal(0))
    # when / then
    assert check(of_rated(frame(T, lines=[*lines(), gone]), SECOND)) == []


def test_usage_that_came_too_late_waits_and_breaks_nothing() -> None:
    # given a better answer for the first hour that was refused as late
    better = answer(T, Interval(T, T + HOUR), attempt=2, collection_id="better", sequence=1, samples=[])
    records = of_usage([*usage(), better], {3: "late: 1 period(s)"})
    # when / then
    assert check(of_rated(FIRST, SECOND), records=records) == []
    # and it was missed, had it not been refused
    found = check(of_rated(FIRST, SECOND), records=of_usage([*usage(), better]))
    assert {one.invariant for one in found} == {Invariant.EVERY_SAMPLE_ONCE}


@pytest.mark.parametrize("producer_id", ["rework-1", "somebody"])
def test_the_answer_to_a_reprocess_that_was_refused_waits_for_nothing(producer_id: str) -> None:
    # given a better answer that the frame does not name, in the store
    identity = f"r0/cpu/{T}"
    more = [Sample(0, T, T + HOUR, Decimal(7))]
    better = answer(
        T, Interval(T, T + HOUR), attempt=9, collection_id=identity, producer_id=producer_id, sequence=7, samples=more
    )
    parts = [*(part for part in usage() if isinstance(part, Collection) and part.begin < T + HOUR), better]

    # when
    truth = truth_of(frame(T), [Piece(part) for part in parts], SETUP, None, lambda cut: True)

    # then
    assert bool(truth.waiting_samples) is (producer_id == "somebody")


def test_the_ledger_has_each_sample_once() -> None:
    # given one resource that is quarantined, two in a frame that failed, one that waits
    late = answer(T + HOUR, Interval(T + HOUR, T + 2 * HOUR), attempt=3, collection_id="late", sequence=1)
    records = of_usage([*usage(), late], {3: "late: 1 period(s)"})
    point = QuarantinedPoint("cpu", "", "1", "x", dict(VM1.groupby), dict(VM1.metadata))
    first = frame(T, lines=[line(2)], quarantined=[point], status=FrameStatus.PARTIAL)
    second = frame(T + HOUR, lines=[], totals=[], status=FrameStatus.FAILED, failure="a script")
    # when
    cases, missing = cases_of_logs(records, of_rated(first, second), [], SETUP, 0)
    # then
    assert missing == []
    counted = [ledger(case) for case in cases]
    assert [(one.rated, one.quarantined, one.failed, one.waiting) for one in counted] == [(1, 1, 0, 0), (0, 0, 2, 2)]


def test_points_that_are_told_as_a_number_are_somewhere() -> None:
    # given a frame that names none of its two refused points
    more = QuarantinedPoint("cpu", "", "", "and 2 more points without a price: topic usage has them whole", {}, {})
    first = frame(T, lines=[], totals=[], quarantined=[more], status=FrameStatus.PARTIAL)
    one = msgspec.structs.replace(first, quarantined=[msgspec.structs.replace(more, reason="and 1 more points")])
    # when / then
    assert check(of_rated(first, SECOND)) == []
    assert {v.invariant for v in check(of_rated(one, SECOND))} == {Invariant.EVERY_SAMPLE_ONCE}


def test_an_item_without_a_number_is_quarantined() -> None:
    # given
    item = not_a_number()
    records = usage()
    records[1] = answer(T, Interval(T, T + HOUR), quarantined=[item])
    point = QuarantinedPoint("cpu", "prom", item.value, item.reason, item.groupby, item.metadata)
    first = frame(T, quarantined=[point], status=FrameStatus.PARTIAL)
    # when / then
    assert check(of_rated(first, SECOND), records=of_usage(records)) == []
    assert check(of_rated(FIRST, SECOND), records=of_usage(records)) != []


def test_what_only_follows_is_left_out() -> None:
    # given a line with a wrong price, which makes its total wrong
    wrong = frame(T, lines=changed(1, price=Decimal(9)))
    rows = [one for one in check(of_rated(wrong, SECOND)) if one.invariant is Invariant.TOTALS_ARE_SUMS]
    named = Violation(Invariant.PRICES_FOLLOW_RULES, "A", T, "cpu", "0.1", "9", (_line(),))
    # when / then
    assert roots([*rows, named, named]) == [named]
    assert roots(rows) == rows
    assert "expected 0.1, found 9: lines(scope_id=A, " in named.text()


def _line() -> object:
    from rater.audit.violation import line_row

    return line_row("A", T, 0, "cpu", _identity(1))
