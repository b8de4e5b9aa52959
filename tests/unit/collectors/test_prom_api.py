"""What counts as a whole answer of Prometheus, against a small HTTP server that answers what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.prometheus.api import Item, PrometheusApi
from collectors.scopes.plain import PrometheusFetcher, StaticFetcher
from collectors.settings import (
    CollectorSettings,
    PrometheusFetcherSettings,
    PrometheusKeystone,
    PrometheusSettings,
    StaticFetcherSettings,
)
from collectors.source import SourceContext, fetcher_factory, source_factory

KEYSTONE = PrometheusKeystone(url="http://k/v3", username="u", password_file="f", project="p")
VECTOR = {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, "7"]}]}


class Served:
    """A server whose answer a test sets, and what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.whole
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.url = ""

    async def whole(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "success", "data": VECTOR})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append((request.method, request.path, {**request.query, **form}, dict(request.headers)))
        return await self.answer(request)

    def says(self, body: Any, status: int = 200) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            if isinstance(body, bytes):
                return web.Response(body=body, status=status)
            return web.json_response(body, status=status)

        self.answer = answer


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    found = Served()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    found.url = str(server.make_url("/api/v1"))
    yield found
    await server.close()


async def _ask(served: Served, **more: Any) -> list[Item]:
    api = PrometheusApi(PrometheusSettings(url=served.url, **more), concurrency=2)
    try:
        return await api.query("up", 1_767_225_600)
    finally:
        await api.close()


async def test_a_whole_answer(served: Served) -> None:
    assert await _ask(served, parameters={"dedup": "true"}, headers={"X-Scope-OrgID": "t1"}) == [
        Item({"a": "b"}, (1.5, "7"))
    ]
    ((method, path, query, headers),) = served.asked
    assert (method, path) == ("GET", "/api/v1/query")
    assert query == {"query": "up", "time": "2026-01-01T00:00:00Z", "dedup": "true"}
    assert headers["X-Scope-OrgID"] == "t1"


async def test_the_tenant_goes_with_each_question_and_parameters_with_each_query(served: Served) -> None:
    settings = PrometheusSettings(
        url=served.url, headers={"X-Scope-OrgID": "t1"}, parameters={"partial_response": "false"}
    )
    api = PrometheusApi(settings, concurrency=2)
    try:
        await api.query("up", 0)
        await api.query("u" * 3000, 0)
        await api.query_range("up", 0, 60, 60)
        await api.look_up("status/buildinfo", {})
    finally:
        await api.close()

    assert [asked[3].get("X-Scope-OrgID") for asked in served.asked] == ["t1"] * 4
    assert [asked[2].get("partial_response") for asked in served.asked] == ["false"] * 3 + [None]


