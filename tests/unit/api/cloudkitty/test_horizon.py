"""What OpenStack's dashboard asks for to show costs, as its panels send it, and the fields that they read.

Rules are written by its panels in tests/api/test_rules_api.py, prices at the launch of an instance in test_quotes.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rater.rating import RuleBook
from rater.reports import StoreView
from rater.store import Store, migrate
from tests.unit.api.cloudkitty.world import ANN, BOSS, World, line, opened, serving
from tests.unit.store.builders import HOUR, a_frame, memory_store, store_frames

MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
"""That is now: two panels do not say which month they are about."""
LAST = (MONTH - timedelta(days=1)).replace(day=1)
OBJECT = ("response_format", "object")


def filled() -> Store:
    """Two days of two projects in this month, one hour in the last."""
    store = memory_store()
    migrate(store)
    begins = [LAST, MONTH, MONTH + timedelta(hours=23), MONTH + timedelta(hours=24)]
    for scope, price in (("A", "0.25"), ("B", "1.5")):
        for begin in begins:
            labels = {"project_id": scope, "resource_id": f"vm-{scope}"}
            lines = [line(1, "cpu", "1", price, labels), line(2, "net/in", "8", "0.125", labels)]
            store_frames(store, a_frame(scope, int(begin.timestamp()), lines=lines))
    return store


@pytest.fixture(scope="module")
def view() -> Iterator[StoreView]:
    yield from opened(filled)


def naive(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")


async def rows(world: World, token: str, *query: tuple[str, str]) -> list[dict[str, Any]]:
    """What a panel goes through: each with a rate that is a number."""
    found = await world.get("/v2/summary", [*query, OBJECT], token)
    assert found["total"] == len(found["results"])
    assert all(type(row["rate"]) is float for row in found["results"])
    results: list[dict[str, Any]] = found["results"]
    return results


async def test_the_panels_of_administrators(view: StoreView, tmp_path: Path) -> None:
    async with serving(view, RuleBook.empty(), tmp_path) as world:
        projects = await rows(world, BOSS, ("groupby", "project_id"))
        assert {row["project_id"]: row["rate"] for row in projects} == {"A": 1.125, "B": 4.875}

        one = await rows(world, BOSS, ("filters", "project_id:B"), ("groupby", "type"))
        assert {row["type"]: row["rate"] for row in one} == {"cpu": 4.5, "net/in": 0.375}
        resources = await rows(world, BOSS, ("filters", "project_id:B"), ("groupby", "type,resource_id"))
        assert {(row["type"], row["resource_id"]) for row in resources} == {("cpu", "vm-B"), ("net/in", "vm-B")}

        modules = (await world.get("/v1/rating/modules/", token=BOSS))["modules"]
        assert {"module_id", "description", "enabled", "hot-config", "priority"} <= set(modules[0])
        assert list((await world.get("/v1/info/config/", token=BOSS))["metrics"]) == ["cpu"]
        hashmap = "/v1/rating/module_config/hashmap"
        by_name = await world.get(f"{hashmap}/fields/", {"service_id": "instance"}, BOSS)
        assert by_name == {"fields": []}, "the form for a new field asks with the name of the service"
        assert (await world.ask("/v1/info/metrics/nope", token=BOSS)).status == 404


async def test_the_panels_of_a_project(view: StoreView, tmp_path: Path) -> None:
    begin, end, last = MONTH, MONTH + timedelta(days=27), LAST
    async with serving(view, RuleBook.empty(), tmp_path) as world:
        to_date = (("begin", naive(begin)), ("end", naive(end)))
        assert {row["type"]: row["rate"] for row in await rows(world, ANN, *to_date, ("groupby", "type"))} == {
            "cpu": 0.75,
            "net/in": 0.375,
        }
        before = (("begin", last.isoformat()), ("end", begin.isoformat()))  # with an offset
        assert sum(row["rate"] for row in await rows(world, ANN, *before, ("groupby", "type"))) == 0.375
        resources = await rows(world, ANN, *to_date, ("groupby", "type,resource_id"))
        assert {row["resource_id"] for row in resources} == {"vm-A"}, "nobody else's"

        days = [MONTH + timedelta(days=number) for number in range(3)]
        costs = []
        for day in days:  # as reporting draws its curve, one request for each
            span = (("begin", naive(day)), ("end", naive(day + timedelta(seconds=24 * HOUR - 1))))
            costs.append({row["type"]: row["rate"] for row in await rows(world, ANN, *span, ("groupby", "type"))})
        assert costs == [{"cpu": 0.5, "net/in": 0.25}, {"cpu": 0.25, "net/in": 0.125}, {}]
