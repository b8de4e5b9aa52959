"""Holes planted in a real Gnocchi are named to the granularity, each with its reason; what was not used is no hole."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from collectors.errors import NotSettledError
from tests.openstack.gnocchi_server import GnocchiServer
from tests.openstack.gnocchi_world import HOUR, LATER, STEP, Cloud, T, ask, fetch

WHOLE = [(0, HOUR)]
YML = """
metrics:
  cpu:
    - {{unit: h, alt_name: hour, groupby: [flavor], metadata: [host], extra_args: {{resource_type: {kind}}}}}
    - {{unit: h, alt_name: fine, groupby: [flavor], extra_args: {{resource_type: {kind}, force_granularity: 300}}}}
"""
PLANTED: dict[str, tuple[list[tuple[int, int]], str]] = {
    "whole": (WHOLE, "1 of "),
    "agent": ([(0, 900), (2400, 3600)], "not measured"),
    "silent": ([(0, 1800)], "not measured"),
    "ended": (WHOLE, "1 of "),
    "giver": ([(0, 1200), (1800, 3600)], "not measured"),
    "taker": ([(0, 1800), (2400, 3600)], "not measured"),
    "method": ([], "has no max"),
    "granule": ([], "has no granularity of 3600 s"),
    "late": (WHOLE, "1 of "),
    "begins-dark": ([(0, 600), (2700, 3600)], "not measured"),
    "never": ([], "not measured"),
    "no-metric": (WHOLE, "0 of "),
    "gone-before": (WHOLE, "0 of "),
    "told-late": (WHOLE, "0 of "),
    "nobody": (WHOLE, "0 of "),
    "nan": (WHOLE, "1 of "),
    "one-lost": (WHOLE, "1 of "),
    "forgotten": ([], "nothing is kept before"),
    "coarse": (WHOLE, "1 of "),
    "coarse-hole": ([], "not measured"),
}
"""What of the hour is covered by scope, in seconds from its begin, and what the note says."""


@pytest.fixture(scope="module")
def cloud(gnocchi: GnocchiServer) -> Cloud:
    made = Cloud(gnocchi.client, "flavor", "host")
    both = made.policy("both", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], ["max", "count", "rate:mean"])
    short = made.policy("short", [(STEP, 3 * HOUR), (HOUR, 3 * HOUR)], ["max", "count"])
    hours = made.policy("hours", [(HOUR, 90 * 86400)], ["max", "count"])
    policies: dict[str, str] = {
        "method": made.policy("method", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], ["mean"]),
        "granule": made.policy("granule", [(STEP, 30 * 86400)], ["max", "mean"]),
        "forgotten": short, "coarse": hours, "coarse-hole": hours,
    }  # fmt: skip
    begins = {"late": T + 1500, "begins-dark": T + 600}
    for scope in PLANTED:
        if scope not in ("nobody", "taker"):
            chosen = {} if scope == "no-metric" else {"cpu": policies.get(scope, both)}
            made.add(scope, scope, chosen, begin=begins.get(scope, T - 6 * HOUR), flavor="s", host="h")
    for beside in ("agent", "silent", "method"):
        made.add(f"beside {beside}", beside, {"cpu": both}, flavor="s", host="h")
    made.revise("giver", T + 1800, project_id="taker")
    made.end("ended", T + 1200, at=T + 2400)
    made.end("gone-before", T - 2 * HOUR, at=T - 2 * HOUR + 600)
    made.end("told-late", T - 600, at=T + 1200)
    holes = {
        "agent": [(T + 900, T + 2400)], "beside agent": [(T + 900, T + 2400)], "silent": [(T + 1800, T + 9 * HOUR)],
        "giver": [(T + 1200, T + 2400)], "begins-dark": [(T, T + 2700)], "one-lost": [(T + 1500, T + 1800)],
        "coarse-hole": [(T, T + HOUR)],
    }  # fmt: skip
    ends = {"ended": T + 1200, "gone-before": T - 2 * HOUR, "told-late": T - 600, "forgotten": T + 6 * HOUR}
    for name in made.metric_ids:
        if name not in ("never", "no-metric"):
            begin, end = begins.get(name, T - 4 * HOUR - STEP) + 60, ends.get(name, T + 3 * HOUR)
            made.measure(name, "cpu", begin, end, lambda at, n=name: _value(n, at), without=holes.get(name, ()))  # type: ignore[misc]  # n is bound to this name
    made.send()
    return made


def _value(name: str, at: int) -> float:
    return float("nan") if name == "nan" and T + 600 <= at < T + 1200 else 4.0


async def test_every_planted_hole_is_named_and_nothing_else(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    asked = await ask(gnocchi.url, YML.format(kind=cloud.kind), list(PLANTED))

    assert {scope: asked.covers(scope, "hour") for scope in PLANTED} == {
        s: covers for s, (covers, _) in PLANTED.items()
    }
    for scope, (_, word) in PLANTED.items():
        assert word in asked.of(scope, "hour").note, asked.of(scope, "hour").note
    weak = {scope for scope in PLANTED if asked.of(scope, "hour").proof == "weak"}
    assert weak == {"coarse", "coarse-hole"}
    for scope in ("no-metric", "gone-before", "told-late", "nobody", "never"):
        assert asked.of(scope, "hour").samples == []


async def test_finer_granules_find_the_same_holes(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    asked = await ask(gnocchi.url, YML.format(kind=cloud.kind), list(PLANTED))

    other = {"granule": WHOLE, "coarse": []}
    expected = {scope: other.get(scope, covers) for scope, (covers, _) in PLANTED.items()}
    assert {scope: asked.covers(scope, "fine") for scope in PLANTED} == expected


async def test_one_policy_that_does_not_fit_spoils_nothing_else(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    """CloudKitty's question for this scope is refused, and the scope stops for good."""
    asked = await ask(gnocchi.url, YML.format(kind=cloud.kind), list(PLANTED))

    assert asked.quantities("method", "hour", "id") == {cloud.id("beside method"): "4.0"}
    assert cloud.id("method") in asked.of("method", "hour").note


