"""The project's own promises: what the build, the documents and the layout say of each other."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
LOCKS = ("requirements.lock", "requirements-dev.lock")

PACKAGES = sorted(
    init.parent.relative_to(ROOT).as_posix()
    for pattern in ("rater/*/__init__.py", "collectors/__init__.py", "deploy/local/*/__init__.py")
    for init in ROOT.glob(pattern)
)
PURE = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("model", "rating", "engine")
    for path in (ROOT / "rater" / package).rglob("*.py")
    if path.name != "schema.py"  # the generator of schemas/ writes files; import-linter keeps it out of the rest
)


def targets() -> list[str]:
    return re.sub(r"\\\n", " ", MAKEFILE).split(".PHONY:")[1].split("\n")[0].split()


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = PYPROJECT["project"]["version"]

    assert f"## [{version}]" in changelog or "## [Unreleased]" in changelog


def test_the_installed_version_is_that_of_pyproject() -> None:
    assert importlib.metadata.version("rater") == PYPROJECT["project"]["version"]


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()

    assert 20 <= len(lines) <= 150


def test_the_licence_is_the_one_that_pyproject_names() -> None:
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_it_owns(package: str) -> None:
    readme = ROOT / package / "README.md"

    assert readme.exists(), f"{package} has no README.md"
    assert len(readme.read_text().split()) > 30, f"{package}/README.md says too little"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_names_of_a_package_are_those_of_its_init(package: str) -> None:
    """Everything an `__init__` imports is in `__all__` and the other way round, and a docstring explains it."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())

    assert ast.get_docstring(tree), f"{package}/__init__.py has no docstring"
    assert _defined(tree) == _all(tree)


def _defined(tree: ast.Module) -> set[str]:
    """Names that a package's `__init__` makes public: what it defines, and what it imports of ours, lazily or not."""
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"rater", "collectors", "deploy"}:
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            assigned = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in assigned if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body
        else:
            yield node


def _all(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("path", PURE)
def test_the_pure_packages_call_nothing_that_differs_from_run_to_run(path: str) -> None:
    """Built-in functions that import-linter and ruff cannot ban: files, the terminal, code made at run time, and
    `hash` and `id`, which are different in each process."""
    banned = {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint", "hash", "id"}
    if path == "rater/rating/pyscripts.py":
        banned -= {"compile"}  # whether a script compiles: what comes out is not run there
    calls = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)]

    found = [
        f"{path}:{call.lineno} {call.func.id}"
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in banned
    ]

    assert not found


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    missing = [target for target in targets() if target != "check-python" and f"make {target} " not in listed]

    assert not missing


def test_make_without_a_target_is_make_help() -> None:
    plain, help_ = (
        subprocess.run(
            ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for arguments in ([], ["help"])
    )

    assert plain == help_


def test_every_target_is_phony() -> None:
    rules = set(re.findall(r"^([a-z0-9.-]+):(?!=)", MAKEFILE, re.MULTILINE))

    assert rules == set(targets())


def test_make_test_runs_every_directory_of_tests() -> None:
    lanes = re.findall(r"^(?:TEST|BESIDE)_STEPS = (.+)$", MAKEFILE, re.MULTILINE)
    assert len(lanes) == 2
    plain = re.sub(r"^(ifdef .+|else|endif)\n", "", MAKEFILE, flags=re.MULTILINE)
    recipes = dict(re.findall(r"^([a-z0-9.-]+):.*\n((?:\t.*\n)+)", plain, re.MULTILINE))
    run = " ".join(recipes[step.split(":")[0]] for lane in lanes for step in lane.split())

    directories = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}

    assert [name for name in sorted(directories) if not re.search(rf"\btests/{name}(\s|$)", run)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_names_no_host_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "/" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[a-z])", (ROOT / lock).read_text())

    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_files_hold_what_pyproject_asks_for() -> None:
    project = PYPROJECT["project"]
    runtime, dev = (_locked(lock) for lock in LOCKS)

    assert _unmet(project["dependencies"], runtime) == []
    assert (
        _unmet(
            [
                *project["dependencies"],
                *project["optional-dependencies"]["dev"],
                *PYPROJECT["build-system"]["requires"],
            ],
            dev,
        )
        == []
    )


def test_the_dev_lock_includes_the_runtime_lock() -> None:
    runtime, dev = (_locked(lock) for lock in LOCKS)

    assert {name: versions for name, versions in runtime.items() if dev.get(name) != versions} == {}


def _locked(lock: str) -> dict[str, set[str]]:
    """name -> versions; a package may be locked twice, for different versions of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ ]+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def _unmet(requirements: list[str], locked: dict[str, set[str]]) -> list[str]:
    unmet = []
    for requirement in map(Requirement, requirements):
        versions = locked.get(canonicalize_name(requirement.name), set())
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            unmet.append(str(requirement))
    return unmet


def test_every_direct_dependency_is_argued() -> None:
    argued = (ROOT / "docs" / "dependencies.md").read_text().lower()
    project = PYPROJECT["project"]
    names = [
        Requirement(text).name.lower() for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    ]

    assert [name for name in names if not re.search(rf"(\*\*|, |\| ?){re.escape(name)}\b", argued)] == []


def test_the_ci_script_is_executable_bash_that_stops_at_errors() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