async def test_a_range_and_a_long_query(served: Served) -> None:
    served.says(
        {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"]]}]}}
    )
    api = PrometheusApi(PrometheusSettings(url=served.url + "/"), concurrency=2)
    try:
        found = await api.query_range("u" * 3000, 0, 1.25, 60)
    finally:
        await api.close()

    assert found == [Item({}, None, [(1.0, "2")])]
    assert served.asked[0][:3] == (
        "POST",
        "/api/v1/query_range",
        {"query": "u" * 3000, "start": "1970-01-01T00:00:00Z", "end": "1.250", "step": "60"},
    )


class Cloud:
    """A Keystone and an Aetos in one server: tokens are numbered, and good until the test says which one is."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.given = 0
        self.good = ""
        served.answer = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/auth/tokens"):
            self.given += 1
            self.good = self.good or f"token-{self.given}"
            endpoint = {"interface": "public", "region_id": "R1", "url": self._served.url.removesuffix("/api/v1")}
            elsewhere = {"interface": "internal", "region_id": "R1", "url": "http://127.0.0.1:1"}
            catalog = [{"type": "metric-storage", "endpoints": [endpoint, elsewhere]}]
            said = {"token": {"expires_at": "2100-01-01T00:00:00Z", "catalog": catalog}}
            return web.json_response(said, status=201, headers={"X-Subject-Token": f"token-{self.given}"})
        if request.headers.get("X-Auth-Token") != self.good:
            return web.Response(status=401)
        found = {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"]]}]}
        return web.json_response({"status": "success", "data": found})


def _by_keystone(served: Served, directory: Path, **more: str) -> PrometheusSettings:
    (directory / "secret").write_text("s3cret")
    url = served.url.replace("/api/v1", "/v3")
    login = {"username": "rater", "password_file": str(directory / "secret"), "project": "service"}
    return PrometheusSettings(keystone=PrometheusKeystone(url=url, **login, **more))  # type: ignore[arg-type] # words


async def test_aetos_is_found_in_the_catalogue_and_a_token_renewed_once(served: Served, tmp_path: Path) -> None:
    cloud = Cloud(served)
    api = PrometheusApi(_by_keystone(served, tmp_path, region="R1"), concurrency=2)
    try:
        await api.query("up", 0)
        cloud.good = "token-2"  # the first was revoked
        await asyncio.gather(*(api.query("up", 0) for _ in range(5)))
        cloud.good = "another's"
        with pytest.raises(SourceAwayError, match=r"refuses us \(status 401\): check the roles that collect"):
            await api.query("up", 0)
    finally:
        await api.close()

    assert api.url == served.url
    assert cloud.given == 3
    assert {path for _, path, _, _ in served.asked} == {"/v3/auth/tokens", "/api/v1/query"}


async def test_without_an_endpoint_or_a_keystone_it_is_away(served: Served, tmp_path: Path) -> None:
    Cloud(served)
    for more, reason in (
        ({"region": "R2"}, "no public endpoint of service type 'metric-storage' in region 'R2'"),
        ({"interface": "internal"}, "cannot be reached"),
    ):
        api = PrometheusApi(_by_keystone(served, tmp_path, **more), concurrency=2)
        try:
            with pytest.raises(SourceAwayError, match=reason):
                await api.query("up", 0)
        finally:
            await api.close()


async def test_aetos_is_asked_nothing_but_queries(served: Served, tmp_path: Path) -> None:
    """Given OpenStack's Aetos: no ranges, no forms; then ranges are subqueries, and what is too long is not asked."""
    Cloud(served)
    api = PrometheusApi(_by_keystone(served, tmp_path), concurrency=2)
    try:
        found = await api.query_range("max(up)", 0.5, 3600, 30)
        await api.query("u" * 3000, 0)
        with pytest.raises(SourceError, match="more than 7000 bytes is too long"):
            await api.query("|" * 2500, 0)
    finally:
        await api.close()

    assert found == [Item({}, None, [(1.0, "2")])]
    assert [asked[:2] for asked in served.asked[1:]] == [("GET", "/api/v1/query")] * 2
    assert served.asked[1][2] == {"query": "(max(up))[3599500ms:30000ms]", "time": "1970-01-01T01:00:00Z"}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"status": "error", "errorType": "bad_data", "error": "parse error"}, 400, "status 400, 'parse error' to up"),
        ({"status": "error", "error": "query timed out"}, 503, "status 503, 'query timed out'"),
        ({"status": "error", "error": "odd"}, 200, "status 200, 'odd'"),
        ({"status": "success"}, 200, "status 200, ''"),
        ({"error_message": {"faultstring": "[400] parse error"}}, 400, r"status 400, '\[400\] parse error'"),
        ({"error_message": "not found"}, 404, "status 404, 'not found'"),
        ({"status": "success", "data": VECTOR}, 206, "status 206"),
        ({"status": "success", "data": VECTOR, "warnings": ["store down"]}, 200, "with a warning, 'store down'"),
        ({"status": "success", "data": VECTOR, "warnings": ["PromQL info: x", "store down"]}, 200, "'store down'"),
        ({"status": "success", "data": VECTOR, "warnings": ["PromQL warning: mixed"]}, 200, "'PromQL warning: mixed'"),
        ({"status": "success", "data": VECTOR, "isPartial": True}, 200, "a partial answer"),
        (b"<html>", 200, "no JSON of its kind"),
        (b"", 200, "no JSON of its kind"),
        (b"\xff", 200, "no JSON of its kind"),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}, 200, "a scalar, not a vector"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"value": 1}]}}, 200, "cannot be read"),
        ({"status": "success", "data": {"resultType": "vector", "result": None}}, 200, "cannot be read"),
    ],
)
async def test_what_is_not_whole_is_no_answer(served: Served, body: Any, status: int, reason: str) -> None:
    served.says(body, status)

    with pytest.raises(SourceError, match=reason) as refused:
        await _ask(served)
    assert not isinstance(refused.value, SourceAwayError)


