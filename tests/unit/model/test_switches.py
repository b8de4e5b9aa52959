"""When a scope is not billed, by its switches."""

from __future__ import annotations

from rater.model.interval import Interval
from rater.model.switches import NEVER, Pauses

HOUR = 3600


def switched(*switches: tuple[int, int, bool, bool]) -> Pauses:
    """After switches of (number, minute, on, skips)."""
    pauses = Pauses()
    for number, minute, active, skips in switches:
        pauses = pauses.after(number, minute * 60, HOUR, active=active, skips=skips)
    return pauses


def test_a_period_that_has_begun_is_billed() -> None:
    off = switched((1, 61, False, False))
    assert off.stretches == [Interval(2 * HOUR, NEVER)]
    assert [off.holds(hour * HOUR) for hour in range(4)] == [False, False, True, True]
    assert switched((1, 60, False, False)).since == HOUR


def test_what_was_skipped_stays_unbilled_and_what_is_billed_does_not() -> None:
    first = (1, 60, False, False), (2, 150, True, True)
    assert switched(*first).stretches == [Interval(HOUR, 3 * HOUR)]
    # off again right where it was skipped, and billed: only of the second time
    assert switched(*first, (3, 180, False, False)).stretches == [Interval(HOUR, NEVER)]
    again = switched(*first, (3, 180, False, False), (4, 300, True, False))
    assert (again.stretches, again.is_off) == ([Interval(HOUR, 3 * HOUR)], False)


def test_a_switch_that_comes_again_or_late_changes_nothing() -> None:
    one, two = (1, 60, False, False), (2, 300, True, True)
    assert switched(one, two, one, two) == switched(one, two)
    assert switched(two, one) == switched(two)


def test_off_twice_counts_from_the_first_time_and_on_at_once_skips_nothing() -> None:
    assert switched((1, 60, False, False), (2, 120, False, False)).since == HOUR
    assert switched((1, 61, False, False), (2, 90, True, True)).stretches == []
    assert switched((1, 61, True, True)).stretches == []
