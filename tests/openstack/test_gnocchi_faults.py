"""A question at which Gnocchi itself stumbles is asked again, and a test that fails shows what a server stumbled at."""

from __future__ import annotations

import asyncio

import pytest

from collectors.gnocchi.api import GnocchiApi, instant_text
from tests.openstack.gnocchi_server import GnocchiServer
from tests.openstack.gnocchi_world import HOUR, STEP, Cloud, T, settings_of
from tests.openstack.processes import faults


@pytest.fixture(scope="module")
def cloud(gnocchi: GnocchiServer) -> Cloud:
    made = Cloud(gnocchi.client, "flavor")
    policy = made.policy("one", [(HOUR, 90 * 86400)], ["max"])
    made.add("vm", "p1", {"cpu": policy}, flavor="s")
    made.revise("vm", T + 1800, flavor="m")
    made.measure("vm", "cpu", T, T + HOUR, step=STEP)
    made.send()
    return made


async def test_a_question_at_which_gnocchi_stumbles(cloud: Cloud, gnocchi: GnocchiServer) -> None:
    """Given two questions about histories, the first of which ends with status 500; then it has its whole answer."""
    api = GnocchiApi(settings_of(gnocchi.url).gnocchi, 4)
    mine = {"=": {"project_id": "p1"}}
    question = {"operations": "(aggregate max (metric cpu max))", "resource_type": cloud.kind, "search": mine}
    parameters = [("start", instant_text(T)), ("stop", instant_text(T + HOUR)), ("granularity", str(HOUR))]
    parameters += [("use_history", "true"), ("groupby", "flavor")]
    try:
        undisturbed = await api.groups(question, parameters)
        gnocchi.stumble.touch()
        stumbling = asyncio.create_task(api.groups(question, parameters))
        async with asyncio.timeout(20):
            while gnocchi.stumble.exists():
                await asyncio.sleep(0.01)
        rows = await api.rows(cloud.kind, mine, history=True, sort=["revision_start"])
        assert await stumbling == undisturbed
    finally:
        await api.close()

    shown = faults()[gnocchi.directory / "gnocchi.api.log"]  # by Gnocchi, and by what serves it
    assert [text.splitlines()[-1] for text in shown] == ["RuntimeError: dictionary changed size during iteration"] * 2
    assert "Exception while serving /v1/aggregates" in shown[-1]
    assert (len(undisturbed), len(rows)) == (2, 2)
