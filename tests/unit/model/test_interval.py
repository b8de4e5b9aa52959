"""Interval arithmetic by hand-made cases; the property tests compare it with sets of seconds."""

from __future__ import annotations

import pytest

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


def spans(*pairs: tuple[int, int]) -> list[Interval]:
    return [Interval(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([(3, 3), (5, 4)], []),
        ([(5, 9), (0, 3)], [(0, 3), (5, 9)]),
        ([(0, 3), (3, 5)], [(0, 5)]),
        ([(0, 9), (2, 3)], [(0, 9)]),
        ([(0, 4), (2, 9), (2, 2)], [(0, 9)]),
    ],
)
def test_union(given: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert union(spans(*given)) == spans(*expected)


def test_union_makes_intervals_of_plain_pairs() -> None:
    assert all(isinstance(part, Interval) for part in union(spans((0, 1), (5, 6))))


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        ([], [(10, 20)]),
        ([(0, 30)], []),
        ([(10, 20)], []),
        ([(0, 12), (18, 30)], [(12, 18)]),
        ([(15, 16)], [(10, 15), (16, 20)]),
        ([(16, 18), (12, 14)], [(10, 12), (14, 16), (18, 20)]),
        ([(0, 5), (25, 30)], [(10, 20)]),
        ([(20, 30)], [(10, 20)]),
        ([(0, 10)], [(10, 20)]),
    ],
)
def test_uncovered(covered: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert uncovered(Interval(10, 20), spans(*covered)) == spans(*expected)


def test_nothing_of_an_empty_period_is_uncovered() -> None:
    assert uncovered(Interval(10, 10), []) == []


def test_subtract() -> None:
    assert subtract(spans((0, 10), (20, 30)), spans((5, 25), (28, 28))) == spans((0, 5), (25, 30))
    assert subtract([], spans((0, 1))) == []


def test_clip() -> None:
    assert clip(spans((0, 12), (18, 30), (40, 50)), Interval(10, 20)) == spans((10, 12), (18, 20))
    assert clip(spans((0, 10), (20, 30)), Interval(10, 20)) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [((0, 5), (5, 9), False), ((0, 5), (4, 9), True), ((0, 9), (3, 3), False), ((0, 9), (3, 4), True)],
)
def test_overlaps(one: tuple[int, int], other: tuple[int, int], expected: bool) -> None:
    assert overlaps(Interval(*one), Interval(*other)) is expected
    assert overlaps(Interval(*other), Interval(*one)) is expected


@pytest.mark.parametrize(("instant", "expected"), [(0, False), (1, True), (2, True), (3, False), (7, True), (8, False)])
def test_holds(instant: int, expected: bool) -> None:
    assert holds(spans((1, 3), (7, 8)), instant) is expected
    assert holds([], instant) is False


def test_seconds_count_each_instant_once() -> None:
    assert seconds(spans((0, 10), (5, 15), (20, 21), (9, 3))) == 16


def test_periods_are_aligned_to_the_epoch() -> None:
    assert period_of(3599, 3600) == (0, 3600)
    assert period_of(3600, 3600) == (3600, 7200)
    assert list(periods_of(Interval(3599, 7201), 3600)) == spans((0, 3600), (3600, 7200), (7200, 10800))
    assert list(periods_of(Interval(3600, 7200), 3600)) == spans((3600, 7200))
    assert list(periods_of(Interval(5, 5), 3600)) == []
    assert list(periods_of(Interval(9, 5), 3600)) == []
