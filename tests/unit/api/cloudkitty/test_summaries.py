"""Totals, summaries and data frames of both versions over HTTP, from a real store, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import rater.api.cloudkitty.service
from rater.rating import RuleBook
from rater.reports import StoreView
from tests.unit.api.cloudkitty.world import RANGE, filled_store, opened, serving
from tests.unit.store.builders import JANUARY

BEGIN, END = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"
BOOK = RuleBook.empty()


@pytest.fixture(scope="module")
def view() -> Iterator[StoreView]:
    yield from opened(filled_store)


async def summary(view: StoreView, zone: str = "UTC", **query: Any) -> Any:
    async with serving(view, BOOK, zone=zone) as world:
        return await world.get("/v2/summary", RANGE | query)


async def test_a_summary_is_a_table_by_default(view: StoreView) -> None:
    assert await summary(view, groupby="project_id,type") == {
        "total": 3,
        "columns": ["begin", "end", "qty", "rate", "project_id", "type"],
        "results": [
            [BEGIN, END, 12.0, 1.2, "A", "cpu"],
            [BEGIN, END, 3001.0, 2.5e-05, "A", "net/in"],
            [BEGIN, END, 16.0, 1.3333333333333333, "B", "cpu"],
        ],
        "format": "table",
    }


async def test_a_summary_as_objects_by_period(view: StoreView) -> None:
    found = await summary(view, groupby="time", response_format="object", filters="project_id:B", limit="1", offset="1")

    assert found == {
        "total": 4,
        "results": [
            {
                "begin": "2026-01-01T01:00:00+00:00",
                "end": "2026-01-01T02:00:00+00:00",
                "qty": 4.0,
                "rate": 0.3333333333333333,
            }
        ],
        "format": "object",
    }


async def test_calendars_are_those_of_the_time_zone(view: StoreView) -> None:
    found = await summary(view, "America/New_York", groupby=["time-d,time-w", "time-m", "time-y"])

    assert found["columns"] == [
        "begin", "end", "qty", "rate", "day_of_the_year", "week_of_the_year", "month", "year"
    ]  # fmt: skip
    assert [row[4:] for row in found["results"]] == [["365", "52", "12", "2025"]]
    assert found["results"][0][0] == "2025-12-31T19:00:00-05:00"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"filters": "flavor:m2"}, ["r9"]),
        ({"filters": ["az:y", "type:cpu"]}, ["r2", "r9"]),
        ({"filters": "az:x,az:y,project_id:A"}, ["r1", "r2"]),
        ({"filters": "az:"}, ["r3"]),
        ({"filters": "month:1,type:net/in"}, ["r3"]),
        ({"filters": "month:2"}, []),
        ({"filters": "id:') OR 1=1"}, []),
        ({"begin": "2026-01-01 00:00:00+00:00", "end": "20260101T010000Z"}, ["r1", "r2", "r9"]),
        ({"begin": "2026-01-01T01:00:00", "end": "2026-01-01T01:00:00"}, []),
    ],
)
async def test_filters(view: StoreView, query: dict[str, Any], ids: list[str]) -> None:
    found = await summary(view, **query, groupby="id", response_format="object")

    assert [row["id"] for row in found["results"]] == ids
    assert found["total"] == len(ids)


async def test_nothing_found_has_no_columns(view: StoreView) -> None:
    found = await summary(view, filters="type:nothing")

    assert found == {"total": 0, "columns": [], "results": [], "format": "table"}


async def test_a_period_counts_if_it_begins_within_the_range(view: StoreView) -> None:
    begins = {"begin": "2026-01-01T00:59:59.5", "end": "2026-01-01T02:00:00"}

    assert [row[0] for row in (await summary(view, **begins, groupby="time"))["results"]] == [
        "2026-01-01T01:00:00+00:00"
    ]


async def test_custom_fields_rename_sums_and_run_nothing(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        renamed = await world.get("/v2/summary", {**RANGE, "custom_fields": 'SUM(price) AS "money",sum(qty) as n'})
        refused = await world.ask("/v2/summary", {**RANGE, "custom_fields": "SUM(qty) AS q, (SELECT 1)"})

    assert renamed["columns"] == ["begin", "end", "money", "n"]
    assert renamed["results"][0][2:] == [2.533358333333333, 3029.0]
    assert refused.status == 400
    assert "expected SUM(qty) AS name" in refused.body["message"]


async def test_all_faults_of_a_query_are_told_at_once(view: StoreView) -> None:
    bad = {"begin": "soon", "limit": "0", "offset": "x", "filters": "a:b:c", "colour": "red", "response_format": "xml"}
    async with serving(view, BOOK) as world:
        status, body, _ = await world.ask("/v2/summary", [*bad.items(), ("groupby", "time-x")])

    assert status == 400
    assert body["message"].startswith("Invalid data '{'begin': ['soon']")
    for part in (
        "expected a time such as 2026-01-01T00:00:00 (path: '['begin']')",
        "value must be at least 1 (path: '['limit']')",
        "expected int (path: '['offset']')",
        "invalid key:value association a:b:c (path: '['filters']')",
        "extra keys not allowed (path: '['colour']')",
        "Invalid response format [xml]",
        "there is no grouping by 'time-x'",
    ):
        assert part in body["message"]


async def test_dataframes_are_pages_of_points(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        page = await world.get("/v2/dataframes", {**RANGE, "filters": "project_id:A", "offset": "3", "limit": "2"})
        beyond = await world.get("/v2/dataframes", {**RANGE, "offset": "100"})
        nothing = await world.ask("/v2/dataframes", {**RANGE, "filters": "type:nothing"})
        twice = await world.ask("/v2/dataframes", {**RANGE, "filters": "az:x,az:y"})

    times = {"week_of_the_year": "00", "day_of_the_year": "1", "month": "1", "year": "2026"}
    assert page == {
        "total": 10,
        "dataframes": [
            {
                "period": {"begin": "2026-01-01T01:00:00+00:00", "end": "2026-01-01T02:00:00+00:00"},
                "usage": {
                    "cpu": [
                        {
                            "vol": {"unit": "core", "qty": 2.0},
                            "rating": {"price": 0.2},
                            "groupby": {**times, "id": "r2", "az": "y", "project_id": "A"},
                            "metadata": {"flavor": "m1"},
                        }
                    ],
                    "net/in": [
                        {
                            "vol": {"unit": "B", "qty": 1500.5},
                            "rating": {"price": 1.25e-05},
                            "groupby": {**times, "id": "r3", "project_id": "A"},
                            "metadata": {"flavor": "m1"},
                        }
                    ],
                },
            }
        ],
    }
    assert beyond == {"total": 14, "dataframes": []}
    assert (nothing.status, nothing.body) == (404, {"message": "No resource found for provided filters."})
    assert twice.status == 400
    assert "key az already provided" in twice.body["message"]


async def test_scopes(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        found = await world.get("/v2/scope", {"scope_id": "B,C", "collector": "prometheus", "active": "1"})
        others = [
            await world.ask("/v2/scope", query) for query in ({"scope_id": "C"}, {"active": "0"}, {"fetcher": "x"})
        ]

    assert found == {
        "results": [
            {
                "scope_id": "B",
                "scope_key": "project_id",
                "fetcher": "keystone",
                "collector": "prometheus",
                "last_processed_timestamp": "2026-01-01T03:00:00+00:00",
                "state": "2026-01-01T03:00:00+00:00",
                "active": True,
                "scope_activation_toggle_date": None,
            }
        ]
    }
    assert [other.status for other in others] == [404, 404, 404]


async def test_totals_of_version_1_are_exact(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        total = await world.get("/v1/report/total", RANGE)
        of_b = await world.get("/v1/report/total/", {**RANGE, "tenant_id": "B", "service": "cpu"})
        nothing = await world.get("/v1/report/total", {**RANGE, "service": "nothing"})
        by_project = await world.get("/v1/report/total", RANGE, headers={"X-Project-Id": "A"})
        of_all = await world.get("/v1/report/total", {**RANGE, "all_tenants": "true"}, headers={"X-Project-Id": "A"})

    assert (total, of_b, nothing) == ("2.5333583333333333333333333332", "1.3333333333333333333333333332", "0")
    assert (by_project, of_all) == ("1.200025", total)


async def test_summaries_of_version_1_have_five_decimals(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        grouped = await world.get("/v1/report/summary", {**RANGE, "groupby": "tenant_id,res_type"})
        whole = await world.get("/v1/report/summary", RANGE)
        nothing = await world.get("/v1/report/summary", {**RANGE, "service": "nothing"})

    times = {"begin": "2026-01-01T00:00:00", "end": "2026-02-01T00:00:00"}
    assert grouped == {
        "summary": [
            {**times, "tenant_id": "A", "res_type": "cpu", "rate": "1.2"},
            {**times, "tenant_id": "A", "res_type": "net/in", "rate": "3e-05"},
            {**times, "tenant_id": "B", "res_type": "cpu", "rate": "1.33333"},
        ]
    }
    assert whole == {"summary": [{**times, "tenant_id": "ALL", "res_type": "ALL", "rate": "2.53336"}]}
    assert nothing == {"summary": []}


async def test_dataframes_of_version_1_have_one_frame_per_period_scope_and_type(view: StoreView) -> None:
    query = {"begin": "2026-01-01T01:00:00", "end": "2026-01-01 02:00:00"}
    async with serving(view, BOOK) as world:
        found = await world.get("/v1/storage/dataframes", query)
        chosen = await world.get("/v1/storage/dataframes/", {**query, "tenant_id": "B", "resource_type": "cpu"})
        nothing = await world.get("/v1/storage/dataframes", {**query, "tenant_id": "C"})

    times = {"week_of_the_year": "00", "day_of_the_year": "1", "month": "1", "year": "2026"}
    bounds = {"begin": "2026-01-01T01:00:00", "end": "2026-01-01T02:00:00"}
    assert [(frame["tenant_id"], [r["service"] for r in frame["resources"]]) for frame in found["dataframes"]] == [
        ("A", ["cpu", "cpu"]),
        ("A", ["net/in"]),
        ("B", ["cpu"]),
    ]
    assert chosen["dataframes"] == found["dataframes"][2:]
    assert chosen["dataframes"][0] == {
        **bounds,
        "tenant_id": "B",
        "resources": [
            {
                "service": "cpu",
                "desc": {"flavor": "m2", **times, "id": "r9", "az": "y", "project_id": "B"},
                "volume": "4",
                "rating": "0.3333333333333333333333333333",
            }
        ],
    }
    assert nothing == {"dataframes": []}


async def test_tenants_are_all_that_have_frames(view: StoreView) -> None:
    async with serving(view, BOOK) as world:
        assert await world.get("/v1/report/tenants", {"begin": "2020-01-01", "end": "2020-02-01"}) == ["A", "B"]


async def test_by_default_it_is_this_month(view: StoreView, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(JANUARY + 30 * 86400, UTC)

    monkeypatch.setattr(rater.api.cloudkitty.service, "datetime", Clock)
    async with serving(view, BOOK) as world:
        assert (await world.get("/v2/summary"))["results"] == [[BEGIN, END, 3029.0, 2.533358333333333]]
        assert await world.get("/v1/report/total") == "2.5333583333333333333333333332"
    async with serving(view, BOOK, zone="Europe/Vienna") as world:
        begin = "2026-01-01T00:00:00+01:00"
        assert (await world.get("/v2/summary"))["results"][0][0] == begin
        (row,) = (await world.get("/v1/report/summary"))["summary"]
        assert (row["begin"], row["end"]) == ("2025-12-31T23:00:00", "2026-01-31T23:00:00")  # the same, in UTC
