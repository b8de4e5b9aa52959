"""What counts as a difference: all but what floating point and five decimals explain."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from rater.cloudkitty import RELATIVE, Amount, Group, Sums, Tolerance, compare, days_of, local_month, tolerance_of
from rater.model.interval import Interval
from rater.reports import MonthError

A = Group("a", "cpu")
BERLIN = ZoneInfo("Europe/Berlin")


def sums(rows: Iterable[tuple[Group, str | None, str]], version: int = 2) -> Sums:
    return Sums(
        version, {group: Amount(None if qty is None else Decimal(qty), Decimal(rate)) for group, qty, rate in rows}
    )


def of(qty: str | None, rate: str, version: int = 2) -> Sums:
    return sums([(A, qty, rate)], version)


def test_a_sum_of_floats_of_a_month_is_equal_to_the_exact_one() -> None:
    # given a year's worth of prices with 28 digits
    chance = random.Random(3)
    prices = [Decimal(chance.randrange(10**28)).scaleb(-28) for _ in range(100_000)]
    by_floats = 0.0
    for price in prices:
        by_floats += float(price)
    exact = sum(prices)
    assert Decimal(by_floats) != exact
    # then they are equal, and a missing point is not
    (one,) = compare(of("1", repr(by_floats)), of("1", str(float(exact))), Tolerance())
    assert one.is_equal
    (one,) = compare(of("1", repr(by_floats)), of("1", str(float(exact - prices[0]))), Tolerance())
    assert not one.is_equal


@pytest.mark.parametrize(
    ("theirs", "ours", "equal"),
    [
        (("1", "1"), ("1", "1"), True),
        (("1", "1"), ("1.0000000009", "1"), True),
        (("1", "1"), ("1.0000000011", "1"), False),
        (("1", "1"), ("1", "1.0000000011"), False),
        (("1", "0"), ("1", "0.0000000000001"), False),
        (("-1", "-1"), ("-1.0000000009", "-1"), True),
        (("-1", "1"), ("1", "1"), False),
    ],
)
def test_quantity_and_price_have_to_be_equal(theirs: tuple[str, str], ours: tuple[str, str], equal: bool) -> None:
    (one,) = compare(of(*theirs), of(*ours), Tolerance())
    assert one.is_equal == equal


def test_what_one_side_alone_has() -> None:
    b, c = Group("b", "cpu"), Group("c", "cpu")
    theirs, ours = sums([(A, "1", "2"), (c, "0", "0")]), sums([(b, "3", "0")])
    first, second, third = compare(theirs, ours, Tolerance())
    assert (first.group, first.where, first.is_equal, first.qty, first.rate) == (A, "only CloudKitty", False, -1, -2)
    assert (first.relative_qty, first.relative_rate) == (-1, -1)
    assert (second.group, second.where, second.is_equal, second.qty, second.rate) == (b, "only rater", False, 3, 0)
    assert second.relative_qty is None
    assert (third.group, third.is_equal) == (c, True)  # nothing is nothing


def test_differences_are_ours_less_theirs() -> None:
    (one,) = compare(of("3", "0.3"), of("2", "0.4"), Tolerance())
    assert (one.where, one.qty, one.rate) == ("both", -1, Decimal("0.1"))
    assert (str(one.relative_qty), str(one.relative_rate)) == ("-0.3333", "0.3333")


def test_version_1_has_no_quantities_and_five_decimals() -> None:
    theirs = of(None, "0.12346", 1)
    tolerance = tolerance_of(theirs, of("7", "0.123456"), None, None)
    assert tolerance == Tolerance(RELATIVE, Decimal("0.000005"))
    (one,) = compare(theirs, of("7", "0.123456"), tolerance)
    assert (one.is_equal, one.qty, one.relative_qty) == (True, None, None)
    (one,) = compare(theirs, of("7", "0.123454"), tolerance)
    assert not one.is_equal
    assert tolerance_of(theirs, theirs, None, None).absolute == Decimal("0.00001")
    assert tolerance_of(theirs, theirs, Decimal(0), Decimal(1)) == Tolerance(Decimal(0), Decimal(1))


def test_months_and_days_are_local() -> None:
    march = local_month("2026-03", BERLIN)
    assert march == Interval(1_772_319_600, 1_774_994_400)  # 2026-02-28T23:00Z to 2026-03-31T22:00Z
    days = days_of(march, BERLIN)
    assert len(days) == 31
    assert [day.end - day.begin for day in days[27:30]] == [86_400, 82_800, 86_400]
    assert (days[0].begin, days[-1].end) == march
    assert all(before.end == after.begin for before, after in pairwise(days))
    assert len(days_of(local_month("2026-10", BERLIN), BERLIN)) == 31
    assert days_of(Interval(10, 20), UTC) == [Interval(10, 20)]
    with pytest.raises(MonthError):
        local_month("2026-13", UTC)
