"""What the chart says of its containers: commands, probes, grace, session. Kept as JSON: the rehearsal needs no helm.

`python -m tests.upgrade.as_chart` writes as_chart.json anew from the chart as helm renders it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import yaml

FILE = Path(__file__).with_suffix(".json")
ROOT = Path(__file__).parents[2]
HELM = ROOT / ".cache" / "deploy" / "bin" / "helm"
VALUES = """
config:
  kafka: {bootstrap: "kafka:9092"}
  store: {dsn: "http://clickhouse:8123/rater"}
  metrics: {cpu: {}}
  api: {auth: token}
secrets: {apiTokens: {existingSecret: tokens}}
"""
ROLES = ("worker", "sink", "api")
DEFAULT_SESSION = 15.0  # WorkerSettings.session_timeout


class Container(msgspec.Struct, frozen=True):
    """One role as the chart runs it."""

    role: str
    arguments: tuple[str, ...]
    """After `rater`."""
    readiness: str
    """Path on the port of the health pages, as the next one."""
    liveness: str
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    settled: float
    """Seconds for which a new pod has to be ready before the next one is exchanged."""
    pre_stop: float = 0
    """Seconds that it goes on before SIGTERM; they count as grace."""
    named_by: str = ""
    """Variable that holds the pod's name."""


class AsChart(msgspec.Struct, frozen=True):
    """What the rehearsal takes over."""

    containers: list[Container]
    hooks: list[tuple[str, ...]]
    """Commands of the jobs before an installation and an upgrade, in helm's order, after `rater`."""
    tests: list[tuple[str, ...]]
    """Commands of `helm test`."""
    session_timeout: float
    """Seconds that a worker may be away without its partitions going to others."""

    def container(self, role: str) -> Container:
        """Of a role."""
        (found,) = (one for one in self.containers if one.role == role)
        return found


def as_chart() -> AsChart:
    """As it is kept."""
    return msgspec.json.decode(FILE.read_bytes(), type=AsChart)


def rendered() -> AsChart:
    """As helm renders the chart now. Raises CalledProcessError with helm's words, FileNotFoundError without helm."""
    told = subprocess.run(
        [HELM, "template", "rater", ROOT / "deploy" / "helm" / "rater", "--values", "-"],
        input=VALUES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    objects = [one for one in yaml.safe_load_all(told.stdout) if one]
    jobs = [one for one in objects if one["kind"] == "Job"]
    jobs.sort(key=lambda job: (int(job["metadata"]["annotations"]["helm.sh/hook-weight"]), job["metadata"]["name"]))
    tests = [one["spec"]["containers"][0]["args"] for one in objects if one["kind"] == "Pod"]
    settings = yaml.safe_load(_settings(objects))
    return AsChart(
        [_container(objects, role) for role in ROLES],
        [tuple(job["spec"]["template"]["spec"]["containers"][0]["args"]) for job in jobs],
        [tuple(one) for one in tests],
        float(settings.get("worker", {}).get("session_timeout", DEFAULT_SESSION)),
    )


def _settings(objects: list[Any]) -> str:
    maps = (one["data"] for one in objects if one["kind"] == "ConfigMap")
    (found,) = {data["rater.yaml"] for data in maps if "rater.yaml" in data}  # the hooks have the same as the pods
    return str(found)


def _container(objects: list[Any], role: str) -> Container:
    (owner,) = (
        one
        for one in objects
        if one["kind"] in {"StatefulSet", "Deployment"}
        and one["metadata"]["labels"]["app.kubernetes.io/component"] == role
    )
    pod = owner["spec"]["template"]["spec"]
    (box,) = pod["containers"]
    assert box["command"] == ["rater"], "what the rehearsal starts"
    paths = [one["valueFrom"].get("fieldRef", {}).get("fieldPath") for one in box["env"] if "valueFrom" in one]
    names = [one["name"] for one in box["env"] if "valueFrom" in one]
    return Container(
        role=role,
        arguments=tuple(box["args"]),
        readiness=box["readinessProbe"]["httpGet"]["path"],
        liveness=box["livenessProbe"]["httpGet"]["path"],
        grace=float(pod["terminationGracePeriodSeconds"]),
        settled=float(owner["spec"].get("minReadySeconds", 0)),
        pre_stop=float(box.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)),
        named_by=dict(zip(paths, names, strict=True)).get("metadata.name", ""),
    )


def main() -> None:
    """Writes what helm says."""
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(rendered()), indent=1) + b"\n")


if __name__ == "__main__":
    main()


__all__ = ["FILE", "AsChart", "Container", "as_chart", "rendered"]
