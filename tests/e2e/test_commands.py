"""The operator's commands against a real Kafka: topics, rules, doctor, recover."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.demo.cloud import write_usage
from rater.kafka import Topic

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "first"
PARTITIONS = 3
MORE_RULES = """\
    - name: network.incoming
      tiers: {by: [zone], steps: [{up_to: "1000.5", cost: "0.00001"}, {up_to: null, cost: "0.000001"}]}
pyscripts:
  scripts:
  - name: rebate
    data: |
      for point in data['usage'].get('volume.size', []):
          point['rating']['price'] *= 2
"""

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(tmp_path: Path, kafka: LaptopKafka) -> Call:
    """Runs `rater …` on topics of its own, in a directory with the settings of the example; `stdin` is a file there."""
    for name in ("rater.yaml", "metrics.yml", "rules.yaml", "usage.jsonl"):
        shutil.copy(EXAMPLE / name, tmp_path)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    environment = {
        **plain,
        "RATER_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "RATER_KAFKA__PREFIX": f"commands-{uuid.uuid4().hex[:8]}.",
        "RATER_KAFKA__PARTITIONS": str(PARTITIONS),
    }

    def run(*arguments: str, stdin: str = os.devnull, **more: str) -> subprocess.CompletedProcess[str]:
        with (tmp_path / stdin).open() as opened:
            return subprocess.run(
                [sys.executable, "-m", "rater", *arguments],
                cwd=tmp_path,
                env={**environment, **more},
                stdin=opened,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

    return run


def test_from_nothing_to_prices(call: Call, tmp_path: Path) -> None:
    # given a Kafka without our topics: everything says what to do
    for arguments in (("topics", "list"), ("rules", "log"), ("recover",), ("collect", "replay", "usage.jsonl")):
        done = call(*arguments)
        assert done.returncode == 1, arguments
        assert "rater topics" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    doctor = call("doctor")
    assert doctor.returncode == 1
    sound = {line.split()[1]: line.split()[0] for line in doctor.stdout.splitlines()}
    red = {"kafka", "rules", "store"}
    parts = ("settings", "metrics", "kafka", "rules", "scripts", "store", "rework", "audit")
    assert sound == {part: "RED" if part in red else "ok" for part in parts}
    # when the topics are created, twice
    assert call("topics", "create").stdout.count("created ") == len(Topic)
    assert call("topics", "create").stdout == ""
    # then they are listed
    listed = [json.loads(text) for text in call("topics", "list", "--out", "json").stdout.splitlines()]
    assert [row["partitions"] for row in listed] == [PARTITIONS, 1, 1, 1, *[PARTITIONS] * 4]
    # and another number of partitions is refused
    wrong = call("topics", "create", RATER_KAFKA__PARTITIONS="5")
    assert wrong.returncode == 1
    assert "kafka.partitions" in wrong.stderr
    # when rules are applied
    assert call("rules", "apply", "rules.yaml", "--dry-run").stdout.splitlines()[-1].endswith("0 to remove")
    refused = call("rules", "apply", "rules.yaml")
    assert (refused.returncode, refused.stderr.count("nobody said yes")) == (1, 1)
    assert call("rules", "log").stderr == "no rule was ever set\n"
    applied = call("rules", "apply", "rules.yaml", "--yes", "--author", "ana", "--reason", "first")
    assert applied.stdout.splitlines()[-1] == "applied: the rules are at version 1"
    # then apply after export is empty, and the history knows who and why
    exported = call("rules", "export", "--file", "exported.yaml")
    assert exported.returncode == 0
    assert call("rules", "apply", "exported.yaml").stdout.startswith("no changes")
    history = [json.loads(text) for text in call("rules", "log", "--out", "json").stdout.splitlines()]
    assert [(row["version"], row["author"], row["reason"]) for row in history] == [(1, "ana", "first")]
    # when the tables are made
    assert call("migrate").stdout.count("applied ") >= 5
    assert call("migrate").stdout == ""
    # then all is well
    doctor = call("doctor")
    assert (doctor.returncode, doctor.stdout.count("ok  ")) == (0, 8), doctor.stdout
    assert call("recover").stderr == "every partition can be restored\n"
    assert call("report", "--scope", "projA", "--month", "2026-01").stderr.startswith(
        "error: nothing is known of scope"
    )


def test_the_doctor_says_what_does_not_fit(call: Call, tmp_path: Path) -> None:
    # given topics with one number of partitions, settings with another, and rules for an unknown metric
    call("topics", "create")
    (tmp_path / "rules.yaml").write_text("hashmap: {services: [{name: unheard-of, mappings: [{cost: '1'}]}]}")
    call("rules", "apply", "rules.yaml", "--yes")
    # when
    done = call("doctor", RATER_KAFKA__PARTITIONS="5", RATER_METRICS_CONF="")
    # then
    assert done.returncode == 1
    assert "has 3 partitions, kafka.partitions says 5" in done.stdout
    assert "rules for metrics that nobody declared: unheard-of" in done.stdout
    # and so are rules that no module goes by
    off = "{hashmap: {services: [{name: cpu, mappings: [{cost: '1'}]}]}, modules: {hashmap: {enabled: false}}}"
    (tmp_path / "off.yaml").write_text(off)
    assert call("rules", "apply", "off.yaml", "--yes").returncode == 0
    done = call("doctor")
    assert "every rating module is off, so every price is 0" in done.stdout
    # and a fault of the settings is told alone, since nothing else can be looked at
    done = call("doctor", RATER_KAFKA__PARTITIONS="none")
    assert done.returncode == 1
    assert done.stdout.startswith("RED  settings    RATER_KAFKA__PARTITIONS: kafka.partitions: is 'none'")
    assert done.stdout.count("\n") == 1


def sorted_usage(file: Path) -> str:
    """The samples of a usage file by scope and begin, as scripts need them."""
    samples = [json.loads(text) for text in file.read_text().splitlines() if not text.startswith('{"covers"')]
    samples.sort(key=lambda sample: (sample["scope_id"], sample["begin"]))
    target = file.with_name("sorted.jsonl")
    target.write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
    return str(target)


def test_exported_rules_give_the_same_prices_on_an_empty_installation(call: Call, tmp_path: Path) -> None:
    # given the demonstration's rules, with tiers and a script beside them, on one installation
    rules = (ROOT / "rater" / "demo" / "data" / "rules.yaml").read_text().rstrip()
    (tmp_path / "first.yaml").write_text(f"{rules}\n{MORE_RULES}")
    usage = sorted_usage(write_usage(tmp_path).main)
    call("topics", "create")
    done = call("rules", "apply", "first.yaml", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    # when they are exported, and applied to an empty one, as `export | apply - --yes` does
    exported = call("rules", "export")
    assert (exported.returncode, exported.stderr) == (0, "")
    (tmp_path / "exported.yaml").write_text(exported.stdout)
    other = {"RATER_KAFKA__PREFIX": f"second-{uuid.uuid4().hex[:8]}."}
    call("topics", "create", **other)
    refused = call("rules", "apply", "-", stdin="exported.yaml", **other)
    assert (refused.returncode, refused.stderr.count("the document is standard input: add --yes")) == (1, 1)
    done = call("rules", "apply", "-", "--yes", stdin="exported.yaml", **other)
    assert done.returncode == 0, done.stdout + done.stderr
    # then applying them again is an empty plan, in both directions
    assert call("rules", "apply", "exported.yaml", **other).stdout.startswith("no changes")
    assert call("rules", "apply", "first.yaml", **other).stdout.startswith("no changes")
    assert call("rules", "export", "--file", "again.yaml", **other).returncode == 0
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "exported.yaml").read_bytes()
    # and every sample of the demonstration has the same price
    first, second = (call("rate", "--rules", name, usage) for name in ("first.yaml", "again.yaml"))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert first.stdout.count('"price"') > 90_000
    assert first.stdout == second.stdout
