"""What a release rests on: versions that agree, and licences that somebody agreed to."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.chart import ROOT


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


licences, release = script("licences"), script("release")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of version 1.2.0 that is ready for release."""
    files = {
        "pyproject.toml": '[project]\nversion = "1.2.0"\n',
        "compose.yaml": "x-rater: &rater\n  image: ghcr.io/rater/rater:1.2.0\n",
        "deploy/helm/rater/Chart.yaml": 'version: 1.2.0\nappVersion: "1.2.0"\n',
        "CHANGELOG.md": "## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_everything_here_names_one_version() -> None:
    assert release.faults(ROOT, None) == []


def test_a_tree_that_is_ready_may_be_released(tree: Path) -> None:
    assert release.faults(tree, "v1.2.0") == []


@pytest.mark.parametrize(
    ("file", "said"),
    [("compose.yaml", "the image in compose.yaml is 1.1.0"), ("deploy/helm/rater/Chart.yaml", "appVersion in"),
     ("CHANGELOG.md", "no heading `## [1.2.0]"), ("pyproject.toml", "tag v1.1.0")],
)  # fmt: skip
def test_a_version_that_was_forgotten_stops_a_release(tree: Path, file: str, said: str) -> None:
    path = tree / file
    path.write_text(path.read_text().replace("1.2.0", "1.1.0"))

    assert any(said in fault for fault in release.faults(tree, "v1.2.0"))


def test_a_wrong_tag_ends_the_workflow() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "release.py"), "v99.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "the tag is v99.0.0" in done.stderr


def test_each_licence_in_the_image_was_agreed_to_and_the_page_lists_it(tmp_path: Path) -> None:
    found = licences.licences(licences.packages(licences.LOCK.read_text()))
    page = licences.PAGE.read_text()

    assert len(found) > 90
    assert licences.refused(found) == []
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| package")]
    assert rows == [f"| {name} | {licence} |" for name, licence in sorted(found.items())], "run `make licences`"


@pytest.mark.parametrize(
    "licence", ["GPL-3.0-only", "MIT AND LGPL-2.1-or-later", "AGPL-3.0 AND (MIT OR Apache-2.0)", "Proprietary", ""]
)
def test_a_licence_that_nobody_agreed_to_is_refused(licence: str) -> None:
    assert licences.refused({"planted": licence})


@pytest.mark.parametrize("licence", ["MIT", "GPL-2.0-only OR MIT", "MPL-2.0 AND (Apache-2.0 OR MIT)"])
def test_of_a_choice_one_is_enough(licence: str) -> None:
    assert licences.refused({"planted": licence}) == []


def test_a_package_for_another_system_does_not_count() -> None:
    entries = ("one==1.0", "two==2.0 ; sys_platform == 'win32'", "three==3 ; python_full_version < '3.12'")
    lock = "".join(f"{entry} \\\n    --hash=sha256:00\n" for entry in entries)

    assert licences.packages(lock) == ["one", "three"]


def test_a_package_that_is_not_installed_is_refused() -> None:
    assert licences.refused(licences.licences(["no-such-package-here"]))
