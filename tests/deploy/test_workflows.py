"""GitHub's workflows: what they may do and whom they trust.

actionlint reads them in test_files.py; none is run here.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import ROOT, call, program

FILES = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
NAMED = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
PIN = re.compile(r"uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$", re.MULTILINE)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


@NAMED
def test_every_action_is_pinned_by_commit_and_says_which_version_that_is(path: Path) -> None:
    assert len(re.findall("uses:", path.read_text())) == len(PIN.findall(path.read_text()))


@pytest.mark.parametrize("spoiled", ["uses: actions/checkout@v7", "uses: actions/checkout@main # v7.0.1"])
def test_an_action_that_moves_would_be_seen(spoiled: str) -> None:
    assert not PIN.search(spoiled)


def test_an_action_is_the_same_commit_wherever_it_is_used() -> None:
    found = {pin for path in FILES for pin in PIN.findall(path.read_text())}

    assert len({action for action, _, _ in found}) == len(found)


@NAMED
def test_every_job_has_the_rights_that_it_names_an_end_and_no_twin(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())

    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]
    for job in jobs(path).values():
        assert job["permissions"]
        assert 0 < job["timeout-minutes"] <= 90
        assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])


def test_only_a_release_may_write() -> None:
    may = {
        (path.name, name): {right for right, level in job["permissions"].items() if level == "write"}
        for path in FILES
        for name, job in jobs(path).items()
    }

    assert {key: rights for key, rights in may.items() if rights} == {
        ("release.yml", "build"): {"packages", "id-token", "attestations"},
        ("release.yml", "publish"): {"contents"},
    }


@NAMED
def test_a_checkout_leaves_no_token_behind(path: Path) -> None:
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]

    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@NAMED
def test_strangers_reach_neither_secrets_nor_a_shell(path: Path) -> None:
    text = path.read_text()

    assert "pull_request_target" not in text
    assert set(re.findall(r"\{\{ *secrets\.(\w+)", text)) <= {"GITHUB_TOKEN"}
    # an expression in a script is code of whoever names a branch: scripts get values by variables
    assert [step for step in steps(path) if "${{" in step.get("run", "")] == []


def test_every_python_that_is_supported_is_tested() -> None:
    (job,) = jobs(ROOT / ".github/workflows/test.yml").values()
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]

    assert asked == ">=3.11,<3.14"
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


@NAMED
def test_what_a_workflow_calls_is_there(path: Path) -> None:
    targets = re.findall(r"^([a-z0-9.-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    runs = "\n".join(step.get("run", "") for step in steps(path))

    for line in re.findall(r"^\s*make ([a-z -]+)$", runs, re.MULTILINE):
        assert set(line.split()) <= set(targets)
    for script in re.findall(r"(?:^|\s)(?:python3|bash|sh) (\w[\w.-]*/[\w./-]+)", runs):
        assert (ROOT / script).is_file(), script


def test_dependabot_knows_what_is_pinned() -> None:
    path = ROOT / ".github" / "dependabot.yml"

    assert call(program("check-jsonschema"), "--builtin-schema", "vendor.dependabot", path).code == 0
    assert {update["package-ecosystem"] for update in yaml.safe_load(path.read_text())["updates"]} == {
        "github-actions", "docker", "docker-compose",
    }  # fmt: skip
