"""What scripts/deploy_tools.py fetches is pinned, by content and not only by number, and what is missing is said."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.deploy.chart import BIN, ROOT, program

PINS = ROOT / "tests" / "deploy" / "tools"
MODULES = sorted(path.parent.name for path in PINS.glob("*/go.mod"))
LOCKS = sorted(path.name for path in PINS.glob("*.lock"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_tools", ROOT / "scripts" / "deploy_tools.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lock", LOCKS)
def test_each_wheel_has_hashes_and_no_host(lock: str) -> None:
    text = (PINS / lock).read_text()
    entries = re.split(r"\n(?=[a-z])", text)

    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_what_is_asked_for_is_what_is_locked() -> None:
    for name in ("python", "kubectl"):
        asked = re.findall(r"^([a-z0-9-]+==[0-9.]+)", (PINS / f"{name}.in").read_text(), re.MULTILINE)
        assert asked
        assert [one for one in asked if f"{one} " not in (PINS / f"{name}.lock").read_text()] == []


def test_each_package_of_npm_has_its_integrity_and_no_host() -> None:
    lock = json.loads((PINS / "asyncapi" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    asked = json.loads((PINS / "asyncapi" / "package.json").read_text())["dependencies"]

    assert len(packages) > 50
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert {name: packages[f"node_modules/{name}"]["version"] for name in asked} == asked


@pytest.mark.parametrize("name", MODULES)
def test_each_module_of_go_has_its_sum(name: str, script: ModuleType) -> None:
    tool = script.go_tool(PINS / name / "go.mod")
    sums = (PINS / name / "go.sum").read_text()

    assert tool.name == name
    assert re.search(rf"^\S+ {re.escape(tool.version)} h1:", sums, re.MULTILINE)


def test_everything_that_is_built_for_the_checks_has_a_module(script: ModuleType) -> None:
    assert {*script.BUILT, "kube-apiserver"} == set(MODULES)


def test_each_program_is_the_version_that_is_pinned(script: ModuleType) -> None:
    for name in script.BUILT:
        tool = script.go_tool(PINS / name / "go.mod")
        assert Path(program(name)).resolve().name == f"{name}-{tool.version.removeprefix('v')}"
    for name, version in script.FROM_WHEEL.items():
        assert Path(program(name)).resolve().name == f"{name}-{version}"
    assert Path(program("hadolint")).resolve().is_relative_to(BIN.parent)


def test_without_go_it_says_so(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "PLACE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(script.ToolError, match=r"actionlint: .*\n?.*it needs Go 1\.\d+\.\d+ or newer"):
        script.build("actionlint")


def test_a_build_that_fails_leaves_nothing_behind_and_ends_with_the_words_of_the_compiler(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'undefined: everything' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr(script, "PLACE", tmp_path / "place")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(script.ToolError, match="undefined: everything"):
        script.build("actionlint")

    assert list((tmp_path / "place" / "versions").iterdir()) == []


def test_the_workflow_of_the_chart_runs_these_checks() -> None:
    """Where the project is developed, and where it is built by others, the same is checked."""
    workflows = [yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.y*ml")]
    runs = [step.get("run", "") for one in workflows for job in one["jobs"].values() for step in job.get("steps", ())]

    assert any("make test-deploy" in run or "make test\n" in f"{run}\n" for run in runs)
