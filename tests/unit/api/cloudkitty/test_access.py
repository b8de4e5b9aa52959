"""Conventions of both versions, who sees what, and requests of people who mean no good."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from multidict import CIMultiDict

from rater.api.cloudkitty.settings import CloudKittyApiSettings
from rater.api.credentials import Credentials, TokenFileError, check_exposure
from rater.api.settings import ApiSettings
from rater.observe import ListenError
from rater.rating import RuleBook
from rater.reports import StoreView, SumPage, SumsRequest
from tests.unit.api.cloudkitty.world import ANN, BOSS, BOTH, METER, RANGE, World, filled_store, opened, serving
from tests.unit.rating.builders import book_of

BOOK = RuleBook.empty()
H = "/v1/rating/module_config/hashmap"


@pytest.fixture(scope="module")
def view() -> Iterator[StoreView]:
    yield from opened(filled_store)


async def test_the_root_names_both_versions_by_the_host_that_was_asked(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        root = await world.ask("/")
        head = await world.ask("/", method="HEAD")
        health = await world.ask("/healthcheck")

    link = {"rel": "self"}
    assert root.body == {
        "versions": [
            {"id": "v1", "links": [{"href": f"{world.url}/v1", **link}], "status": "CURRENT"},
            {"id": "v2", "links": [{"href": f"{world.url}/v2", **link}], "status": "EXPERIMENTAL"},
        ]
    }
    assert head.status == 200
    assert (health.status, health.body) == (200, b"OK")
    assert root.headers["X-OpenStack-Request-ID"].startswith("req-")
    assert root.headers["X-OpenStack-Request-ID"] != health.headers["X-OpenStack-Request-ID"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 405),
        ("GET", "/v1/", 405),
        ("GET", "/v1/nope", 405),
        ("GET", "/v1/report/nope", 404),
        ("GET", "/v1/report//total", 404),
        ("GET", "/v1/report/total//", 404),
        ("GET", "/v1/report%2Ftotal", 405),
        ("GET", "/v1/../v1/report", 404),
        ("GET", "/v2", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/summary/", 404),
        ("GET", "/v2/nope", 404),
        ("POST", "/v2/summary", 405),
        ("POST", "/v1/report/total", 405),
        ("TRACE", "/v1/report/total", 405),
        ("DELETE", "/", 405),
    ],
)
async def test_unknown_routes_are_html_or_json_as_asked(view: StoreView, method: str, path: str, status: int) -> None:
    async with serving(view, BOOK) as world:
        page = await world.ask(path, method=method)
        values = await world.ask(path, method=method, headers={"Accept": "application/json"})

    assert (page.status, values.status) in ((status, status), (404, 404), (405, 405))
    assert page.status == status
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert values.body.keys() == {"code", "title", "description"}
    assert values.body["code"] == status
    if method != "GET":
        assert "GET" in page.headers["Allow"]


async def test_version_1_is_asked_with_and_without_a_slash_at_the_end(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        assert await world.get("/v1/report/total/", RANGE) == await world.get("/v1/report/total", RANGE)
        assert (await world.ask("/v1/report/total", method="HEAD")).status == 200


READABLE = {
    "/v1/report/total": "report:get_total",
    "/v1/report/summary": "report:get_summary",
    "/v1/storage/dataframes": "storage:list_data_frames",
    "/v2/summary": "summary:get_summary",
    "/v2/dataframes": "dataframes:get",
}
FOR_ADMINS = [
    "/v1/report/tenants",
    "/v1/rating/modules",
    "/v1/rating/modules/hashmap",
    "/v1/rating/reload_modules",
    "/v1/rating/module_config/noop",
    "/v1/collector/mappings",
    "/v1/collector/mappings/cpu",
    "/v1/collector/states?name=x",
    *(f"{H}/{name}" for name in ("types", "services", "fields?service_id=x", "groups", "mappings", "thresholds")),
    *(f"{H}/{name}/x" for name in ("services", "fields", "groups", "mappings", "thresholds")),
    "/v1/rating/module_config/pyscripts/scripts",
    "/v1/rating/module_config/pyscripts/scripts/x",
    "/v2/scope",
    "/v2/task/reprocesses",
    "/v2/task/reprocesses/A",
    "/v2/rating/modules",
    "/v2/rating/modules/hashmap",
]


async def test_without_a_token_nothing_but_the_root_is_told(view: StoreView, tmp_path: Path) -> None:
    async with serving(view, BOOK, tmp_path) as world:
        for path in [*READABLE, *FOR_ADMINS, "/v1/info/config"]:
            for headers in ({}, {"X-Auth-Token": "wrong"}, {"Authorization": f"Basic {BOSS}"}, {"X-Project-Id": "A"}):
                refused = await world.ask(path, headers=headers)
                assert refused.status == 401, path
                assert refused.body["error"]["code"] == 401
                assert refused.headers["WWW-Authenticate"] == 'Bearer realm="rater"'
        assert (await world.ask("/")).status == 200
        assert (await world.ask("/healthcheck")).status == 200
        bearer = await world.ask("/v2/scope", headers={"Authorization": f"bearer {BOSS}"})
        assert bearer.status == 200


async def test_readers_and_meters_do_not_administrate(view: StoreView, tmp_path: Path) -> None:
    async with serving(view, BOOK, tmp_path) as world:
        for path in FOR_ADMINS:
            for token in (ANN, METER):
                refused = await world.ask(path, token=token)
                assert refused.status == 403, path
                told = refused.body.get("faultstring") or refused.body["message"]
                assert told.startswith("Policy doesn't allow ")
        for path, action in READABLE.items():
            refused = await world.ask(path, RANGE, METER)
            told = refused.body.get("faultstring") or refused.body["message"]
            assert (refused.status, told) == (403, f"Policy doesn't allow {action} to be performed.")
        assert (await world.ask("/v1/info/config", token=METER)).status == 200


def _scopes(found: Any) -> set[str]:
    """Every scope that an answer names."""
    if isinstance(found, dict):
        named = {str(value) for key, value in found.items() if key in ("project_id", "tenant_id", "scope_id")}
        return named.union(*map(_scopes, found.values()))
    return set().union(*map(_scopes, found)) if isinstance(found, list) else set()


TRICKS: list[tuple[str, list[tuple[str, str]]]] = [
    ("/v2/summary", []),
    ("/v2/summary", [("filters", "project_id:B")]),
    ("/v2/summary", [("filters", "project_id:A,project_id:B")]),
    ("/v2/summary", [("filters", "project_id:"), ("filters", "type:cpu")]),
    ("/v2/dataframes", []),
    ("/v2/dataframes", [("filters", "project_id:B")]),
    ("/v1/report/summary", [("groupby", "tenant_id")]),
    ("/v1/storage/dataframes", []),
]


async def test_a_reader_sees_its_own_scopes_whatever_it_asks_for(view: StoreView, tmp_path: Path) -> None:
    async with serving(view, BOOK, tmp_path) as world:
        for path, query in TRICKS:
            extra = [("groupby", "project_id"), ("response_format", "object")] if path == "/v2/summary" else []
            for token, own in ((ANN, {"A"}), (BOTH, {"A", "B"}), (BOSS, {"A", "B"})):
                headers = {"X-Project-Id": "B", "X-Roles": "admin", "X-Is-Admin-Project": "True"}
                found = await world.ask(path, [*RANGE.items(), *query, *extra], token, headers=headers)
                assert found.status == 200, found
                assert _scopes(found.body) <= own, (path, query)
                if token == ANN:
                    assert _scopes(found.body) == own
        assert await world.get("/v1/report/total", RANGE, ANN) == "1.200025"
        assert (
            await world.get("/v1/report/total", {**RANGE, "tenant_id": "B"}, BOTH) == "1.3333333333333333333333333332"
        )
        for path in ("/v1/report/total", "/v1/report/summary", "/v1/storage/dataframes"):
            for query in ({"tenant_id": "B"}, {"tenant_id": "B", "all_tenants": "false"}):
                if path != "/v1/storage/dataframes" or "all_tenants" not in query:
                    assert (await world.ask(path, RANGE | query, ANN)).status == 403
            in_body = await world.ask(path, RANGE, ANN, json={"tenant_id": "B"})
            assert in_body.status == 403
        for path in ("/v1/report/total", "/v1/report/summary"):
            assert (await world.ask(path, {**RANGE, "all_tenants": "1"}, ANN)).status == 403
            assert (await world.ask(path, {**RANGE, "all_tenants": "1"}, BOSS)).status == 200
        by_label = await world.get("/v2/summary", {**RANGE, "groupby": "id"}, ANN)
        assert [row[-1] for row in by_label["results"]] == ["r1", "r2", "r3"]


STRANGE = ["'", "\\", "') OR 1=1 --", "{begin:UInt32}", "%s", "\u202e", "a" * 900, "é\n\t", "*", "../..", "\x00"]


async def test_nothing_that_is_sent_ends_in_500(view: StoreView) -> None:
    names = ["begin", "end", "filters", "groupby", "custom_fields", "response_format", "limit", "offset", "tenant_id"]
    names += ["service", "all_tenants", "resource_type", "scope_id", "active", "service_id", "name", "start", "x"]
    paths = ["/v2/summary", "/v2/dataframes", "/v2/scope", "/v1/report/total", "/v1/report/summary", f"{H}/mappings"]
    paths += ["/v1/storage/dataframes", "/v1/collector/states", f"{H}/fields", f"{H}/groups/mappings"]

    async def asked(world: World, path: str, query: Any, **request: Any) -> None:
        found = await world.ask(path, query, **request)
        assert found.status in (200, 400, 404, 405, 409), (path, query, found)

    async with serving(view, book_of("svc flat 1")) as world:
        for path in paths:
            await asyncio.gather(*(asked(world, path, {name: text}) for name in names for text in STRANGE[:4]))
            await asyncio.gather(*(asked(world, path, {"filters": f"{text}:{text}"}) for text in STRANGE))
            await asyncio.gather(*(asked(world, path, {"groupby": text}) for text in STRANGE))
            for body in (b"", b"{", b"[]", b"null", b'{"a":{}}', b"\xff", b"[" * 50_000, b'{"tenant_id": "\\ud800"}'):
                await asked(world, path, None, data=body, headers={"Content-Type": "application/json"})
        for text in STRANGE:
            for prefix in (f"{H}/mappings/", "/v1/info/metrics/", "/v2/rating/modules/", "/v1/"):
                await asked(world, prefix + quote(text, safe=""), None)
        bounds = ("0001-01-01T00:00:00", "9999-12-31T23:59:59-12:00", "1969-12-31", "2200-01-01")
        for begin in bounds:
            for path in ("/v2/summary", "/v1/report/summary", "/v2/dataframes", "/v1/storage/dataframes"):
                await asked(world, path, {"begin": begin, "end": bounds[1]})
        await asked(world, "/v2/summary", [("offset", "9" * 30), ("limit", "9" * 30)])
        await asked(world, "/v2/summary", [("groupby", ",".join(f"k{n}" for n in range(60)))])
        await asked(world, "/v2/summary", [("filters", ",".join(f"k{n}:v" for n in range(60)))])


async def test_bodies_are_bounded_and_plain(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        large = await world.ask("/v1/report/total", data=b" " * 200_000)
        packed = await world.ask("/v1/report/total", data=b"x", headers={"Content-Encoding": "gzip"})

    assert (large.status, large.body["faultcode"]) == (413, "Client")
    assert packed.status == 415


async def test_a_store_that_is_away_and_too_many_requests_are_503(view: StoreView) -> None:
    class Slow(StoreView):
        def sums(self, request: SumsRequest) -> SumPage:
            waiting.wait(10)
            return super().sums(request)

    waiting = threading.Event()
    with filled_store() as store:
        async with serving(Slow(store), BOOK) as world:
            many = [asyncio.create_task(world.ask("/v2/summary", RANGE)) for _ in range(60)]
            done: set[Any] = set()
            while len(done) < 10:
                done, _ = await asyncio.wait(many, timeout=0.05)
            waiting.set()
            found = await asyncio.gather(*many)

    assert sorted({answer.status for answer in found}) == [200, 503]
    assert sum(answer.status == 503 for answer in found) == 10


def test_who_may_listen_where(tmp_path: Path) -> None:
    tokens = str(tmp_path / "tokens.yaml")
    cloudkitty = CloudKittyApiSettings()

    with pytest.raises(ListenError, match=r"api\.i_know: true"):
        check_exposure(ApiSettings(listen="0.0.0.0:1", cloudkitty=cloudkitty))
    told = check_exposure(ApiSettings(listen="0.0.0.0:1", i_know=True, cloudkitty=cloudkitty))
    assert "shows prices and usage to anybody" in told
    assert "asks for a token" in check_exposure(
        ApiSettings(listen="0.0.0.0:1", token_file=tokens, cloudkitty=cloudkitty)
    )
    with pytest.raises(ValueError, match="no name of a time zone"):
        CloudKittyApiSettings(time_zone="../etc/passwd")


async def test_another_name_of_this_machine_is_refused_without_tokens(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        assert (await world.ask("/v2/summary", headers={"Host": "evil.example"})).status == 403


async def test_a_reader_has_scopes_and_does_not_push(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(f"tokens: [{{name: ann, token: {ANN}, roles: [reader]}}]")
    with pytest.raises(TokenFileError, match="list them in `scopes`"):
        Credentials(str(file))
    file.write_text(f"tokens: [{{name: ann, token: {ANN}, roles: [boss]}}]")
    with pytest.raises(TokenFileError, match="roles"):
        Credentials(str(file))
    file.write_text(f"tokens: [{{name: ann, token: {ANN}, roles: [reader], scopes: [A]}}, {{name: m, token: {METER}}}]")
    credentials = Credentials(str(file))

    ann = await credentials.identify(CIMultiDict({"X-Auth-Token": ANN}))
    meter = await credentials.identify(CIMultiDict({"X-Auth-Token": METER}))
    assert (ann.may_push("A", "s"), meter.may_push("A", "s")) == (False, True)
