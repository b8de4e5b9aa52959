"""Where an interrupted replay goes on: what of it lies in the topic, and when it is not gone on with."""

from __future__ import annotations

import pytest

from collectors.errors import ReplayError
from collectors.progress import CollectionHead
from collectors.replay.journal import Done, Journal, ReplayRun, arguments_digest, collection_id
from rater.model.usage import ScopePlan

CALLED = arguments_digest(["usage.jsonl"])
CONTENT, OTHER = "0" * 16, "1" * 16
RUN = ReplayRun(CALLED, CONTENT, 1000)
NOW = 5000


def _head(name: str, attempt: int = 1000, part: int = 0, parts: int = 1, **more: str) -> CollectionHead:
    return CollectionHead(more.pop("source", "replay"), "p", "m", 0, 3600, attempt, name, part, parts, **more)


def _journal(*heads: CollectionHead | ScopePlan) -> Journal:
    journal = Journal("replay", CALLED)
    for head in heads:
        journal.take(head)
    return journal


def _named(number: int, *, last: bool = False, run: ReplayRun = RUN) -> str:
    return collection_id(run, number, last=last)


def test_an_interrupted_replay_goes_on_with_what_is_not_there() -> None:
    """Given collections 0, 2 and one of three parts of 9; then 0 and 2 are there, of 9 one part."""
    run, done = _journal(
        _head(_named(0)), _head(_named(2), part=0, parts=2), _head(_named(2), part=1, parts=2),
        _head(_named(9), part=1, parts=3), _head(_named(0)),
    ).run(CONTENT, NOW, anew=False)  # fmt: skip

    assert run == RUN
    assert [number for number in range(12) if done.is_whole(number)] == [0, 2]
    assert (done.whole, done.parts_of(9), done.parts_of(1)) == (2, {1}, frozenset())


def test_one_that_ended_is_published_anew_as_a_later_attempt() -> None:
    ended = _journal(_head(_named(0)), _head(_named(1, last=True)))
    unended = _journal(_head(_named(1, last=True), part=0, parts=2))

    run, done = ended.run(CONTENT, NOW, anew=False)
    assert (run.attempt, done.whole) == (NOW, 0)
    assert unended.run(CONTENT, NOW, anew=False)[0] == RUN


def test_an_attempt_is_later_than_all_that_the_source_has_published_even_by_a_wrong_clock() -> None:
    assert _journal(_head("x", 90_000)).run(CONTENT, NOW, anew=False)[0].attempt == 90_001


def test_what_its_source_published_later_is_not_replaced_by_going_on() -> None:
    run, done = _journal(_head(_named(0)), _head("of another file", 1001)).run(CONTENT, NOW, anew=False)

    assert (run.attempt, done.whole) == (NOW, 0)


@pytest.mark.parametrize(
    "head",
    [
        _head("of another source", 1001, source="prometheus"),
        _head("of a rework", 1001, rework_id="r1"),
        _head("replay-no-such-name/1", 1000),
        ScopePlan("prometheus", "p", 0, 3600, ["m"]),
    ],
)
def test_others_say_nothing(head: CollectionHead | ScopePlan) -> None:
    journal = _journal(_head(_named(0)), head)

    assert journal.run(CONTENT, NOW, anew=False)[0] == RUN
    assert journal.plans.scopes() == []


def test_files_that_changed_are_refused_unless_anew() -> None:
    journal = _journal(_head(_named(0)), ScopePlan("replay", "p", 0, 3600, ["m"]))

    with pytest.raises(ReplayError, match=r"interrupted \(begun 1970-01-01T00:00:01Z, 1 collections confirmed\)"):
        journal.run(OTHER, NOW, anew=False)
    run, done = journal.run(OTHER, NOW, anew=True)
    assert (run, done.whole) == (ReplayRun(CALLED, OTHER, NOW), 0)
    assert journal.plans.scopes() == ["p"]


def test_other_arguments_are_another_replay() -> None:
    called = arguments_digest(["other.jsonl"])
    journal = Journal("replay", called)
    journal.take(_head(_named(0), 1000))

    assert journal.run(CONTENT, NOW, anew=False)[0] == ReplayRun(called, CONTENT, NOW)


def test_many_collections_cost_a_bit_each() -> None:
    done = Done()
    for number in range(0, 1_000_000, 2):
        done.take(number, 0, 1)

    assert done.whole == 500_000
    assert (done.is_whole(999_998), done.is_whole(999_999), done.is_whole(10**9)) == (True, False, False)
    assert len(done._bits) < 130_000