@pytest.mark.parametrize("warnings", [None, [], ["PromQL info: metric might not be a counter"]])
async def test_harmless_remarks_are_no_warnings(served: Served, warnings: list[str] | None) -> None:
    served.says({"status": "success", "data": VECTOR, "warnings": warnings, "infos": ["anything"]})

    assert len(await _ask(served)) == 1


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"no", 401, "refuses us .status 401.: check collect.prometheus.username"),
        (b"no", 403, "refuses us .status 403."),
        (b"Bad Gateway", 502, "status 502 and no JSON"),
        ({"error_message": {"faultstring": "refused"}}, 500, "status 500, 'refused'"),
        (b"", 302, "sends us elsewhere .status 302.: set collect.prometheus.url to"),
    ],
)
async def test_a_server_that_answers_nobody_is_away(served: Served, body: Any, status: int, reason: str) -> None:
    served.says(body, status)

    with pytest.raises(SourceAwayError, match=reason):
        await _ask(served)


async def test_a_port_where_nobody_listens_is_away(served: Served, unused_tcp_port: int) -> None:
    served.url = f"http://127.0.0.1:{unused_tcp_port}/api/v1"
    with pytest.raises(SourceAwayError, match="cannot be reached"):
        await _ask(served)


async def test_a_slow_answer_is_none(served: Served) -> None:
    async def sleep(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    served.answer = sleep
    with pytest.raises(SourceError, match=r"gave no answer within 0\.2 s"):
        await _ask(served, timeout=0.2)


async def test_a_large_answer_is_none(served: Served) -> None:
    served.says(b'{"status": "success", "data": "' + b"x" * 5000 + b'"}')

    with pytest.raises(SourceError, match=r"more than 2000 bytes .collect\.prometheus\.max_answer_bytes"):
        await _ask(served, max_answer_bytes=2000)


async def test_an_answer_that_breaks_off_is_none(served: Served) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"status"')
        assert request.transport is not None
        request.transport.close()
        return response

    served.answer = break_off
    with pytest.raises(SourceError, match="broke off"):
        await _ask(served)


async def test_credentials_come_from_files(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")

    await _ask(served, username="u", password_file=str(tmp_path / "secret"))
    await _ask(served, bearer_file=str(tmp_path / "secret"))

    assert served.asked[0][3]["Authorization"] == "Basic dTpzM2NyZXQ="
    assert served.asked[1][3]["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": ""}, r"collect\.prometheus\.url is missing"),
        ({"bearer_file": "/nowhere"}, r"bearer_file '/nowhere' cannot be read"),
        ({"username": "u", "password_file": "/nowhere"}, r"password_file '/nowhere' cannot be read"),
        ({"ca_file": "/nowhere"}, r"ca_file '/nowhere' cannot be used"),
    ],
)
async def test_settings_that_cannot_work_are_named(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        PrometheusApi(PrometheusSettings(**{"url": "http://127.0.0.1/api/v1", **settings}), 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "u"},
        {"username": "u:v", "password_file": "f"},
        {"username": "u", "password_file": "f", "bearer_file": "g"},
        {"keystone": KEYSTONE, "bearer_file": "g"},
        {"keystone": KEYSTONE, "parameters": {"dedup": "true"}},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    reasons = r"username (and password_file go together|and bearer_file exclude|has a colon)|keystone excludes"
    with pytest.raises(ValueError, match=reasons):
        PrometheusSettings(**settings)


async def test_look_up_says_none_where_the_server_has_no_such_thing(served: Served) -> None:
    api = PrometheusApi(PrometheusSettings(url=served.url), concurrency=2)
    found = []
    try:
        answers = [({"status": "success", "data": {"a": 1}}, 200), (b"no", 404), (b"no", 403), (b"<", 200), ({}, 200)]
        for body, status in answers:
            served.says(body, status)
            found.append(await api.look_up("status/x", {}))
    finally:
        await api.close()

    assert found == [{"a": 1}, None, None, None, None]


async def test_a_clock_is_compared_by_the_date_of_answers(served: Served) -> None:
    ahead: list[float | None] = []
    api = PrometheusApi(PrometheusSettings(url=served.url), concurrency=2)
    try:
        for date in (formatdate(time.time() + 120, usegmt=True), "yesterday"):

            async def dated(request: web.Request, date: str = date) -> web.StreamResponse:
                return web.json_response({"status": "success", "data": VECTOR}, headers={"Date": date})

            served.answer = dated
            await api.query("up", 1_767_225_600)
            ahead.append(api.clock_ahead)
    finally:
        await api.close()

    first, second = ahead
    assert first is not None
    assert 110 < first <= 121
    assert second is None


async def test_scopes_are_the_values_of_a_label(served: Served) -> None:
    items = [{"metric": metric, "value": [1, "1"]} for metric in ({"ns": "a"}, {"ns": "b"}, {}, {"ns": "x" * 256})]
    served.says({"status": "success", "data": {"resultType": "vector", "result": items}})
    settings = CollectorSettings(
        prometheus=PrometheusSettings(url=served.url),
        prometheus_fetcher=PrometheusFetcherSettings("pods", "ns", {"cluster": "c1"}),
    )
    fetcher = fetcher_factory("prometheus")(SourceContext(settings, 3600))
    try:
        assert await fetcher.fetch(1_767_225_600, 1_767_225_000) == {"a", "b"}
    finally:
        await fetcher.close()
    query = 'max(max_over_time(pods{cluster="c1"}[600s])) by (ns)'
    assert served.asked[0][2] == {"query": query, "time": "2026-01-01T00:00:00Z"}


async def test_scopes_are_those_of_every_replica_that_answers(
    served: Served, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    items = [{"metric": {"project_id": "a"}, "value": [1, "1"]}]
    served.says({"status": "success", "data": {"resultType": "vector", "result": items}})
    nobody = f"http://127.0.0.1:{unused_tcp_port}/api/v1"
    chosen = PrometheusFetcherSettings("pods")
    for urls, named in (([nobody, served.url], {"a"}), ([nobody], None)):
        settings = CollectorSettings(prometheus=PrometheusSettings(urls=urls), prometheus_fetcher=chosen)
        fetcher = fetcher_factory("prometheus")(SourceContext(settings, 3600))
        try:
            if named:
                assert await fetcher.fetch(1_767_225_600, 1_767_225_600) == named
                assert "scopes are taken from the other replicas" in caplog.text
            else:
                with pytest.raises(SourceAwayError, match="cannot be reached"):
                    await fetcher.fetch(1_767_225_600, 1_767_225_600)
        finally:
            await fetcher.close()


async def test_scopes_of_now_are_known_where_a_longer_look_is_too_much(served: Served) -> None:
    # given a server that finds every question too much
    served.says({"status": "error", "error": "would load too many samples"}, 422)
    chosen = PrometheusFetcherSettings("pods", "ns")
    settings = CollectorSettings(prometheus=PrometheusSettings(url=served.url), prometheus_fetcher=chosen)
    fetcher = fetcher_factory("prometheus")(SourceContext(settings, 3600))
    try:
        # when it is asked for a day, then for those of now; when for ten seconds, then once
        for seconds, ranges in ((86400, ["86400s", "300s"]), (10, ["300s"])):
            served.asked.clear()
            with pytest.raises(SourceError, match="too many samples"):
                await fetcher.fetch(1_767_225_600, 1_767_225_600 - seconds)
            queries = [f"max(max_over_time(pods{{}}[{looked_back}])) by (ns)" for looked_back in ranges]
            assert [asked[2]["query"] for asked in served.asked] == queries
    finally:
        await fetcher.close()


async def test_fetchers_refuse_settings_that_name_nothing() -> None:
    settings = CollectorSettings(static=StaticFetcherSettings(["a", "b"]))
    fetcher = fetcher_factory("static")(SourceContext(settings, 3600))
    assert await fetcher.fetch(0, 0) == {"a", "b"}
    await fetcher.close()
    with pytest.raises(SettingsError, match=r"collect\.static\.scopes is empty"):
        StaticFetcher([])
    with pytest.raises(SettingsError, match=r"collect\.prometheus_fetcher\.metric is missing"):
        PrometheusFetcher(SourceContext(settings, 3600))


def test_sources_that_nobody_provides_are_named() -> None:
    assert source_factory("prometheus")
    with pytest.raises(SettingsError, match=r"collect\.source is 'gnochi': installed are .*prometheus"):
        source_factory("gnochi")


@pytest.mark.parametrize(("status", "pause", "seconds"), [(429, "90", 90), (429, None, 0), (503, "7", 7)])
async def test_a_server_that_asks_to_be_left_in_peace_is(
    served: Served, status: int, pause: str | None, seconds: float
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {} if pause is None else {"Retry-After": pause}
        return web.json_response({"status": "error", "error": "busy"}, status=status, headers=headers)

    served.answer = answer
    api = PrometheusApi(PrometheusSettings(url=served.url), concurrency=1)
    with pytest.raises(SourceAwayError, match=f"left in peace .status {status}") as away:
        await api.query("m", 0)
    await api.close()

    assert away.value.retry_after == seconds
    assert api.queries == 1
