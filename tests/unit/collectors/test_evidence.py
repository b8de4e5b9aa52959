"""The arithmetic of dark times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.evidence import (
    FOREVER,
    MetricEvidence,
    Sight,
    dark_intervals,
    grouped,
    interval_of,
    known_spans,
    lost_scrapes,
    shown,
    together,
)
from rater.model.interval import Interval, clip, overlaps, seconds, subtract


@given(st.sets(st.integers(0, 200), max_size=80), st.sampled_from([1.5, 2.5, 4.0]))
def test_dark_and_lit_time_make_up_all_that_was_looked_at(answered: set[int], slack: float) -> None:
    """Given answers of a target every minute or not; then an instant is dark iff it lies in a gap beyond slack."""
    successes = [60 * n for n in sorted(answered)]
    since, until = 0, 200 * 60

    dark = dark_intervals(successes, 60, slack, since, until)

    for instant in range(since, until, 30):
        last = max((at for at in successes if at <= instant), default=None)
        following = min((at for at in successes if at > instant), default=None)
        expected = _is_dark(instant, last, following, slack, since, until)
        assert any(overlaps(Interval(instant, instant + 1), part) for part in dark) == expected


def _is_dark(instant: int, last: int | None, following: int | None, slack: float, since: int, until: int) -> bool:
    begin = since if last is None else last
    end = until if following is None else following
    long = end - begin > slack * 60 or (last is None and following is None)
    return long and (last is None or instant >= last + 60)


def test_dark_times_whose_begin_or_end_nobody_saw() -> None:
    assert dark_intervals([], 60, 2.5, 0, 600) == [Interval(0, FOREVER)]
    assert dark_intervals([300, 360], 60, 2.5, 100, 1000) == [Interval(0, 300), Interval(420, FOREVER)]
    assert dark_intervals([100, 250], 60, 2.5, 100, 400) == []


@pytest.mark.parametrize(
    ("samples", "interval"),
    [
        ([], None),
        ([1, 2], None),
        ([0, 60, 120], 60),
        ([0, 59.998, 120.003, 180, 3000, 3060, 3120], 60),  # an outage does not stretch it
        ([0, 1200, 1260], 60),  # nor do outages between nearly all of a few
        ([0, 0.25, 0.5], 0.25),
    ],
)
def test_the_interval_is_that_of_most_scrapes(samples: list[float], interval: float | None) -> None:
    assert interval_of(samples) == interval


def test_single_lost_scrapes_are_counted_and_dark_ones_are_not() -> None:
    successes = [0, 60, 180, 240, 900, 960, 1080]

    assert lost_scrapes(successes, 60, 2.5, Interval(0, 1000)) == 2
    assert lost_scrapes(successes, 60, 2.5, Interval(0, 900)) == 1


def test_steps_stand_for_the_time_before_them() -> None:
    assert known_spans([270, 60, 120, 1200], 60, 2.5) == [Interval(0, 270), Interval(1140, 1200)]
    assert known_spans([270, 60, 120, 1200], 60, 1.5) == [Interval(0, 120), Interval(210, 270), Interval(1140, 1200)]
    assert known_spans([], 60, 2.5) == []


@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=4), max_size=4))
def test_together_is_the_intersection(sets: list[list[tuple[int, int]]]) -> None:
    intervals = [[Interval(begin, begin + length) for begin, length in one] for one in sets]
    span = Interval(0, 50)

    found = together(intervals, span)

    for instant in range(50):
        inside = all(any(part.begin <= instant < part.end for part in one) for one in intervals)
        assert bool(clip(found, Interval(instant, instant + 1))) == inside


@given(st.lists(st.integers(0, 1000)), st.integers(0, 50))
def test_groups_are_narrow_and_hold_every_instant_once(instants: list[int], width: int) -> None:
    groups = grouped(instants, width)

    assert sorted(instant for group in groups for instant in group) == sorted(set(instants))
    assert all(group[-1] - group[0] <= width for group in groups)


def _sight(**more: object) -> Sight:
    return Sight(("job", "x"), **{"interval": 60.0, "dark": [], "first": 0, "last_seen": 3700.0, **more})


def test_when_it_is_known_what_a_target_did_at_the_end() -> None:
    assert _sight(last_seen=3660.0).has_settled(3600)
    assert not _sight(last_seen=3659.0).has_settled(3600)
    assert _sight(last_seen=3599.0, dark=[Interval(3659, FOREVER)]).has_settled(3600)
    assert _sight(last_seen=3659.0, dark=[Interval(3719, FOREVER)]).has_settled(3600)
    assert not _sight(last_seen=3500.0, dark=[Interval(100, 3500)]).has_settled(3600)


def test_a_target_is_lit_from_its_first_answer_on_except_where_it_is_dark() -> None:
    sight = _sight(dark=[Interval(1000, 2000)], first=600)

    assert sight.lit(Interval(0, 3600)) == [Interval(600, 1000), Interval(2000, 3600)]


def test_a_verdict_takes_what_is_missing_for_all_and_for_the_scope() -> None:
    period = Interval(0, 3600)
    evidence = MetricEvidence(
        period,
        "2 targets looked at",
        missing=[Interval(0, 100)],
        missing_of={"p1": [Interval(200, 300)], "p2": [Interval(0, 3600)]},
        unseen=[Interval(200, 250)],
        reasons=["a"],
        reasons_of={"p1": ["b"]},
    )

    one, two, other = evidence.of("p1"), evidence.of("p2"), evidence.of("p9")

    assert one.covers == subtract([period], [Interval(0, 100), Interval(200, 300)])
    assert (one.proof, one.note) == ("proven", "2 targets looked at; a; b")
    assert (two.covers, two.proof) == ([], "proven")
    assert other.covers == [Interval(100, 3600)]
    assert other.proof == "weak"  # nobody saw [200, 250), though nothing of it was there
    assert "nobody looked 1970-01-01T00:03:20Z to 1970-01-01T00:04:10Z" in other.note


def test_long_lists_are_shown_short() -> None:
    intervals = [Interval(60 * n, 60 * n + 1) for n in range(9)]

    assert shown(intervals).endswith("1970-01-01T00:04:01Z, 4 more")
    assert shown([Interval(0, FOREVER)]) == "1970-01-01T00:00:00Z to now"
    assert seconds(intervals) == 9
