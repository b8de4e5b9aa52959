"""Gathering: requests that the service takes, numbered as it counts, and nothing that it would refuse."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.client import Collection, InvalidItemError, Plan, Sample, Value
from rater.client.gather import Batch, Gatherer, encoded, normal_collection, normal_plan, normal_sample
from rater.client.wire import UsagePush
from tests.unit.client.service import Service

T = 1_767_225_600


def a_sample(scope: str = "A", **changes: Any) -> Sample:
    return Sample(**{"scope_id": scope, "metric": "net", "begin": T, "qty": Decimal("1.5"), **changes})


def gatherer(batch_samples: int = 1000, **sequences: int) -> Gatherer:
    return Gatherer("meter", "p", sequences, 0, batch_samples=batch_samples, max_delay=5.0)


def add(found: Gatherer, *samples: Sample, now: float = 0.0) -> list[Batch]:
    return [batch for s in samples for batch in found.add(normal_sample(s), encoded(normal_sample(s)), now)]


def read(batch: Batch) -> UsagePush:
    return msgspec.msgpack.decode(batch.body, type=UsagePush)


def test_a_scope_is_sent_when_it_has_enough() -> None:
    found = gatherer(3, A=7)

    (batch,) = add(found, a_sample("A"), a_sample("B"), a_sample("A"), a_sample("A", metric="calls"))

    assert (batch.info.number, batch.info.scopes, batch.info.samples) == (1, {"A": (7, 9)}, 3)
    assert (read(batch).sequences, read(batch).source, read(batch).producer_id) == ({"A": 7}, "meter", "p")
    assert found.sequences == {"A": 9}


def test_scopes_that_waited_go_together() -> None:
    found = gatherer()
    add(found, a_sample("A"), now=1.0)
    add(found, a_sample("B"), now=2.0)
    add(found, a_sample("C"), now=9.0)

    assert found.due() == 6.0
    assert found.ripe(5.0) == []
    (batch,) = found.ripe(8.0)
    assert set(batch.info.scopes) == {"A", "B"}
    assert found.due() == 14.0
    (rest,) = found.ripe()
    assert set(rest.info.scopes) == {"C"}
    assert (found.due(), found.bytes) == (None, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_service_counts_as_the_library(seed: int) -> None:
    """Whatever is pushed in whatever order, every request is taken, and its numbers go on where the last ones ended."""
    chance = random.Random(seed)
    found, batches = gatherer(chance.choice([1, 40, 2500])), []
    for number in range(chance.choice([300, 6000])):
        sample = a_sample(
            chance.choice("AAAB"),
            metric=chance.choice(["net", "calls"]),
            source=chance.choice([None, "meter", "s1"] + [f"s{n}" for n in range(30 if seed % 3 else 1)]),
            begin=T + chance.randrange(3600),
            groupby={"id": chance.choice(["x", "y" * chance.choice([1, 1000])])},
        )
        batches += add(found, sample)
        if number % 100 == 50:
            values = [Value(T, Decimal(1))] * chance.choice([0, 1, 1001])
            collection = Collection("A", "cpu", T, T + 3600, [], 1, samples=values)
            batches += found.collection(collection, encoded(collection))
    batches += found.ripe()

    reached: dict[str, int] = {}
    for number, batch in enumerate(batches, start=1):
        accepted = Service.taken(batch.body)
        assert batch.info.number == number
        for scope in accepted.scopes:
            first, after = batch.info.scopes[scope.scope_id]
            assert first == reached.get(scope.scope_id, 0)
            assert after == scope.next_sequence
            reached[scope.scope_id] = after
    assert reached == found.sequences


def test_long_labels_make_smaller_requests() -> None:
    found = gatherer()

    batches = add(found, *[a_sample(metadata={"n": n, "text": "x" * 100_000}) for n in range(20)]) + found.ripe()

    assert len(batches) > 3
    assert sum(Service.taken(batch.body).samples for batch in batches) == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"begin": "2026-01-01"}, "begin is '2026-01-01'"),
        ({"begin": "2026-01-01T00:00:00.5Z"}, "whole seconds"),
        ({"begin": 1.5}, "begin is 1.5"),
        ({"begin": True}, "begin is True"),
        ({"begin": -1}, ">= 0"),
        ({"end": T - 1}, "end lies before begin"),
        ({"qty": 1.5}, "must be a Decimal"),
        ({"qty": Decimal("NaN")}, "finite"),
        ({"qty": Decimal("1e31")}, "at most"),
        ({"scope_id": ""}, "length >= 1"),
        ({"metric": 5}, "Expected `str`"),
        ({"groupby": {"a": [1]}}, "Expected"),
        ({"groupby": {"a": float("inf")}}, "label 'a'"),
        ({"groupby": {"a": 2**65}}, "label 'a'"),
        ({"metadata": {"a": "x" * 300_000}}, "labels have"),
    ],
)
def test_a_sample_that_no_service_would_take(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidItemError, match=said.replace("`", ".")):
        encoded(normal_sample(a_sample(**changes)))


def test_times_may_be_text() -> None:
    sample = normal_sample(a_sample(begin="2026-01-01T01:00:00+01:00", end="2026-01-01T00:01:00Z"))

    assert (sample.begin, sample.end) == (T, T + 60)


@pytest.mark.parametrize(
    "changes",
    [
        {"end": T},
        {"covers": [(T - 1, T + 1)]},
        {"samples": [Value(T + 3600, Decimal(1))]},
        {"samples": [Value(T, Decimal("inf"))]},
        {"attempt": -1},
    ],
)
def test_a_collection_that_no_service_would_take(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"scope_id": "A", "metric": "cpu", "begin": T, "end": T + 3600, "covers": [], "attempt": 1}

    with pytest.raises(InvalidItemError):
        encoded(normal_collection(Collection(**{**fields, **changes})))


def test_a_collection_that_is_too_large_takes_no_number() -> None:
    found = gatherer()
    huge = Collection("A", "cpu", T, T + 3600, [], 1, samples=[Value(T, Decimal(1))] * 16_001)

    with pytest.raises(InvalidItemError, match="shorter ranges"):
        found.collection(huge, b"")

    assert found.sequences == {}


def test_a_plan() -> None:
    batch = gatherer().plan(normal_plan(Plan("A", T, T + 3600, ["net"])), encoded(Plan("A", T, T + 3600, ["net"])))

    assert Service.taken(batch.body).plans == 1
    with pytest.raises(InvalidItemError):
        normal_plan(Plan("A", T, T))
