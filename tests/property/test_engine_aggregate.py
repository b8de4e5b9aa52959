"""Whatever order and grouping samples come in, the quantity is the same, and that of plain fractions."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rater.engine.aggregate import MAX_SCALE, Acc, add_samples, canonical, merge, quantity
from rater.model.codec import MAX_DECIMALS, MAX_MAGNITUDE, quantity_fault
from rater.model.metric import Aggregation
from rater.model.usage import Sample

quantities = st.one_of(
    st.integers(-3, 3).map(Decimal),
    st.decimals(-MAX_MAGNITUDE, MAX_MAGNITUDE, allow_nan=False, allow_infinity=False, places=3),
    st.builds(
        lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**9), 10**9), st.integers(0, 100)
    ),
)
samples = st.builds(
    lambda begin, length, qty: Sample(0, begin, begin + length, qty), st.integers(0, 5), st.integers(0, 2), quantities
)
grouped = st.lists(st.lists(samples, min_size=1, max_size=4), min_size=1, max_size=4)
aggregations = st.sampled_from(list(Aggregation))


def of_groups(aggregation: Aggregation, groups: Sequence[Sequence[Sample]]) -> Decimal:
    """Each group by itself, then all merged into the first."""
    accs: list[Acc] = [add_samples(aggregation, None, group) for group in groups]
    for acc in accs[1:]:
        merge(aggregation, accs[0], acc)
    return quantity(aggregation, accs[0])


def plainly(aggregation: Aggregation, some: Sequence[Sample]) -> Fraction:
    """The same without accumulators: everything at once, in fractions."""
    in_order = sorted(some, key=lambda sample: (sample.begin, sample.end, sample.qty))
    values = [Fraction(sample.qty) for sample in in_order]
    return {
        Aggregation.SUM: sum(values),
        Aggregation.MAX: max(values),
        Aggregation.MIN: min(values),
        Aggregation.MEAN: sum(values) / len(values),
        Aggregation.LAST: values[-1],
        Aggregation.FIRST: values[0],
        Aggregation.COUNT: Fraction(len(values)),
        Aggregation.DELTA: values[-1] - values[0],
    }[aggregation]


def rounded(value: Fraction, places: int) -> Fraction:
    """Half-even at that decimal, as Python rounds fractions."""
    return Fraction(round(value * 10**places), 10**places)


@given(aggregations, grouped, st.randoms(use_true_random=False))
def test_order_and_grouping_change_nothing(
    aggregation: Aggregation, groups: list[list[Sample]], random: object
) -> None:
    # given the same samples in another order, one by one
    everything = [sample for group in groups for sample in group]
    shuffled = everything.copy()
    random.shuffle(shuffled)

    # when
    together = of_groups(aggregation, [everything])
    in_groups = of_groups(aggregation, groups)
    backwards = of_groups(aggregation, groups[::-1])
    single = of_groups(aggregation, [[sample] for sample in shuffled])

    # then not only the number but its text is the same
    assert str(together) == str(in_groups) == str(backwards) == str(single)


@given(aggregations, st.lists(samples, min_size=1, max_size=9))
def test_the_quantity_is_that_of_plain_fractions(aggregation: Aggregation, some: list[Sample]) -> None:
    found = of_groups(aggregation, [some])
    exact = plainly(aggregation, some)
    if aggregation is Aggregation.MEAN:
        assert abs(Fraction(found) - exact) <= max(abs(exact) / 2 / 10**27, Fraction(1, 2 * 10**MAX_SCALE))
    else:
        assert Fraction(found) == rounded(exact, MAX_SCALE)


@given(quantities)
def test_there_is_one_way_to_write_a_number(qty: Decimal) -> None:
    found = canonical(qty)
    text = str(found)
    assert Fraction(found) == rounded(Fraction(qty), MAX_SCALE)
    assert str(canonical(Decimal(text))) == text
    _, digits, exponent = found.as_tuple()
    assert isinstance(exponent, int)
    assert -MAX_SCALE <= exponent <= 0
    assert exponent == 0 or digits[-1] != 0
    assert not (found.is_zero() and found.is_signed())


@given(quantities)
def test_these_are_the_quantities_that_are_taken(qty: Decimal) -> None:
    exponent = qty.as_tuple().exponent
    assert isinstance(exponent, int)
    assert bool(quantity_fault(qty)) is (-exponent > MAX_DECIMALS or abs(Fraction(qty)) > 10**30)
