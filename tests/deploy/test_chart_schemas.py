"""What the chart renders against the schemas of Kubernetes: of the oldest version that it takes, and of the newest.

The schemas are those of the package kubernetes-validate, in their strict form: an unknown field is a fault. Kinds that
others define are checked by `crds/*.yaml`: as much of their definitions as charts use, written from their documentation
by hand, so they find misspelled fields and wrong types, and not what their own webhooks would say.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.deploy.chart import CASES, CHART, ROOT, Object, name_of, rendered

CRDS = sorted((Path(__file__).parent / "crds").glob("*.yaml"))
NEWEST = "1.37"
BUILT_IN = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1")
"""The API versions that every Kubernetes has and that the chart may use; every other one needs a file in crds."""


def oldest() -> str:
    wanted = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    found = re.fullmatch(r">= ?(\d+\.\d+)\.0(-0)?", wanted)
    assert found, f"kubeVersion {wanted!r} of Chart.yaml is not of the form >=1.30.0-0"
    return found[1]


@functools.cache
def schemas(version: str) -> Path:
    python = ROOT / ".cache" / "deploy" / "python"
    found = list(python.glob(f"lib/python*/site-packages/kubernetes_validate/*/v{version}.*-local-strict"))
    if not found:
        pytest.fail(f"no schemas of Kubernetes {version} in {python.relative_to(ROOT)}: run `make deploy-tools`")
    return found[0]


@functools.cache
def definitions(version: str) -> Registry[Any]:
    content = json.loads((schemas(version) / "_definitions.json").read_text())
    resource: Resource[Any] = Resource.from_contents(content, default_specification=DRAFT202012)
    return Registry().with_resources([(content.get("$id", ""), resource), ("/api/_definitions.json", resource)])


@functools.cache
def built_in(version: str, api_version: str, kind: str) -> Draft202012Validator:
    group = re.sub(r"^([^./]+)[^/]*/", r"\1-", api_version)
    file = schemas(version) / f"{kind.lower()}-{group}.json"
    assert file.exists(), f"Kubernetes {version} has no {kind} in {api_version}"
    return Draft202012Validator(json.loads(file.read_text()), registry=definitions(version))


@functools.cache
def custom() -> dict[tuple[str, str], Draft202012Validator]:
    """(apiVersion, kind) -> its schema, in which unknown fields are faults."""
    found = {}
    for path in CRDS:
        for crd in yaml.safe_load_all(path.read_text()):
            for version in crd["spec"]["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                Draft202012Validator.check_schema(schema)
                key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                found[key] = Draft202012Validator(schema)
    return found


def closed(schema: Object) -> Object:
    """The same, strict, and with what each object has besides `spec`."""

    def walk(part: Object) -> Object:
        part = dict(part)
        if "properties" in part:
            part["properties"] = {name: walk(one) for name, one in part["properties"].items()}
            part["additionalProperties"] = False
        if "items" in part:
            part["items"] = walk(part["items"])
        if part.pop("x-kubernetes-int-or-string", False):
            part["type"] = ["integer", "string"]
        return part

    strict = walk(schema)
    own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {**strict, "properties": {**own, **strict["properties"]}, "required": ["spec"]}


def faults(found: Object, version: str) -> list[str]:
    key = (found["apiVersion"], found["kind"])
    if found["apiVersion"] in BUILT_IN:
        validator = built_in(version, *key)
    else:
        assert key in custom(), f"{key[1]} of {key[0]} has no schema: add its definition to tests/deploy/crds"
        validator = custom()[key]
    return [f"{name_of(found)}: {error.json_path}: {error.message}" for error in validator.iter_errors(found)]


@pytest.mark.parametrize("version", [oldest(), NEWEST])
def test_every_object_is_what_kubernetes_takes(version: str) -> None:
    """Every distinct object once: most are the same in many cases."""
    distinct = {json.dumps(found, sort_keys=True, default=str): case for case in CASES for found in rendered(case)}

    wrong = [f"{case}: {fault}" for text, case in distinct.items() for fault in faults(json.loads(text), version)]

    assert len(distinct) > 50
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("StatefulSet", ["spec", "replica"], 3),
        ("StatefulSet", ["spec", "replicas"], "3"),
        ("Deployment", ["spec", "template", "spec", "containers", 0, "readyProbe"], {}),
        ("ServiceMonitor", ["spec", "endpoints", 0, "intervall"], "15s"),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "port"], 8990),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "severity"], "page"),
        ("ScaledObject", ["spec", "maxReplicas"], 3),
        ("ScaledObject", ["spec", "maxReplicaCount"], "3"),
        ("TriggerAuthentication", ["spec", "secretTargetRef", 0, "secret"], "x"),
        ("HTTPRoute", ["spec", "rules", 0, "backendRefs", 0, "servicePort"], 80),
        ("ExternalSecret", ["spec", "data", 0, "remoteRef", "path"], "x"),
    ],
)
def test_a_planted_fault_is_found(kind: str, path: list[str | int], value: object) -> None:
    sound = next((found for case in CASES for found in rendered(case) if found["kind"] == kind), None)
    assert sound is not None, f"no case has a {kind}"
    assert faults(sound, NEWEST) == []
    spoiled = json.loads(json.dumps(sound, default=str))
    inner = spoiled
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value

    assert len(faults(spoiled, NEWEST)) == 1
