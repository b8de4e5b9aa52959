"""What Gnocchi's lists prove of a period, by the rules of EVIDENCE.md: values in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from collectors.gnocchi.answer import Definition, Policy
from collectors.gnocchi.args import GnocchiArgs
from collectors.gnocchi.darkness import Pace
from collectors.gnocchi.judgement import Judged, Measured, Watched, judge, policy_fault
from collectors.gnocchi.resources import Resource, resources_of
from collectors.times import iso
from rater.model.interval import Interval

T, HOUR, STEP = 1_767_607_200, 3600, 300  # 2026-01-05T10:00:00Z
PERIOD = Interval(T, T + HOUR)
NOW = T + 5 * HOUR
FINE, COARSE = Definition(300.0, 30 * 86400.0), Definition(3600.0, 90 * 86400.0)
POLICY = Policy("p", frozenset({"max", "count", "std", "rate:mean"}), (FINE, COARSE))
ALL = range(T - 2 * HOUR, T + 3 * HOUR, STEP)
HOLE = range(T + 1200, T + 2400)


def _resource(name: str = "vm", project: str = "p1", begin: int = T - 9 * HOUR) -> Resource:
    row = {
        "id": name, "revision_start": iso(begin), "revision_end": None, "started_at": iso(begin), "ended_at": None,
        "metrics": {"cpu": f"m-{name}"}, "project_id": project, "status": "on",
    }  # fmt: skip
    return resources_of([row])[0]


def _measured(points: Iterable[int] = ALL, policy: Policy = POLICY, bundles: int = 0, **counts: float) -> Measured:
    found = {at: counts.get(f"at{at - T}", 1.0) for at in points}
    return Measured("m", policy, Pace(300.0, policy.definitions[0].granularity, 2.5), found, bundles)


def _judged(measured: Measured, resource: Resource | None = None, proof: Measured | None = None, **more: Any) -> Judged:
    args = GnocchiArgs("vm", **more.pop("args", {}))
    one = Watched(resource or _resource(), [measured], [proof or measured], more.pop("off", []))
    return judge([one], args, [args.aggregation_method], "project_id", PERIOD, more.pop("now", NOW), **more)


def _covers(judged: Judged, scope_id: str = "p1") -> list[tuple[int, int]]:
    return [(begin - T, end - T) for begin, end in judged.of(scope_id).covers]


def test_what_was_measured_is_proven() -> None:
    verdict = _judged(_measured()).of("p1")
    assert (verdict.covers, verdict.proof) == ([PERIOD], "proven")
    assert verdict.note == "1 of 1 resource with this metric, measured every 300 s"
    assert _judged(_measured()).of("p2").note.startswith("0 of 1 resource")


def test_dark_time_is_missing_for_its_owner_alone() -> None:
    judged = _judged(_measured(at for at in ALL if at not in HOLE))
    assert _covers(judged) == [(0, 1200), (2400, 3600)]
    assert _covers(judged, "p2") == [(0, 3600)]
    assert "not measured: vm 2026-01-05T10:20:00Z to 2026-01-05T10:40:00Z" in judged.of("p1").note


def test_a_sibling_and_a_state_speak_for_a_resource() -> None:
    holed = _measured(at for at in ALL if at not in HOLE)
    assert _covers(_judged(holed, proof=_measured())) == [(0, 3600)]
    assert _covers(_judged(holed, off=[Interval(T + 1000, T + 2000)])) == [(0, 2000), (2400, 3600)]
    assert _covers(_judged(holed, state=("status", ["on"]))) == [(0, 3600)]
    assert _covers(_judged(holed, state=("status", ["off"]))) == [(0, 1200), (2400, 3600)]


@pytest.mark.parametrize(
    ("policy", "args", "fault"),
    [
        (POLICY, {}, ""),
        (POLICY, {"force_granularity": 300}, ""),
        (POLICY, {"aggregation_method": "mean"}, "has no mean"),
        (POLICY, {"force_granularity": 60}, "has no granularity of 60 s"),
        (POLICY, {"force_granularity": 0}, "has several granularities"),
        (Policy("p", frozenset({"max"}), (COARSE,)), {"force_granularity": 0}, ""),
        (Policy("p", frozenset({"max"}), (Definition(86400.0, 1e9),)), {"force_granularity": 86400}, "longer than the"),
    ],
)
def test_policies_that_do_not_fit(policy: Policy, args: dict[str, Any], fault: str) -> None:
    made = GnocchiArgs("vm", **args)
    said = policy_fault(policy, made, [made.aggregation_method], HOUR)
    assert fault in said
    assert bool(said) == bool(fault)


def test_a_resource_that_cannot_be_asked_for_is_left_out_of_the_question() -> None:
    judged = _judged(_measured(), args={"aggregation_method": "mean"})
    assert (judged.barred, judged.wanted, _covers(judged)) == (["vm"], [], [])


def test_what_a_policy_no_longer_keeps_is_missing_with_that_reason() -> None:
    short = Policy("p", frozenset({"max", "count"}), (Definition(300.0, 1e9), Definition(3600.0, 4.5 * HOUR)))
    judged = _judged(_measured(policy=short))
    assert _covers(judged) == [(1800, 3600)]
    assert "nothing is kept before 2026-01-05T10:30:00Z" in judged.of("p1").note


def test_a_difference_needs_the_granule_before() -> None:
    """Missing before the period: nothing to compare with; a resource that is new is just not measured yet."""
    rate = {"args": {"re_aggregation_method": "rate:max"}}
    late = _measured(at for at in ALL if at >= T)
    assert _covers(_judged(_measured(), **rate)) == [(0, 3600)]
    assert _covers(_judged(late, **rate)) == []
    assert _covers(_judged(late, _resource(begin=T - 60), **rate)) == [(0, 3600)]


def test_a_first_difference_after_a_gap_is_a_suspicion() -> None:
    holed = _measured(at for at in ALL if at not in range(T - 1800, T + 60))
    note = _judged(holed, args={"aggregation_method": "rate:mean"}).of("p1").note
    assert "suspicion: the rate spans the gap before it: vm 2026-01-05T09:25:00Z" in note
    assert "suspicion" not in _judged(holed).of("p1").note


def test_a_backlog_counts_until_a_point_after_the_period() -> None:
    until = range(T - HOUR, T + 3000, STEP)
    assert _judged(_measured(until, bundles=2)).unsettled == {"p1": frozenset({"m"})}
    assert _covers(_judged(_measured(until, bundles=2))) == [(0, 3000)]
    assert _judged(_measured(bundles=2)).unsettled == {}


def test_granules_that_have_to_have_a_value() -> None:
    def begins(points: Iterable[int], **args: Any) -> list[int]:
        judged = _judged(_measured(points), args=args)
        return sorted(begin - T for wanted in judged.wanted for begin in wanted.begins)

    inside = [T, T + 300, T + 3300]
    assert begins(inside) == [0]
    assert begins(inside, force_granularity=300) == [0, 300, 3300]
    assert begins(inside, force_granularity=300, aggregation_method="rate:mean") == [300, 3300]
    assert begins(inside, aggregation_method="std", force_granularity=300) == []
    assert begins(inside, aggregation_method="std") == [0]
    assert begins([T - 300, *inside], force_granularity=300, re_aggregation_method="rate:max") == [0, 300, 3300]


def test_granules_of_the_length_of_the_period_are_weak_proof() -> None:
    hours = Policy("p", frozenset({"max", "count"}), (COARSE,))
    points = range(T - 4 * HOUR, T + 4 * HOUR, HOUR)
    coarse = Measured("m", hours, Pace(3600.0, 3600.0, 2.5), dict.fromkeys(points, 1.0))
    assert _judged(coarse).of("p1").proof == "weak"
    assert _judged(coarse).of("p2").proof == "proven"


def test_resources_without_the_metric() -> None:
    others = [_resource("disk", "p2")]
    beside = _judged(_measured(), without=others).of("p2")
    alone = judge([], GnocchiArgs("vm"), ["max"], "project_id", PERIOD, NOW, without=others).of("p2")
    assert (beside.covers, beside.proof, alone.proof) == ([PERIOD], "proven", "weak")
    assert "without this metric: disk" in beside.note
