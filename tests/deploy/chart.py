"""What the checks of the deployment share: where their programs are, and the chart as helm renders it."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "rater"
BIN = ROOT / ".cache" / "deploy" / "bin"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
"""The combinations of values that everything is checked with: `ci/CASE-values.yaml`."""
SECONDS = 120  # for one call of a program: all of them answer within a few

Object = dict[str, Any]
"""One Kubernetes object."""


class Said(NamedTuple):
    """How a program ended, and what it said on standard output and standard error."""

    code: int
    out: str
    err: str


class Container(NamedTuple):
    """A container of ours in a pod of ours."""

    owner: str
    pod: Object
    spec: Object


def program(name: str) -> str:
    """The path of what `make deploy-tools` fetched."""
    found = BIN / name
    if not found.exists():
        pytest.fail(f"{name} is not in {BIN.relative_to(ROOT)}: run `make deploy-tools`")
    return str(found)


def call(*command: str | Path, cwd: Path = ROOT, stdin: str | None = None) -> Said:
    """Runs it to its end, without the variables that would lead helm to settings and plugins of the user's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def case_file(case: str) -> Path:
    """The values of a case."""
    return CHART / "ci" / f"{case}-values.yaml"


def template(*arguments: str | Path) -> Said:
    """`helm template` in a namespace that is not `default`, so that what forgets it shows."""
    return call(program("helm"), "template", "release", CHART, "--namespace", "billing", *arguments)


@functools.cache
def rendered_text(case: str) -> str:
    """What helm makes of a case, as it is."""
    said = template("--values", case_file(case))
    if said.code:
        pytest.fail(f"the chart cannot be rendered with {case_file(case).relative_to(ROOT)}: {said.err}")
    return said.out


@functools.cache
def rendered(case: str) -> tuple[Object, ...]:
    """The objects of a case; whoever changes one changes it for everybody."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(found for found in yaml.load_all(rendered_text(case), Loader=loader) if found)


def name_of(found: Object) -> str:
    """`Kind name`, for messages."""
    return f"{found['kind']} {found['metadata']['name']}"


def containers(case: str) -> Iterator[Container]:
    """Those of ours: called `rater`."""
    for found in rendered(case):
        pod = found.get("spec", {}) if found["kind"] == "Pod" else found.get("spec", {}).get("template", {}).get("spec")
        for spec in (pod or {}).get("containers", ()):
            if spec["name"] == "rater":
                yield Container(name_of(found), pod, spec)
