"""What the compiler shares and when a module is off; what a point without price is told."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rater.model.rules import ModuleSet
from rater.rating import Compiler, RuleBook, UnratableError, compile_rules, hashmap
from tests.unit.rating.builders import METRIC, applied, book_of

ONE = Decimal(1)


def test_nothing_costs_anything_while_hashmap_is_off() -> None:
    book = applied(book_of("svc flat 2"), ModuleSet("hashmap", False))

    assert compile_rules(book, "A", 0).price(METRIC, ONE, {}, {}) == 0
    assert compile_rules(book, "A", 0).price(METRIC, ONE, {}, {}, Decimal(3)) == 3
    assert compile_rules(RuleBook.empty(), "A", 0).price(METRIC, ONE, {}, {}) == 0


def test_a_plan_knows_the_version_of_its_rules() -> None:
    assert compile_rules(book_of("svc flat 2"), None, 0).rule_version == 1


def test_scopes_without_own_rules_and_periods_without_dates_between_share_a_plan() -> None:
    compiler = Compiler(book_of("svc flat 2 from 1000", "svc flat 1 @g [A]"))

    assert compiler.plan("B", 0) is compiler.plan("C", 999) is compiler.plan(None, 500)
    assert compiler.plan("B", 1000) is compiler.plan(None, 5000)
    assert compiler.plan("B", 999) is not compiler.plan("B", 1000)
    assert compiler.plan("A", 0) is compiler.plan("A", 999)
    assert compiler.plan("A", 0) is not compiler.plan("B", 0)


def test_a_scope_of_its_own_sees_its_rules_over_those_for_everybody() -> None:
    book = book_of("f=v flat 1 @g", "f=w flat 2 @g", "f=v flat 4 @h [A]", "f=x flat 8 @g [A]", "thr f2>=1 flat 16 [A]")
    plan = compile_rules(book, "A", 0)

    assert plan.price(METRIC, ONE, {"f": "v"}, {}) == 5
    assert plan.price(METRIC, ONE, {"f": "w"}, {}) == 2
    assert plan.price(METRIC, ONE, {"f": "x", "f2": "1"}, {}) == 24
    assert compile_rules(book, "B", 0).price(METRIC, ONE, {"f": "x", "f2": "no number"}, {}) == 0


def test_the_compiler_forgets_plans_before_it_holds_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashmap, "MAX_PLANS", 3)
    compiler = Compiler(book_of(*(f"svc flat {n} [s{n}]" for n in range(1, 20))))

    prices = [compiler.plan(f"s{n}", 0).price(METRIC, ONE, {}, {}) for n in (*range(1, 20), 1)]

    assert prices == [*range(1, 20), 1]
    assert len(compiler._plans) <= 4


@pytest.mark.parametrize("qty", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_quantity_that_is_no_number_is_unratable(qty: str) -> None:
    plan = compile_rules(book_of("svc flat 2"), None, 0)

    with pytest.raises(UnratableError, match="no finite number") as caught:
        plan.price(METRIC, Decimal(qty), {}, {})
    assert caught.value.metric == METRIC


def test_a_price_beyond_all_bounds_is_unratable() -> None:
    plan = compile_rules(book_of("svc flat 200000000000"), None, 0)

    with pytest.raises(UnratableError, match="makes a price beyond all bounds") as caught:
        plan.price(METRIC, Decimal("9e999999"), {}, {})
    assert caught.value.metric == METRIC


def test_groups_are_added_in_the_order_in_which_they_were_made() -> None:
    # given a sum whose last digits depend on the order, and names that sort the other way round
    costs = {"z": "100000000000", "a": "0.00000000000000004", "b": "0.00000000000000004"}
    plan = compile_rules(book_of(*(f"f=v flat {cost} @{group}" for group, cost in costs.items())), None, 0)

    # then each of the small ones is lost in the large one
    assert plan.price(METRIC, ONE, {"f": "v"}, {}) == 100_000_000_000
    plan = compile_rules(book_of(*(f"f=v flat {costs[group]} @{group}" for group in "abz")), None, 0)
    assert plan.price(METRIC, ONE, {"f": "v"}, {}) == Decimal("100000000000.0000000000000001")


def test_an_infinite_label_reaches_every_level_as_in_cloudkitty() -> None:
    plan = compile_rules(book_of("thr ram>=64 flat 2"), None, 0)

    assert plan.price(METRIC, ONE, {}, {"ram": "inf"}) == 2
    assert plan.price(METRIC, ONE, {}, {"ram": "-inf"}) == 0


def test_a_long_text_is_shown_shortened() -> None:
    plan = compile_rules(book_of("thr ram>=64 flat 2"), None, 0)

    with pytest.raises(UnratableError) as caught:
        plan.price(METRIC, ONE, {}, {"ram": "x" * 10_000})
    assert str(caught.value) == (
        f"metric {METRIC!r}: field 'ram' has thresholds, but its value '{'x' * 99} is no number: correct the source or "
        "the rules"
    )
    assert caught.value.metric == METRIC
    assert caught.value.reason in str(caught.value)
