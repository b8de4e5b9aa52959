"""Numbers and times as CloudKitty's API reads them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import pytest

from rater.rating.compat import cost_of_float, level_of_float, read_cost, read_instant, read_level
from rater.rating.refusal import RefusalError, Refused


@pytest.mark.parametrize(
    ("number", "cost"),
    [
        (0.98, "0.9799999999999999822364316060"),
        (0.1, "0.1000000000000000055511151231"),
        (-0.98, "-0.9799999999999999822364316060"),
        (1.0, "1.0000000000000000000000000000"),
        (2.0**-29, "1.8626451492309570313E-9"),  # 29 decimals that end in 5: away from zero
        (-(2.0**-29), "-1.8626451492309570313E-9"),
        (1e-29, "0E-28"),
        (999999999999.0, "999999999999.0000000000000000000000000000"),
    ],
)
def test_the_cost_of_a_json_number_is_its_binary_expansion_with_28_decimals(number: float, cost: str) -> None:
    assert str(cost_of_float(number)) == cost
    assert read_cost(number) == Decimal(cost)


def test_the_level_of_a_json_number_has_8_decimals() -> None:
    assert str(level_of_float(0.1)) == "0.10000000"
    assert str(level_of_float(2.0**-9)) == "0.00195313"
    assert str(level_of_float(-(2.0**-9))) == "-0.00195313"
    assert read_level(0.3) == Decimal("0.3")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e13])
def test_a_number_that_is_none_has_no_cost(number: float) -> None:
    with pytest.raises(InvalidOperation):
        cost_of_float(number)


def test_a_text_is_exact_and_rounded_half_away_from_zero_beyond_its_decimals() -> None:
    assert read_cost("0.98") == Decimal("0.98")
    assert read_cost(7) == 7
    assert read_cost(Decimal("0.1")) == Decimal("0.1")
    assert read_cost("0.00000000000000000000000000005") == Decimal("1e-28")
    assert read_cost("-0.00000000000000000000000000005") == Decimal("-1e-28")
    assert read_cost("1e3") == 1000
    assert read_level("0.000000005") == Decimal("1e-8")
    assert read_level("0.00000000499") == 0


@pytest.mark.parametrize(
    "raw", ["", "ten", "NaN", "Infinity", "1e12", "999999999999.99999999999999999999999999999", 1e300]
)
def test_what_is_no_cost_is_refused(raw: str | float) -> None:
    with pytest.raises(RefusalError) as caught:
        read_cost(raw)

    assert caught.value.refusal.reason is Refused.COST_INVALID
    assert str(caught.value) == (f"the cost {str(raw)!r} is no number with at most 12 digits before the point")


T = 1_767_225_600  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("raw", "start", "end"),
    [
        ("2026-01-01", T, T + 86_399),
        ("2026-01-01T00:00:00", T, T),
        ("2026-01-01 00:00:00", T, T),
        ("2026-01-01T00:00:00Z", T, T),
        ("2026-01-01T02:00:00+02:00", T, T),
        ("2026-01-01T00:00:00.000001", T + 1, T + 1),
        ("2025-12-31T23:59:59.999999", T, T),
        ("1970-01-01", 0, 86_399),
        ("9999-12-31T23:59:59", 253_402_300_799, 253_402_300_799),
        (5, 5, 5),
    ],
)
def test_a_time_without_offset_is_utc_and_a_day_ends_with_its_last_second(raw: str | int, start: int, end: int) -> None:
    assert (read_instant(raw), read_instant(raw, end=True)) == (start, end)


@pytest.mark.parametrize(
    "raw",
    ["", "soon", "2026-02-30", "1969-12-31", "9999-12-31T23:59:59.5", "0001-01-01T00:00:00+10:00", -1, 253_402_300_800],
)
def test_what_is_no_time_is_refused(raw: str | int) -> None:
    with pytest.raises(RefusalError) as caught:
        read_instant(raw)

    assert caught.value.refusal.reason is Refused.DATE_INVALID


def test_a_long_text_is_shown_in_part() -> None:
    with pytest.raises(RefusalError) as caught:
        read_instant("x" * 60)
    assert str(caught.value) == f"'{'x' * 50}' is no time: write it as 2026-01-01T00:00:00"

    with pytest.raises(RefusalError) as caught:
        read_instant(10**60)
    assert str(caught.value) == f"'1{'0' * 49}' is out of range: times up to 9999-12-31T23:59:59Z are taken"

    with pytest.raises(RefusalError) as caught:
        read_level("x" * 60)
    assert str(caught.value) == f"the level '{'x' * 50}' is no number with at most 12 digits before the point"
