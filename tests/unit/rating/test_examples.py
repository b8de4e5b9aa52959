"""The worked examples of CloudKitty's behaviour, by their numbers: rules, points, prices to the last digit."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from rater.model.labels import LabelValue
from rater.model.rules import MappingDeleted
from rater.rating import RuleBook, UnratableError, compile_rules
from tests.unit.rating.builders import METRIC, applied, book_of
from tests.unit.rating.reference import slow_price

Desc = Mapping[str, LabelValue]

E9 = ("svc flat 0.001 @v", "thr svc>=50 rate .98 @v", "thr svc>=200 rate .95 @v")
E16 = ("svc flat 1 @g", "thr svc>=10 flat 5 @g", "thr ram>=64 flat 2 @g", "thr ram>=10 flat 3 @g")
E24 = ("v=1 flat 1", "w=1.0 flat 1 @w", "b=True flat 1 @b", "n=None flat 1 @n", "c=Abc flat 1 @c")
E29 = ("svc flat 0.1234567890123456789012345678 @g", "r=y rate 1.1111111111111111111111111111 @g")
E30 = ("svc flat 0.1000000000000000055511151231 @a", "k=s flat 0.1 @b")  # 0.1 as CloudKitty reads a JSON number
E35 = (
    "svc flat 1",
    "flavor=nano flat 1.337 @g1",
    "flavor=tiny flat 1.42 @g1",
    "vcpus=8 flat 16 @g2",
    "image=img rate 1.10 @g1",
    "thr memory>=64 flat .15 @g1",
    "thr memory>=128 flat .2 @g1",
)

# number, rules, quantity, labels, price
PRICES: list[tuple[int, tuple[str, ...], str, Desc, str]] = [
    (1, ("svc flat 0.1",), "3", {}, "0.3"),
    (1, ("svc flat 0.1",), "0", {}, "0"),
    (1, ("svc flat 0.1",), "-2", {}, "-0.2"),
    (2, ("svc rate 1.5",), "3", {}, "0"),
    (3, ("flavor=m1 flat 0.25",), "2", {"flavor": "m1"}, "0.5"),
    (3, ("flavor=m1 flat 0.25",), "2", {"flavor": "m2"}, "0"),
    (3, ("flavor=m1 flat 0.25",), "2", {}, "0"),
    *(
        (4, ("svc flat 0.2 @g", "flavor=m1 flat 0.5 @g", "os=win flat 0.3 @g"), "2", desc, price)
        for desc, price in [({"flavor": "m1", "os": "win"}, "1"), ({"os": "win"}, "0.6"), ({"os": "linux"}, "0.4")]
    ),
    (5, ("svc flat 0.2 @a", "flavor=m1 flat 0.5 @b"), "2", {"flavor": "m1"}, "1.4"),
    *(
        (6, ("svc flat 2 @g", "az=x rate 1.5 @g", "os=win rate 3 @g"), "2", desc, price)
        for desc, price in [({"az": "x", "os": "win"}, "18"), ({"az": "x"}, "6"), ({}, "4")]
    ),
    (7, ("svc flat 2 @a", "az=x rate 10 @b"), "2", {"az": "x"}, "4"),
    *(
        (8, ("svc flat 1", "flavor=m1 flat 3", "az=x rate 2", "os=w flat 5 @_DEFAULT_"), "1", desc, price)
        for desc, price in [({"flavor": "m1", "az": "x"}, "6"), ({"az": "x"}, "2"), ({"os": "w", "az": "x"}, "10")]
    ),
    (9, ("svc flat -1",), "2", {}, "0"),
    *(
        (10, E9, qty, {}, price)
        for qty, price in [
            ("20", "0.02"),
            ("49.99999999", "0.04999999999"),
            ("50", "0.049"),
            ("80", "0.0784"),
            ("199.999999999", "0.19599999999902"),
            ("250", "0.2375"),
        ]
    ),
    *(
        (11, ("svc flat 2 @g", "thr svc>=5 flat 7 @g"), qty, {}, price)
        for qty, price in [("4", "8"), ("5", "17"), ("10", "27")]
    ),
    *((12, ("thr svc>=5 flat 7",), qty, {}, price) for qty, price in [("4", "0"), ("10", "7")]),
    *(
        (13, ("svc flat 2 @g", "thr ram>=64 flat 0.5 @g"), "3", {"ram": ram}, price)
        for ram, price in [(63, "6"), (64, "7.5"), (1024, "7.5")]
    ),
    (14, ("f=y flat 2 @g", "thr ram>=64 rate 1.5 @g"), "3", {"ram": 64, "f": "y"}, "9"),
    (14, ("f=y flat 2 @g", "thr ram>=64 rate 1.5 @g"), "3", {"ram": 64}, "0"),
    *(
        (15, ("thr svc>=1 flat 9 @g", "thr svc>=2 flat 1 @g"), qty, {}, price)
        for qty, price in [("1", "9"), ("2", "1"), ("3", "1")]
    ),
    *(
        (16, E16, qty, {"ram": ram}, price)
        for qty, ram, price in [("20", 100, "60"), ("20", 20, "25"), ("20", 5, "25"), ("5", 20, "20")]
    ),
    (17, ("thr svc>=1 flat 5 @a", "thr svc>=2 flat 7 @b"), "3", {}, "12"),
    *(
        (18, ("thr svc>=0 flat 3 @a", "thr svc>=-1 flat 100 @b", "thr svc>=-0.5 flat 10 @c"), qty, {}, price)
        for qty, price in [("0", "13"), ("-0.25", "10"), ("-5", "0")]
    ),
    (20, ("flavor=m1 flat 10 @g", "flavor=m1 flat 3 [A]"), "1", {"flavor": "m1"}, "13"),
    (21, ("svc flat 10 @g", "svc rate 2 @g [A]"), "1", {}, "0"),
    *(
        (
            22,
            ("svc flat 1 @g", "thr svc>=50 rate .98 @g", "thr svc>=200 rate .95 @g", "thr svc>=50 rate .97 @g [A]"),
            qty,
            {},
            price,
        )
        for qty, price in [("80", "77.6"), ("250", "237.5")]
    ),
    *(
        (24, E24, "1", desc, price)
        for desc, price in [
            ({"v": 1}, "1"),
            ({"v": "1"}, "1"),
            ({"v": 1.0}, "0"),
            ({"v": "01"}, "0"),
            ({"w": 1.0}, "1"),
            ({"b": True}, "1"),
            ({"b": "true"}, "0"),
            ({"n": None}, "1"),
            ({"c": "abc"}, "0"),
            ({"c": " Abc"}, "0"),
        ]
    ),
    (26, ("thr ram>=1 flat 1",), "1", {"ram": "1e3"}, "1"),
    (26, ("thr ram>=1 flat 1",), "1", {}, "0"),
    *(
        (27, ("thr x>=0.3 flat 1",), "1", {"x": value}, price)
        for value, price in [(0.3, "0"), ("0.3", "1"), (0.1, "0"), (0.5, "1")]
    ),
    (29, E29, "3", {}, "0.3703703670370370367037037034"),
    (29, E29, "3", {"r": "y"}, "0.411522630041152263004115226"),
    (29, E29, "1234567.891", {"r": "y"}, "169350.8751562261975156226196"),
    (30, E30, "3", {}, "0.3000000000000000166533453693"),
    (30, E30, "3", {"k": "s"}, "0.6000000000000000166533453693"),
    (34, ("thr svc>=1 flat 5", "thr svc>=1 flat 2"), "1", {}, "2"),
    *(
        (35, E35, qty, desc, price)
        for qty, desc, price in [
            ("1", {"flavor": "nano", "memory": 64, "vcpus": 1}, "2.487"),
            ("2", {"flavor": "tiny", "memory": 512, "image": "img"}, "5.564"),
            ("2", {"flavor": "xlarge", "memory": 16384, "vcpus": 8}, "34.4"),
            ("1", {"flavor": "nano", "memory": 64, "image": "img"}, "2.6357"),
        ]
    ),
]


def price_of(
    book: RuleBook,
    qty: str,
    groupby: Desc,
    metadata: Desc,
    *,
    scope: str | None = "A",
    at: int = 0,
    metric: str = METRIC,
    before: str = "0",
) -> Decimal:
    """The compiled price, after the slow interpreter has confirmed it."""
    plan = compile_rules(book, scope, at)
    price = plan.price(metric, Decimal(qty), groupby, metadata, Decimal(before))
    assert price == slow_price(book, scope, at, metric, Decimal(qty), groupby, metadata, Decimal(before))
    return price


@pytest.mark.parametrize(("number", "rules", "qty", "desc", "price"), PRICES)
def test_the_price_is_that_of_the_example(
    number: int, rules: tuple[str, ...], qty: str, desc: Desc, price: str
) -> None:
    assert price_of(book_of(*rules), qty, {}, desc) == Decimal(price), f"example {number}"


def test_example_1_another_metric_costs_nothing() -> None:
    assert price_of(book_of("svc flat 0.1"), "3", {}, {}, metric="storage") == 0


def test_example_19_a_rule_of_the_tenant_replaces_the_one_for_everybody() -> None:
    book = book_of("flavor=m1 flat 10 @g", "flavor=m1 flat 3 @g [A]")

    assert price_of(book, "1", {}, {"flavor": "m1"}, scope="A") == 3
    assert price_of(book, "1", {}, {"flavor": "m1"}, scope="B") == 10


def test_example_23_without_a_scope_only_the_rules_for_everybody_count() -> None:
    book = book_of("svc flat 10 @g", "svc flat 2 @g [A]", "svc flat 1 @h [A]")

    assert price_of(book, "1", {}, {}, scope=None) == 10
    assert price_of(book, "1", {}, {}, scope="A") == 3


def test_example_25_groupby_wins_over_metadata() -> None:
    book = book_of("k=G flat 1 @a", "k=M flat 10 @b")

    assert price_of(book, "1", {"k": "G"}, {"k": "M"}) == 1


@pytest.mark.parametrize("value", ["n/a", "", "NaN", "sNaN", None, float("nan")])
def test_example_26_text_under_a_threshold_makes_the_point_unratable(value: LabelValue) -> None:
    book = book_of("thr ram>=1 flat 1")

    with pytest.raises(UnratableError, match=r"'ram' has thresholds, but its value .* is no number"):
        compile_rules(book, "A", 0).price(METRIC, Decimal(1), {}, {"ram": value})
    assert slow_price(book, "A", 0, METRIC, Decimal(1), {}, {"ram": value}, Decimal(0)) is None


def test_example_28_the_price_of_earlier_modules_is_kept() -> None:
    book = book_of("svc flat 2")

    assert price_of(book, "3", {}, {}, before="1.5") == Decimal("7.5")
    assert price_of(book, "3", {}, {}, before="1.5", metric="other") == Decimal("1.5")


def test_example_31_a_rule_counts_by_the_begin_of_the_period() -> None:
    ten_jan = 1_768_003_200
    book = book_of(f"svc flat 1 from {ten_jan} until {ten_jan + 7200}")
    late = book_of(f"svc flat 1 from {ten_jan + 1800}")

    assert price_of(book, "1", {}, {}, at=ten_jan) == 1
    assert price_of(book, "1", {}, {}, at=ten_jan - 1) == 0
    assert price_of(book, "1", {}, {}, at=ten_jan + 7200) == 0
    assert price_of(late, "1", {}, {}, at=ten_jan) == 0


def test_example_32_a_deleted_rule_counts_for_no_period() -> None:
    book = book_of("svc flat 1")
    mapping_id = next(iter(book.mappings))

    after = applied(book, MappingDeleted(mapping_id))

    assert price_of(after, "1", {}, {}) == 0
    assert price_of(book, "1", {}, {}) == 1


def test_example_33_of_two_valid_rules_the_last_one_wins() -> None:
    book = book_of("f=v flat 5 from 1000 until 3000", "f=v flat 2 from 2000")

    assert price_of(book, "1", {}, {"f": "v"}, at=1500) == 5
    assert price_of(book, "1", {}, {"f": "v"}, at=2500) == 2


def test_no_example_is_missing() -> None:
    in_tests = [int(name.split("_")[2]) for name in globals() if name.startswith("test_example_")]

    assert sorted({number for number, *_ in PRICES} | set(in_tests)) == list(range(1, 36))
