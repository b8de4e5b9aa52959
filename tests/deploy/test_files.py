"""Dockerfile, compose file, workflows and shell scripts, each by the program that knows best."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.chart import ROOT, call, program

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
SHELL = [ROOT / ".ci" / "run", *sorted((ROOT / "deploy").rglob("*.sh")), *sorted((ROOT / "scripts").rglob("*.sh"))]


def there(name: str) -> Path:
    assert (ROOT / name).is_file(), f"{name} is missing"
    return ROOT / name


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    said = call(program("hadolint"), "--no-color", there("Dockerfile"))

    assert said.code == 0, said.out + said.err


def test_hadolint_finds_a_planted_fault(tmp_path: Path) -> None:
    spoiled = tmp_path / "Dockerfile"
    spoiled.write_text(there("Dockerfile").read_text() + "\nRUN cd /tmp && pip install rater\n")

    assert "DL3042" in call(program("hadolint"), "--no-color", spoiled).out


def test_the_compose_file_is_one() -> None:
    said = call(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", there("compose.yaml"))

    assert said.code == 0, said.out + said.err


def test_a_planted_fault_in_a_compose_file_is_found(tmp_path: Path) -> None:
    spoiled = tmp_path / "compose.yaml"
    spoiled.write_text("services: {worker: {image: rater, comand: [worker]}}\n")

    said = call(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", spoiled)

    assert said.code == 1
    assert "comand" in said.out


def test_there_are_workflows() -> None:
    assert len(WORKFLOWS) >= 3, f".github/workflows has {[path.name for path in WORKFLOWS]}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: str(path.name))
def test_actionlint_has_nothing_to_say_about_a_workflow(workflow: Path) -> None:
    """Nor has shellcheck about the scripts in it."""
    said = call(program("actionlint"), "-no-color", "-shellcheck", program("shellcheck"), "-pyflakes=", workflow)

    assert said.code == 0, said.out + said.err


def test_actionlint_finds_a_planted_fault(tmp_path: Path) -> None:
    spoiled = tmp_path / "workflow.yaml"
    spoiled.write_text("on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: 'cat $1', shel: bash}]}}\n")

    said = call(program("actionlint"), "-no-color", "-shellcheck", program("shellcheck"), spoiled)

    assert said.code == 1
    assert 'unexpected key "shel"' in said.out
    assert "SC2086" in said.out


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shellcheck_has_nothing_to_say_about_a_script(script: Path) -> None:
    said = call(program("shellcheck"), "--color=never", there(script.relative_to(ROOT).as_posix()))

    assert said.code == 0, said.out + said.err
