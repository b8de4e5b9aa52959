"""Samples become one quantity: each aggregation by hand-made numbers, exact, and rounded once."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest

from rater.engine.aggregate import Acc, add_samples, canonical, merge, quantity
from rater.model.metric import Aggregation
from rater.model.usage import Sample
from tests.unit.engine.builders import HOUR, VM1, Bench, T, collection

SAMPLES = [  # in no order; the last one begins at 50, two of them begin at 10
    Sample(0, 30, 40, Decimal("2")),
    Sample(0, 10, 20, Decimal("5.5")),
    Sample(0, 50, 50, Decimal("-1")),
    Sample(0, 10, 15, Decimal("7")),
]
EXPECTED = {
    Aggregation.SUM: "13.5",
    Aggregation.MAX: "7",
    Aggregation.MIN: "-1",
    Aggregation.MEAN: "3.375",
    Aggregation.LAST: "-1",
    Aggregation.FIRST: "7",  # of two that begin together the one that ends first
    Aggregation.COUNT: "4",
    Aggregation.DELTA: "-8",
}


@pytest.mark.parametrize("aggregation", Aggregation)
def test_each_aggregation(aggregation: Aggregation) -> None:
    # when all at once, one by one, or the second half merged into the first
    together = add_samples(aggregation, None, SAMPLES)
    single: Acc | None = None
    for sample in SAMPLES:
        single = add_samples(aggregation, single, [sample])
    halves = add_samples(aggregation, None, SAMPLES[:2])
    merge(aggregation, halves, add_samples(aggregation, None, SAMPLES[2:]))

    # then
    assert single is not None
    assert [str(quantity(aggregation, acc)) for acc in (together, single, halves)] == [EXPECTED[aggregation]] * 3
    assert [acc.n for acc in (together, single, halves)] == [4, 4, 4]


@pytest.mark.parametrize("aggregation", Aggregation)
def test_each_aggregation_through_the_engine(aggregation: Aggregation) -> None:
    # given the same samples in two collections of one hour
    bench = Bench()
    moved = [Sample(0, T + s.begin, T + s.end, s.qty) for s in SAMPLES]
    early, late = [s for s in moved if s.begin < T + 20], [s for s in moved if s.begin >= T + 20]
    metric = f"m_{aggregation.value}"
    bench.take(collection(T + 20, T + HOUR, metric=metric, samples=late, series=[VM1]))
    bench.take(collection(T, T + 20, metric=metric, samples=early, series=[VM1]))

    # when, then
    assert str(bench.one(T + HOUR).lines[0].qty) == EXPECTED[aggregation]


def test_of_samples_at_one_time_the_greater_is_last_and_the_lesser_first() -> None:
    twins = [Sample(0, 10, 20, Decimal(3)), Sample(0, 10, 20, Decimal(4))]
    for order in (twins, twins[::-1]):
        assert quantity(Aggregation.LAST, add_samples(Aggregation.LAST, None, order)) == 4
        assert quantity(Aggregation.FIRST, add_samples(Aggregation.FIRST, None, order)) == 3
        assert quantity(Aggregation.DELTA, add_samples(Aggregation.DELTA, None, order)) == 1


def test_sums_are_exact_where_28_digits_are_not_enough() -> None:
    # given a great number, small ones, and the great one taken away again
    values = ["1e30", "0.1", "1e-38", "-1e30", "0.2"]
    samples = [Sample(0, 0, 0, Decimal(value)) for value in values]

    # when, then
    acc = add_samples(Aggregation.SUM, None, samples)
    assert quantity(Aggregation.SUM, acc) == Decimal("0.30000000000000000000000000000000000001")


def test_adding_does_not_depend_on_the_callers_decimal_context() -> None:
    # given a caller whose numbers have five digits
    digits = getcontext().prec
    getcontext().prec = 5
    try:
        acc = add_samples(Aggregation.SUM, None, [Sample(0, 0, 0, Decimal("123456.789"))] * 2)
        merge(Aggregation.SUM, acc, acc)
        assert str(quantity(Aggregation.SUM, acc)) == "493827.156"
        assert getcontext().prec == 5
    finally:
        getcontext().prec = digits


def test_a_sum_leaves_the_old_accumulator_alone() -> None:
    acc = add_samples(Aggregation.SUM, None, SAMPLES)
    more = add_samples(Aggregation.SUM, acc, SAMPLES)
    assert (acc.value, acc.n, more.value, more.n) == (Decimal("13.5"), 4, Decimal(27), 8)


def test_a_mean_has_28_significant_digits() -> None:
    acc = add_samples(Aggregation.MEAN, None, [Sample(0, 0, 0, Decimal(n)) for n in (1, 0, 1)])
    assert str(quantity(Aggregation.MEAN, acc)) == "0.6666666666666666666666666667"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0.000", "0"),
        ("0e9", "0"),
        ("1.500", "1.5"),
        ("100", "100"),
        ("1e2", "100"),
        ("1.20e3", "1200"),
        ("1e30", "1" + "0" * 30),
        ("-1e-38", "-1E-38"),
        ("0.5e-38", "0"),
        ("1.5e-38", "2E-38"),
        ("2.5e-38", "2E-38"),
        ("-0.5e-38", "0"),
        ("0.5000000000000000000000000000000000000000000001e-38", "1E-38"),
        ("123456789012345678901234567890.00000000000000000000000000000000000000500", "123456789012345678901234567890"),
        ("123456789012345678901234567890.000000000000000000000000000000000000015", None),
    ],
)
def test_one_way_to_write_a_number(value: str, text: str | None) -> None:
    expected = text or "123456789012345678901234567890.00000000000000000000000000000000000002"
    assert str(canonical(Decimal(value))) == expected


def test_canonical_takes_finite_numbers_only() -> None:
    with pytest.raises(AssertionError, match="only finite numbers"):
        canonical(Decimal("NaN"))
