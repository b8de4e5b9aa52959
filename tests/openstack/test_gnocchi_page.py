"""What docs/gnocchi.md shows works as it is written there, on a real Gnocchi that has what it asks for."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import uuid
from pathlib import Path

import pytest

from collectors.service import open_source
from collectors.settings import CollectorSettings
from collectors.source import SourceContext, fetcher_factory
from rater.config import load_config
from rater.model.interval import Interval, period_of
from tests.openstack.gnocchi_server import GnocchiServer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gnocchi.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "yaml"}
HOUR, STEP = 3600, 300
NOW = 1_770_000_000  # 2026-02-02T02:40:00Z
PERIOD = Interval(period_of(NOW, HOUR).begin - 2 * HOUR, period_of(NOW, HOUR).begin - HOUR)


@pytest.fixture(scope="module")
def fed(gnocchi: GnocchiServer) -> GnocchiServer:
    """Two projects: one with an instance, its port and a volume, one with an instance that is shut off."""
    client, begin = gnocchi.client, PERIOD.begin - HOUR
    client.archive_policy("page", [(STEP, 30 * 86400), (HOUR, 90 * 86400)], ["max", "count", "last", "rate:sum"])
    for kind, *attributes in (
        ("instance", "flavor_name", "display_name"), ("volume", "volume_type"), ("instance_network_interface",),
    ):  # fmt: skip
        client.resource_type(kind, *attributes)
    ids = {name: str(uuid.uuid4()) for name in ("web", "off", "disk", "port")}
    for name in ("web", "off"):
        client.resource(
            "instance", ids[name], f"project of {name}", begin=begin, metrics={"cpu": "page", "power.state": "page"},
            flavor_name="m1.small", display_name=name,
        )  # fmt: skip
    client.resource(
        "volume", ids["disk"], "project of web", begin=begin, metrics={"volume.size": "page"}, volume_type="fast"
    )
    client.resource(
        "instance_network_interface", ids["port"], "project of web", begin=begin,
        metrics={"network.incoming.bytes": "page"},
    )  # fmt: skip
    times = range(begin, NOW, STEP)
    client.measures(
        {
            ids["web"]: {
                "cpu": [(at, 1e9 * number) for number, at in enumerate(times)],
                "power.state": [(at, 1) for at in times],
            },
            ids["off"]: {"cpu": [(begin, 5.0)], "power.state": [(at, 4) for at in times]},
            ids["disk"]: {"volume.size": [(at, 20 if at < PERIOD.begin + 1800 else 40) for at in times]},
            ids["port"]: {"network.incoming.bytes": [(at, 2**30 * number) for number, at in enumerate(times)]},
        }
    )
    client.settle()
    return gnocchi


def _settings(name: str, directory: Path, url: str) -> CollectorSettings:
    """What the page says, asked at `url` as its administrator."""
    for file, text in FILES.items():
        (directory / file).parent.mkdir(exist_ok=True)
        (directory / file).write_text(text.replace("http://127.0.0.1:8041", url))
    found = load_config(directory / name, {}).settings.collect
    assert found is not None
    return found


def test_both_files_load(tmp_path: Path) -> None:
    openstack = _settings("openstack/rater.yaml", tmp_path, "http://x")
    assert openstack.gnocchi.auth.keystone is not None
    assert openstack.completeness.metrics["instance"].state is not None
    assert _settings("basic/rater.yaml", tmp_path, "http://x").gnocchi.auth.basic is not None


async def test_usage_and_scopes_are_what_was_used(fed: GnocchiServer, tmp_path: Path) -> None:
    _settings("openstack/rater.yaml", tmp_path, fed.url)
    settings = _settings("basic/rater.yaml", tmp_path, fed.url)
    (tmp_path / "both.yaml").write_text(
        FILES["basic/rater.yaml"].replace("http://127.0.0.1:8041", fed.url).replace("../openstack/", "openstack/")
        + FILES["openstack/rater.yaml"].partition("  completeness:")[1]
        + FILES["openstack/rater.yaml"].partition("  completeness:")[2]
    )
    both = load_config(tmp_path / "both.yaml", {}).settings
    assert both.collect is not None
    fetcher = fetcher_factory(settings.fetcher)(SourceContext(settings, HOUR))
    scopes = await fetcher.fetch(NOW, NOW - HOUR)
    await fetcher.close()
    assert {"project of web", "project of off"} <= scopes

    found: dict[tuple[str, str], str] = {}
    async with open_source(both.collect, both.metrics_conf, HOUR) as (source, metrics):
        session = source.session(PERIOD, NOW)
        for scope in ("project of web", "project of off"):
            for metric in metrics:
                answer = await session.collect(scope, metric)
                assert (answer.covers, answer.proof) == ([PERIOD], "proven"), answer.note
                for sample in answer.samples:
                    found[scope, metric.name] = str(sample.qty)
    assert found == {
        ("project of web", "instance"): "1.0",
        ("project of web", "volume.size"): "40",
        ("project of web", "traffic.in"): "12",
    }


async def test_the_command_of_the_page_runs(fed: GnocchiServer, tmp_path: Path) -> None:
    """Its clock is ours, and nothing was measured lately: then so it says, and finds nothing else."""
    assert [text for kind, text in BLOCKS if kind == "sh"] == ["rater collect check\n"]
    _settings("basic/rater.yaml", tmp_path, fed.url)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    process = await asyncio.create_subprocess_exec(
        *("rater", "collect", "check", "--out", "json"),
        cwd=tmp_path / "basic",
        env={**plain, "PATH": f"{Path(sys.executable).parent}:{plain['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, faults = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode in (0, 1), faults.decode()
    said = output.decode()
    assert '"volume.size"' in said
    assert "resource type" not in said, said
