"""Each way to say who we are, against servers that check it; and that no secret shows up anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.http.request import Http
from collectors.rest.answer import Expression
from collectors.rest.api import RestApi
from collectors.rest.auth import credentials
from collectors.rest.settings import (
    RestAuth,
    RestBasic,
    RestBearer,
    RestConnection,
    RestHeader,
    RestKeystone,
    RestOAuth2,
)
from collectors.rest.source import Factory
from collectors.rest.template import Asked
from tests.unit.collectors.rest_endpoint import Endpoint, context, get_pages, json_reply

SECRET = "s3cr3t-w0rd"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def _header(endpoint: Endpoint, auth: RestAuth, name: str = "Authorization") -> str | None:
    await get_pages(endpoint, auth=auth)
    return endpoint.asked[-1].headers.get(name)


async def test_without_auth_nothing_is_sent(endpoint: Endpoint) -> None:
    assert await _header(endpoint, RestAuth()) is None


async def test_basic(endpoint: Endpoint, secret: Path) -> None:
    sent = await _header(endpoint, RestAuth(basic=RestBasic("ü", str(secret))))

    assert sent is not None
    assert b64decode(sent.removeprefix("Basic ")).decode() == f"ü:{SECRET}"


async def test_bearer(endpoint: Endpoint, secret: Path) -> None:
    assert await _header(endpoint, RestAuth(bearer=RestBearer(str(secret)))) == f"Bearer {SECRET}"


async def test_header(endpoint: Endpoint, secret: Path) -> None:
    assert await _header(endpoint, RestAuth(header=RestHeader("X-API-Key", str(secret))), "X-API-Key") == SECRET


async def test_a_token_that_was_renewed_in_its_file_is_read_again(endpoint: Endpoint, secret: Path) -> None:
    async def check(request: web.Request) -> web.StreamResponse:
        known = request.headers["Authorization"] == "Bearer new"
        return web.json_response({"items": [1]}, status=200 if known else 401)

    endpoint.says(check)
    api = RestApi(RestConnection(endpoint.url, auth=RestAuth(bearer=RestBearer(str(secret)))), "collect.rest", 1)
    try:
        secret.write_text("new")
        assert await _asked(api, endpoint) == [1]
        secret.unlink()
        endpoint.says(json_reply({}, 401))
        with pytest.raises(SourceAwayError, match=r"token_file .* cannot be read: No such file"):
            await _asked(api, endpoint)
    finally:
        await api.close()
    assert len(endpoint.asked) == 3


async def _asked(api: RestApi, endpoint: Endpoint) -> list[Any]:
    pages = await api.pages(endpoint.url + "/usage", None, Asked(0, 1), Expression("items", "items"))
    return [item for page in pages for item in page.items]


# --- OAuth2


def _oauth2(endpoint: Endpoint, secret: Path, **more: Any) -> RestAuth:
    return RestAuth(oauth2=RestOAuth2(f"{endpoint.url}/token", "my id", str(secret), **more))


async def test_oauth2(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says({"access_token": "t1", "token_type": "Bearer", "expires_in": 600}, {"items": []})

    sent = await _header(endpoint, _oauth2(endpoint, secret, scope="usage", parameters={"audience": "a b"}))

    asked = endpoint.asked[0]
    assert sent == "Bearer t1"
    assert (asked.method, asked.path) == ("POST", "/token")
    assert asked.body == b"grant_type=client_credentials&audience=a+b&scope=usage"
    assert b64decode(asked.headers["Authorization"].removeprefix("Basic ")).decode() == f"my+id:{SECRET}"


async def test_oauth2_with_the_secret_in_the_form(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says({"access_token": "t1"}, {"items": []})

    assert await _header(endpoint, _oauth2(endpoint, secret, in_body=True)) == "Bearer t1"
    assert endpoint.asked[0].body == f"grant_type=client_credentials&client_id=my+id&client_secret={SECRET}".encode()
    assert "Authorization" not in endpoint.asked[0].headers


async def test_a_secret_that_was_changed_is_read_again(endpoint: Endpoint, secret: Path) -> None:
    http = Http(RestConnection(), "collect.rest")
    found = credentials(_oauth2(endpoint, secret, in_body=True), http)
    endpoint.says({"access_token": "t"})
    try:
        secret.write_text("changed")
        headers = await found.headers()
        assert endpoint.asked[0].body.endswith(b"client_secret=changed")
        assert found.forget(headers)
        secret.unlink()
        with pytest.raises(SourceAwayError, match=r"oauth2\.secret_file .* cannot be read"):
            await found.headers()
    finally:
        await http.close()


@pytest.mark.parametrize(("life", "kept"), [(600, 540), (60, 54), (None, 270), ("60", 270), (-5, 270)])
async def test_a_token_is_kept_until_shortly_before_it_expires(
    endpoint: Endpoint, secret: Path, life: Any, kept: float
) -> None:
    clock = Clock()
    http = Http(RestConnection(), "collect.rest")
    found = credentials(_oauth2(endpoint, secret), http, clock)
    endpoint.says(*({"access_token": f"t{number}", "expires_in": life} for number in range(3)))
    try:
        first = await asyncio.gather(*(found.headers() for _ in range(5)))
        clock.now += kept - 1
        second = await found.headers()
        clock.now += 1
        third = await found.headers()
    finally:
        await http.close()
    assert [dict(one) for one in first] == [{"Authorization": "Bearer t0"}] * 5
    assert (dict(second), dict(third)) == ({"Authorization": "Bearer t0"}, {"Authorization": "Bearer t1"})
    assert len(endpoint.asked) == 2


async def test_a_token_that_is_refused_is_asked_for_again_once(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says({"access_token": "t1"}, json_reply({}, 401), {"access_token": "t2"}, {"items": [1]})
    assert await _header(endpoint, _oauth2(endpoint, secret)) == "Bearer t2"

    endpoint.says({"access_token": "t1"}, json_reply({}, 401), {"access_token": "t2"}, json_reply({}, 401))
    with pytest.raises(SourceAwayError, match="refuses us"):
        await _header(endpoint, _oauth2(endpoint, secret))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (json_reply({"error": "invalid_client"}, 400), "/token: no token .status 400.: check the credentials"),
        (json_reply({}, 401), "no token .status 401."),
        (json_reply({}, 500), "/token: status 500"),
        ((302, b"", {"Location": "http://127.0.0.1:1/"}), "sends us elsewhere"),
        (json_reply({}), "no bearer token in the answer"),
        (json_reply({"access_token": "a\nb"}), "no bearer token in the answer"),
        (json_reply({"access_token": "t", "token_type": "mac"}), "no bearer token in the answer"),
        (json_reply([]), "the answer is no JSON object"),
        ((200, b"<html>", {}), "the answer is no JSON object"),
    ],
)
async def test_without_a_token_the_source_is_away(endpoint: Endpoint, secret: Path, reply: Any, reason: str) -> None:
    endpoint.says(reply)

    with pytest.raises(SourceAwayError, match=reason):
        await _header(endpoint, _oauth2(endpoint, secret))
    assert [asked.path for asked in endpoint.asked] == ["/token"]


async def test_a_token_server_that_asks_for_a_pause_gets_it(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says((429, b"", {"Retry-After": "120"}))

    with pytest.raises(SourceAwayError, match="asks for a pause") as told:
        await _header(endpoint, _oauth2(endpoint, secret))
    assert told.value.retry_after == 120


async def test_check_asks_for_a_token(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says(json_reply({}, 401))
    source = Factory.build(context(endpoint, auth=_oauth2(endpoint, secret)))
    try:
        with pytest.raises(SourceAwayError, match=r"/token: no token .status 401."):
            await source.check(0, 7200)
    finally:
        await source.close()


# --- Keystone


def _keystone_token(seconds: int) -> tuple[int, bytes, dict[str, str]]:
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return json_reply({"token": {"expires_at": expires}}, 201, X_Subject_Token="k1")


async def test_keystone_with_a_password(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says(_keystone_token(3600), {"items": []})
    keystone = RestKeystone(f"{endpoint.url}/v3/", username="u", password_file=str(secret), project="admin")

    assert await _header(endpoint, RestAuth(keystone=keystone), "X-Auth-Token") == "k1"
    assert endpoint.asked[0].path == "/v3/auth/tokens"
    assert json.loads(endpoint.asked[0].body) == {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "u", "domain": {"name": "Default"}, "password": SECRET}},
            },
            "scope": {"project": {"name": "admin", "domain": {"name": "Default"}}},
        }
    }


async def test_keystone_for_the_whole_system(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says(_keystone_token(3600), {"items": []})
    keystone = RestKeystone(f"{endpoint.url}/v3", username="u", password_file=str(secret), system=True)

    assert await _header(endpoint, RestAuth(keystone=keystone), "X-Auth-Token") == "k1"
    assert json.loads(endpoint.asked[0].body)["auth"]["scope"] == {"system": {"all": True}}


async def test_keystone_with_an_application_credential(endpoint: Endpoint, secret: Path) -> None:
    endpoint.says(_keystone_token(3600), {"items": []})
    keystone = RestKeystone(f"{endpoint.url}/v3", application_credential_id="c1", secret_file=str(secret))

    assert await _header(endpoint, RestAuth(keystone=keystone), "X-Auth-Token") == "k1"
    assert json.loads(endpoint.asked[0].body)["auth"]["identity"] == {
        "methods": ["application_credential"],
        "application_credential": {"id": "c1", "secret": SECRET},
    }


@pytest.mark.parametrize(
    "reply", [json_reply({}, 201), json_reply({"token": {}}), json_reply({"token": 1}, X_Subject_Token="k")]
)
async def test_keystone_without_a_token_is_away(endpoint: Endpoint, secret: Path, reply: Any) -> None:
    endpoint.says(reply)
    keystone = RestKeystone(f"{endpoint.url}/v3", application_credential_id="c1", secret_file=str(secret))

    with pytest.raises(SourceAwayError, match="/v3/auth/tokens: no token in the answer"):
        await _header(endpoint, RestAuth(keystone=keystone))


# --- secrets


def _made(auth: RestAuth) -> RestApi:
    return RestApi(RestConnection("https://h/", auth=auth), "collect.rest", 1)


@pytest.mark.parametrize("content", ["", " \n", "a\nb", "a\x00b"])
def test_a_file_without_a_usable_secret_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)

    with pytest.raises(SettingsError, match=r"collect\.rest\.auth\.bearer\.token_file '.*' has no secret of one line"):
        RestApi(
            RestConnection("https://h/", auth=RestAuth(bearer=RestBearer(str(tmp_path / "secret")))), "collect.rest", 1
        )


@pytest.mark.parametrize("name", ["nowhere", "bytes"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")

    path = str(tmp_path / name)
    for auth, key in (
        (RestAuth(basic=RestBasic("u", path)), "basic.password_file"),
        (RestAuth(header=RestHeader("X", path)), "header.value_file"),
        (RestAuth(oauth2=RestOAuth2("https://h/", "c", path)), "oauth2.secret_file"),
        (
            RestAuth(keystone=RestKeystone("https://h/", application_credential_id="c", secret_file=path)),
            "keystone.secret_file",
        ),
    ):
        with pytest.raises(SettingsError, match=rf"collect\.rest\.auth\.{key} .* (cannot be read|is not text)"):
            _made(auth)


async def test_no_secret_is_logged_or_told(endpoint: Endpoint, secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given a server that says back whatever it was sent, in every way there is; then errors and logs do not."""

    async def echo(request: web.Request) -> web.StreamResponse:
        said = f"{request.headers} {await request.text()}"
        status = statuses.pop(0)
        safe = "".join(one for one in said if one.isprintable())[:500]
        more = {"Retry-After": safe, "Location": f"/{safe}", "X-Said": safe}
        return web.Response(status=status, text=said, content_type="text/plain", headers=more)

    caplog.set_level(logging.DEBUG)
    told = []
    auths = (
        RestAuth(basic=RestBasic("u", str(secret))),
        RestAuth(bearer=RestBearer(str(secret))),
        RestAuth(header=RestHeader("X-Key", str(secret))),
        _oauth2(endpoint, secret),
        _oauth2(endpoint, secret, in_body=True),
        RestAuth(keystone=RestKeystone(endpoint.url, application_credential_id="c", secret_file=str(secret))),
    )
    for auth in auths:
        for status in (200, 302, 400, 401, 403, 429, 500, 503):
            statuses = [status] * 4
            endpoint.says(echo)
            with pytest.raises(SourceError) as refused:
                await get_pages(endpoint, auth=auth, url="/usage?key=in-the-query")
            told.append(f"{refused.value!r} {refused.value} {refused.value.__cause__!r}")
    logged = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]  # the server's own
    everything = "\n".join([*told, *logged])
    assert len(told) == 48
    for word in (SECRET, "in-the-query", b64_of(f"u:{SECRET}"), b64_of(f"my+id:{SECRET}")):
        assert word not in everything


def b64_of(text: str) -> str:
    return b64encode(text.encode()).decode()
