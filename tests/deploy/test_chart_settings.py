"""What the chart gives to each container, read by rater itself: its settings are accepted and its command is there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from rater.cli.app import cli
from tests.deploy.chart import CASES, Container, Object, containers, rendered

MOUNT = "/etc/rater"


def run(arguments: list[str], variables: dict[str, str]) -> Result:
    """`rater …` in this process, which is as good as one of its own and starts no interpreter."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    with patch.dict(os.environ, {**plain, **variables}, clear=True):
        return CliRunner().invoke(cli, arguments)


def files(case: str, pod: Object) -> Iterator[tuple[str, str]]:
    """(path below the mount, content) of what the pod's projected volume brings; a secret's content is made up."""
    maps = {one["metadata"]["name"]: one["data"] for one in rendered(case) if one["kind"] == "ConfigMap"}
    (volume,) = (one for one in pod["volumes"] if one["name"] == "config")
    for source in volume["projected"]["sources"]:
        ((kind, what),) = source.items()
        own = maps.get(what["name"], {}) if kind == "configMap" else {}
        items = what.get("items") or [{"key": key, "path": key} for key in own]
        assert items, f"{case}: {kind} {what['name']} brings nothing"
        for item in items:
            yield item["path"], own.get(item["key"], "of a secret\n")


def variables(container: Container) -> dict[str, str]:
    """Its environment; what a field or a secret would give is made up."""
    return {one["name"]: one.get("value", "made-up") for one in container.spec["env"]}


def lay_out(case: str, container: Container, place: Path) -> dict[str, str]:
    """The mounted directory, at `place`; the environment that leads there."""
    for path, content in files(case, container.pod):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(content.replace(f"{MOUNT}/", f"{place}/"))
    return {name: value.replace(MOUNT, str(place)) for name, value in variables(container).items()}


@pytest.mark.parametrize("case", CASES)
def test_rater_accepts_the_settings_of_every_container(case: str, tmp_path: Path) -> None:
    found = list(containers(case))
    for number, container in enumerate(found):
        environment = lay_out(case, container, tmp_path / str(number))
        assert Path(environment["RATER_CONFIG"]).is_file(), f"{container.owner} has no file of settings"

        done = run(["config", "check"], environment)

        assert done.exit_code == 0, f"{container.owner}: {done.output}{done.exception or ''}"

    assert found


@pytest.mark.parametrize("case", CASES)
def test_every_container_starts_a_command_that_rater_has(case: str) -> None:
    for container in containers(case):
        assert container.spec["command"] == ["rater"], container.owner
        arguments = container.spec["args"]
        assert not [one for one in arguments if "password" in one or "secret" in one], container.owner

        done = run([*arguments, "--help"], {})

        assert done.exit_code == 0, (
            f"{container.owner}: rater {' '.join(arguments)}: {done.output}{done.exception or ''}"
        )
        assert done.output.startswith(f"Usage: cli {arguments[0]}"), done.output


@pytest.mark.parametrize("case", CASES)
def test_every_file_that_the_settings_of_a_container_name_is_one_that_it_has(case: str, tmp_path: Path) -> None:
    """Not of every container: a worker has no business with the API's tokens. But each file is somewhere."""
    named: set[str] = set()
    there: set[str] = set()
    mounts: set[str] = set()
    for container in containers(case):
        mounts |= {one["mountPath"] for one in container.spec["volumeMounts"]} - {MOUNT}
        for path, content in files(case, container.pod):
            there.add(f"{MOUNT}/{path}")
            if path == "rater.yaml":
                words = [word.strip("'\",[]{}") for word in content.split()]
                named |= {word for word in words if re.fullmatch(r"(/[\w.-]+){2,}", word)}

    assert [path for path in sorted(named - there) if not path.startswith(tuple(f"{one}/" for one in mounts))] == []


def test_a_setting_that_rater_does_not_know_is_not_accepted(tmp_path: Path) -> None:
    """The check above can fail."""
    container = next(containers("minimal"))
    environment = lay_out("minimal", container, tmp_path)
    with (tmp_path / "rater.yaml").open("a") as settings:
        settings.write("unheard_of: 1\n")

    done = run(["config", "check"], environment)

    assert done.exit_code == 1
    assert "unheard_of" in f"{done.output}{done.exception}"
