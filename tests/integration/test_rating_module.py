"""A rating module in a package of its own: installed as users install it, found and run by another process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "rating_module_example"
RULES = """
modules: {hashmap: {enabled: true, priority: 2}, night: {enabled: true, priority: 1}}
hashmap: {services: [{name: cpu, mappings: [{cost: "0.3"}]}]}
"""
SAMPLE = {"scope_id": "A", "metric": "cpu", "qty": "1"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the package was installed into; the sources are copied, since a build writes beside them."""
    sources, target = tmp_path_factory.mktemp("sources") / "example", tmp_path_factory.mktemp("target")
    shutil.copytree(EXAMPLE, sources)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(sources)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def rater(directory: Path, installed: Path | None, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
    if installed is not None:
        environment["PYTHONPATH"] = str(installed)
    return subprocess.run(
        [sys.executable, "-m", "rater", *arguments],
        cwd=directory, env=environment, input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_installed_module_rates(tmp_path: Path, installed: Path) -> None:
    # given rules that switch it on after hashmap, and a sample by day and one by night
    (tmp_path / "rules.yaml").write_text(RULES)
    times = ("2026-01-01T12:00:00Z", "2026-01-01T23:00:00Z")
    usage = "".join(json.dumps({**SAMPLE, "begin": begin}) + "\n" for begin in times)

    # when they are priced by a process that has the package
    done = rater(tmp_path, installed, "rate", "--rules", "rules.yaml", "-", text=usage)

    # then the night is dearer
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["price"] for line in done.stdout.splitlines()] == ["0.3", "0.33"]


def test_it_is_listed_with_the_package_it_comes_from(tmp_path: Path, installed: Path) -> None:
    done = rater(tmp_path, installed, "rules", "modules", "--installed", "--out", "json")
    found = {row["module"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert found["night"]["origin"] == "rater-night-surcharge 1.2.0 (night_surcharge:surcharge)"
    assert found["hashmap"]["origin"] == "built in"


def test_rules_that_name_a_module_that_is_not_installed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    done = rater(tmp_path, None, "rules", "check", "rules.yaml")
    assert done.returncode == 1
    assert "night" in done.stderr
