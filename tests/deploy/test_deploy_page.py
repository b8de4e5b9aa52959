"""docs/deploy.md: its values render, its topics are those of the code, its commands exist, its sizes are computed."""

from __future__ import annotations

import re
import shlex
import typing
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml

from benchmarks.sizing import BEGIN, END, table
from rater.cli.app import cli
from rater.config import Settings
from rater.kafka import KafkaSettings, new_topics
from tests.deploy.chart import CHART, ROOT, template
from tests.upgrade.as_chart import as_chart
from tests.upgrade.as_chart import rendered as as_rendered

PAGE = (ROOT / "docs" / "deploy.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
OBJECTS = [one for kind, text in BLOCKS if kind == "yaml" for one in yaml.safe_load_all(text) if "kind" in one]
TIMES = "\N{MULTIPLICATION SIGN}"
CONSOLE = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]


def test_the_values_render(tmp_path: Path) -> None:
    (values,) = (text for kind, text in BLOCKS if kind == "yaml" and text.startswith("# values.yaml"))
    (tmp_path / "values.yaml").write_text(values)

    said = template("--values", tmp_path / "values.yaml")

    assert said.code == 0, said.err
    assert "session_timeout: 45" in said.out, "the page says so"


def test_the_rehearsal_of_an_upgrade_starts_what_the_chart_says() -> None:
    assert as_chart() == as_rendered(), "run `python -m tests.upgrade.as_chart`"


def test_the_topics_are_those_that_rater_creates() -> None:
    shown = {one["metadata"]["name"]: one["spec"] for one in OBJECTS if one["kind"] == "KafkaTopic"}
    partitions = max(spec["partitions"] for spec in shown.values())

    wanted = new_topics(KafkaSettings(prefix="rater.", partitions=partitions, replication_factor=3))

    assert {name: _shape(spec) for name, spec in shown.items()} == {
        topic.name: (topic.num_partitions, topic.replication_factor, dict(topic.topic_configs)) for topic in wanted
    }


def _shape(spec: dict[str, Any]) -> tuple[int, int, dict[str, str]]:
    return spec["partitions"], spec["replicas"], {name: str(value) for name, value in spec["config"].items()}


def test_the_table_of_sizes_is_what_the_script_computes() -> None:
    assert PAGE.split(BEGIN)[1].split(END)[0] == table(), "run `python -m benchmarks.sizing --write`"


def test_the_formulas_name_the_numbers_that_the_script_has() -> None:
    from benchmarks import sizing

    for number in (
        f"{sizing.WORKER_SECONDS * 1e6:.1f} µs",
        f"{sizing.SINK_SECONDS * 1e6:.1f} µs",
        f"{sizing.USAGE_BYTES:.0f} B usage",
        f"{sizing.RATED_BYTES:.0f} B rated",
        f"{sizing.HOUR_BYTES} B {TIMES} {sizing.CHECKPOINT_RATIO}",
        f"{sizing.LINE_STORED:.0f} B line",
        f"{sizing.SAMPLE_STORED:.0f} B sample",
        f"lines {TIMES} {sizing.LIVE_HOURS}",
    ):
        assert number in PAGE


def test_the_commands_of_helm_name_the_chart_and_one_release() -> None:
    helm = [shlex.split(line) for line in CONSOLE if line.startswith("helm ")]

    assert {line[1] for line in helm} == {"install", "upgrade", "rollback", "test", "uninstall"}
    assert {line[2] for line in helm} == {"rater"}
    assert {line[3] for line in helm if line[1] in {"install", "upgrade"}} == {CHART.relative_to(ROOT).as_posix()}


@pytest.mark.parametrize("line", [line for line in CONSOLE if " -- rater " in line])
def test_each_command_of_rater_exists_with_its_options(line: str) -> None:
    command: click.Command = cli
    context, words = None, shlex.split(line.split(" -- rater ")[1].split(" < ")[0])
    while isinstance(command, click.Group):
        name, sub, words = command.resolve_command(click.Context(command, parent=context), words)
        assert sub is not None, f"rater has no command {name!r}"
        context, command = click.Context(command, parent=context), sub

    command.make_context(line, words, parent=context)  # raises UsageError for what it does not take


@pytest.mark.parametrize("key", sorted(set(re.findall(r"`config\.([a-z_.]+)`", PAGE))))
def test_each_setting_that_the_page_names_exists(key: str) -> None:
    kind: Any = Settings
    for name in key.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        assert name in fields
        kinds = typing.get_args(fields[name]) or (fields[name],)
        kind = next((one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)
