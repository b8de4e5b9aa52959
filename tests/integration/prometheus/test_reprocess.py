"""`rater reprocess` with a real Prometheus, Kafka, worker, sink and the embedded engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.cli import exits
from rater.config import Config, load_config
from rater.model.rated import FrameStatus
from rater.model.usage import ScopePlan
from rater.reports import ReworkRequest, Selection
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, Shown, Span, T, Target, openmetrics
from tests.integration.reworks import cloud, until, write_settings
from tests.integration.streams import send

DAY = Span(0, 15 * HOUR)
DARK = Span(10 * HOUR, 11 * HOUR + 1800)
METRICS = """
metrics:
  vm: {unit: instance, alt_name: instance, groupby: [id, project_id], mutate: NUMBOOL}
"""
RULES = 'hashmap: {services: [{name: instance, mappings: [{cost: "2"}]}]}'
ASKED = ("reprocess", "--scope", "p1", "--from", "2026-01-05T09:00", "--to", "2026-01-05T13:00")


def history(*dark: Span) -> list[str]:
    """A machine that ran all day, on a node that was not scraped while it was dark."""
    node = Target("libvirt", "node-1", DAY, 5, gone=dark)
    return openmetrics([node], [Shown("vm", node, DAY, (("project_id", "p1"), ("id", "a")))])


def settings(kafka: LaptopKafka, directory: Path, url: str) -> Config:
    write_settings(kafka, directory)
    (directory / "metrics.yml").write_text(METRICS)
    with (directory / "rater.yaml").open("a") as file:
        file.write(f'collect: {{name: prom, prometheus: {{url: "{url}"}}, static: {{scopes: [p1]}}}}\n')
        file.write("metrics_conf: metrics.yml\n")
    return load_config(directory / "rater.yaml")


async def test_hours_are_collected_again_and_never_made_worse(
    kafka: LaptopKafka,
    tmp_path: Path,
    start_prometheus: Callable[[list[str]], LaptopPrometheus],
    capfd: pytest.CaptureFixture[str],
) -> None:
    # given four hours that nobody collected: closed with gaps, and out of the engine's state
    server, poorer = start_prometheus(history(DARK)), start_prometheus(history(Span(9 * HOUR, 12 * HOUR)))
    config = settings(kafka, tmp_path, server.url)
    async with cloud(config, tmp_path, rules=RULES) as running:
        plan = ScopePlan("prom", "p1", T + 9 * HOUR, T + 13 * HOUR, ["instance"])
        await send(config.settings.kafka, plan)
        await until(lambda: len(running.frames("p1")) == 4)
        assert {frame.status for frame in running.frames("p1")} == {FrameStatus.MISSING}

        # when they are collected, from a source that lacks an hour and a half
        status, _, err = await running.rater(capfd, *ASKED, "--reason", "collector was away")
        # then what it has is rated, what it lacks is a gap still
        assert (status, "4 done" in err) == (exits.OK, True), err
        statuses = [frame.status for frame in running.frames("p1")]
        assert statuses == [FrameStatus.RATED, FrameStatus.PARTIAL, FrameStatus.PARTIAL, FrameStatus.RATED]
        opened = list(running.view.gaps(Selection("p1", open_only=True)))
        assert (opened[0].begin, opened[-1].end) == (T + DARK.begin + 5, T + DARK.end + 5)

        # and when the source has it again, the gaps are gone
        server.backfill(lit())
        status, _, err = await running.rater(capfd, *ASKED, "--reason", "history restored", "--out", "json")
        assert status == exits.OK, err
        assert {frame.status for frame in running.frames("p1")} == {FrameStatus.RATED}
        assert list(running.view.gaps(Selection("p1", open_only=True))) == []
        good = running.lines("p1")
        assert [str(line.price) for line in good] == ["2"] * 4

        # a source that is away, or that knows less now, leaves all of it as it is
        server.stop()
        status, _, err = await running.rater(capfd, *ASKED, "--reason", "once more")
        assert status == exits.FAILED
        assert "4 left as they are" in err
        assert "source 'prom' gave no answer" in err
        settings_of = (tmp_path / "rater.yaml").read_text()
        (tmp_path / "rater.yaml").write_text(settings_of.replace(server.url, poorer.url))
        status, _, err = await running.rater(capfd, *ASKED, "--reason", "once more")
        assert (status, "4 left as they are" in err) == (exits.FAILED, True), err
        assert "s less than what is rated" in err
        assert running.lines("p1") == good

        # unless that is what is wanted; each step has left its records
        status, _, err = await running.rater(capfd, *ASKED, "--reason", "the node was off", "--accept-less")
        assert status == exits.OK, err
        assert FrameStatus.RATED not in {frame.status for frame in running.frames("p1")[:3]}
        reasons = {record.requested for record in running.view.reworks(ReworkRequest("p1"))}
        assert {"collector was away", "history restored", "the node was off"} <= reasons


def lit() -> list[str]:
    """What the dark time lacks."""
    node = Target("libvirt", "node-1", DAY, 5)
    return openmetrics([node], [Shown("vm", node, DAY, (("project_id", "p1"), ("id", "a")))], DARK)
