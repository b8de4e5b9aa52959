"""From the previous release to this one while usage streams in: nothing lost, nothing twice, readiness honest."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from deploy.local.kafka import LaptopKafka
from tests.upgrade import previous
from tests.upgrade.as_chart import AsChart, as_chart, rendered
from tests.upgrade.installation import Installation
from tests.upgrade.rehearsal import Rehearsal

HANGS = 3.0
"""Seconds of grace of the worker that hangs, in the short form."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release, unpacked."""
    return previous.unpacked(tmp_path_factory.mktemp("previous"))


def hurried() -> AsChart:
    """The chart's, with less waiting for what is only there to be sure."""
    chart = as_chart()
    containers = [msgspec.structs.replace(one, settled=min(one.settled, 1), pre_stop=0) for one in chart.containers]
    return msgspec.structs.replace(chart, containers=containers)


async def _proved(installation: Installation) -> None:
    """What `helm test` asks, and an audit. Raises HookError with what they say."""
    for command in (*installation.chart.tests, ("audit", "--topics")):
        said = (await installation.rater(*command, release=None)).strip()
        installation.steps.append(f"{command[0]}: {said.splitlines()[-1]}")


async def _checked(rehearsal: Rehearsal, began: float) -> None:
    steps = rehearsal.installation.steps
    findings = await rehearsal.finish()
    if not findings:
        await _proved(rehearsal.installation)
    print("\n".join(["", *steps, *findings, f"{time.monotonic() - began:.0f} s"]))
    assert findings == []


def test_what_the_previous_release_needs_is_installed() -> None:
    """Else its processes would run with other libraries than it was released with, and it wants a venv of its own."""
    assert previous.unmet() == []


async def test_worker_by_worker_from_the_previous_release(kafka: LaptopKafka, old: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    async with Rehearsal(Installation(tmp_path / "run", kafka.bootstrap, old, hurried())) as rehearsal:
        installation = rehearsal.installation
        # when: what `helm upgrade` does, and one worker hangs until its grace is over
        await installation.hooks(None)
        await rehearsal.roll_workers(None, hangs=HANGS)
        await installation.roll_sink(None)
        await installation.roll_api(None)
        # then
        await _checked(rehearsal, began)


@pytest.mark.long
async def test_there_and_back_with_all_the_waiting(kafka: LaptopKafka, old: Path, tmp_path: Path) -> None:
    """As long as the chart really waits; the worker that hangs is away for longer than its session, and a zombie."""
    began = time.monotonic()
    chart = as_chart()
    assert chart == rendered(), "run `python -m tests.upgrade.as_chart`"
    async with Rehearsal(
        Installation(tmp_path / "run", kafka.bootstrap, old, chart, checkpoint_interval=5)
    ) as rehearsal:
        installation = rehearsal.installation
        await installation.hooks(None)
        await rehearsal.roll_workers(None, hangs=chart.container("worker").grace)
        await installation.roll_sink(None)
        await installation.roll_api(None)
        # when: `helm rollback`, whose hooks are those of the old release
        refused = await installation.rater("migrate", release=old, codes=(0, 1))
        await rehearsal.roll_workers(old)
        await installation.roll_api(old)
        if "use the rater that made them" in refused:
            installation.steps.append(f"the sink stays, since the old one says: {refused.strip()}")
        else:
            await installation.roll_sink(old)
        # and once more forward
        await rehearsal.roll_workers(None)
        await installation.roll_sink(None)
        await installation.roll_api(None)
        # then
        await _checked(rehearsal, began)
