"""For any rules and any point, our price is that of the real CloudKitty 25.0.0, to the last of 28 digits.

A case is one point under one rule set, for one scope and period; the real HashMap reads the rules from its database.
Where CloudKitty raises, and so fails the whole period of the scope, we put exactly that point aside. Quantities are
finite here: one that is not, CloudKitty stores as a price of NaN or infinity, and we put aside too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from typing import Any

import pytest

from rater.rating import Compiler, RuleBook, UnratableError
from tests.conformance.generator import Case, Json, book_of, case
from tests.conformance.side import CloudKitty, cloudkitty

POINTS = 16  # per question; a case of the generator asks three
SEED = 25_000

OurPrice = Callable[[RuleBook, str | None, int, Json], Decimal]


@pytest.fixture(scope="module")
def real() -> Iterator[CloudKitty]:
    with cloudkitty() as side:
        yield side


def our_price(book: RuleBook, tenant: str | None, period_begin: int, point: Json) -> Decimal:
    return (
        Compiler(book)
        .plan(tenant, period_begin)
        .price(point["metric"], Decimal(point["qty"]), point["groupby"], point["metadata"], Decimal(point["price"]))
    )


def test_five_thousand_cases_agree(real: CloudKitty) -> None:
    counts = compare(real, SEED, rule_sets=120)

    print(f"\n{counts}")
    assert counts["cases"] >= 5_000
    assert counts["priced"] > counts["cases"] * 0.25, "too few cases are priced by rules: little is compared"
    assert counts["put aside"] > 100


@pytest.mark.long
@pytest.mark.parametrize("part", range(1, 15))
def test_two_hundred_thousand_cases_agree(real: CloudKitty, part: int) -> None:
    counts = compare(real, SEED + part, rule_sets=300)

    print(f"\n{counts}")
    assert counts["cases"] * 14 >= 200_000


def rounded_once_more(book: RuleBook, tenant: str | None, period_begin: int, point: Json) -> Decimal:
    return Context(prec=27).plus(our_price(book, tenant, period_begin, point))


def deaf_to_tenants(book: RuleBook, tenant: str | None, period_begin: int, point: Json) -> Decimal:
    return our_price(book, None, period_begin, point)


def a_second_late(book: RuleBook, tenant: str | None, period_begin: int, point: Json) -> Decimal:
    return our_price(book, tenant, period_begin - 1, point)


def metadata_over_groupby(book: RuleBook, tenant: str | None, period_begin: int, point: Json) -> Decimal:
    return our_price(book, tenant, period_begin, point | {"groupby": point["groupby"] | point["metadata"]})


@pytest.mark.parametrize("wrong", [rounded_once_more, deaf_to_tenants, a_second_late, metadata_over_groupby])
def test_a_planted_fault_is_noticed(real: CloudKitty, wrong: OurPrice) -> None:
    with pytest.raises(AssertionError, match="differs from CloudKitty's"):
        compare(real, SEED, rule_sets=60, price=wrong)


def compare(real: CloudKitty, seed: int, rule_sets: int, price: OurPrice = our_price) -> dict[str, int]:
    """Compares cases `0..rule_sets` of a seed; fails with the smallest rule set that shows the first difference."""
    counts = {"rule sets": rule_sets, "cases": 0, "priced": 0, "put aside": 0}
    for number in range(rule_sets):
        generated = case(seed, number, POINTS)
        for tenant, period_begin, points, given, ours in _answers(real, generated, price):
            for point, theirs, our in zip(points, given, ours, strict=True):
                counts["cases"] += 1
                counts["priced"] += isinstance(our, Decimal) and our != Decimal(point["price"])
                counts["put aside"] += our is None
                if our != theirs:
                    smallest = _smallest(real, generated.rules, tenant, period_begin, point, price)
                    raise AssertionError(
                        f"a price differs from CloudKitty's: seed {seed}, case {number}, scope {tenant!r}, "
                        f"period {period_begin}\npoint {point}\nCloudKitty {theirs}\nours       {our}\n"
                        f"smallest rules {smallest}"
                    )
    return counts


def _answers(
    real: CloudKitty, generated: Case, price: OurPrice
) -> Iterator[tuple[str | None, int, list[Json], list[Decimal | None], list[Decimal | None]]]:
    refused = real.ask("rules", **generated.rules)["refused"]
    book = book_of(generated.rules, refused)
    for tenant, period_begin, points in generated.asked:
        answer = real.ask("price", tenant=tenant, period_begin=period_begin, points=points)
        theirs = [Decimal(told["price"]) if "price" in told else None for told in answer["prices"]]
        ours: list[Decimal | None] = []
        for point in points:
            try:
                ours.append(price(book, tenant, period_begin, point))
            except UnratableError:
                ours.append(None)
        yield tenant, period_begin, points, theirs, ours


def _smallest(
    real: CloudKitty, rules: Json, tenant: str | None, period_begin: int, point: Json, price: OurPrice
) -> Any:
    """The rules without those that the difference does not need."""
    number = 0
    while number < len(rules["rules"]):
        fewer = rules | {"rules": [rule for place, rule in enumerate(rules["rules"]) if place != number]}
        ((*_, theirs, ours),) = _answers(real, Case(fewer, ((tenant, period_begin, [point]),)), price)
        if theirs == ours:
            number += 1
        else:
            rules = fewer
    return rules
