"""kube-score over every case: no finding without a reason why it is accepted, and no reason without a finding."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest

from tests.deploy.chart import CASES, call, program, rendered_text
from tests.deploy.test_chart_schemas import oldest


class Finding(NamedTuple):
    """What kube-score says: in which case, of which kind of object, by which of its checks, in which container."""

    case: str
    kind: str
    check: str
    place: str
    summary: str


class Accepted(NamedTuple):
    """Findings that stay, as patterns of a whole field each, and why."""

    case: str
    kind: str
    check: str
    place: str
    summary: str
    reason: str


ACCEPTED = [
    Accepted(
        ".*",
        "StatefulSet|Deployment|Job|Pod",
        "container-resources",
        "rater",
        "CPU limit is not set",
        "a throttled worker closes late and loses its seat; requests share the cores fairly without a limit",
    ),
    Accepted(
        ".*",
        "StatefulSet|Deployment|Job|Pod",
        "container-image-pull-policy",
        "rater",
        "ImagePullPolicy is not set to Always",
        "tags of versions never move, and image.digest pins what runs; Always makes a registry part of each restart",
    ),
    Accepted(
        ".*",
        "StatefulSet|Deployment",
        "(statefulset|deployment)-has-host-podantiaffinity",
        "",
        ".*does not have a host podAntiAffinity set",
        "topologySpreadConstraints do that, and are not looked at",
    ),
    Accepted(
        "no-networkpolicy",
        ".*",
        "pod-networkpolicy",
        "",
        "The pod does not have a matching NetworkPolicy",
        "what this case is for",
    ),
    Accepted(
        "no-networkpolicy",
        "Deployment",
        "deployment-replicas",
        "",
        "Deployment few replicas",
        "this case shows the least that runs: one of each",
    ),
    Accepted(
        "names",
        "StatefulSet|Deployment|Job|Pod",
        "container-security-context-user-group-id",
        "rater",
        "The container (is )?running with a low (user|group) ID",
        "this case takes the ids away, as for OpenShift, which gives its own",
    ),
    Accepted(
        "everything",
        "StatefulSet",
        "container-.*",
        "wait|notes",
        ".*",
        "containers that ci/everything-values.yaml brings to show that a user can",
    ),
]


def findings(case: str) -> set[Finding]:
    said = call(
        program("kube-score"),
        "score",
        "--output-format=json",
        f"--kubernetes-version=v{oldest()}",
        "-",
        stdin=rendered_text(case),
    )
    found = set()
    for scored in json.loads(said.out):
        kind = scored["type_meta"]["kind"]
        for check in scored["checks"]:
            if not check["skipped"] and check["grade"] < 10:  # 10 is all right, 5 a warning, 1 critical
                for comment in check["comments"] or [{"path": "", "summary": "no comment"}]:
                    found.add(Finding(case, kind, check["check"]["id"], comment["path"], comment["summary"]))
    return found


def accepts(accepted: Accepted, finding: Finding) -> bool:
    return all(re.fullmatch(pattern, said) for pattern, said in zip(accepted[:-1], finding, strict=True))


@pytest.fixture(scope="module")
def found() -> set[Finding]:
    return {finding for case in CASES for finding in findings(case)}


def test_no_finding_is_left_unexplained(found: set[Finding]) -> None:
    unexplained = {finding for finding in found if not any(accepts(accepted, finding) for accepted in ACCEPTED)}

    assert sorted(unexplained) == []


def test_no_explanation_is_left_over(found: set[Finding]) -> None:
    assert [one for one in ACCEPTED if not any(accepts(one, finding) for finding in found)] == []


def test_kube_score_finds_a_planted_fault() -> None:
    spoiled = rendered_text("minimal").replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    said = call(program("kube-score"), "score", "--output-format=ci", "-", stdin=spoiled)

    assert said.code == 1
    assert "root filesystem" in said.out.lower(), said.out
