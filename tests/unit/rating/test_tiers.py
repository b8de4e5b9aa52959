"""Graduated prices: every unit costs the price of the step it falls into, however the quantity is cut."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.model.rules import Tiers, TierStep
from rater.rating import add_used, month_begin, tier_key, tier_metric, tier_parts, tier_price
from tests.unit.rating.builders import uid


def tiers(*steps: tuple[str, str | None]) -> Tiers:
    return Tiers(uid(1), tuple(TierStep(Decimal(cost), None if to is None else Decimal(to)) for cost, to in steps))


EGRESS = tiers(("0.09", "1000"), ("0.07", "5000"), ("0.05", None))


@pytest.mark.parametrize(
    ("used", "qty", "price"),
    [
        ("0", "10", "0.9"),
        ("0", "1000", "90"),
        ("0", "1001", "90.07"),
        ("999.5", "1", "0.08"),  # half at 0.09, half at 0.07
        ("1000", "1", "0.07"),
        ("0", "6000", "420"),  # 1000 at 0.09, 4000 at 0.07, 1000 at 0.05
        ("5000", "1", "0.05"),
        ("10", "0", "0"),
        ("1001", "-2", "-0.16"),  # takes back one unit of each
        ("0", "-1", "-0.09"),
        ("-5", "10", "0.9"),
    ],
)
def test_each_unit_costs_the_price_of_its_step(used: str, qty: str, price: str) -> None:
    assert tier_price(EGRESS, Decimal(used), Decimal(qty)) == Decimal(price)


def test_the_price_so_far_is_added_to() -> None:
    assert tier_price(EGRESS, Decimal(0), Decimal(10), Decimal("1.5")) == Decimal("2.4")


def test_parts_name_their_steps_in_order() -> None:
    first, second, _ = EGRESS.steps
    assert tier_parts(EGRESS, Decimal("999.5"), Decimal(1)) == [(first, Decimal("0.5")), (second, Decimal("0.5"))]
    assert tier_parts(EGRESS, Decimal("1000.5"), Decimal(-1)) == [(first, Decimal("-0.5")), (second, Decimal("-0.5"))]
    assert tier_parts(EGRESS, Decimal(3), Decimal(0)) == []


def test_prices_have_28_digits_and_quantities_all_of_theirs() -> None:
    # given a quantity of 40 digits and an ambient context that must not matter
    long = Decimal("1.111111111111111111111111111111111111111")
    with localcontext(prec=3):
        parts = tier_parts(tiers(("0.3", None)), Decimal(0), long)
        price = tier_price(tiers(("0.3", None)), Decimal(0), long)
    assert parts[0][1] == long
    assert str(price) == "0.3333333333333333333333333333"  # half-even of 0.33333333333333333333333333333...
    assert add_used(long, Decimal("1e-39")) == Decimal("1.111111111111111111111111111111111111112")


amounts = st.decimals(-3000, 3000, places=4)


@given(used=st.decimals(0, 7000, places=4), cuts=st.lists(amounts, min_size=1, max_size=6))
def test_a_quantity_costs_the_same_however_it_is_cut(used: Decimal, cuts: list[Decimal]) -> None:
    whole = tier_price(EGRESS, used, sum(cuts, Decimal(0)))
    count, price = used, Decimal(0)
    for cut in cuts:
        price = tier_price(EGRESS, count, cut, price)
        count = add_used(count, cut)
    assert price == whole


def test_a_count_is_named_by_metric_and_label_texts() -> None:
    key = tier_key("egress", ("region", "zone", "on"), {"region": "eu", "on": True}, {"region": "us", "zone": None})
    assert key == '["egress",["eu","None","True"]]'
    assert tier_metric(key) == "egress"
    assert tier_key("egress", ("region",), {}, {}) == '["egress",[null]]'
    assert tier_key("egress", (), {"region": "eu"}, {}) == '["egress",[]]'


@pytest.mark.parametrize(
    ("instant", "begin"),
    [
        ("2026-01-01T00:00:00", "2026-01-01T00:00:00"),
        ("2026-01-31T23:59:59", "2026-01-01T00:00:00"),
        ("2028-02-29T12:00:00", "2028-02-01T00:00:00"),
        ("2026-12-31T23:00:00", "2026-12-01T00:00:00"),
    ],
)
def test_months_are_those_of_utc_wherever_the_worker_runs(
    instant: str, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()

    def seconds(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())

    try:
        assert month_begin(seconds(instant)) == seconds(begin)
    finally:
        monkeypatch.undo()
        time.tzset()
