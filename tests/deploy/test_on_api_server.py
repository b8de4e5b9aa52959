"""The chart on a real API server: installed, upgraded, rolled back and removed, in every combination of values.

Long: `make test-deploy-server` runs it. No pod starts; what is proved is that Kubernetes takes each object, also in the
place of the one before, and what rights and what security the pods have.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.api_server import ApiServer
from tests.deploy.chart import CASES, CHART, Object, Said, case_file, name_of, rendered

pytestmark = pytest.mark.long

CRDS = Path(__file__).parent / "crds"
RELEASE = "rater"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("server")) as running:
        succeeds(running.kubectl("apply", "--server-side", "--filename", CRDS))
        names = [f"crd/{crd['metadata']['name']}" for path in CRDS.glob("*.yaml") for crd in documents(path)]
        succeeds(running.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names))
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
        apply(running, {**priority, "metadata": {"name": "billing"}})  # of ci/everything-values.yaml
        yield running


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, server: ApiServer) -> str:
    """A case, for which there is a namespace of its own, where only restricted pods are let in."""
    name: str = request.param
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return name


def documents(path: Path) -> Iterator[Object]:
    yield from yaml.safe_load_all(path.read_text())


def succeeds(said: Said) -> str:
    assert said.code == 0, said.out + said.err
    return said.out


def apply(server: ApiServer, found: Object) -> None:
    succeeds(server.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(found)))


def helm(server: ApiServer, command: str, case: str, *more: str | Path) -> str:
    return succeeds(server.helm(command, RELEASE, *more, "--namespace", case))


def images(server: ApiServer, case: str) -> set[str]:
    """Of the containers of ours that run on."""
    workloads = server.get("statefulsets,deployments", f"--namespace={case}")["items"]
    specs = [spec for one in workloads for spec in one["spec"]["template"]["spec"]["containers"]]
    return {spec["image"].rpartition(":")[2] for spec in specs if spec["name"] == "rater"}


def test_installed_upgraded_rolled_back_and_removed(case: str, server: ApiServer) -> None:
    values = ("--values", case_file(case))
    # given a server that finds nothing wrong
    assert "STATUS: pending-install" in helm(server, "install", case, CHART, *values, "--dry-run=server")
    # when it is installed, then everything is there
    helm(server, "install", case, CHART, *values)
    first = images(server, case)
    assert len(first) == 1
    kinds = {found["kind"] for found in rendered(case)}
    for kind in kinds - {"Job", "Pod"}:  # those are hooks, and gone when they have succeeded
        assert server.get(kind, "--all-namespaces")["items"], f"there is no {kind}"
    # when another version follows, then it is what runs, and a rollback brings the first one again
    helm(server, "upgrade", case, CHART, *values, "--set-string", "image.tag=next,image.digest=")
    assert images(server, case) == {"next"}
    helm(server, "rollback", case, "1")
    assert images(server, case) == first
    # when it is removed, then nothing of it is left
    helm(server, "uninstall", case)
    left = server.get(",".join(sorted(kinds - {"Pod"})), "--all-namespaces", "--selector=app.kubernetes.io/name=rater")
    assert [name_of(one) for one in left["items"]] == []


def test_every_pod_is_let_in_where_pods_are_restricted(case: str, server: ApiServer) -> None:
    pods = 0
    for found in rendered(case):
        template = {"spec": found["spec"]} if found["kind"] == "Pod" else found.get("spec", {}).get("template")
        if template is not None:
            pods += 1
            spec = ours_alone(template["spec"])
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": case}, "spec": spec}
            said = server.kubectl("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(pod))
            assert said.code == 0, f"{name_of(found)}: {said.err}"
            assert "Warning" not in said.err, f"{name_of(found)}: {said.err}"

    assert pods


def ours_alone(spec: Object) -> Object:
    """Without the containers that the values bring: their security is the user's business."""
    spec = copy.deepcopy(spec)
    spec.pop("initContainers", None)
    return {**spec, "containers": [one for one in spec["containers"] if one["name"] == "rater"]}


def test_from_the_least_to_everything_and_back(server: ApiServer) -> None:
    """What cannot be changed in place, such as selectors, must not differ between values."""
    space = ("--namespace", "growing", "--create-namespace")
    succeeds(server.helm("install", RELEASE, CHART, "--values", case_file("minimal"), *space))
    for then in ("everything", "keda", "no-networkpolicy", "everything", "minimal"):
        succeeds(server.helm("upgrade", RELEASE, CHART, "--values", case_file(then), *space))
    succeeds(server.helm("rollback", RELEASE, "2", "--namespace", "growing"))
    succeeds(server.helm("uninstall", RELEASE, "--namespace", "growing"))


def test_the_service_accounts_may_do_nothing_but_list_namespaces_where_they_are_told_to(server: ApiServer) -> None:
    (case,) = [one for one in CASES if any(found["kind"] == "ClusterRole" for found in rendered(one))][:1]
    space = ("--namespace", "rights", "--create-namespace")
    succeeds(server.helm("install", RELEASE, CHART, "--values", case_file(case), *space))
    accounts = [one["metadata"]["name"] for one in server.get("serviceaccounts", "--namespace=rights")["items"]]

    def may(account: str, *what: str) -> bool:
        user = f"--as=system:serviceaccount:rights:{account}"
        return server.kubectl("auth", "can-i", *what, user, "--namespace=rights").out.strip() == "yes"

    assert len(accounts) >= 2
    assert [one for one in accounts if may(one, "list", "namespaces")] == [
        one for one in accounts if one.endswith("collect")
    ]
    for account in accounts:
        for verb, what in (("get", "secrets"), ("list", "pods"), ("create", "pods"), ("update", "namespaces")):
            assert not may(account, verb, what), f"{account} may {verb} {what}"
    succeeds(server.helm("uninstall", RELEASE, "--namespace", "rights"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"ports": [{"containerPort": 99999}]}, "must be between 1 and 65535"),
        ({"securityContext": {}}, "violates PodSecurity"),
        ({"restart": "sometimes"}, "restart"),
    ],
)
def test_the_server_refuses_planted_faults(spoil: Object, says: str, server: ApiServer) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "faults", "labels": labels}})
    worker = next(found for found in rendered("minimal") if found["kind"] == "StatefulSet")
    spec = ours_alone(worker["spec"]["template"]["spec"])
    spec["containers"][0] |= spoil
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "faults"}, "spec": spec}

    said = server.kubectl("create", "--dry-run=server", "--validate=strict", "--filename", "-", stdin=json.dumps(pod))

    assert said.code != 0
    assert says in said.err
