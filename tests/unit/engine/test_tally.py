"""What a state tells of itself: frames by status, gaps, sources that owe something, and what became of records."""

from __future__ import annotations

from rater.engine.apply import MAX_HEARD
from rater.engine.tally import OPEN, UNKNOWN, tally
from rater.model.usage import ScopeSwitch
from tests.unit.engine.builders import HALF, HOUR, Bench, T, collection, context, forced, full_bench, plan, push, sample

END = T + 4 * HOUR


def _frames(bench: Bench) -> dict[str, int]:
    return {status: n for status, n in tally(bench.state, END, bench.context).frames.items() if n}


def test_frames_are_counted_by_what_their_last_revision_says() -> None:
    # given an hour that is whole, one that is empty, one of which half is missing, and one of which all is
    bench = Bench(late_horizon_periods=100)
    bench.take(plan("cpu", until=END))
    bench.take(collection(T, T + HOUR), collection(T + HOUR, T + 2 * HOUR, qty=None))
    bench.take(collection(T + 2 * HOUR, T + 2 * HOUR + HALF))
    assert _frames(bench) == {OPEN: 4}

    # when
    bench.decide(END + 10 * HOUR)

    # then
    found = tally(bench.state, END, context())
    assert _frames(bench) == {"rated": 1, "empty": 1, "partial": 1, "missing": 1}
    assert (found.open_gaps, found.overdue, found.unpriced) == (2, 0, 0)


def test_a_frame_that_an_earlier_release_closed_is_unknown() -> None:
    bench = Bench()
    bench.take(plan("cpu", until=T + HOUR), collection())
    bench.decide(T + HOUR)
    bench.state.scopes["A"].frames[T].status = ""

    assert _frames(bench) == {UNKNOWN: 1}


def test_a_frame_is_overdue_once_everybody_had_the_time_to_complete_it() -> None:
    bench = Bench(wait_periods=2, settle=300)
    bench.take(plan("cpu", until=T + HOUR), at=T + HOUR)

    def overdue(now: int) -> int:
        return tally(bench.state, now, bench.context).overdue

    assert overdue(T + 3 * HOUR + 300) == 0
    assert overdue(T + 3 * HOUR + 301) == 1
    # when more comes, it has until things are quiet again
    bench.take(collection(T, T + HALF), at=T + 5 * HOUR)
    assert overdue(T + 5 * HOUR + 600) == 0
    assert overdue(T + 5 * HOUR + 601) == 1


def test_sources_are_heard_when_something_of_them_is_taken_and_as_long_as_they_owe_something() -> None:
    def heard(now: int) -> dict[str, int]:
        return tally(bench.state, now, bench.context).heard

    # given a source with a plan that ends, another that was seen
    bench = Bench()
    bench.take(plan("cpu", until=END), at=T + 5)
    assert heard(T + HOUR) == {}
    bench.take(collection(sequence=1), at=T + HOUR)
    bench.take(push(sample(T)), at=T + HOUR + 7)
    assert heard(T + 2 * HOUR) == {"prom": T + HOUR, "push": T + HOUR + 7}

    # when the same comes again, or what nobody can take
    bench.take(collection(sequence=1), at=T + 2 * HOUR)
    bench.take(collection(metric="unheard-of"), at=T + 2 * HOUR)

    # then
    assert heard(T + 2 * HOUR) == {"prom": T + HOUR, "push": T + HOUR + 7}
    assert heard(END) == {"push": T + HOUR + 7}
    # and of a scope that is switched off nothing is owed
    bench.take(ScopeSwitch("A", 1, False, T, "kim"))
    assert heard(T + 2 * HOUR) == {}


def test_records_are_counted_by_what_became_of_them() -> None:
    bench = Bench()
    bench.take(plan("cpu"), collection(sequence=1), push(sample(T), sample(T + 60)))
    bench.take(collection(sequence=1), collection(metric="unheard-of"), forced(T + 1))
    bench.take_raw(b"nonsense")
    bench.take(collection(T, T + HOUR, qty="2", sequence=1))

    counts = bench.state.counts
    assert (counts.parts, counts.samples, counts.repeated) == (2, 3, 1)
    assert counts.rejected == {"unknown_metric": 1, "invalid": 1, "unreadable": 1, "reused_number": 1}


def test_what_comes_too_late_is_refused_as_late() -> None:
    assert full_bench().state.counts.rejected == {"late": 1, "unreadable": 1}


def test_of_very_many_sources_the_one_of_the_longest_ago_is_forgotten() -> None:
    bench = Bench()
    bench.state.heard = {f"s{number}": (T + 500 - number) * 1000 for number in range(MAX_HEARD)}
    bench.take(collection(), at=T + HOUR)

    assert len(bench.state.heard) == MAX_HEARD
    assert bench.state.heard["prom"] == (T + HOUR) * 1000
    assert f"s{MAX_HEARD - 1}" not in bench.state.heard
