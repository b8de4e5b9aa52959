"""The scope fetcher Keystone: how little it asks, and what it says of answers that are no list, or not a whole one.

That it finds the right projects is shown on a real Keystone (tests/openstack/test_keystone_fetcher.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.rest.settings import RestKeystone
from collectors.scopes.keystone import KeystoneFetcher
from collectors.scopes.keystone_settings import KeystoneFetcherSettings
from collectors.settings import CollectorSettings
from collectors.source import SourceContext
from tests.unit.collectors.rest_endpoint import Endpoint, json_reply

NOW = 1_767_225_600
SECRET = "s3cr3t-w0rd"
TOKEN = json_reply({"token": {"user": {"id": "u1"}}}, 201, X_Subject_Token="k1")
ROLES = {"roles": [{"id": "r1", "name": "rating"}], "links": {"next": None}}
NO_LINKS: dict[str, Any] = {"next": None, "self": "x", "previous": None}


def assigned(*projects: str) -> dict[str, Any]:
    scopes = [{"scope": {"project": {"id": project}}, "role": {"id": "r1"}} for project in projects]
    elsewhere = [{"scope": {"domain": {"id": "d"}}}, {"scope": {"system": {"all": True}}}]
    return {"role_assignments": [*scopes, *elsewhere], "links": NO_LINKS}


def page(*projects: str, after: str | None = None, **more: Any) -> dict[str, Any]:
    listed = [{"id": project, "name": "n", "enabled": not project.startswith("off")} for project in projects]
    following = f"https://keystone.inside:5000/v3/projects?{after}" if after else None
    return {"projects": listed, "links": {**NO_LINKS, "next": following}, **more}


@pytest.fixture
def login(endpoint: Endpoint, tmp_path: Path) -> RestKeystone:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    return RestKeystone(f"{endpoint.url}/v3/", "rater", str(secret), system=True)


async def fetched(login: RestKeystone, **settings: Any) -> set[str]:
    chosen = CollectorSettings(keystone_fetcher=KeystoneFetcherSettings(login, **settings))
    fetcher = KeystoneFetcher(SourceContext(chosen, 3600))
    try:
        return await fetcher.fetch(NOW, NOW - 300)
    finally:
        await fetcher.close()


async def test_two_questions_for_any_number_of_projects(endpoint: Endpoint, login: RestKeystone) -> None:
    endpoint.says(TOKEN, ROLES, assigned(*(f"p{number}" for number in range(500)), "p0", "", "x" * 256))

    assert await fetched(login) == {f"p{number}" for number in range(500)}
    assert [request.path for request in endpoint.asked] == [
        "/v3/auth/tokens",
        "/v3/roles?name=rating",
        "/v3/role_assignments?user.id=u1&role.id=r1&effective=true",
    ]
    assert {request.headers.get("X-Auth-Token") for request in endpoint.asked[1:]} == {"k1"}


async def test_disabled_projects_are_asked_for_only_to_leave_them_out(endpoint: Endpoint, login: RestKeystone) -> None:
    endpoint.says(TOKEN, ROLES, assigned("a", "off"), page("a", "off", "other"))

    assert await fetched(login, ignore_disabled_tenants=True) == {"a"}
    assert [request.path for request in endpoint.asked][3:] == ["/v3/projects"]


async def test_pages_are_asked_for_where_we_asked_first(endpoint: Endpoint, login: RestKeystone) -> None:
    # the link names the server as it knows itself, which is not how we reach it
    endpoint.says(TOKEN, page("a", after="marker=a&limit=1", truncated=True), page("b"))

    assert await fetched(login, ignore_rating_role=True) == {"a", "b"}
    assert endpoint.asked[-1].path == "/v3/projects?marker=a&limit=1"


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([page("a", truncated=True)], "/v3/projects: the list is cut off: raise list_limit in Keystone"),
        ([page("a", after="marker=a"), page("b", after="marker=a")], "a page names itself as the next one"),
        ([page(after="x")] + [page(after=f"m={n}") for n in "abc"] + [json_reply({}, 500)], "/v3/projects: status 500"),
        ([{"links": NO_LINKS}], "the answer is not the list that was asked for"),
        ([[]], "/v3/projects: the answer cannot be read: Expected `object`"),
        ([{"projects": [{"id": 7}]}], r"Expected `str`, got `int` - at `\$.projects\[0\].id`"),
        ([(200, b"<html>", {})], "the answer cannot be read"),
        ([(200, b'{"projects": [{"id": "\xff"}]}', {})], "the answer cannot be read"),
        (
            [json_reply({}, 403)],
            "may not list this .status 403.: give it the role reader on the system and set .*system",
        ),
        ([json_reply({}, 404)], "is not there .status 404.: does collect.keystone_fetcher.keystone.url end with /v3"),
        ([json_reply({}, 409)], "/v3/projects: status 409"),
        ([(302, b"", {"Location": "/"})], "sends us elsewhere"),
        ([json_reply({"projects": [], "x": "y" * 2000})], "too large .collect.keystone_fetcher.max_answer_bytes."),
    ],
)
async def test_what_is_no_whole_list_is_no_answer(
    endpoint: Endpoint, login: RestKeystone, replies: list[Any], reason: str
) -> None:
    endpoint.says(TOKEN, *replies)
    with pytest.raises(SourceError, match=reason) as told:
        await fetched(login, ignore_rating_role=True, max_answer_bytes=1500)
    assert SECRET not in str(told.value)
    assert "k1" not in str(told.value)


async def test_a_token_that_is_refused_is_renewed_once(endpoint: Endpoint, login: RestKeystone) -> None:
    endpoint.says(TOKEN, json_reply({}, 401), json_reply({"token": {}}, 201, X_Subject_Token="k2"), page("a"))
    assert await fetched(login, own_projects=True) == {"a"}
    assert endpoint.asked[-1].path == "/v3/auth/projects"
    assert endpoint.asked[-1].headers["X-Auth-Token"] == "k2"

    endpoint.says(TOKEN, json_reply({}, 401), TOKEN, json_reply({}, 401))
    with pytest.raises(SourceAwayError, match="refuses the token that Keystone gave us"):
        await fetched(login, own_projects=True)


async def test_a_token_that_is_nobodys(endpoint: Endpoint, login: RestKeystone) -> None:
    endpoint.says(json_reply({"token": {"user": "u1"}}, 201, X_Subject_Token="k1"))
    with pytest.raises(SourceAwayError, match="does not say whose it is"):
        await fetched(login)


async def test_a_role_of_another_name_is_not_ours(endpoint: Endpoint, login: RestKeystone) -> None:
    endpoint.says(TOKEN, {"roles": [{"id": "r2", "name": "Rating"}]})
    with pytest.raises(SourceError, match="Keystone has no role 'rating'"):
        await fetched(login)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match=r"collect\.keystone_fetcher\.keystone is missing"):
        KeystoneFetcher(SourceContext(CollectorSettings(), 3600))
    login = RestKeystone("https://k/v3", "u", "/nowhere", project="p")
    with pytest.raises(SettingsError, match=r"keystone_fetcher\.keystone\.password_file '/nowhere' cannot be read"):
        KeystoneFetcher(SourceContext(CollectorSettings(keystone_fetcher=KeystoneFetcherSettings(login)), 3600))
    with pytest.raises(ValueError, match="ignore_rating_role and own_projects exclude each other"):
        KeystoneFetcherSettings(ignore_rating_role=True, own_projects=True)
    with pytest.raises(ValueError, match="ca_file and insecure exclude each other"):
        KeystoneFetcherSettings(ca_file="f", insecure=True)
