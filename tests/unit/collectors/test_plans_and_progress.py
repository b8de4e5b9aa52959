"""What was planned and what is proven, derived from the records of one source."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.history import History
from collectors.plans import FOREVER, PlanBook, Stretch
from collectors.progress import CollectionHead, Progress
from rater.model.codec import JSON, MSGPACK, encode_json, encode_msgpack
from rater.model.interval import Interval
from rater.model.usage import Collection, CollectionFailed, FrameForced, ScopePlan

P = 3600


def _head(begin: int, covers: list[Interval], attempt: int = 1, part: int = 0, parts: int = 1) -> CollectionHead:
    return CollectionHead("s", "p1", "m", begin, begin + P, attempt, f"c{begin}-{attempt}", part, parts, covers)


names = st.frozensets(st.sampled_from("abc"), max_size=3)
plans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10) | st.none(), names), max_size=8)


@given(plans, st.integers(0, 30), st.integers(1, 15), names)
def test_additions_expect_more_and_never_less(
    known: list[tuple[int, int | None, frozenset[str]]], begin: int, length: int, metrics: frozenset[str]
) -> None:
    """Given any plans; when a file's metrics are added to a span; then each instant has what it had, and those."""
    book = PlanBook()
    truth = {instant: frozenset[str]() for instant in range(60)}
    for start, duration, planned in known:
        until = None if duration is None else start + duration
        book.take(ScopePlan("s", "p1", start, until, sorted(planned)))
        truth |= dict.fromkeys(range(start, until if until is not None else 60), planned)
    span = Interval(begin, begin + length)

    for plan in book.additions("s", "p1", span, metrics):
        book.take(plan)

    after = {
        instant: stretch.metrics
        for stretch in book.stretches("p1", Interval(0, 60))
        for instant in range(stretch.begin, stretch.end)
    }
    assert after == {
        instant: planned | metrics if span.begin <= instant < span.end else planned
        for instant, planned in truth.items()
    }


def test_nothing_new_needs_no_plan() -> None:
    book = PlanBook()
    book.take(ScopePlan("s", "p1", 0, None, ["a", "b"]))

    assert book.additions("s", "p1", Interval(10, 20), {"a"}) == []
    assert book.stretches("p1", Interval(5, FOREVER)) == [Stretch(5, FOREVER, frozenset("ab"))]
    assert book.scopes() == ["p1"]


def test_a_period_counts_as_proven_when_all_parts_are_in() -> None:
    progress = Progress(P)
    span = Interval(0, 3 * P)

    progress.take(_head(P, [Interval(P, 2 * P)], part=1, parts=2))
    before = progress.missing("p1", "m", span)
    progress.take(_head(P, [Interval(P, 2 * P)], part=1, parts=2))
    progress.take(_head(P, [Interval(P, 2 * P)], part=0, parts=2))

    assert before == [Interval(0, P), Interval(P, 2 * P), Interval(2 * P, 3 * P)]
    assert progress.missing("p1", "m", span) == [Interval(0, P), Interval(2 * P, 3 * P)]
    assert progress.reached == 2 * P
    assert progress.missing("p2", "m", Interval(0, P)) == [Interval(0, P)]


def test_a_later_attempt_replaces_and_an_earlier_one_that_arrives_late_does_not() -> None:
    progress = Progress(P)
    period = Interval(0, P)

    progress.take(_head(0, [Interval(0, 600)], attempt=2))
    progress.take(_head(0, [Interval(0, 300)], attempt=1))
    assert progress.covered("p1", "m", period) == [Interval(0, 600)]
    assert progress.is_known("p1", "m", period)
    assert not progress.is_known("p1", "m", Interval(P, 2 * P))

    progress.take(_head(0, [Interval(0, P)], attempt=3))
    assert progress.covered("p1", "m", period) == [period]
    assert progress.missing("p1", "m", period) == []
    assert progress.is_known("p1", "m", period)


def test_history_takes_only_its_own_source_and_steps_over_the_rest() -> None:
    history = History("s", P)
    mine = Collection("s", "p1", "m", 0, P, 1, "c", "x", 0, covers=[Interval(0, P)])
    other = Collection("t", "p1", "m", P, 2 * P, 1, "c", "x", 1, covers=[Interval(P, 2 * P)])
    for record in (mine, other, ScopePlan("s", "p1", 0, None, ["m"]), ScopePlan("t", "p2", 0, None, ["m"])):
        history.take(encode_msgpack(record), MSGPACK)
        history.take(encode_json(record), JSON)
    history.take(encode_json(CollectionFailed("s", "p1", "m", 0, P, "away")), JSON)
    history.take(encode_json(FrameForced("p1", 0, "me", "why not")), JSON)
    history.take(b"\xff", JSON)
    history.take(b"", MSGPACK)
    history.take(b"{}", "text/plain")

    assert history.progress.covered("p1", "m", Interval(0, P)) == [Interval(0, P)]
    assert history.progress.reached == P
    assert history.plans.scopes() == ["p1"]


def test_what_a_rework_brought_proves_nothing_to_the_collector() -> None:
    """It may be refused or given up: a gap that it would have filled must be asked for again."""
    span = Interval(0, P)
    part = Collection("s", "p1", "m", 0, P, 9, "c", "me", 0, covers=[span], rework_id="r1")
    history = History("s", P)

    history.take(encode_json(part), JSON)

    assert history.progress.missing("p1", "m", span) == [span]
