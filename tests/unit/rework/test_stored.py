"""Collections put together again from stored usage: what is sent, what is left out, and when a frame is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import cast

import msgspec
import pytest

from rater.engine.alerts import late_usage
from rater.engine.state import Record
from rater.model import labels
from rater.model.codec import decode_alert
from rater.model.interval import Interval
from rater.model.rated import ClosedBy, CollectionRef, FrameStatus
from rater.model.usage import Collection, QuarantinedItem, ReworkEnded, Sample, Series
from rater.reports import ScopeRequest, Selection, UsageRequest, View
from rater.rework import Bracket, Left, Material, Wanted, bracket_of, materials
from rater.rework.late import late_id
from rater.rework.stored import stored_collections
from rater.store import BatchNumber, FrameRow, Kept, LineRow, UsageRow
from tests.unit.rework.builders import CATALOG, HOUR, T, a_frame_row, a_part, a_reference, stored

WANTED = Wanted("r1", "rerate", "ann", "why")


def test_a_collection_of_its_own_period_comes_back_as_it_was() -> None:
    part = a_part(note="3.1", proof="weak", quarantined=[QuarantinedItem("NaN", "no number")], unit="undefined")
    found = stored_collections(a_frame_row(("cpu", a_reference())), stored(part), CATALOG, "r1")
    assert found.missing == ""
    [again] = found.collections
    assert again == msgspec.structs.replace(part, rework_id="r1", stored=True, producer_id="r1")


def test_a_wide_collection_is_cut_to_the_period() -> None:
    # given one of three hours with a hole in the second, in two parts, the second of which has nothing of that hour
    holes = [Interval(T, T + HOUR + 600), Interval(T + HOUR + 900, T + 3 * HOUR)]
    bad = [QuarantinedItem("NaN", "no number")]
    wide = a_part(hours=3, covers=holes, parts=2, quarantined=bad)
    rest = a_part(hours=3, covers=holes, parts=2, part=1, samples=[Sample(0, T, T, Decimal(9))], sequence=1)
    second = a_frame_row(("cpu", a_reference(begin=T + HOUR)), begin=T + HOUR)
    # then its samples, covers and bounds are those of the hour; labels keep their types; it stays a whole of two parts
    found = stored_collections(second, stored(wide, rest), CATALOG, "r1")
    assert found.missing == ""
    one, two = found.collections
    assert (one.begin, one.end, one.part, one.parts) == (T + HOUR, T + 2 * HOUR, 0, 2)
    assert one.covers == [Interval(T + HOUR, T + HOUR + 600), Interval(T + HOUR + 900, T + 2 * HOUR)]
    assert [(one.series[s.series].groupby["id"], s.begin, str(s.qty)) for s in one.samples] == [
        ("vm1", T + HOUR, "1"), ("vm2", T + HOUR, "2"),
    ]  # fmt: skip
    assert one.series[0].metadata == {"size": 4}
    assert (two.part, two.series, two.samples) == (1, [], [])
    # and what has no number is told in the hour in which the collection begins alone
    assert [part.quarantined for part in found.collections] == [[], []]
    first = stored_collections(a_frame_row(), stored(wide, rest), CATALOG, "r1")
    assert [part.quarantined for part in first.collections] == [bad, []]


def test_what_a_later_attempt_replaced_is_not_sent_again() -> None:
    old, new = a_part(), a_part(attempt=2, collection_id="c2", sequence=1)
    torn = a_part(attempt=3, collection_id="c3", parts=2, sequence=2)
    found = stored_collections(a_frame_row(("cpu", a_reference())), stored(torn, new, old), CATALOG, "r1")
    assert {part.collection_id for part in found.collections} == {"c2", "c3"}
    assert found.missing == ""  # the frame was made of what was replaced since


def test_the_answer_to_a_reprocess_that_was_refused_is_not_taken_by_the_next_rework() -> None:
    # given a frame, and what a source answered since: nothing, and that was not to be taken
    frame = a_frame_row(("cpu", a_reference()))
    answer = a_part(
        attempt=9, collection_id=f"r0/cpu/{T}", producer_id="rework-1", covers=[], samples=[], series=[], sequence=1
    )
    found = stored_collections(frame, stored(a_part(), answer), CATALOG, "r1")
    assert [part.collection_id for part in found.collections] == ["c1"]
    assert found.left_out == ["1 part(s) left out: an answer to a reprocess that was not done, or that said the same"]
    # but where the frame was made of it, it is
    made = a_frame_row(("cpu", a_reference(0, collection_id=f"r0/cpu/{T}", attempt=9)))
    found = stored_collections(made, stored(a_part(), answer), CATALOG, "r1")
    assert [part.collection_id for part in found.collections] == [f"r0/cpu/{T}"]


def test_what_came_while_the_scope_was_off_is_not_billed_by_a_rework() -> None:
    """The engine refused it, and it is in table usage all the same; a reset must not bring in what was skipped."""
    off = a_frame_row(closed_by=ClosedBy.INACTIVE, status=FrameStatus.EMPTY)
    found = stored_collections(off, stored(a_part()), CATALOG, "r1")
    assert (found.collections, found.missing) == ([], "")
    assert found.left_out == ["1 part(s) left out: the scope was switched off, and that time is not billed"]
    # switched on, and the time is to be billed: then it counts
    owed = a_frame_row(closed_by=ClosedBy.GRACE, status=FrameStatus.MISSING)
    assert len(stored_collections(owed, stored(a_part()), CATALOG, "r1").collections) == 1
    # what was rated before it was said that the scope is off stays
    rated = a_frame_row(("cpu", a_reference()), closed_by=ClosedBy.INACTIVE)
    assert len(stored_collections(rated, stored(a_part()), CATALOG, "r1").collections) == 1


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (a_part(metric="gpu"), "metric 'gpu' is unknown now"),
        (a_part(unit="GiB"), "unit is 'GiB', metric 'cpu' is declared in 'undefined'"),
        (
            a_part(metric="net", hours=2, samples=[Sample(0, T, T + HOUR + 1, Decimal(1))], covers=[]),
            "a sample of metric 'net' spans periods",
        ),
    ],
)
def test_what_the_engine_would_refuse_is_left_out_and_said(part, reason: str) -> None:
    found = stored_collections(a_frame_row(), stored(part), CATALOG, "r1")
    assert (found.collections, found.left_out, found.missing) == ([], [f"1 part(s) left out: {reason}"], "")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        (a_reference(3), [a_part()]),
        (a_reference(collection_id="gone"), [a_part()]),
        (a_reference(attempt=7), [a_part()]),
        (a_reference(), [a_part(parts=2)]),
        (a_reference(), [a_part(unit="GiB")]),
    ],
    ids=["fewer samples", "not there", "another attempt", "a part lacks", "not taken any more"],
)
def test_a_frame_whose_usage_is_not_there_is_left_alone(reference: CollectionRef, parts: list) -> None:
    frame = a_frame_row(("cpu", reference))
    assert "the store has" in stored_collections(frame, stored(*parts), CATALOG, "r1").missing
    left = bracket_of(Material(frame, [], stored(*parts)), WANTED, CATALOG)
    assert isinstance(left, Left)
    # but not if that is what is collected anew
    made = bracket_of(Material(frame, [], stored(*parts)), WANTED, CATALOG, [a_part(attempt=9, rework_id="r1")])
    assert isinstance(made, Bracket)
    assert made.collections[-1].attempt == 9


def push(sequence: int, number: int, **changes: object):
    samples = [Sample(0, T + 60 * number, T + 60 * number + 60, Decimal(number))]
    return a_part(metric="net", samples=samples, sequence=sequence, collection_id=f"b{number}", covers=[], **changes)


def test_pushed_samples_that_came_late_are_sent_with_those_that_were_rated() -> None:
    frame = a_frame_row(("net", a_reference(1, collection_id="", attempt=0)))
    found = stored_collections(frame, stored(push(0, 1), push(1, 2)), CATALOG, "r1")
    assert (len(found.collections), found.missing) == (2, "")
    assert "the store has 0" in stored_collections(frame, [], CATALOG, "r1").missing


def test_pushed_samples_that_nobody_told_late_are_taken_only_if_that_is_wanted() -> None:
    # given a frame of one pushed sample, and two in the store: one may have been refused and sent again
    frame = a_frame_row(("net", a_reference(1, collection_id="", attempt=0)))
    material = Material(frame, [], stored(push(0, 1), push(1, 2)))
    # then it is left, also if another number of them is known to have come late
    for late in (None, {("net", "test"): 2}):
        left = bracket_of(material, WANTED, CATALOG, late=late)
        assert isinstance(left, Left)
        assert "1 pushed samples of metric 'net'" in left.reason
    # unless it is wanted, or an alert told of it
    wanted = msgspec.structs.replace(WANTED, takes_late=True)
    for made in (
        bracket_of(material, wanted, CATALOG),
        bracket_of(material, WANTED, CATALOG, late={("net", "test"): 1}),
    ):
        assert isinstance(made, Bracket)
        assert made.samples == 2


def test_of_pushes_that_share_a_number_only_one_was_taken() -> None:
    # given two batches with one number: the engine took the first and refused the second, the store has both
    rows = stored(push(0, 1), push(0, 2))
    one, both = (a_frame_row(("net", a_reference(n, collection_id="", attempt=0))) for n in (1, 2))
    assert "used sequence 0 twice" in stored_collections(one, rows, CATALOG, "r1").missing
    # where the frame counts both, both were taken: the count was long forgotten
    assert stored_collections(both, rows, CATALOG, "r1").missing == ""
    # of collections the frame says which it was
    named = a_frame_row(("cpu", a_reference()))
    refused = a_part(collection_id="c2", attempt=2)
    found = stored_collections(named, stored(a_part(), refused), CATALOG, "r1")
    assert [part.collection_id for part in found.collections] == ["c1"]


def test_pushed_samples_that_were_refused_and_sent_again_do_not_count_twice() -> None:
    # given a batch that was refused, since its number was used for another hour, and came again under a new one
    refused, again = push(0, 1), msgspec.structs.replace(push(7, 1, producer_id="q"), collection_id="again")
    frame = a_frame_row(("net", a_reference(1, collection_id="", attempt=0)))
    material = Material(frame, [], stored(refused, again), frozenset({("p", 0)}))
    # then the store does not say which one was taken, and the frame is left
    left = bracket_of(material, WANTED, CATALOG)
    assert isinstance(left, Left)
    assert "used sequence 0 twice" in left.reason
    # where the frame counts both, both were taken
    both = a_frame_row(("net", a_reference(2, collection_id="", attempt=0)))
    made = bracket_of(msgspec.structs.replace(material, frame=both), WANTED, CATALOG)
    assert isinstance(made, Bracket)
    assert len(made.collections) == 2


class OnlyUsage:
    """A store of one frame; it counts how often it is asked for numbers."""

    def __init__(self, frame: FrameRow, *parts: Collection) -> None:
        self.frame = frame
        self.rows = stored(*parts)
        self.asked = 0

    def frames(self, _: Selection) -> Iterator[FrameRow]:
        return iter([self.frame])

    def lines(self, _: Selection) -> Iterator[LineRow]:
        return iter([])

    def usage(self, _: UsageRequest) -> Iterator[UsageRow]:
        return iter(self.rows)

    def kept(self) -> Kept:
        return Kept()

    def reused_numbers(self, request: ScopeRequest) -> list[BatchNumber]:
        assert request.scope_id == "A"
        self.asked += 1
        return [BatchNumber("p", 0)]


def test_reused_numbers_are_looked_for_where_there_is_more_than_was_rated() -> None:
    frame = a_frame_row(("net", a_reference(1, collection_id="", attempt=0)))
    more, all_rated = OnlyUsage(frame, push(0, 1), push(1, 2)), OnlyUsage(frame, push(0, 1))
    found = [next(materials(cast(View, view), "A", T, T + 1, HOUR)).reused for view in (more, all_rated)]
    assert (found, more.asked, all_rated.asked) == ([{("p", 0)}, frozenset()], 1, 0)


def a_line_row(metric: str, series: Series, line_id: str = "") -> LineRow:
    found = line_id or labels.line_id("A", metric, labels.canonical_series(series.groupby, series.metadata)).hex()
    groupby, metadata = ({k: str(v) for k, v in some.items()} for some in (series.groupby, series.metadata))
    return LineRow("A", T, 0, metric, found, Decimal(1), Decimal(1), "undefined", groupby, metadata, 1)


def test_a_bracket_names_the_lines_with_the_labels_that_their_ids_are_made_of() -> None:
    # given lines whose ids follow from text, from a number that only the usage still has, and from what nobody knows
    numbered, plain = a_part().series
    rows = [a_line_row("cpu", plain), a_line_row("cpu", numbered), a_line_row("cpu", plain, "0f" * 16)]
    frame = a_frame_row(("cpu", a_reference()), digest="ab" * 16, line_count=3)
    made = bracket_of(Material(frame, rows, stored(a_part())), WANTED, CATALOG)
    assert isinstance(made, Bracket)
    assert [lines.series for lines in made.lines] == [[plain, numbered]]
    assert made.remarks == ["1 line(s) cannot be named: should one vanish, topic rated will not repeat it with zero"]
    # and its records are counted and numbered
    begun, lines, part, ended = made.records("me", 7)
    assert (begun.base.digest, begun.author, begun.reason) == ("ab" * 16, "ann", "why")
    assert (part.producer_id, part.sequence) == ("me", 7)
    assert ended == ReworkEnded("r1", "A", T, 2)
    assert lines.metric == "cpu"


def test_many_lines_are_named_in_several_records() -> None:
    series = [Series({"id": f"vm{n}", "text": "x" * 5_000}) for n in range(250)]
    rows = [a_line_row("cpu", entry) for entry in series]
    made = bracket_of(Material(a_frame_row(line_count=250), rows, []), WANTED, CATALOG)
    assert isinstance(made, Bracket)
    assert len(made.lines) == 3
    assert [entry for lines in made.lines for entry in lines.series] == series
    assert all(len(msgspec.msgpack.encode(lines)) < 510_000 for lines in made.lines)


def test_the_alert_of_late_usage_is_found_by_its_stored_part() -> None:
    part = a_part(hours=2, part=1, parts=3, attempt=5)
    item = late_usage(part, [Interval(T, T + HOUR)], Record(0, 0, b"A", b""))
    row = stored(part)[0]
    assert late_id(row) == decode_alert(item.value, "application/json").alert_id
    assert late_id(msgspec.structs.replace(row, part=2)) != late_id(row)
