"""That the real parts are there, and can be loaded with a past: what all other tests here rest upon."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from tests.openstack.gnocchi_server import GnocchiServer
from tests.openstack.keystone_server import KeystoneServer

T = int(datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp())
HOUR = 3600


def test_gnocchi_is_loaded_with_a_past(gnocchi: GnocchiServer) -> None:
    # given a resource that moves between projects half an hour into a past period
    client = gnocchi.client
    vm = str(uuid.uuid4())
    client.archive_policy("harness", [(300, 30 * 86400), (HOUR, 90 * 86400)], ["max", "count"])
    client.resource_type("harness", "flavor")
    client.resource("harness", vm, "p1", begin=T - HOUR, metrics={"cpu": "harness"}, flavor="small")
    client.revise("harness", vm, at=T + 1800, project_id="p2")
    client.end("harness", vm, end=T + 3000)

    # when it is measured every five minutes
    client.measures({vm: {"cpu": [(T + 300 * step, float(step)) for step in range(10)]}})
    client.settle()

    # then the index knows who owned it when, to the second
    history = client.ask("GET", f"/v1/resource/harness/{vm}/history?sort=revision_start:asc")
    owners = [(row["project_id"], row["revision_start"], row["revision_end"]) for row in history]
    assert owners == [
        ("p1", "2026-01-05T09:00:00+00:00", "2026-01-05T10:30:00+00:00"),
        ("p2", "2026-01-05T10:30:00+00:00", "2026-01-05T10:50:00+00:00"),
        ("p2", "2026-01-05T10:50:00+00:00", None),
    ]
    assert history[-1]["ended_at"] == "2026-01-05T10:50:00+00:00"

    # and the storage has the points
    cpu = history[-1]["metrics"]["cpu"]
    asked = f"/v1/metric/{cpu}/measures?aggregation=count&granularity={HOUR}&start={T}&stop={T + HOUR}"
    assert client.ask("GET", asked) == [["2026-01-05T10:00:00+00:00", 3600.0, 10.0]]


def test_measures_wait_for_metricd(gnocchi: GnocchiServer) -> None:
    # given a metricd that is down
    client = gnocchi.client
    vm = str(uuid.uuid4())
    client.archive_policy("backlog", [(60, 86400)], ["mean"])
    made = client.resource("generic", vm, "p1", begin=T, metrics={"cpu": "backlog"})
    gnocchi.stop_metricd()
    client.measures({vm: {"cpu": [(T, 1.0)]}})

    # then they are counted as not processed, until it is back
    try:
        status = client.ask("GET", "/v1/status")
        assert status["storage"]["measures_to_process"] == {made["cpu"]: 1}
    finally:
        gnocchi.start_metricd()
    client.settle()
    assert client.ask("GET", f"/v1/metric/{made['cpu']}/measures") == [["2026-01-05T10:00:00+00:00", 60.0, 1.0]]


def test_keystone_knows_users_and_services(keystone: KeystoneServer) -> None:
    # given a user with a role on a project, and a service in the catalogue
    client = keystone.client
    project, user = client.project("harness"), client.user("harness")
    client.grant(user, "member", f"projects/{project}")
    client.service("harness", "h", {"internal": "http://127.0.0.1:1"})

    # then its token says so
    token = client.login("harness", project="harness")
    said = client.ask("GET", "/auth/catalog", token=token)["catalog"]
    (found,) = (entry["endpoints"] for entry in said if entry["type"] == "harness")
    assert [(one["interface"], one["region_id"], one["url"]) for one in found] == [
        ("internal", "RegionOne", "http://127.0.0.1:1")
    ]
    assert client.ask("GET", "/auth/projects", token=token)["projects"][0]["id"] == project
