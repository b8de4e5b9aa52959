"""What `rater collect check` and a start say of a real Gnocchi; and the scopes that its fetcher finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collectors.checking import Code
from collectors.errors import SourceAwayError, SourceError, UnfitSourceError
from collectors.gnocchi.fetcher import GnocchiFetcher
from collectors.gnocchi.source import Factory, GnocchiSource
from collectors.metrics_yml import read
from collectors.source import SourceContext
from tests.openstack.gnocchi_server import GnocchiServer
from tests.openstack.gnocchi_world import HOUR, STEP, Cloud, T, fetch, settings_of
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer

NOW = T + 2 * HOUR + 900


@pytest.fixture(scope="module")
def cloud(gnocchi: GnocchiServer) -> Cloud:
    made = Cloud(gnocchi.client, "flavor")
    both = made.policy("both", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], ["max", "count", "std"])
    short = made.policy("short", [(HOUR, 5 * HOUR)], ["max", "count"])
    made.add("vm", "p1", {"cpu": both, "brief": short}, flavor="s")
    made.add("odd", "p2", {"cpu": short}, flavor="s")
    for name, metric in (("vm", "cpu"), ("vm", "brief"), ("odd", "cpu")):
        made.measure(name, metric, T - HOUR, T - 300 if name == "odd" else T + 2 * HOUR)
    made.end("odd", T - 300, at=T - 300)
    made.add("moved", "p3", {}, flavor="m")
    made.revise("moved", T + 300, project_id="p4")
    made.send()
    return made


def _source(url: str, cloud: Cloud, metric: str, definition: str, **settings: Any) -> GnocchiSource:
    text = f"metrics: {{{metric}: {{unit: u, {definition.replace('KIND', cloud.kind)}}}}}"
    metrics = read(text, "metrics.yml", Factory.read_extra_args).metrics
    return GnocchiSource(SourceContext(settings_of(url, **settings), HOUR, metrics))


async def test_a_metric_that_fits_passes(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    source = _source(gnocchi.url, cloud, "cpu", "groupby: [flavor], extra_args: {resource_type: KIND}")
    try:
        assert await source.check(NOW, 4 * HOUR) == []
        facts = await source.examine(NOW, 4 * HOUR, lambda done, total: None, deep=True)
        assert await source.oldest(NOW) <= NOW - 90 * 86400
    finally:
        await source.close()
    cpu = facts.metrics["cpu"]
    assert (facts.where, facts.retention, facts.findings) == (gnocchi.url, 90 * 86400, ())
    assert abs(facts.clock_ahead or 99) < 5
    assert (cpu.exists, cpu.granularity, cpu.points, cpu.findings) == (True, STEP, {"p1": 1}, ())
    assert cpu.labels is not None
    assert {"flavor", "project_id", "id"} <= cpu.labels


WRONG = [
    ("cpv", "extra_args: {resource_type: KIND}", {}, "metric 'cpv' does not exist"),
    ("cpu", "extra_args: {resource_type: unheard-of}", {}, "there is no resource type 'unheard-of'"),
    ("cpu", "groupby: [flavour], extra_args: {resource_type: KIND}", {}, "did you mean 'flavor'"),
    ("cpu", "extra_args: {resource_type: KIND, aggregation_method: mean}", {}, "has no mean"),
    ("cpu", "extra_args: {resource_type: KIND, force_granularity: 60}", {}, "has no granularity of 60 s"),
    ("cpu", "extra_args: {resource_type: KIND, force_granularity: 0}", {}, "has several granularities"),
    ("brief", "extra_args: {resource_type: KIND, force_granularity: 0}", {"reach": 6 * HOUR}, "keeps 18000 s"),
    (
        "cpu", "extra_args: {resource_type: KIND, force_granularity: 300, aggregation_method: std}", {},
        "set collect.gnocchi.combine.cpu",
    ),
    (
        "cpu", "extra_args: {resource_type: KIND, force_granularity: 300, custom_query: '(metric cpu max)'}", {},
        "set collect.gnocchi.combine.cpu",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "definition", "more", "fault"), WRONG)
async def test_what_can_never_be_billed_is_refused(
    cloud: Cloud, gnocchi: GnocchiServer, metric: str, definition: str, more: dict[str, int], fault: str
) -> None:
    source = _source(gnocchi.url, cloud, metric, definition)
    try:
        with pytest.raises(UnfitSourceError, match=fault):
            await source.check(NOW, more.get("reach", 4 * HOUR))
    finally:
        await source.close()


async def test_what_is_doubtful_is_said(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    """Granules as long as the period; and only the first of twelve, which is what CloudKitty bills."""
    source = _source(gnocchi.url, cloud, "brief", "extra_args: {resource_type: KIND}")
    first = _source(
        gnocchi.url, cloud, "cpu", "extra_args: {resource_type: KIND, force_granularity: 300}",
        gnocchi={"granules": "first"},
    )  # fmt: skip
    try:
        facts = await source.examine(NOW, 4 * HOUR, lambda done, total: None, deep=False)
        assert [(one.code, one.level) for one in facts.metrics["brief"].findings] == [(Code.WEAK, "warn")]
        assert "of 12 granules of a period only the first is billed" in (await first.check(NOW, 4 * HOUR))[0]
    finally:
        await source.close()
        await first.close()


async def test_who_may_not_see_everything_is_told_so(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    auth = {"auth": {"basic": {"username": "somebody"}}}
    source = _source(gnocchi.url, cloud, "cpu", "extra_args: {resource_type: KIND}", gnocchi=auth)
    try:
        with pytest.raises(SourceAwayError, match=r"refuses us \(status 403\): check collect.gnocchi.auth"):
            await source.check(NOW, 4 * HOUR)
    finally:
        await source.close()


# --- the fetcher


async def test_scopes_are_those_of_all_that_lived_since(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    assert await fetch(gnocchi.url, [cloud.kind], NOW, NOW) == {"p1", "p4"}
    assert await fetch(gnocchi.url, [cloud.kind], NOW, T) == {"p1", "p3", "p4"}
    assert await fetch(gnocchi.url, [cloud.kind], NOW, T - HOUR) == {"p1", "p2", "p3", "p4"}
    assert {"p1", "p4"} <= await fetch(gnocchi.url, ["generic", cloud.kind], NOW, NOW)
    assert await fetch(gnocchi.url, [cloud.kind], NOW, NOW, "flavor") == {"s", "m"}


async def test_a_fetcher_that_cannot_find_says_why(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    with pytest.raises(SourceError, match="nothing does not exist"):
        await fetch(gnocchi.url, ["nothing"], NOW, NOW)
    with pytest.raises(SourceError, match="has no customer attribute"):
        await fetch(gnocchi.url, [cloud.kind], NOW, NOW, "customer")


async def test_gnocchi_is_found_and_asked_by_keystone(
    cloud: Cloud, keystone: KeystoneServer, gnocchi_behind_keystone: str, tmp_path: Path
) -> None:
    client, secret = keystone.client, tmp_path / "password"
    secret.write_text(PASSWORD)
    project, user = client.project("gnocchi"), client.user("gnocchi-user")
    client.grant(user, "admin", f"projects/{project}")
    login = {"url": keystone.url, "username": "gnocchi-user", "password_file": str(secret), "project": "gnocchi"}
    gnocchi = {"auth": {"keystone": login}, "region": "RegionOne"}

    settings = settings_of("", gnocchi=gnocchi, gnocchi_fetcher={"resource_types": [cloud.kind]})
    source = _source("", cloud, "cpu", "extra_args: {resource_type: KIND}", gnocchi=gnocchi)
    fetcher = GnocchiFetcher(SourceContext(settings, HOUR))
    try:
        assert await source.api.url() == gnocchi_behind_keystone
        facts = await source.examine(NOW, 4 * HOUR, lambda done, total: None, deep=False)
        assert facts.metrics["cpu"].points == {"p1": 1}
        assert await fetcher.fetch(NOW, NOW) == {"p1", "p4"}
    finally:
        await source.close()
        await fetcher.close()
