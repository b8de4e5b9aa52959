"""Source `gnocchi`: under `numbers: cloudkitty` its points are those of CloudKitty's own collector."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from typing import Any

import msgspec
import pytest
import yaml

from collectors.gnocchi.source import Factory
from collectors.metrics_yml import read
from collectors.source import Answer
from rater.model.document import DocumentError
from tests.conformance.side import CloudKitty, cloudkitty
from tests.openstack.gnocchi_server import GnocchiServer
from tests.openstack.gnocchi_world import HOUR, METHODS, PERIOD, STEP, Cloud, T, ask

SCOPES = ["P1", "P2", "P3", "nobody"]
CALENDAR = {"week_of_the_year", "day_of_the_year", "month", "year"}
RE_METHODS = ["mean", "sum", "max", "min", "std", "median", "count", "rate:max", "rate:sum"]

Point = tuple[str, str, str]


@pytest.fixture(scope="module")
def cloud(gnocchi: GnocchiServer) -> Cloud:
    """Resources that stay, are resized, move, end, begin; awkward digits, a counter, NaN."""
    chance = random.Random(7)
    made = Cloud(gnocchi.client, "flavor", "host")
    both = made.policy("both", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], METHODS)
    policies = {"cpu": both, "net": both}
    for name, project, flavor in (
        ("plain", "P1", "s"), ("resized", "P1", "s"), ("moved", "P1", "m"), ("ended", "P1", "m"), ("nan", "P2", "s"),
        ("other", "P2", "l"), ("rehosted", "P2", "s"), ("twice", "P3", "s"),
    ):  # fmt: skip
        made.add(name, project, policies, flavor=flavor, host="h1")
    made.add("fresh", "P3", policies, begin=T + 1500, flavor="s", host="h1")
    made.revise("resized", T + 1440, flavor="m")
    made.revise("moved", T + 2000, project_id="P2")
    made.revise("rehosted", T + 700, host="h2")
    made.revise("twice", T + 1000, flavor="m")
    made.revise("twice", T + 2500, flavor="s")
    made.end("ended", T + 1200, at=T + 2400)
    for name in made.metric_ids:
        begin, end = (T + 1500 if name == "fresh" else T - 2 * HOUR), (T + 1200 if name == "ended" else T + 2 * HOUR)
        wrong = range(T + 600, T + 1200) if name == "nan" else range(0)
        made.measure(name, "cpu", begin, end, lambda at, w=wrong: float("nan") if at in w else chance.uniform(0, 9))  # type: ignore[misc]  # w is bound to this name
        made.measure(name, "net", begin, end, lambda at: (at - T) * 1234.5678)
    made.send()
    return made


@pytest.fixture(scope="module")
def real() -> Iterator[CloudKitty]:
    with cloudkitty() as side:
        yield side


def _yml(cloud: Cloud, forms: list[dict[str, Any]], metric: str = "cpu") -> str:
    numbered = []
    for number, form in enumerate(forms):
        arguments = {"resource_type": cloud.kind, **form.get("extra_args", {})}
        numbered.append(
            {
                "unit": "u",
                "alt_name": f"{metric} {number}",
                "groupby": ["id", "flavor"],
                **form,
                "extra_args": arguments,
            }
        )
    return yaml.safe_dump({"metrics": {metric: numbered}}, sort_keys=False)


def _theirs(real: CloudKitty, url: str, text: str, scope: str) -> dict[str, Any]:
    answer = real.ask(
        "collect_gnocchi", metrics_yml=text, url=url, scope_key="project_id", scope=scope, begin=PERIOD.begin,
        end=PERIOD.end,
    )  # fmt: skip
    found: dict[str, Any] = answer["metrics"]
    return found


def _ours(answer: Answer) -> list[Point]:
    series = [answer.series[sample.series] for sample in answer.samples]
    return sorted(
        (str(sorted(one.groupby.items())), str(sorted(one.metadata.items())), str(sample.qty))
        for one, sample in zip(series, answer.samples, strict=True)
    )


def _expected(points: list[dict[str, Any]]) -> list[Point]:
    return sorted(
        (
            str(sorted((key, value) for key, value in point["groupby"].items() if key not in CALENDAR)),
            str(sorted(point["metadata"].items())),
            point["qty"],
        )
        for point in points
    )


async def _compare(real: CloudKitty, url: str, text: str, mode: str = "off") -> tuple[int, int]:
    """How many points are alike, and how many here alone since CloudKitty loses them with their metadata.

    `mode` off: evidence, which changes no point, is not asked for, since it takes most of the time.
    """
    ours = await ask(
        url, text, SCOPES, numbers="cloudkitty", gnocchi={"granules": "first"}, completeness={"mode": mode}
    )
    alike, kept = 0, 0
    for scope in SCOPES:
        for key, their in _theirs(real, url, text, scope).items():
            assert "error" not in their, f"{scope} {key}: {their}"
            expected, found = _expected(their["points"]), _ours(ours.of(scope, key.partition("@#")[2]))
            assert [point for point in expected if point not in found] == [], f"{scope} {key}"
            more = [point for point in found if point not in expected]
            assert not more or yaml.safe_load(text)["metrics"]["cpu"][int(key.split()[-1])]["metadata"], (
                scope,
                key,
                more,
            )
            alike, kept = alike + len(expected), kept + len(more)
    return alike, kept


def _form(**arguments: Any) -> dict[str, Any]:
    return {"extra_args": arguments}


async def test_every_aggregation_over_both_granularities(
    real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer
) -> None:
    forms = [
        _form(aggregation_method=method, force_granularity=granularity)
        for number, method in enumerate(METHODS)
        for granularity in ((STEP, HOUR) if method in ("max", "rate:mean") else ((STEP, HOUR)[number % 2],))
    ]
    alike, _ = await _compare(real, gnocchi.url, _yml(cloud, forms))
    assert alike > 100


async def test_every_re_aggregation(real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer) -> None:
    forms = [
        _form(re_aggregation_method=method, force_granularity=granularity)
        for method, granularity in product(RE_METHODS, (STEP, HOUR))
    ]
    assert (await _compare(real, gnocchi.url, _yml(cloud, forms)))[0] > 150
    counter = [_form(re_aggregation_method=f"rate:{method}", aggregation_method=method) for method in ("max", "mean")]
    assert (await _compare(real, gnocchi.url, _yml(cloud, counter, "net"), mode="strict"))[0] > 10


async def test_no_difference_is_lost_where_a_revision_begins(
    real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer
) -> None:
    """Given a counter of an instance that was resized; CloudKitty bills nothing of it for the new flavor."""
    text = _yml(cloud, [_form(re_aggregation_method="rate:max")], "net")
    (their,) = _theirs(real, gnocchi.url, text, "P1").values()
    theirs = {point["groupby"]["flavor"] for point in their["points"] if point["groupby"]["id"] == cloud.id("resized")}
    exact = (await ask(gnocchi.url, text, ["P1"])).quantities("P1", "net 0", "id", "flavor")
    like_theirs = await ask(gnocchi.url, text, ["P1"], numbers="cloudkitty")

    assert theirs == {"s"}
    resized = cloud.id("resized")
    whole = Decimal(exact[resized, "s"]) + Decimal(exact[resized, "m"])
    assert abs(whole - Decimal("1234.5678") * HOUR) < Decimal("1e-6")
    assert abs(Decimal(exact[resized, "s"]) / whole - Decimal("0.4")) < Decimal("1e-12")
    aside = [item.groupby["flavor"] for item in like_theirs.of("P1", "net 0").quarantined]
    assert aside == ["m"], "it is put aside, and not lost, where CloudKitty's numbers are wanted"


QUERIES = [
    "(aggregate RE_AGGREGATION_METHOD (metric METRIC_NAME AGGREGATION_METHOD))",
    "(* (aggregate RE_AGGREGATION_METHOD (metric METRIC_NAME AGGREGATION_METHOD)) 2)",
    "(/ (aggregate sum (metric cpu sum)) (aggregate sum (metric cpu count)))",
    "(aggregate max (metric (cpu max) (net max)))",
    "(clip_min (aggregate max (metric METRIC_NAME max)) 5)",
]


async def test_queries_of_ones_own(real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer) -> None:
    forms = [
        _form(custom_query=query, aggregation_method=method, re_aggregation_method="max")
        for query, method in product(QUERIES, ("max", "mean"))
    ]
    assert (await _compare(real, gnocchi.url, _yml(cloud, forms)))[0] > 80


async def test_labels_and_revisions(real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer) -> None:
    """What CloudKitty drops because its search does not find the resource any more is kept here: `moved` in P1."""
    forms: list[dict[str, Any]] = [
        {"groupby": groupby, "metadata": metadata}
        for groupby, metadata in product(
            ([], ["flavor", "host"], ["revision_start", "id"]),
            ([], ["host", "flavor"], ["nothing", "host"]),
        )
    ]
    alike, kept = await _compare(real, gnocchi.url, _yml(cloud, forms), mode="strict")
    assert alike > 60
    assert kept == 6


async def test_the_latest_revision_alone(real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer) -> None:
    forms: list[dict[str, Any]] = [
        {"groupby": ["id", "flavor", "revision_start"], "extra_args": {"use_all_resource_revisions": False, **more}}
        for more in ({}, {"force_granularity": STEP}, {"aggregation_method": "mean"})
    ]
    assert (await _compare(real, gnocchi.url, _yml(cloud, forms)))[0] > 20


async def test_numbers_and_mutations_to_the_last_digit(real: CloudKitty, cloud: Cloud, gnocchi: GnocchiServer) -> None:
    forms: list[dict[str, Any]] = [
        {"factor": factor, "offset": offset, "mutate": mutate}
        for factor, offset, mutate in (
            ("1/3", 0, "NONE"), (0.1, "-1/7", "NONE"), (0.1, 0, "CEIL"), (7, "1/3", "FLOOR"), (1, 0, "NOTNUMBOOL"),
        )
    ]  # fmt: skip
    forms.append({"mutate": "MAP", "mutate_map": {0: 1, 1: 2}, "extra_args": {"aggregation_method": "count"}})
    alike, _ = await _compare(real, gnocchi.url, _yml(cloud, forms))
    assert alike > 40


async def test_alone_and_together_are_the_same(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    """Whether scopes share their questions or not, for either kind of numbers and granules."""
    text = _yml(
        cloud, [_form(), _form(force_granularity=STEP), _form(aggregation_method="sum", force_granularity=STEP)]
    )
    for numbers, granules in product(("exact", "cloudkitty"), ("all", "first")):
        alone, together = [
            await ask(gnocchi.url, text, SCOPES, shared=shared, numbers=numbers, gnocchi={"granules": granules})
            for shared in (False, True)
        ]
        for key in alone.answers:
            assert _ours(alone.of(*key)) == _ours(together.of(*key)), (numbers, granules, key)
            assert alone.of(*key).covers == together.of(*key).covers


DEFINITIONS = [
    "{resource_type: x}", "{}", "", "{resource_type: ''}", "{resource_type: x, aggregation_method: maximum}",
    "{resource_type: x, aggregation_method: 99pct}", "{resource_type: x, aggregation_method: 100pct}",
    "{resource_type: x, aggregation_method: 0pct}", "{resource_type: x, aggregation_method: 'rate:1pct'}",
    "{resource_type: x, re_aggregation_method: 99pct}", "{resource_type: x, re_aggregation_method: 'rate:last'}",
    "{resource_type: x, force_granularity: -1}", "{resource_type: x, force_granularity: 0}",
    "{resource_type: x, force_granularity: '300'}", "{resource_type: x, use_all_resource_revisions: 1}",
    "{resource_type: x, use_all_resource_revisions: false}", "{resource_type: x, custom_query: ''}",
    "{resource_type: x, custom_query: '(metric a max)'}", "{resource_type: x, query_prefix: a}",
    "{resource_type: x, resource_key: ''}", "{resource_type: x, resource_key: name}", "[]", "text",
]  # fmt: skip


@pytest.mark.parametrize("arguments", DEFINITIONS)
def test_extra_args_are_refused_alike_and_read_alike(real: CloudKitty, arguments: str) -> None:
    text = f"metrics: {{cpu: {{unit: u, extra_args: {arguments}}}}}" if arguments else "metrics: {cpu: {unit: u}}"
    theirs = real.ask("gnocchi_definitions", metrics_yml=text)
    try:
        ours: Any = read(text, "metrics.yml", Factory.read_extra_args).metrics[0].extra_args
    except DocumentError:
        assert "refused" in theirs
        return
    assert msgspec.to_builtins(ours) == theirs["metrics"]["cpu"]
