"""The Dockerfile: what it pins, what gets into it and what does not.

hadolint reads it in test_files.py; what it builds is tried by `make image-rehearsal`, which takes minutes.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import tomllib

import pytest
from setuptools import find_namespace_packages

from tests.deploy.chart import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
STAGES = "\n".join(INSTRUCTIONS).split("\nFROM ")
IMAGE_LOCK = (ROOT / "deploy/image/requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

BASE = re.compile(r"docker\.io/library/python:3\.\d+\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64} AS base")


def locked(text: str) -> dict[str, set[str]]:
    """name -> versions; a package may be locked twice, for different versions of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def ignored(path: str) -> bool:
    """What docker does with `path` by .dockerignore: the last pattern that fits it or a directory above decides."""
    verdict = False
    parts = path.split("/")
    above = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!").removeprefix("**/")
        if line and not line.startswith("#"):
            names = parts if "**/" in line else above
            verdict = not line.startswith("!") if any(fnmatch.fnmatchcase(n, pattern) for n in names) else verdict
    return verdict


def test_all_stages_begin_with_one_image_that_is_named_by_tag_and_digest() -> None:
    first, *others = (stage.splitlines()[0] for stage in STAGES)

    assert BASE.fullmatch(first.removeprefix("FROM "))
    assert [stage.split()[0] for stage in others] == ["base", "base"]
    assert f'base.name="{first.removeprefix("FROM ").split("@")[0]}"' in re.sub(r" +", " ", DOCKERFILE)


@pytest.mark.parametrize(
    "spoiled", ["docker.io/library/python:3.13-slim AS base", "docker.io/library/python:latest AS base"]
)
def test_a_base_that_moves_would_be_seen(spoiled: str) -> None:
    assert not BASE.fullmatch(spoiled)


def test_the_rehearsal_finds_out_which_debian_it_is() -> None:
    spec = importlib.util.spec_from_file_location("rehearsal", ROOT / "scripts" / "image_rehearsal.py")
    assert spec is not None
    assert spec.loader is not None
    rehearsal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rehearsal)

    found = rehearsal.FIRST.search(DOCKERFILE)

    assert found is not None
    assert found[2] in found[1].split("@")[0].split("-")


def test_every_installation_is_by_hash_or_from_what_is_there() -> None:
    calls = re.findall(r"-m pip (?:--python \S+ )?(?:install|wheel) .*?(?=&&|$)", "\n".join(INSTRUCTIONS), re.MULTILINE)

    assert len(calls) == 4
    assert [call for call in calls if "--require-hashes" not in call and "--no-index" not in call] == []


def test_the_last_stage_runs_as_a_number_and_installs_nothing() -> None:
    last = STAGES[-1]

    assert "\nUSER 10001:10001" in last
    assert last.index("\nUSER") > last.rindex("\nRUN")
    assert "pip install" not in last
    assert "apt-get" not in last
    assert '\nENTRYPOINT ["rater"]' in last


@pytest.mark.parametrize(
    "secret",
    [
        *(".env", ".git/config", ".venv/bin/python", "id_rsa", "rater.yaml", "var/demo/rater.yaml"),
        *("deploy/compose/secrets/api-token", "deploy/helm/rater/values.yaml", "deploy/image/audit.in"),
        *("tests/conftest.py", "rater/engine/__pycache__/state.cpython-313.pyc"),
    ],
)
def test_what_is_not_named_does_not_get_into_a_build(secret: str) -> None:
    assert ignored(secret)


def test_what_the_dockerfile_copies_gets_into_a_build() -> None:
    copied = [
        source
        for line in INSTRUCTIONS
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]

    assert {"rater", "collectors", "pyproject.toml"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists() or ignored(source)] == []
    assert not ignored("rater/engine/state.py")


def test_the_image_has_what_the_project_has_and_its_extras_for_operators() -> None:
    image, runtime = locked(IMAGE_LOCK), locked((ROOT / "requirements.lock").read_text())
    operators = {extra for extra in PROJECT["optional-dependencies"] if extra not in {"dev", "mutation"}}
    wanted = {
        re.split(r"[^A-Za-z0-9-]", requirement)[0].lower()
        for extra in operators
        for requirement in PROJECT["optional-dependencies"][extra]
    }

    other = {name: versions for name, versions in runtime.items() if image.get(name) != versions}
    assert other == {}, "run `make lock-image`"
    assert wanted - image.keys() == set(), "run `make lock-image`"
    assert not {"pytest", "mypy", "ruff"} & image.keys()


@pytest.mark.parametrize("name", ["requirements", "build", "audit"])
def test_the_locks_of_the_image_have_hashes_and_name_no_host(name: str) -> None:
    text = (ROOT / "deploy" / "image" / f"{name}.lock").read_text()

    assert [entry.split()[0] for entry in re.split(r"\n(?=[a-z])", text) if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_the_package_is_the_service_without_chart_and_tests() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]

    tops = {name for name in find_namespace_packages(str(ROOT), include=settings["include"]) if name.count(".") <= 1}

    assert {name for name in tops if name.startswith("deploy")} == {"deploy", "deploy.local"}
    assert {"rater.engine", "collectors.prometheus"} <= tops
