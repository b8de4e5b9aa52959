"""Graduated prices are the same in whatever order the hours come, and however often the service restarts."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.engine import PartitionState, apply, decide, decode_snapshot, encode_snapshot
from rater.model.codec import JSON, decode_rated
from rater.model.usage import Collection
from rater.rating import Chain
from tests.unit.engine.builders import HOUR, VM1, VM2, Log, T, collection, context, plan, sample
from tests.unit.engine.test_tiers import rules

CHAIN = Chain(rules())
CONTEXTS = {horizon: context(gap_horizon_periods=1000, late_horizon_periods=horizon) for horizon in (2, 100)}
HOURS = 8


def truth(last: dict[int, tuple[Decimal, Decimal]]) -> dict[int, Decimal]:
    """Price by hour: the first 10 units at 1, all others at 0.1. Floats of halves would do, Decimals are exact."""
    prices, used = {}, Decimal(0)

    def month(count: Decimal) -> Decimal:
        return min(count, Decimal(10)) + max(count - 10, Decimal(0)) / 10

    for hour in sorted(last):
        qty = sum(last[hour])
        prices[hour] = month(used + qty) - month(used)
        used += qty
    return prices


quantities = st.integers(0, 12).map(lambda halves: Decimal(halves) / 2)
answers = st.lists(st.tuples(st.integers(0, HOURS - 1), quantities, quantities), min_size=1, max_size=14)


def answer(hour: int, attempt: int, one: Decimal, two: Decimal) -> Collection:
    begin = T + hour * HOUR
    samples = [sample(begin, str(one)), sample(begin, str(two), series=1)]
    return collection(begin, begin + HOUR, attempt=attempt, series=[VM1, VM2], samples=samples)


@settings(max_examples=300)
@given(
    answers=answers,
    pauses=st.lists(st.integers(0, 3), min_size=14, max_size=14),
    restarts=st.sets(st.integers(0, 13)),
    horizon=st.sampled_from([2, 100]),
)
def test_the_price_of_each_hour_is_that_of_the_month_in_order(
    answers: list[tuple[int, Decimal, Decimal]], pauses: list[int], restarts: set[int], horizon: int
) -> None:
    # given
    settled = CONTEXTS[horizon]
    log, state = Log(), PartitionState(0, 1, HOUR)
    apply(state, log.add(plan("cpu", until=T + HOURS * HOUR)), settled)
    last: dict[int, tuple[Decimal, Decimal]] = {}
    now = T + HOURS * HOUR
    best: dict[int, Decimal] = {}

    # when answers come in any order, with decisions and restarts between them
    for number, (hour, one, two) in enumerate(answers):
        apply(state, log.add(answer(hour, number, one, two)), settled)
        last[hour] = one, two
        now += pauses[number] * HOUR
        decide(state, now, CHAIN, settled)
        if number in restarts:
            state = decode_snapshot(encode_snapshot(state), 0, 1, settled.settings)
    decide(state, now + 4 * HOUR, CHAIN, settled)

    # then the last revision of each hour says what it costs in order, unless it had left the state
    gone = set()
    for item in state.outbox:
        if item.topic == "rejected":
            gone.add(item.value)
        if item.topic == "rated":
            frame = decode_rated(item.value, JSON)
            best[(frame.period_begin - T) // HOUR] = sum((line.price for line in frame.lines), Decimal(0))
    assert not gone or horizon == 2
    if not gone:
        expected = truth(last)
        assert {hour: price for hour, price in best.items() if hour in expected} == expected
