"""From requests to records: the same bytes whenever, numbers without holes, and every fault told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.api.faults import RefusalError
from rater.api.intake import Intake, Limits, Taken
from rater.client.wire import Problem, UsagePush
from rater.model.codec import MSGPACK, decode_usage
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.usage import Collection, ScopePlan
from rater.store.blocks import usage_rows

HOUR = 3600
T = 1_767_225_600
METRICS = [
    MetricSpec("net", "MiB", proof=Coverage.SAMPLES),
    MetricSpec("calls", proof=Coverage.SAMPLES),
    MetricSpec("cpu", "h"),
]
INTAKE = Intake(Catalog(METRICS), Limits(10_000, HOUR), "rater.usage", 8)


def sample(scope_id: str = "A", **changes: Any) -> dict[str, Any]:
    return {"scope_id": scope_id, "metric": "net", "begin": T, "end": T + 60, "qty": "1.5", **changes}


def collection(**changes: Any) -> dict[str, Any]:
    whole = {"scope_id": "A", "metric": "cpu", "begin": T, "end": T + HOUR, "covers": [[T, T + HOUR]], "attempt": 1}
    return {**whole, **changes}


def take(body: dict[str, Any], key: str = "", allowed: bool = True, intake: Intake = INTAKE) -> Taken:
    push = msgspec.convert({"source": "m", **body}, UsagePush)
    return intake.take(push, key, lambda scope, source: allowed)


def numbered(body: dict[str, Any], **sequences: int) -> dict[str, Any]:
    return {"producer_id": "p", "sequences": sequences, **body}


def records(taken: Taken) -> list[Any]:
    return [decode_usage(record.value, MSGPACK) for record in taken.records]


def refused(body: dict[str, Any], key: str = "k", **more: Any) -> Problem:
    with pytest.raises(RefusalError) as found:
        take(body, key, **more)
    return found.value.problem


def places(problem: Problem) -> dict[str, str]:
    return {fault.place: fault.message for fault in problem.faults}


def test_samples_become_records_of_their_scope_source_and_metric() -> None:
    body = {"samples": [sample(), sample("B"), sample(metric="calls"), sample(qty=2), sample(source="other")]}

    taken = take(numbered(body, A=7, B=0))

    found = [(r.scope_id, r.source, r.metric, r.unit, r.sequence, len(r.samples)) for r in records(taken)]
    assert found == [
        ("A", "m", "net", "MiB", 7, 2),
        ("B", "m", "net", "MiB", 0, 1),
        ("A", "m", "calls", "undefined", 8, 1),
        ("A", "other", "net", "MiB", 9, 1),
    ]
    assert {scope.scope_id: scope.next_sequence for scope in taken.accepted.scopes} == {"A": 10, "B": 1}
    assert (taken.accepted.records, taken.accepted.samples) == (4, 5)


def test_the_same_request_becomes_the_same_bytes_whatever_its_labels_order() -> None:
    one = {"samples": [sample(groupby={"a": 1, "b": "x"}, metadata={"y": None, "z": True})]}
    two = {
        "samples": [
            sample(groupby={"b": "x", "a": 1}, metadata={"z": True, "y": None}, begin="2026-01-01T01:00:00+01:00")
        ]
    }

    first = take(one, "key")

    assert take(two, "key") == first
    assert take(one, "other key") != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"samples": [sample(qty="3")]}, {"samples": [sample(qty="100")]}),
        ({"collections": [collection()]}, {"collections": [collection(note="another")]}),
        (
            {"collections": [collection(samples=[{"begin": T, "qty": n} for n in range(1001)])]},
            {"collections": [collection(samples=[{"begin": T, "qty": n} for n in (*range(1000), 7)])]},
        ),
    ],
)
@pytest.mark.parametrize("key", ["hour-0", ""])
def test_other_content_under_a_used_key_or_number_does_not_replace_the_first_in_the_store(
    key: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    # given what the engine takes, and what it refuses since the key was used
    taken, refused_later = (records(take(body if key else numbered(body, A=0), key)) for body in (one, other))

    # when both are stored
    rows = [{row[:10] for part in parts for row in usage_rows(part)} for parts in (taken, refused_later)]

    # then no row of one has the key of a row of the other
    assert len({part.collection_id for part in taken}) == 1
    assert not rows[0] & rows[1]


def test_a_key_is_a_producer_per_source_and_metric_with_numbers_from_0() -> None:
    body = {"samples": [sample(n, groupby={"n": i}) for n in "AB" for i in range(2500)] + [sample(metric="calls")]}

    found = records(take(body, "key"))

    by_producer: dict[tuple[str, str], list[int]] = {}
    for record in found:
        by_producer.setdefault((record.producer_id, record.scope_id), []).append(record.sequence)
    assert sorted(by_producer.values()) == [[0], [0, 1, 2], [0, 1, 2]]
    assert len({producer for producer, _ in by_producer}) == 2


def test_series_stand_once_and_samples_refer_to_them() -> None:
    body = {"samples": [sample(groupby={"id": i % 2}, begin=T + i, end=None) for i in range(4)]}

    (record,) = records(take(body, "key"))

    assert [s.groupby for s in record.series] == [{"id": 0}, {"id": 1}]
    assert [s.series for s in record.samples] == [0, 1, 0, 1]
    assert (record.begin, record.end, record.covers) == (T, T + 4, [])


def test_true_and_one_are_different_labels() -> None:
    (record,) = records(take({"samples": [sample(groupby={"a": v}) for v in (1, True, 1.0, "1")]}, "key"))

    assert len(record.series) == 4


def test_a_collection_in_parts() -> None:
    values = [{"begin": T + i, "qty": i, "groupby": {"n": i % 3}} for i in range(2500)]
    item = {"value": "NaN", "reason": "no number"}

    taken = take(numbered({"collections": [collection(samples=values, attempt=4, quarantined=[item])]}, A=3))

    parts = records(taken)
    assert [(p.part, p.parts, p.sequence, p.collection_id[:4], p.attempt) for p in parts] == [
        (n, 3, 3 + n, "p-3-", 4) for n in range(3)
    ]
    assert [len(p.quarantined) for p in parts] == [1, 0, 0]
    assert sum(s.qty for p in parts for s in p.samples) == sum(range(2500))
    assert taken.accepted.scopes[0].next_sequence == 6


def test_plans_need_neither_numbers_nor_a_key() -> None:
    taken = take({"plans": [{"scope_id": "A", "begin": "2026-01-01T00:00:00Z", "metrics": ["net"]}]})

    assert records(taken) == [ScopePlan("m", "A", T, None, ["net"])]
    assert taken.accepted.plans == 1


def test_every_fault_is_told_at_once() -> None:
    bad = {
        "samples": [
            sample(metric="nett"),
            sample(unit="GiB"),
            sample(metric="cpu"),
            sample(begin=T + 61),
            sample(end=T + HOUR + 1),
            sample(qty="1e31"),
            sample(qty="NaN"),
            sample(begin="2026-01-01"),
            sample(begin="2026-01-01T00:00:00.5Z"),
            sample(groupby={"a": 2**70}),
        ],
        "collections": [
            collection(metric="net"),
            collection(end=T),
            collection(covers=[[T - 1, T + 1]]),
            collection(samples=[{"begin": T + HOUR, "qty": 1}]),
            collection(unit="d"),
            collection(end="soon"),
        ],
        "plans": [
            {"scope_id": "A", "begin": T, "until": T},
            {"scope_id": "A", "begin": 0, "until": T},
            {"scope_id": "A", "begin": T, "metrics": ["gone"]},
        ],
    }

    problem = refused(bad)

    assert problem.status == 422
    assert set(places(problem)) == {
        "samples[0].metric",
        "samples[1].unit",
        "samples[2].metric",
        "samples[3].end",
        "samples[4].end",
        "samples[5].qty",
        "samples[6].qty",
        "samples[7].begin",
        "samples[8].begin",
        "samples[9]",
        "collections[0].metric",
        "collections[1]",
        "collections[2].covers[0]",
        "collections[3].samples[0].begin",
        "collections[4].unit",
        "collections[5].end",
        "plans[0]",
        "plans[1]",
        "plans[2].metrics[0]",
    }
    assert "use calls, cpu, net" in places(problem)["samples[0].metric"]


@pytest.mark.parametrize(
    ("body", "key", "text"),
    [
        ({}, "k", "holds neither samples"),
        ({"samples": [sample()]}, "", "would count twice"),
        ({"samples": [sample()], "sequences": {"A": 1}}, "k", "sequences are those of a producer"),
        (numbered({"samples": [sample()]}, A=0), "k", "send one of them"),
        (numbered({"samples": [sample("A"), sample("B")]}, A=0), "", "no number for scope 'B'"),
        (numbered({"samples": [sample("A")]}, A=0, C=1), "", "scope 'C', which has no samples"),
        (numbered({"samples": [sample(source=str(n)) for n in range(17)]}, A=0), "", "makes 17 records"),
        ({"samples": [sample()]}, "k" * 256, "256 characters"),
        ({"samples": [sample(begin=0, end=1), sample()]}, "k", "more than 20000 periods"),
        ({"samples": [sample(metadata={"a": "x" * 2000, "n": n}) for n in range(500)]}, "k", "shorter labels"),
        ({"samples": [sample(metadata={"a": "x" * 600_000})]}, "k", "labels have 600"),
    ],
)
def test_requests_that_are_wrong_as_a_whole(body: dict[str, Any], key: str, text: str) -> None:
    problem = refused(body, key)

    assert problem.status == 422
    assert any(text in fault.message for fault in problem.faults), problem


def test_a_source_has_to_be_named() -> None:
    assert places(refused({"source": None, "samples": [sample()]}))["samples[0].source"]


def test_too_many_samples_are_413() -> None:
    small = Intake(Catalog(METRICS), Limits(2, HOUR), "u", 1)

    assert refused({"samples": [sample()] * 3}, intake=small).status == 413
    assert len(records(take({"samples": [sample()] * 2}, "k", intake=small))) == 1


def test_what_the_token_does_not_allow_is_403() -> None:
    problem = refused(
        {"samples": [sample(), sample(), sample("B")], "plans": [{"scope_id": "C", "begin": 0}]}, allowed=False
    )

    assert problem.status == 403
    assert set(places(problem)) == {"samples[0]", "samples[2]", "plans[0]"}


def test_quantities_are_exact() -> None:
    text = "0.12345678901234567890123456789012345678"

    (record,) = records(take({"samples": [sample(qty=text)]}, "k"))

    assert isinstance(record, Collection)
    assert record.samples[0].qty == Decimal(text)
