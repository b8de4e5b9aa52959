"""Interval arithmetic equals arithmetic on sets of seconds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rater.model.interval import (
    Interval,
    clip,
    holds,
    overlaps,
    period_of,
    periods_of,
    seconds,
    subtract,
    uncovered,
    union,
)

END = 24
intervals = st.builds(Interval, st.integers(0, END), st.integers(0, END))  # empty and reversed ones too
lists = st.lists(intervals, max_size=7)


def instants(given_intervals: list[Interval]) -> set[int]:
    return {second for begin, end in given_intervals for second in range(begin, end)}


def is_normal(found: list[Interval]) -> bool:
    return all(part.begin < part.end for part in found) and all(a.end < b.begin for a, b in pairwise(found))


@given(lists)
def test_union_holds_the_same_seconds_as_a_normal_list(some: list[Interval]) -> None:
    found = union(some)
    assert instants(found) == instants(some)
    assert is_normal(found)
    assert union(found) == found
    assert union(reversed(some)) == found
    assert seconds(some) == len(instants(some))


@given(intervals, lists)
def test_uncovered_is_the_period_without_what_is_covered(period: Interval, some: list[Interval]) -> None:
    found = uncovered(period, some)
    assert instants(found) == instants([period]) - instants(some)
    assert is_normal(found)


@given(lists, lists)
def test_subtract_takes_away_and_both_parts_make_the_whole(whole: list[Interval], gone: list[Interval]) -> None:
    left = subtract(whole, gone)
    assert instants(left) == instants(whole) - instants(gone)
    assert is_normal(left)
    assert subtract(whole, left) == union(
        part for bounds in union(gone) for part in clip(whole, bounds)
    )  # what was taken is what both hold


@given(lists, intervals)
def test_clip_keeps_what_lies_within(some: list[Interval], bounds: Interval) -> None:
    found = clip(some, bounds)
    assert instants(found) == instants(some) & instants([bounds])
    assert is_normal(found)


@given(intervals, intervals)
def test_overlaps_means_a_common_second(one: Interval, other: Interval) -> None:
    assert overlaps(one, other) is bool(instants([one]) & instants([other]))


@given(lists, st.integers(-1, END + 1))
def test_holds_means_that_the_second_is_among_them(some: list[Interval], instant: int) -> None:
    assert holds(union(some), instant) is (instant in instants(some))


@given(st.integers(0, 3 * END), st.integers(0, END), st.integers(1, 9))
def test_periods_are_those_a_span_touches(begin: int, length: int, period: int) -> None:
    found = list(periods_of(Interval(begin, begin + length), period))
    touched = sorted({second // period for second in range(begin, begin + length)})
    assert found == [Interval(number * period, (number + 1) * period) for number in touched]
    assert all(period_of(second, period) in found for second in range(begin, begin + length))
