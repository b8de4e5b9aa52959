"""What a plan remembers of the points it has priced changes no price, and does not grow for ever."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest

from rater.model.labels import LabelValue
from rater.rating import Compiler, RuleBook
from rater.rating import hashmap as module
from tests.unit.rating.builders import METRIC, applied, changes_for


def compiler_of(*rules: str) -> Compiler:
    return Compiler(applied(RuleBook.empty(), *changes_for(rules)))


def price(compiler: Compiler, scope: str, qty: str = "1", **labels: LabelValue) -> Decimal:
    return compiler.plan(scope, 0).price(METRIC, Decimal(qty), labels, {})


def test_remembered_sums_are_those_of_the_point_that_meets_the_same_rules() -> None:
    compiler = compiler_of("svc flat 1", "a=x flat 2", "thr b>=10 rate 3", "thr svc>=5 flat 7 @g", "a=x flat 4 [A]")

    for _ in range(2):  # the second time from memory
        assert price(compiler, "B", a="x", b="9") == 2
        assert price(compiler, "B", a="x", b="10") == 6
        assert price(compiler, "B", a="x", b="11") == 6
        assert price(compiler, "B", a="y", b=1) == 1
        assert price(compiler, "B") == 1
        assert price(compiler, "B", b="10") == 3
        assert price(compiler, "B", "6", a="x") == 19
        assert price(compiler, "A", a="x", b="10") == 12
        assert price(compiler, "A", a="y", b="10") == 3


def test_it_forgets_when_it_has_remembered_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = compiler_of(*(f"a=v{number} flat {number}" for number in range(1, 9)))
    monkeypatch.setattr(module, "MAX_SUMS", 3)

    for _ in range(2):
        for number in range(1, 9):
            assert price(compiler, "A", a=f"v{number}") == number
            assert len(compiler._sums) <= 3


def test_values_that_no_rule_is_about_are_not_remembered_one_by_one() -> None:
    compiler = compiler_of("a=x flat 2")

    assert {price(compiler, "A", a=f"id-{number}") for number in range(100)} == {0}

    assert len(compiler._sums) == 1


def test_the_context_of_the_caller_decides_only_where_the_caller_was_asked_for_it() -> None:
    plan = compiler_of("svc flat 0.123456789").plan("A", 0)

    with localcontext(prec=3):
        assert plan.price(METRIC, Decimal(1), {}, {}) == Decimal("0.123456789")
    with localcontext(module.PRICE_CONTEXT):
        assert plan.price_in_context(METRIC, Decimal(1), {}, {}, Decimal(0)) == Decimal("0.123456789")
