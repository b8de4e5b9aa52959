"""Which collections hold: a function of the set of complete ones, without any second taken from two of them."""

from __future__ import annotations

from itertools import permutations

import pytest

from rater.engine.coverage import covered, winners
from rater.engine.state import FOREVER, Slice
from rater.model.interval import Interval


def held(
    begin: int,
    end: int,
    attempt: int = 1,
    name: str = "",
    covers: list[tuple[int, int]] | None = None,
    *,
    complete: bool = True,
    stray: tuple[int, int] = (FOREVER, -1),
) -> Slice:
    return Slice(
        begin,
        end,
        attempt,
        name or f"{begin}-{end}",
        parts=1,
        received=[Interval(0, 1)] if complete else [],
        covers=[Interval(*part) for part in ([(begin, end)] if covers is None else covers)],
        proof="proven",
        first_stray=stray[0],
        last_stray=stray[1],
    )


CASES = {
    "none": ([], []),
    "incomplete": ([held(0, 60, complete=False)], []),
    "one": ([held(0, 60)], ["0-60"]),
    "neighbours": ([held(30, 60), held(0, 30)], ["0-30", "30-60"]),
    "higher attempt": ([held(0, 60, 1, "old"), held(0, 60, 2, "new")], ["new"]),
    "same attempt": ([held(0, 60, 1, "b"), held(0, 60, 1, "a")], ["b"]),
    "incomplete attempt": ([held(0, 60, 1, "old"), held(0, 60, 2, "new", complete=False)], ["old"]),
    "wider range": ([held(0, 60, 1), held(0, 30, 9), held(30, 60, 9)], ["0-60"]),
    "overlap": ([held(0, 40), held(20, 50)], ["0-40"]),
    "overlap of equal width": ([held(0, 40, 1), held(20, 60, 2)], ["20-60"]),
    "overlap of equal width and attempt": ([held(0, 40, 1, "x"), held(20, 60, 1, "x")], ["x"]),
    "hole filled": ([held(0, 60, covers=[(0, 20), (40, 60)]), held(20, 40)], ["0-60", "20-40"]),
    "hole overfilled": ([held(0, 60, covers=[(0, 20), (40, 60)]), held(19, 40)], ["0-60"]),
    "stray in the hole": ([held(0, 60, covers=[(0, 20)], stray=(30, 30)), held(20, 60)], ["0-60"]),
    "stray before the hole": ([held(0, 60, covers=[(0, 10)], stray=(15, 19)), held(20, 60)], ["0-60", "20-60"]),
    "empty range over all": ([held(0, 60, covers=[]), held(0, 30), held(30, 60)], ["0-30", "0-60", "30-60"]),
    "empty of the same range": ([held(0, 60, 2, "empty", covers=[]), held(0, 60, 1, "full")], ["empty"]),
    "third fits beside the first": ([held(0, 60), held(40, 90), held(60, 80)], ["0-60", "60-80"]),
}


@pytest.mark.parametrize(("slices", "expected"), CASES.values(), ids=CASES.keys())
def test_the_choice_does_not_depend_on_the_order(slices: list[Slice], expected: list[str]) -> None:
    for order in permutations(slices):
        assert [chosen.collection_id for chosen in winners(list(order))] == expected


def test_overlap_of_equal_width_and_attempt_takes_the_earlier() -> None:
    first, second = held(0, 40, 1, "x"), held(20, 60, 1, "x")
    assert winners([second, first]) == [first]


def test_what_the_chosen_ones_prove_is_a_normal_list() -> None:
    chosen = [held(0, 60, covers=[(40, 60), (0, 20)]), held(20, 30), held(90, 99)]
    assert covered(chosen) == [Interval(0, 30), Interval(40, 60), Interval(90, 99)]
