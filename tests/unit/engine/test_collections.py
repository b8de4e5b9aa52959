"""How collections come together: parts, attempts, ranges, repetitions, sources, and samples that prove themselves."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from rater.engine import encode_snapshot
from rater.engine.take import RECENT_BATCHES
from rater.model.interval import Interval
from rater.model.rated import AlertKind, CollectionRef, FrameStatus
from tests.unit.engine.builders import (
    GRACE,
    HOUR,
    VM1,
    VM2,
    Bench,
    T,
    collection,
    holes,
    not_a_number,
    plan,
    push,
    quantities,
    sample,
)

HALF = HOUR // 2


def test_parts_in_any_order_make_one_collection() -> None:
    # given
    bench = Bench()
    bench.take(*(collection(part=part, parts=3, qty=qty) for part, qty in ((2, "4"), (0, "1"), (1, "2"))))

    # when
    frame = bench.one(T + HOUR)

    # then
    assert quantities(frame) == {"vm1": 7}
    assert frame.coverage[0].collections == [CollectionRef(f"c{T}-{T + HOUR}", 1, T, T + HOUR, 3)]


def test_a_collection_with_a_missing_part_proves_and_bills_nothing() -> None:
    # given part 1 of 3 never comes
    bench = Bench()
    bench.take(plan("cpu"), collection(part=0, parts=3), collection(part=2, parts=3), at=T + HOUR)

    # when
    early, late = bench.decide(T + GRACE - 1), bench.one(T + GRACE)

    # then
    assert early == []
    assert (late.status, late.lines, holes(late)) == (FrameStatus.MISSING, [], [(0, 60)])
    assert late.coverage[0].collections == []

    # and when it comes after all
    bench.take(collection(part=1, parts=3), at=T + GRACE)
    healed = bench.one(T + GRACE + 60)
    assert (healed.revision, quantities(healed), healed.gaps) == (1, {"vm1": 3}, [])


def test_whole_collections_may_share_an_id_if_their_ranges_differ() -> None:
    # given a pusher that gives every quarter of an hour the same id
    bench = Bench()
    quarters = [(T + start, T + start + 900) for start in range(0, HOUR, 900)]
    bench.take(*(collection(begin, end, collection_id="mine") for begin, end in quarters))

    # when, then
    assert quantities(bench.one(T + HOUR)) == {"vm1": 4}


def test_a_part_that_comes_twice_under_another_number_counts_once() -> None:
    # given a publisher that was restarted and sends the same collection again
    bench = Bench()
    bench.take(collection(part=0, parts=2), collection(part=0, parts=2), collection(part=1, parts=2))
    bench.take(collection(part=1, parts=2), collection(part=0, parts=2))

    # when, then
    frame = bench.one(T + HOUR)
    assert quantities(frame) == {"vm1": 2}
    assert frame.coverage[0].collections[0].samples == 2


def test_a_batch_that_comes_twice_counts_once() -> None:
    # given the same batch again, pushed samples even, which nothing else tells apart
    bench = Bench()
    record = push(sample(T, "2", T + HOUR), sequence=5)
    bench.take(record, record, push(sample(T, "1", T + HOUR), sequence=4), record)

    # when, then
    assert quantities(bench.one(T + HOUR)) == {"vm1": 3}


def test_batches_are_told_apart_by_producer_and_scope() -> None:
    # given the same number from another producer, and of another scope
    bench = Bench()
    for change in ({}, {"producer_id": "q"}, {"scope_id": "B"}):
        bench.take(push(sample(T, "2", T + HOUR), sequence=5, **change))

    # when, then
    frames = bench.decide(T + HOUR)
    assert [(frame.scope_id, frame.lines[0].qty) for frame in frames] == [("A", 4), ("B", 2)]


def test_a_repetition_in_a_log_that_is_read_days_behind_counts_once() -> None:
    # given a worker that comes back eight days later: a checkpoint falls between a batch and its repetition
    bench = Bench()
    batch = push(sample(T, "3", T + HOUR), producer_id="q")
    bench.take(batch, at=T + 60)
    now = T + 8 * 24 * HOUR
    bench.decide(now, caught_up=False)

    # when
    bench.take(batch, at=T + 120)
    bench.decide(now, caught_up=False)

    # then
    (pushed,) = bench.state.scopes["A"].frames[T].slices["net"]["push"]
    assert pushed.samples == 1


def test_sequence_numbers_are_kept_as_ranges_and_forgotten_after_a_week() -> None:
    # given numbers in order, one repeated, one out of order
    bench = Bench()
    bench.take(push(sample(T), sequence=0), at=T)
    bench.take(*(push(sample(T), sequence=number) for number in (1, 1, 4, 3)), at=T + HOUR)
    scope = bench.state.scopes["A"]
    assert scope.producers["p"].seen == [Interval(0, 2), Interval(3, 5)]

    # when, then
    week = 7 * 24 * HOUR
    bench.decide(T + HOUR + week)
    assert list(scope.producers) == ["p"]
    bench.decide(T + 2 * HOUR + week)
    assert scope.producers == {}


def test_a_higher_attempt_replaces_a_lower_one() -> None:
    # given, in either order
    for order in ((1, 2), (2, 1)):
        bench = Bench()
        bench.take(*(collection(attempt=attempt, collection_id=f"c{attempt}", qty=str(attempt)) for attempt in order))

        # when, then
        frame = bench.one(T + HOUR)
        assert quantities(frame) == {"vm1": 2}
        assert [ref.attempt for ref in frame.coverage[0].collections] == [2]


def test_of_equal_attempts_the_same_one_holds_whatever_the_order() -> None:
    for order in ("ab", "ba"):
        bench = Bench()
        bench.take(*(collection(collection_id=name, qty=str(ord(name))) for name in order))
        assert quantities(bench.one(T + HOUR)) == {"vm1": ord("b")}


def test_a_higher_attempt_holds_only_once_it_is_complete() -> None:
    # given an old answer and half of a new one, in either order
    for order in ((0, 1), (1, 0)):
        bench = Bench()
        answers = collection(qty="1"), collection(attempt=2, collection_id="new", part=0, parts=2, qty="10")
        bench.take(*(answers[number] for number in order))

        # when, then
        assert quantities(bench.one(T + HOUR)) == {"vm1": 1}
        bench.take(collection(attempt=2, collection_id="new", part=1, parts=2, qty="20"))
        frame = bench.one(T + HOUR + 60)
        assert (frame.revision, quantities(frame)) == (1, {"vm1": 30})


def test_a_lower_attempt_that_was_replaced_does_not_come_back() -> None:
    # given half of an old answer, then a whole new one
    bench = Bench()
    bench.take(collection(part=0, parts=2, qty="1"), collection(attempt=2, collection_id="new", qty="10"))

    # when the other half comes
    bench.take(collection(part=1, parts=2, qty="2"))

    # then
    assert quantities(bench.one(T + HOUR)) == {"vm1": 10}
    slices = bench.state.scopes["A"].frames[T].slices["cpu"]["prom"]
    assert [held.collection_id for held in slices] == ["new"]


def test_ranges_that_meet_fill_a_period() -> None:
    # given two halves, the later one first, and a third collection within the first half
    bench = Bench()
    bench.take(collection(T + HALF, T + HOUR, "2"), collection(T, T + HALF, "1"), collection(T + 60, T + 120, "9"))

    # when, then: the narrow one is left out, no second counts twice
    frame = bench.one(T + HOUR)
    assert quantities(frame) == {"vm1": 3}
    assert [(ref.begin - T, ref.end - T) for ref in frame.coverage[0].collections] == [(0, HALF), (HALF, HOUR)]


def test_a_hole_within_a_collection_is_filled_by_another_one() -> None:
    # given an hour whose source saw nothing from 00:20 to 00:30, neither samples nor proof
    bench = Bench()
    seen = [Interval(T, T + 1200), Interval(T + 1800, T + HOUR)]
    around = [sample(T, "1"), sample(T + 1199, "2"), sample(T + 1800, "4"), sample(T + HOUR - 1, "8")]
    bench.take(plan("cpu"), collection(covers=seen, samples=around), at=T + HOUR)
    assert holes(bench.one(T + GRACE)) == [(20, 30)]

    # when exactly that is collected again
    bench.take(collection(T + 1200, T + 1800, "16"), at=T + GRACE)

    # then both hold
    frame = bench.one(T + GRACE)
    assert (quantities(frame), frame.gaps) == ({"vm1": 31}, [])
    assert [(ref.begin - T, ref.end - T) for ref in frame.coverage[0].collections] == [(0, HOUR), (1200, 1800)]


def test_ranges_that_overlap_hold_both_if_only_one_says_anything_of_the_time_they_share() -> None:
    # given two ranges that share 00:20 to 00:40, of which the second one says nothing
    bench = Bench()
    bench.take(
        plan("cpu"),
        collection(T, T + 2400, "1"),
        collection(T + 1200, T + HOUR, covers=[Interval(T + 2400, T + HOUR)], samples=[sample(T + 2400, "2")]),
        at=T + HOUR,
    )

    # when, then
    frame = bench.one(T + HOUR)
    assert (quantities(frame), frame.gaps) == ({"vm1": 3}, [])


def test_of_ranges_that_both_say_something_of_the_time_they_share_the_wider_one_holds() -> None:
    # given the same ranges, but the narrower one proves a second of what they share
    bench = Bench()
    bench.take(
        plan("cpu"),
        collection(T, T + 2401, "1"),
        collection(T + 1200, T + HOUR, covers=[Interval(T + 2399, T + HOUR)], samples=[sample(T + 2401, "2")]),
        at=T + HOUR,
    )

    # when, then
    frame = bench.one(T + GRACE)
    assert (quantities(frame), frame.coverage[0].covered) == ({"vm1": 1}, [Interval(T, T + 2401)])


def test_a_sample_within_the_hole_is_a_conflict() -> None:
    # given the same hole, but the wide collection holds a sample of it
    bench = Bench()
    bench.take(
        plan("cpu"),
        collection(covers=[Interval(T, T + 1200)], samples=[sample(T, "1"), sample(T + 1500, "1")]),
        collection(T + 1200, T + 1800, "5"),
        at=T + HOUR,
    )

    # when, then: the wide one alone
    frame = bench.one(T + GRACE)
    assert (quantities(frame), holes(frame)) == ({"vm1": 2}, [(20, 60)])


def test_a_collection_over_several_periods_counts_in_each_by_the_begin_of_its_samples() -> None:
    # given 00:30 to 03:00 in one collection of two parts
    bench = Bench()
    whole = {"begin": T + HALF, "end": T + 3 * HOUR, "collection_id": "wide", "parts": 2}
    whole["covers"] = [Interval(T + HALF, T + 3 * HOUR)]
    bench.take(
        collection(**whole, part=0, samples=[sample(T + HALF, "1"), sample(T + HOUR - 1, "2", T + HOUR + 600)]),
        collection(**whole, part=1, samples=[sample(T + HOUR, "4"), sample(T + 3 * HOUR - 1, "8", T + 4 * HOUR)]),
        at=T + 3 * HOUR,
    )

    # when
    frames = bench.decide(T + 3 * HOUR)

    # then
    assert [(frame.period_begin - T, quantities(frame)) for frame in frames] == [
        (0, {"vm1": 3}),
        (HOUR, {"vm1": 4}),
        (2 * HOUR, {"vm1": 8}),
    ]
    assert [frame.coverage[0].covered for frame in frames] == [
        [Interval(T + HALF, T + HOUR)],
        [Interval(T + HOUR, T + 2 * HOUR)],
        [Interval(T + 2 * HOUR, T + 3 * HOUR)],
    ]
    assert [frame.coverage[0].collections[0].samples for frame in frames] == [2, 1, 1]


def test_an_item_without_a_number_of_a_wide_collection_counts_in_its_first_period() -> None:
    bench = Bench()
    bench.take(collection(T + HALF, T + 2 * HOUR, None, quarantined=[not_a_number(id="vm1")]), at=T + 2 * HOUR)
    assert [len(frame.quarantined) for frame in bench.decide(T + 2 * HOUR)] == [1, 0]


def test_an_empty_collection_covers_without_lines() -> None:
    bench = Bench()
    bench.take(collection(qty=None))
    frame = bench.one(T + HOUR)
    assert (frame.status, frame.lines, frame.totals, frame.gaps) == (FrameStatus.EMPTY, [], [], [])
    assert frame.coverage[0].covered == [Interval(T, T + HOUR)]


def test_weak_proof_covers_and_is_marked() -> None:
    # given the first half proven, the second one weak
    bench = Bench()
    bench.take(collection(T, T + HALF), collection(T + HALF, T + HOUR, None, proof="weak"))

    # when, then
    frame = bench.one(T + HOUR)
    assert (frame.status, frame.weak, frame.coverage[0].proof) == (FrameStatus.RATED, True, "weak")

    # and a weak collection that covers nothing does not matter
    bench.take(collection(T + HOUR, T + 2 * HOUR), collection(T + HOUR, T + HOUR + 60, None, covers=[], proof="weak"))
    assert bench.one(T + 2 * HOUR).weak is False


def test_usage_of_one_resource_from_two_sources_is_added_and_suspected() -> None:
    # given vm1 from two sources, vm2 from one, and the second source in two halves
    bench = Bench()
    bench.take(
        collection(samples=[sample(T, "1"), sample(T, "7", series=1)], series=[VM1, VM2]),
        collection(T, T + HALF, "2", source="twin"),
        collection(T + HALF, T + HOUR, "3", source="twin"),
    )

    # when
    frame = bench.one(T + HOUR)

    # then
    assert quantities(frame) == {"vm1": 6, "vm2": 7}
    assert frame.status is FrameStatus.RATED
    (alert,) = bench.alerts()
    assert (alert.kind, alert.metric, alert.revision) == (AlertKind.SUSPICION, "cpu", 0)
    assert alert.reason.endswith("several sources and may be counted double: prom, twin")


def test_looking_at_a_frame_does_not_change_it() -> None:
    # given usage of two sources that is merged when the frame is rated
    bench = Bench()
    bench.take(*(collection(source=source, qty="1") for source in ("a", "b", "c")), at=T + HOUR)
    assert quantities(bench.one(T + HOUR)) == {"vm1": 3}
    points = encode_snapshot(bench.state)

    # when the frame is rated twice more, first with nothing new, then with one source less
    bench.take(plan("cpu", source="a"), at=T + HOUR)
    bench.take(collection(source="c", attempt=2, collection_id="d", qty=None), at=T + HOUR)

    # then
    assert points
    assert quantities(bench.one(T + HOUR)) == {"vm1": 2}


@pytest.mark.parametrize(
    ("begin", "end", "covered"),
    [(0, 0, (0, 60)), (0, 1, (0, 1)), (3590, 3590, (3590, 3600)), (30, 3600, (30, 3600))],
    ids=["instant", "second", "instant at the end", "interval"],
)
def test_a_pushed_sample_proves_its_own_time(begin: int, end: int, covered: tuple[int, int]) -> None:
    # given, whatever the collection says that it covers
    bench = Bench()
    part = push(sample(T + begin, "1", T + end))
    bench.take(plan("net", source="push"), part, at=T + HOUR)

    # when, then
    frame = bench.one(T + GRACE)
    assert frame.coverage[0].covered == [Interval(T + covered[0], T + covered[1])]


def test_pushed_samples_of_many_batches_add_up() -> None:
    # given a sample a minute over an hour, the first half of them in one batch, the rest in batches of one
    bench = Bench()
    minutes = [sample(T + minute * 60, "0.5") for minute in range(60)]
    bench.take(push(*minutes[:30], begin=T, end=T + HALF), *(push(one, begin=one.begin) for one in minutes[30:]))

    # when, then
    frame = bench.one(T + HOUR)
    assert (frame.status, quantities(frame)) == (FrameStatus.RATED, {"vm1": 30})
    assert frame.coverage[0].collections == [CollectionRef("", 0, T, T + HOUR, 60)]


def test_a_silence_between_pushed_samples_is_a_hole() -> None:
    bench = Bench()
    bench.take(push(*(sample(T + minute * 60) for minute in range(60) if minute not in (17, 18, 59))), at=T + HOUR)
    assert holes(bench.one(T + GRACE)) == [(17, 19), (59, 60)]


def test_pushed_samples_are_weak_as_soon_as_one_batch_is() -> None:
    bench = Bench()
    bench.take(push(sample(T, end=T + HALF)), push(sample(T + HALF, end=T + HOUR), proof="weak"))
    frame = bench.one(T + HOUR)
    assert (frame.weak, frame.coverage[0].proof) == (True, "weak")


def test_pushed_samples_over_several_periods_are_taken_if_each_lies_in_one() -> None:
    bench = Bench()
    bench.take(push(sample(T, "1", T + HOUR), sample(T + HOUR, "2", T + 2 * HOUR), end=T + 2 * HOUR), at=T + 2 * HOUR)
    assert [quantities(frame) for frame in bench.decide(T + 2 * HOUR)] == [{"vm1": 1}, {"vm1": 2}]


def test_labels_make_the_line_and_not_their_order() -> None:
    # given the same labels in another order, in another collection
    bench = Bench()
    series = {"groupby": {"id": "vm1", "zone": "z"}, "metadata": {}}
    turned = {"groupby": {"zone": "z", "id": "vm1"}, "metadata": {}}
    bench.take(
        collection(T, T + HALF, series=[type(VM1)(**series)]),
        collection(T + HALF, T + HOUR, series=[type(VM1)(**turned)]),
    )
    frame = bench.one(T + HOUR)
    assert [(line.qty, line.price) for line in frame.lines] == [(2, Decimal("0.2"))]


def test_a_number_that_is_used_again_for_other_content_is_refused() -> None:
    # given a producer that has lost its count
    bench = Bench()
    bench.take(push(sample(T, "2", T + HOUR), sequence=0), push(sample(T, "3", T + HOUR), sequence=0))

    # when, then the second is not lost silently
    assert "sequence 0 of producer 'p' was used before for other content" in bench.rejected()[0]
    assert quantities(bench.one(T + HOUR)) == {"vm1": 2}


def test_an_old_number_is_a_repetition_only_if_the_frame_has_what_it_brings() -> None:
    # given a collection and a push, then more batches than are remembered
    bench = Bench()
    old, pushed = collection(sequence=0), push(sample(T, "2", T + HOUR), sequence=1)
    bench.take(plan("cpu"), old, pushed, *(push(sample(T), sequence=number) for number in range(2, 2 + RECENT_BATCHES)))

    # when both come again: of the collection the frame knows that it has it, of the push it cannot know
    bench.take(old, pushed, collection(sequence=0, attempt=2, qty="7"))

    # then
    reasons = bench.rejected()
    assert ["too long ago" in reason for reason in reasons] == [True, True]


def test_lost_batches_are_told_when_they_had_their_time() -> None:
    # given a hole of two, and one that is filled in time; and the first batch of another producer is missing
    bench = Bench(settle=100)
    bench.take(*(push(sample(T), sequence=number) for number in (0, 3, 5, 4)), at=T)
    bench.take(push(sample(T), sequence=1, producer_id="q"), at=T + 50)

    # when, then nothing is said before the time is over
    bench.decide(T + 99)
    assert bench.alerts() == []
    bench.decide(T + 100)
    (lost,) = bench.alerts()
    assert (lost.kind, lost.begin, lost.end) == (AlertKind.BATCHES_LOST, T, T + 100)
    assert "2 batch(es) of producer 'p' never came, the first with sequence 1" in lost.reason
    bench.decide(T + 150)
    (other,) = bench.alerts()
    assert "producer 'q' never came, the first with sequence 0" in other.reason

    # and each is told once, also if there are new ones
    bench.take(push(sample(T), sequence=8), at=T + 200)
    bench.decide(T + 300)
    (third,) = bench.alerts()
    assert "2 batch(es) of producer 'p' never came, the first with sequence 6" in third.reason
    bench.decide(T + 500)
    assert bench.alerts() == []


def test_a_refused_batch_is_not_lost_and_its_number_is_free_for_what_is_put_right() -> None:
    # given a batch with a wrong unit between two good ones, and one of a scope that nobody knows
    bench = Bench(settle=0)
    wrong = push(sample(T, "5", T + HOUR), sequence=1, unit="GiB")
    bench.take(push(sample(T, "1", T + HOUR), sequence=0), wrong, push(sample(T, "2", T + HOUR), sequence=2), at=T)
    bench.take(msgspec.structs.replace(wrong, scope_id="nobody"))
    assert len(bench.rejected()) == 2

    # when, then nothing was lost
    bench.decide(T + 1)
    assert bench.alerts() == []
    bench.take(push(sample(T, "5", T + HOUR), sequence=1))
    assert quantities(bench.one(T + HOUR)) == {"vm1": 8}
