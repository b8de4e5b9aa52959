"""What all operations of /v3 share: routes, parameters, bodies, forms, access, streams and their faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import aiohttp
import msgspec
import pytest
from msgspec import Meta

from rater.api.faults import RefusalError
from rater.api.openapi import document
from rater.api.v3 import sending
from rater.api.v3.arguments import read_arguments
from rater.api.v3.operations import CSV, EVENTS, JSON, NDJSON, Asked, Backend, Event, Operation, Reply
from rater.api.v3.values import Limit, Time, cursor_of, read_cursor
from rater.reports import StoreView
from rater.store import StoreUnavailableError
from tests.unit.api.cloudkitty.world import filled_store, opened
from tests.unit.api.v3.world import World, serving
from tests.unit.store.builders import JANUARY


class Parameters(msgspec.Struct, frozen=True):
    """Of the operations below."""

    scope_id: str
    begin: Time | None = None
    limit: Limit = 100
    status: list[Annotated[str, Meta(max_length=5)]] = []
    if_match: Annotated[str, Meta(extra={"in": "header"}, max_length=5)] = msgspec.field(default="", name="If-Match")


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the one that writes."""

    reason: Annotated[str, Meta(min_length=1)]
    times: int = 1


class Said(msgspec.Struct, frozen=True):
    """What they answer."""

    text: str
    at: datetime | None = None


async def tell(backend: Backend, asked: Asked[Parameters, Body | None]) -> Reply:
    await backend.scope(asked, asked.parameters.scope_id)
    chosen = asked.parameters
    told = f"{chosen.limit} {chosen.status} {chosen.if_match} {asked.body}"
    return Reply(Said(told, chosen.begin), headers={"ETag": '"7"'})


async def stream(backend: Backend, asked: Asked[Any, None]) -> Reply:
    def chunks() -> Iterator[bytes]:
        yield b'{"n":1}\n' if asked.form == NDJSON else b"n\n1\n"
        if asked.parameters.scope_id == "broken":
            raise StoreUnavailableError("away")
        yield b'{"n":2}\n'

    if asked.parameters.scope_id == "away":
        return Reply(chunks=failing())
    return Reply(chunks=chunks())


def failing() -> Iterator[bytes]:
    raise StoreUnavailableError("away")
    yield b""


async def events(backend: Backend, asked: Asked[Any, None]) -> Reply:
    async def all_of_them() -> AsyncIterator[Event]:
        yield Event(b'{"n":1}', "0.1", "gap_opened")
        yield Event(b'{"n":2}')

    return Reply(events=all_of_them())


class Name(msgspec.Struct, frozen=True):
    """Of the streams."""

    scope_id: str


OPERATIONS = (
    Operation("GET", "things/{scope_id}", "tell", "Tells", tell, "v3:get_scopes", Parameters, result=Said),
    Operation("POST", "things/{scope_id}", "say", "Says", tell, "v3:get_scopes", Parameters, Body, Said, status=201),
    Operation("GET", "streams/{scope_id}", "flow", "Flows", stream, "v3:get_scopes", Name, None, Said, (NDJSON, CSV)),
    Operation("GET", "events/{scope_id}", "events", "Tells more", events, "v3:get_scopes", Name, None, Said, (EVENTS,)),
)


@pytest.fixture(scope="module")
def view() -> Iterator[StoreView]:
    yield from opened(filled_store)


@pytest.fixture
async def world(view: StoreView) -> AsyncIterator[World]:
    async with serving(view, OPERATIONS) as found:
        yield found


async def test_parameters_come_from_path_query_and_header(world: World) -> None:
    query = [("limit", "5"), ("status", "a"), ("status", "b"), ("begin", "2026-01-01T01:00:00+01:00")]
    found = await world.ask("/v3/things/A", query, headers={"if-match": '"7"'})

    assert found.status == 200
    assert found.body == {"text": "5 ['a', 'b'] \"7\" None", "at": "2026-01-01T01:00:00+01:00"}
    assert (found.headers["ETag"], found.headers["Content-Type"]) == ('"7"', "application/json")


