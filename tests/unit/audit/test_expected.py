"""What is expected of one period is found without looking at every plan of the scope."""

from __future__ import annotations

import random

import pytest

from rater.audit import expected
from rater.audit.expected import ScopeLog, by_period, expected_pieces
from rater.model.usage import ScopePlan

P = 3600


def a_log(rng: random.Random) -> tuple[ScopeLog, int]:
    """Plans of three sources, short and long, with and without end, over each other; and what was sent without plan."""
    log, second = ScopeLog("A"), 0
    for _ in range(rng.choice([3, 20, 60])):
        second += rng.randrange(50)
        begin = rng.randrange(1, 40) * P + rng.choice([0, 0, 0, 600, 1800])
        until = rng.choice([None, begin, begin + P, begin + P, begin + 600, begin + 5 * P, begin + 200 * P])
        metrics = sorted(rng.sample(["a", "b", "c"], rng.randrange(4)))
        log.plans.append((second, ScopePlan(rng.choice("xyz"), "A", begin, until, metrics)))
    for _ in range(rng.choice([0, 5])):
        log.seen.append((rng.randrange(second + 1), rng.choice("pqx"), rng.choice("ab"), rng.randrange(40) * P))
    return log, second


@pytest.mark.parametrize("few", [3, 100])
def test_a_log_cut_to_a_period_says_the_same_of_it(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "FEW_PERIODS", few)
    said = 0
    for seed in range(30):
        rng = random.Random(seed)
        log, last = a_log(rng)
        of = by_period(log, P)
        for begin in range(0, 45 * P, P):
            for moment in (None, rng.randrange(last + 1), rng.randrange(last + 1)):
                whole = expected_pieces(log, (begin, begin + P), moment)
                assert expected_pieces(of(begin), (begin, begin + P), moment) == whole
                said += bool(whole)
    assert said > 1000


def test_of_a_plan_for_each_hour_only_those_of_the_hour_are_looked_at() -> None:
    log = ScopeLog("A", [(n, ScopePlan("x", "A", n * P, (n + 1) * P, ["a"])) for n in range(1000)])
    of = by_period(log, P)
    assert [plan.begin // P for _, plan in of(700 * P).plans] == [0, 700]
