"""`rater compare-cloudkitty` finds CloudKitty in a real Keystone's catalogue and asks with a token of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from rater.cloudkitty import Cloud, CloudKittyError, Connection, Side, Wanted, read_sums
from rater.model.interval import Interval
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer
from tests.unit.cloudkitty.fake_api import FakeApi

pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB")  # openstacksdk's own statistics, which are off


async def test_the_catalogue_tells_where_and_keystone_who(
    keystone: KeystoneServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a user and a cloud, in whose region there is no rating service yet
    client = keystone.client
    client.region("compared")
    project, user = client.project("compare"), client.user("comparer")
    client.grant(user, "admin", f"projects/{project}")
    domains = {"user_domain_id": "default", "project_domain_id": "default"}
    auth = {
        "auth_url": keystone.url,
        "username": "comparer",
        "password": PASSWORD,
        "project_name": "compare",
        **domains,
    }
    wrong = auth | {"password": "not-this-one"}
    clouds = {name: {"auth": values, "region_name": "compared"} for name, values in {"own": auth, "no": wrong}.items()}
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": clouds}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    with pytest.raises(CloudKittyError, match=r"cloud 'own': .*rating"):
        await asyncio.to_thread(Cloud("own").endpoint)
    with pytest.raises(CloudKittyError, match=r"cloud 'no': it does not accept these credentials \(401\)") as caught:
        await asyncio.to_thread(Cloud("no").endpoint)
    assert "not-this-one" not in str(caught.value)

    # when there is one, which refuses the first token
    fake = FakeApi({("A", "cpu"): (1.0, 2.0)})
    async with fake.running():
        client.service("rating", "cloudkitty", {"public": fake.url}, region="compared")
        cloud = await asyncio.to_thread(Cloud, "own")
        url = await asyncio.to_thread(cloud.endpoint)
        side = Side("CloudKitty", url, cloud, Connection(timeout=30), "")
        fake.faults = [web.Response(status=401)]
        found = await read_sums(side, Interval(1_767_225_600, 1_769_904_000), Wanted(), lambda *_: None)
        await side.close()

    # then another token is sent, and both are Keystone's
    assert url == fake.url
    assert len(found.rows) == 1
    tokens = [headers["X-Auth-Token"] for _, _, headers in fake.asked]
    assert len(set(tokens)) == 2
    for token in tokens:
        assert client.ask("GET", "/auth/projects", token=token)["projects"][0]["name"] == "compare"
