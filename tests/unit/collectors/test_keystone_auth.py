"""What comes with Keystone's token: the endpoint of a service in its catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collectors.errors import SourceAwayError
from collectors.http.keystone import KeystoneLogin
from collectors.http.request import Http
from collectors.rest.settings import RestConnection, RestKeystone
from tests.unit.collectors.rest_endpoint import Endpoint, json_reply

CATALOG: Any = [
    {"type": "identity", "endpoints": [{"interface": "internal", "region_id": "one", "url": "http://k/v3"}]},
    {
        "type": "metric",
        "endpoints": [
            {"interface": "public", "region_id": "one", "url": "https://metric.example.org"},
            {"interface": "internal", "region_id": "one", "url": "http://metric.one:8041/"},
            {"interface": "internal", "region_id": "two", "url": "http://metric.two:8041/"},
            {"interface": "admin", "region_id": "one", "url": None},
        ],
    },
    "nonsense",
]


async def _endpoint(endpoint: Endpoint, secret: Path, interface: str, region: str, catalog: Any = CATALOG) -> str:
    secret.write_text("s3cret\n")
    endpoint.says(json_reply({"token": {"catalog": catalog}}, 201, X_Subject_Token="t1"))
    http = Http(RestConnection(), "collect.gnocchi")
    settings = RestKeystone(f"{endpoint.url}/v3", application_credential_id="c1", secret_file=str(secret))
    login = KeystoneLogin(settings, http, "collect.gnocchi.auth.keystone")
    try:
        found = await login.endpoint("metric", interface, region)
        assert await login.headers() == {"X-Auth-Token": "t1"}
        return found
    finally:
        assert len(endpoint.asked) == 1, "one token does for all"
        await http.close()


@pytest.mark.parametrize(
    ("interface", "region", "url"),
    [
        ("public", "", "https://metric.example.org"),
        ("internal", "one", "http://metric.one:8041"),
        ("internal", "two", "http://metric.two:8041"),
    ],
)
async def test_the_endpoint_of_a_service(
    endpoint: Endpoint, tmp_path: Path, interface: str, region: str, url: str
) -> None:
    assert await _endpoint(endpoint, tmp_path / "secret", interface, region) == url


@pytest.mark.parametrize(
    ("interface", "region", "catalog", "fault"),
    [
        ("internal", "", CATALOG, "more than one internal endpoint of service type 'metric': say which region"),
        ("admin", "", CATALOG, "has no admin endpoint of service type 'metric'"),
        ("internal", "three", CATALOG, "has no internal endpoint of service type 'metric' in region 'three'"),
        ("internal", "", None, "has no internal endpoint"),
        ("internal", "", [{"type": "metric"}], "has no internal endpoint"),
    ],
)
async def test_an_endpoint_that_is_not_there_or_not_clear(
    endpoint: Endpoint, tmp_path: Path, interface: str, region: str, catalog: Any, fault: str
) -> None:
    with pytest.raises(SourceAwayError, match=fault):
        await _endpoint(endpoint, tmp_path / "secret", interface, region, catalog)
