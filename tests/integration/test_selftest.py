"""`rater selftest` beside a whole system: what it finds, what it says if something is wrong, what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.config import load_config
from rater.model.usage import ScopePlan
from rater.selftest import SelftestError, _Usage, run_selftest

PATIENCE = 60
SETTINGS = """\
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 2}}
metrics:
  rater.selftest: {{unit: unit}}
  priced: {{unit: unit}}
engine: {{settle: 3600}}
worker: {{checkpoint_interval: 0.3}}
sink: {{max_delay: 0.2}}
"""
RULES = """\
hashmap:
  services:
  - name: priced
    mappings: [{cost: "2", type: flat}]
"""


class Place:
    """A directory with settings, and `rater` in it."""

    def __init__(self, directory: Path, kafka: LaptopKafka) -> None:
        self.directory = directory
        settings = SETTINGS.format(bootstrap=kafka.bootstrap, prefix=f"selftest-{uuid.uuid4().hex[:8]}.")
        (directory / "rater.yaml").write_text(settings)
        (directory / "rules.yaml").write_text(RULES)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "rater", *arguments]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, kafka: LaptopKafka) -> Iterator[Place]:
    """Where `rater up` runs."""
    found = Place(tmp_path_factory.mktemp("selftest"), kafka)
    with (found.directory / "up.log").open("w") as log:
        up = subprocess.Popen(found.command("up"), cwd=found.directory, env=found.environment, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while found.call("rules", "apply", "rules.yaml", "--yes", "--reason", "first").returncode:
                assert up.poll() is None, (found.directory / "up.log").read_text()
                assert time.monotonic() < deadline, "there are no topics yet"
            yield found
        finally:
            up.terminate()
            assert up.wait(PATIENCE) == 0


def test_a_system_that_works_passes_and_nothing_stays_open(place: Place) -> None:
    # given frames with gaps that would close an hour after their last record only; when
    done = place.call("selftest", "--scope-prefix", "helm-test-", "--seconds", str(PATIENCE))
    # then
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 5
    assert place.call("gaps", "--out", "json").stdout == ""
    (gap,) = [json.loads(line) for line in place.call("gaps", "--all", "--out", "json").stdout.splitlines()]
    assert gap["scope_id"].startswith("helm-test-")
    (frame,) = [json.loads(line) for line in place.call("frames", "list", "--out", "json").stdout.splitlines()]
    assert (frame["revision"], frame["status"], Decimal(frame["price"])) == (1, "rated", 0)


def test_usage_that_is_not_free_fails_and_nothing_stays_open(place: Place) -> None:
    done = place.call("selftest", "--metric", "priced", "--scope-prefix", "priced-", "--seconds", str(PATIENCE))
    assert done.returncode == 1
    assert "priced costs 2" in done.stderr
    deadline = time.monotonic() + PATIENCE
    while place.call("gaps", "--out", "json").stdout:
        assert time.monotonic() < deadline, "the gap stays open"


def test_a_metric_that_nobody_declared_is_refused_before_anything_is_sent(place: Place) -> None:
    done = place.call("selftest", "--metric", "unknown")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: metric unknown is not declared, so its usage would be rejected: add it to `metrics`\n"
    )


def test_without_workers_it_says_who_is_missing_and_where_to_look(tmp_path: Path, kafka: LaptopKafka) -> None:
    idle = Place(tmp_path, kafka)
    assert idle.call("topics", "create").returncode == 0
    with pytest.raises(SelftestError, match=r"are workers ready\? /readyz .* topic selftest-.*\.rejected$"):
        asyncio.run(run_selftest(load_config(tmp_path / "rater.yaml"), "idle-", 1.0, lambda _: None))


def test_the_scope_is_expected_in_its_period_only() -> None:
    usage = _Usage("s", "rater.selftest", 3600, 7200, 1)
    assert usage.plans() == [
        ScopePlan("selftest", "s", 3600, 7200, ["rater.selftest"]),
        ScopePlan("selftest", "s", 7200, None, []),
    ]
    assert [(half.begin, half.end) for half in (usage.half(0), usage.half(1))] == [(3600, 5400), (5400, 7200)]
