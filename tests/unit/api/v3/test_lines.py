"""GET /v3/lines and /v3/lines/export over HTTP, on the real engine."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import pyarrow.parquet as pq
import pytest

from rater.reports import LinePage, LinePageRequest, StoreError, StoreView
from rater.store import Store, migrate
from rater.store import lines as lines_of
from tests.unit.api.v3.test_reading import pages
from tests.unit.api.v3.world import World, serving
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_line, memory_store, store_frames

EXPORT = "/v3/lines/export"
NDJSON = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as store:
        migrate(store)
        for scope in ("A", "B", "C"):
            for hour in range(3):
                found = [a_line(n, metric, "1.50", "0.10") for metric in ("cpu", "ram") for n in range(2)]
                store_frames(store, a_frame(scope, JANUARY + hour * HOUR, lines=found))
        yield store


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    async with serving(StoreView(store)) as found:
        yield found


async def test_lines_by_pages(world: World) -> None:
    found = await pages(world, "/v3/lines", {"limit": 5})
    assert len(found) == 36
    first = found[0]
    assert {name: first[name] for name in ("scope_id", "begin", "end", "metric", "qty", "price", "posted")} == {
        "scope_id": "A",
        "begin": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T01:00:00Z",
        "metric": "cpu",
        "qty": "1.5",
        "price": "0.1",
        "posted": False,
    }
    chosen = {"scope_id": "A", "metric": "ram", "label": ["id=r0", "flavor=m1"], "begin": "2026-01-01T01:00:00Z"}
    found = await pages(world, "/v3/lines", {**chosen, "limit": 1})
    assert [(line["begin"][11:13], line["groupby"]["id"]) for line in found] == [("01", "r0"), ("02", "r0")]


async def test_readers_see_lines_of_their_own(world: World) -> None:
    assert {line["scope_id"] for line in await pages(world, "/v3/lines", {}, "both")} == {"A", "B"}
    assert {line["scope_id"] for line in await pages(world, "/v3/lines", {}, "ann")} == {"A"}
    for path in ("/v3/lines", EXPORT):
        answers = [await world.ask(path, {"scope_id": scope}, "ann") for scope in ("B", "none")]
        assert [answer.status for answer in answers] == [404, 404]
        assert answers[0].body["detail"].replace("'B'", "'none'") == answers[1].body["detail"]
        assert (await world.ask(path, who="meter")).status == 403
    text = (await world.ask(EXPORT, who="ann", headers=NDJSON)).body
    assert {json.loads(row)["scope_id"] for row in text.splitlines()} == {"A"}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"label": "no-name"}, "query.label[0]"),
        ({"limit": "1001"}, "query.limit"),
        ({"cursor": "xx"}, "query.cursor"),
        ({"begin": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "query.end"),
        ([("label", f"n{number}=v") for number in range(21)], "query.label"),
    ],
)
async def test_what_is_wrong_is_said(world: World, query: Any, place: str) -> None:
    found = await world.ask("/v3/lines", query)
    assert (found.status, found.body["faults"][0]["place"]) == (422, place)


async def test_an_export_is_the_same_in_every_form(world: World, store: Store) -> None:
    wanted = [(line.scope_id, line.metric, line.line_id, line.price) for line in lines_of(store)]
    text = (await world.ask(EXPORT, headers=NDJSON)).body
    rows: list[Any] = [json.loads(row) for row in text.splitlines()]
    assert [(row["scope_id"], row["metric"], row["line_id"], Decimal(row["price"])) for row in rows] == wanted
    text = (await world.ask(EXPORT, headers={"Accept": "text/csv"})).body.decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["scope_id"], row["metric"], row["line_id"], Decimal(row["price"])) for row in rows] == wanted
    content = (await world.ask(EXPORT, headers={"Accept": "application/vnd.apache.parquet"})).body
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [(row["scope_id"], row["metric"], row["line_id"], row["price"]) for row in rows] == wanted


async def test_an_export_is_compressed_for_who_can_read_it(world: World) -> None:
    plain = (await world.ask(EXPORT, headers=NDJSON)).body
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        asked = {"Authorization": "Bearer boss", "Accept-Encoding": "br;q=0.1, gzip"}
        async with http.get(world.url + EXPORT, headers=asked) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await answer.read()) == plain
        async with http.get(world.url + EXPORT, headers={**asked, "Accept-Encoding": "gzip;q=0"}) as answer:
            assert await answer.read() == plain


class Breaking(StoreView):
    """A store that goes away after the first page."""

    def line_page(self, request: LinePageRequest) -> LinePage:
        if request.after is not None:
            raise StoreError("gone")
        page = super().line_page(LinePageRequest(request.choice, min(request.limit, 7), request.scopes))
        assert page.next is not None
        return page


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_export_that_breaks_off_does_not_look_whole(store: Store, encoding: str) -> None:
    async with serving(Breaking(store)) as world:
        for _ in range(4):  # more than may be made at a time: each gives its place back
            with pytest.raises(aiohttp.ClientError):
                await world.ask(EXPORT, headers={"Accept-Encoding": encoding})
