"""What asks for a token asks a real Keystone: source and fetcher `rest`, and the catalogue that comes with a token."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from yarl import URL

from collectors.errors import SourceAwayError
from collectors.http.keystone import KeystoneLogin
from collectors.http.request import Http
from collectors.metrics_yml import read
from collectors.rest.fetcher import RestFetcher
from collectors.rest.settings import RestAuth, RestConnection, RestFetcherSettings, RestKeystone, RestSettings
from collectors.rest.source import Factory
from collectors.settings import CollectorSettings
from collectors.source import SourceContext
from rater.model.interval import Interval
from tests.openstack.keystone_client import PASSWORD
from tests.openstack.keystone_server import KeystoneServer

HOUR = Interval(1_767_225_600, 1_767_229_200)


class Member(NamedTuple):
    """A user with roles on one project; `by_password` and `by_credential` are how it says who it is."""

    project_id: str
    by_password: RestKeystone
    by_credential: RestKeystone


@pytest.fixture(scope="module")
def member(keystone: KeystoneServer, tmp_path_factory: pytest.TempPathFactory) -> Member:
    client, secrets = keystone.client, tmp_path_factory.mktemp("secrets")
    project, user = client.project("rest"), client.user("rest-user")
    for role in ("admin", "member"):
        client.grant(user, role, f"projects/{project}")
    credential, secret = client.application_credential(user, username="rest-user", project="rest")
    (secrets / "password").write_text(PASSWORD)
    (secrets / "secret").write_text(secret)
    return Member(
        project,
        RestKeystone(keystone.url, "rest-user", str(secrets / "password"), project="rest"),
        RestKeystone(keystone.url, application_credential_id=credential, secret_file=str(secrets / "secret")),
    )


@pytest.mark.parametrize("way", ["by_password", "by_credential"])
async def test_a_token_opens_the_endpoint_of_fetcher_rest(keystone: KeystoneServer, member: Member, way: str) -> None:
    # given an endpoint that wants a token of Keystone: one of Keystone's own
    auth = RestAuth(keystone=getattr(member, way))
    settings = RestFetcherSettings(url=f"{keystone.url}/auth/projects", auth=auth, scopes="projects[].id")
    fetcher = RestFetcher(SourceContext(CollectorSettings(rest_fetcher=settings), 3600))
    try:
        assert await fetcher.fetch(HOUR.end, HOUR.begin) == {member.project_id}

        # when the token is revoked, another one is asked for
        wire = fetcher._api._credentials  # only what is sent shows which token to revoke
        token = (await wire.headers())["X-Auth-Token"]
        keystone.client.revoke(token)
        assert await fetcher.fetch(HOUR.end, HOUR.begin) == {member.project_id}
        assert (await wire.headers())["X-Auth-Token"] != token
    finally:
        await fetcher.close()


async def test_a_token_opens_the_endpoint_of_source_rest(keystone: KeystoneServer, member: Member) -> None:
    metrics = read("metrics: {project: {unit: p, groupby: [id]}}", "metrics.yml", Factory.read_extra_args).metrics
    rest = RestSettings(
        url=f"{keystone.url}/projects?name={{scope}}",
        auth=RestAuth(keystone=member.by_password),
        items="projects",
        quantity="`1`",
    )
    source = Factory.build(SourceContext(CollectorSettings(source="rest", rest=rest), 3600, metrics))
    try:
        answer = await source.session(HOUR, HOUR.end + 300).collect("rest", metrics[0])
        assert [(str(sample.qty), answer.series[sample.series].groupby["id"]) for sample in answer.samples] == [
            ("1", member.project_id)
        ]
        nothing = await source.session(HOUR, HOUR.end + 300).collect("no-such-project", metrics[0])
        assert nothing.samples == []
    finally:
        await source.close()


async def test_a_wrong_secret_is_no_token(keystone: KeystoneServer, member: Member, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    login = RestKeystone(keystone.url, "rest-user", str(tmp_path / "wrong"), project="rest")
    settings = RestFetcherSettings(url=f"{keystone.url}/auth/projects", auth=RestAuth(keystone=login), scopes="a")
    fetcher = RestFetcher(SourceContext(CollectorSettings(rest_fetcher=settings), 3600))
    try:
        with pytest.raises(SourceAwayError, match=r"/v3/auth/tokens: no token .status 401.: check the credentials"):
            await fetcher.fetch(HOUR.end, HOUR.begin)
    finally:
        await fetcher.close()


async def test_how_long_a_token_holds_is_understood(member: Member) -> None:
    http = Http(RestConnection(), "collect.rest")
    login = KeystoneLogin(member.by_password, http, "collect.rest.auth.keystone")
    try:
        await login.headers()
        token = login._server._token  # from outside it shows only when it is renewed, an hour later
        assert token is not None
        assert 3500 < token.seconds <= 3600
    finally:
        await http.close()


async def test_the_catalogue_names_services(keystone: KeystoneServer, member: Member) -> None:
    # given a service in two regions
    client = keystone.client
    client.service("billing", "b", {"internal": "http://in:1", "public": "https://out/b/"})
    client.region("RegionTwo")
    client.service("billing", "b", {"public": "https://two/b"}, region="RegionTwo")

    # then it is found by type, interface and, where that is needed, region
    http = Http(RestConnection(), "collect.rest")
    login = KeystoneLogin(member.by_credential, http, "collect.rest.auth.keystone")
    try:
        assert await login.endpoint("billing", "internal") == "http://in:1"
        assert await login.endpoint("billing", "public", "RegionTwo") == "https://two/b"
        with pytest.raises(SourceAwayError, match="more than one public endpoint"):
            await login.endpoint("billing", "public")
        with pytest.raises(SourceAwayError, match="has no admin endpoint"):
            await login.endpoint("billing", "admin")
    finally:
        await http.close()


async def test_a_token_opens_gnocchi(keystone: KeystoneServer, member: Member, gnocchi_behind_keystone: str) -> None:
    """A service that asks Keystone about each token, as those of OpenStack do, found in the catalogue."""
    http = Http(RestConnection(), "collect.rest")
    login = KeystoneLogin(member.by_password, http, "collect.rest.auth.keystone")
    try:
        found = await login.endpoint("metric", "internal", "RegionOne")
        assert found == gnocchi_behind_keystone
        url = URL(found + "/v1/archive_policy")
        assert (await http.ask("GET", url, {}, 1_000_000)).status == 401
        assert (await http.ask_as(login, "GET", url, {}, 1_000_000)).status == 200
    finally:
        await http.close()