async def test_all_faults_of_parameters_and_body_are_told_at_once(world: World) -> None:
    query = [("limit", "0"), ("status", "much too long"), ("begin", "yesterday"), ("limits", "3"), ("limit", "x")]
    found = await world.ask(
        "/v3/things/A",
        query,
        method="POST",
        json={"reason": "", "times": "x", "colour": 1},
        headers={"If-Match": "123456"},
    )

    assert found.status == 422
    assert found.headers["Content-Type"] == "application/problem+json"
    assert found.body["title"] == "Wrong content"
    assert [fault["place"] for fault in found.body["faults"]] == [
        "query.begin",
        "query.limit",
        "query.status",
        "header.If-Match",
        "query.limits",
        "reason",
        "times",
        "colour",
    ]


@pytest.mark.parametrize(
    ("path", "method", "request_", "status"),
    [
        ("/v3", "GET", {}, 404),
        ("/v3/", "GET", {}, 404),
        ("/v3/nothing", "GET", {}, 404),
        ("/v3/things/A/", "GET", {}, 404),
        ("/v3/things//", "GET", {}, 404),
        ("/v3/things/..%2fA", "GET", {}, 404),
        ("/v3/" + "x" * 5000, "GET", {}, 404),
        ("/v3/things/A", "DELETE", {}, 405),
        ("/v3/usage", "GET", {}, 405),
        ("/v3/things/A", "GET", {"headers": {"Accept": "text/html"}}, 406),
        ("/v3/things/A", "GET", {"headers": {"Accept": "application/json;q=0"}}, 406),
        ("/v3/things/A", "GET", {"headers": {"Accept": "*/*;q=x"}}, 406),
        ("/v3/things/A", "GET", {"data": b"{}"}, 422),
        ("/v3/things/A", "POST", {"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("/v3/things/A", "POST", {"data": b"{}", "skip_auto_headers": ["Content-Type"]}, 415),
        ("/v3/things/A", "POST", {"data": b"{", "headers": {"Content-Type": JSON}}, 400),
        ("/v3/things/A", "POST", {"data": b"[" * 50_000, "headers": {"Content-Type": JSON}}, 422),
        ("/v3/things/A", "POST", {"data": b"[]", "headers": {"Content-Type": JSON}}, 422),
        ("/v3/things/A", "POST", {"data": b"x" * 100_001, "headers": {"Content-Type": JSON}}, 413),
        ("/v3/things/A", "POST", {"data": b"", "headers": {"Content-Encoding": "gzip", "Content-Type": JSON}}, 415),
        ("/v3/things/A%00", "GET", {}, 422),
        ("/v3/things/A?limit=1&limit=2", "GET", {}, 422),
        ("/v3/things/A?begin=0.5", "GET", {}, 422),
        ("/v3/things/A?begin=1767225600", "GET", {}, 422),
        ("/v3/things/A?begin=null", "GET", {}, 422),
    ],
)
async def test_what_is_refused_is_a_problem(
    world: World, path: str, method: str, request_: dict[str, Any], status: int
) -> None:
    found = await world.ask(path, method=method, **request_)

    assert (found.status, found.body["status"]) == (status, status)
    assert found.headers["Content-Type"] == "application/problem+json"
    if status == 405:
        assert found.headers["Allow"] == ("POST" if "usage" in path else "GET, POST, HEAD")


def test_halves_of_surrogate_pairs_which_bytes_of_headers_become_are_refused() -> None:
    with pytest.raises(RefusalError) as refused:
        read_arguments(OPERATIONS[0], {"scope_id": "A"}, [], {"If-Match": "\udc80"}, b"", "")
    assert [fault.place for fault in refused.value.problem.faults] == ["header.If-Match"]


async def test_who_is_nobody_gets_nothing(world: World) -> None:
    assert (await world.ask("/v3/things/A", who="")).status == 401
    assert (await world.ask("/v3/things/A", who="meter")).status == 403


async def test_a_foreign_scope_looks_like_one_that_is_not_there(world: World) -> None:
    assert (await world.ask("/v3/things/A", who="ann")).status == 200
    foreign, unknown = await world.ask("/v3/things/B", who="ann"), await world.ask("/v3/things/C", who="ann")
    assert (foreign.status, unknown.status) == (404, 404)
    assert foreign.body == {**unknown.body, "detail": unknown.body["detail"].replace("'C'", "'B'")}
    assert (await world.ask("/v3/things/nowhere", who="lost")).status == 404
    assert (await world.ask("/v3/things/C")).status == 404


async def test_a_body_is_read_and_the_status_is_the_operations(world: World) -> None:
    found = await world.ask("/v3/things/A", method="POST", json={"reason": "so"})

    assert (found.status, found.body["text"]) == (201, "100 []  Body(reason='so', times=1)")


async def test_head_is_get_without_a_body(world: World) -> None:
    for path in ("/v3/things/A", "/v3/streams/A"):
        found = await world.ask(path, method="HEAD")
        assert (found.status, found.body) == (200, b"")


async def test_the_form_follows_accept(world: World) -> None:
    for accept, form in (
        ("", NDJSON),
        ("*/*", NDJSON),
        ("text/csv", CSV),
        ("text/*, application/x-ndjson;q=0.5", CSV),
        ("text/csv;q=0.1, */*;q=0.2", NDJSON),
    ):
        found = await world.ask("/v3/streams/A", headers={"Accept": accept})
        assert (found.status, found.headers["Content-Type"]) == (200, form), accept


async def test_a_stream_that_breaks_never_looks_whole(world: World) -> None:
    assert (await world.ask("/v3/streams/A")).body == b'{"n":1}\n{"n":2}\n'
    refused = await world.ask("/v3/streams/away")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    with pytest.raises(aiohttp.ClientError):
        await world.ask("/v3/streams/broken")


async def test_events_have_ids_and_names(world: World) -> None:
    url, headers = f"{world.url}/v3/events/A", {"Authorization": "Bearer boss"}
    async with world.http.get(url, headers=headers) as answer:
        assert answer.headers["Content-Type"] == EVENTS
        said = b"".join([await answer.content.readline() for _ in range(6)])
    assert said == b'id: 0.1\nevent: gap_opened\ndata: {"n":1}\n\ndata: {"n":2}\n\n'


async def test_no_more_than_so_many_at_once(view: StoreView) -> None:
    async with serving(view, OPERATIONS, max_in_flight=0) as world:
        found = await world.ask("/v3/things/A")

    assert (found.status, found.headers["Retry-After"]) == (429, "1")


async def test_the_page_and_the_document_describe_the_operations(world: World) -> None:
    told = await world.get("/v3/openapi.json", who="")
    assert told == document(OPERATIONS)
    assert {
        parameter["name"]: parameter["in"] for parameter in told["paths"]["/v3/things/{scope_id}"]["get"]["parameters"]
    } == {
        "scope_id": "path",
        "begin": "query",
        "limit": "query",
        "status": "query",
        "If-Match": "header",
    }
    page = await world.ask("/v3/docs", who="")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    text = page.body.decode()
    for operation in OPERATIONS:
        assert f'id="{operation.id}"' in text
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert " on" + "click" not in text


def test_cursors_are_places_and_nothing_else_is() -> None:
    place = ("A", JANUARY)
    assert read_cursor(cursor_of(place), tuple[str, int]) == place
    assert read_cursor("", tuple[str, int]) is None
    for text in ("x", "ä", cursor_of("A"), cursor_of(place) + "AA", "=" * 9):
        with pytest.raises(RefusalError) as refused:
            read_cursor(text, tuple[str, int])
        assert refused.value.problem.faults[0].place == "query.cursor"


async def test_a_slow_reader_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.1)

    class Stuck:
        async def write(self, _: bytes) -> None:
            await asyncio.sleep(5)

    class Request:
        path = "/v3/x"

    with pytest.raises(ConnectionResetError):
        await sending.send(Request(), Stuck(), b"x")  # type: ignore[arg-type]  # what `_send` uses of them


async def test_scopes_by_pages(view: StoreView) -> None:
    async with serving(view) as world:
        first = await world.get("/v3/scopes", {"limit": 1})
        assert [scope["scope_id"] for scope in first["items"]] == ["A"]
        assert first["items"][0]["begin"] == datetime.fromtimestamp(JANUARY, UTC).isoformat().replace("+00:00", "Z")
        rest = await world.get("/v3/scopes", {"limit": 1, "cursor": first["next"]})
        assert ([scope["scope_id"] for scope in rest["items"]], rest["next"]) == (["B"], "")
        assert [scope["scope_id"] for scope in (await world.get("/v3/scopes", who="ann"))["items"]] == ["A"]
        assert (await world.get("/v3/scopes", who="lost"))["items"] == []