async def test_what_is_no_number_is_put_aside(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    asked = await ask(gnocchi.url, YML.format(kind=cloud.kind), ["nan", "whole"])

    for name, value in (("hour", "NaN"), ("fine", "4")):
        answer = asked.of("nan", name)
        assert answer.samples == []
        assert [(item.value, item.groupby["id"]) for item in answer.quarantined] == [(value, cloud.id("nan"))]
        assert "have measures and no finite number" in answer.quarantined[0].reason
    assert asked.of("nan", "hour").quarantined[0].metadata == {"host": "h"}
    assert asked.quantities("whole", "hour", "id") == {cloud.id("whole"): "4.0"}


async def test_a_resource_that_moved_is_billed_once(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    """CloudKitty bills a half of the hour to the one, and the whole hour to the other."""
    text, scopes = YML.format(kind=cloud.kind), ["giver", "taker"]
    ours = await ask(gnocchi.url, text, scopes)
    theirs = await ask(gnocchi.url, text, scopes, numbers="cloudkitty")
    moved = cloud.id("giver")

    assert [ours.quantities(scope, "hour", "id")[moved] for scope in scopes] == ["2", "2"]
    assert [theirs.quantities(scope, "hour", "id")[moved] for scope in scopes] == ["2", "4"]
    remark = f"moved, and billed twice in part as CloudKitty does: {moved}"
    assert [remark in asked.of("taker", "hour").note for asked in (ours, theirs)] == [False, True]
    fine = [Decimal(ours.quantities(scope, "fine", "id")[moved]) for scope in scopes]
    assert sum(fine) == 4  # of eight granules that there are five belong to the one, three to the other


async def test_a_time_that_is_not_over_or_not_settled_is_left_in_peace(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    text = YML.format(kind=cloud.kind)
    early = await ask(gnocchi.url, text, ["whole"], now=T + HOUR + 119 + 2 * STEP)
    assert isinstance(early.answers["whole", "hour"], NotSettledError)


async def test_a_backlog_of_metricd_is_waited_for_and_then_named(gnocchi: GnocchiServer) -> None:
    """Given measures from the middle of the hour on that nobody processes; then so it is said, until they are."""
    made = Cloud(gnocchi.client, "flavor", "host")
    policy = made.policy("one", [(STEP, 30 * 86400), (HOUR, 30 * 86400)], ["max", "count"])
    for name in ("waits", "served"):
        made.add(name, name, {"cpu": policy}, flavor="s", host="h")
        made.measure(name, "cpu", T - HOUR, T + 1800 if name == "waits" else T + 2 * HOUR)
    made.send()
    gnocchi.stop_metricd()
    try:
        made.measure("waits", "cpu", T + 1800, T + 2 * HOUR)
        made.send(settle=False)
        text, scopes = YML.format(kind=made.kind), ["waits", "served"]

        soon = await ask(gnocchi.url, text, scopes, now=T + HOUR + 1200)
        assert isinstance(soon.answers["waits", "hour"], NotSettledError)
        assert soon.covers("served", "hour") == WHOLE

        late = await ask(gnocchi.url, text, scopes)
        assert late.covers("waits", "hour") == [(0, 1800)]
        assert "waits for metricd" in late.of("waits", "hour").note
    finally:
        gnocchi.start_metricd()
    gnocchi.client.settle()

    assert (await ask(gnocchi.url, text, scopes)).covers("waits", "hour") == WHOLE


async def test_a_resource_that_is_off_is_not_missed(gnocchi: GnocchiServer) -> None:
    """By a metric of its state, or by an attribute; and a sibling metric may prove what is measured too seldom."""
    made = Cloud(gnocchi.client, "flavor", "host", "status")
    fine = made.policy("fine", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], ["max", "count", "last"])
    for name in ("by metric", "by attribute", "neither"):
        made.add(name, name, {"cpu": fine, "power.state": fine}, flavor="s", host="h", status="on")
        made.measure(name, "cpu", T - HOUR, T + 2 * HOUR, without=[(T + 1200, T + 3000)])
        off = range(T + 1200, T + 3000) if name == "by metric" else range(0)
        made.measure(name, "power.state", T - HOUR, T + 2 * HOUR, lambda at, o=off: 4.0 if at in o else 1.0)  # type: ignore[misc]  # o is bound to this name
    made.revise("by attribute", T + 1180, status="off")
    made.revise("by attribute", T + 3020, status="on")
    made.send()
    scopes = ["by metric", "by attribute", "neither"]

    async def covered(**settings: Any) -> list[list[tuple[int, int]]]:
        asked = await ask(gnocchi.url, YML.format(kind=made.kind), scopes, completeness={"metrics": {"hour": settings}})
        return [asked.covers(scope, "hour") for scope in scopes]

    dark = [(0, 1200), (3000, 3600)]
    assert await covered() == [dark, dark, dark]
    assert await covered(state={"metric": "power.state", "off": [4]}) == [WHOLE, dark, dark]
    assert await covered(state={"attribute": "status", "off": ["off"]}) == [dark, WHOLE, dark]
    assert await covered(evidence="power.state") == [WHOLE, WHOLE, WHOLE]


async def test_a_rate_that_spans_a_gap_is_marked(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    text = (
        f"metrics: {{cpu: {{unit: u, extra_args: {{resource_type: {cloud.kind}, aggregation_method: 'rate:mean', "
        "force_granularity: 300}}}"
    )
    asked = await ask(gnocchi.url, text, ["agent", "whole"])
    assert "suspicion: the rate spans the gap before it" in asked.of("agent", "cpu").note
    assert "suspicion" not in asked.of("whole", "cpu").note


async def test_lists_of_many_pages_are_read_to_their_end(tmp_path: Any) -> None:
    """Given a server that shows three rows at a time, of resources with histories."""
    with GnocchiServer(tmp_path / "server", {"api": {"max_limit": "3"}}) as own:
        made = Cloud(own.client, "flavor", "host")
        policy = made.policy("p", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], ["max", "count"])
        names = [f"vm{number}" for number in range(5)]
        for name in names:
            made.add(name, "p1", {"cpu": policy}, flavor="s", host="h")
            made.revise(name, T - 1800, flavor="m")
            made.revise(name, T + 600, flavor="l")
            made.measure(name, "cpu", T - HOUR, T + 2 * HOUR, without=[(T + 1200, T + 3000)] if name == "vm4" else ())
        made.send()

        for number in range(7):
            made.add(f"other{number}", f"o{number % 4}", {}, flavor="s")

        asked = await ask(own.url, YML.format(kind=made.kind), ["p1"], now=LATER)

        assert "5 of 5 resources" in asked.of("p1", "hour").note
        assert asked.covers("p1", "hour") == [(0, 1200), (3000, 3600)]
        assert len(asked.of("p1", "hour").samples) == 10
        assert await fetch(own.url, [made.kind], LATER, LATER) == {"p1", *(f"o{number}" for number in range(4))}
