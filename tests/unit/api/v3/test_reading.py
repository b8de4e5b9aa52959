"""Scopes, frames, coverage, gaps, sources and audits as /v3 answers them, from a small store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.model.interval import Interval
from rater.model.rated import AlertKind, CollectionRef, FrameStatus, Gap, MetricCoverage, RatedFrame
from rater.model.usage import FrameForced, GapAccepted
from rater.reports import StoreView
from rater.store import Batch, Store, migrate, write
from rater.store.health import AuditRow, StoredViolation, write_audit
from tests.unit.api.v3.world import Control, World, serving
from tests.unit.store.builders import HOUR, JANUARY, a_frame, a_gap_alert, a_line, memory_store, store_frames

GAP, ACCEPTED, RESOLVED = (f"{number:032x}" for number in (1, 2, 3))
SECRET_SCOPE = "B"


def holed(hour: int) -> RatedFrame:
    """A frame of A with cpu proven for half an hour, weak for a quarter, and a gap."""
    begin = JANUARY + hour * HOUR
    frame = a_frame("A", begin, lines=[a_line(1, "cpu", "1.50", "0.0000000000000000000000001")])
    proven = MetricCoverage(
        "cpu", "prom", [Interval(begin, begin + HOUR)], [Interval(begin, begin + 1800)], "proven", []
    )
    weak = MetricCoverage(
        "cpu",
        "prom",
        [Interval(begin, begin + HOUR)],
        [Interval(begin + 1200, begin + 2700)],
        "weak",
        [CollectionRef("c", 0, begin, begin + HOUR, 1)],
    )
    gap = Gap(GAP, "cpu", "prom", begin + 2700, begin + HOUR, "no answer")
    return msgspec.structs.replace(frame, coverage=[proven, weak], gaps=[gap], status=FrameStatus.PARTIAL)


def filled() -> Store:
    store = memory_store()
    migrate(store)
    for hour in range(4):
        store_frames(store, a_frame("A", JANUARY + hour * HOUR, lines=[a_line(1)]))
    store_frames(store, holed(4), a_frame("A", JANUARY + 6 * HOUR), a_frame(SECRET_SCOPE, JANUARY))
    batch = Batch()
    for number in (1, 2, 3):
        batch.add_alert(a_gap_alert(True, 0, gap=number, scope_id="A"))
    batch.add_alert(a_gap_alert(False, 1, gap=3, scope_id="A"))
    accepted = a_gap_alert(True, -1, gap=2, kind=AlertKind.GAP_ACCEPTED, scope_id="A", author="kim", reason="lost")
    batch.add_alert(accepted)
    batch.add_alert(a_gap_alert(True, 0, gap=4, scope_id=SECRET_SCOPE))
    write(store, batch)
    return store


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with filled() as found:
        yield found


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    async with serving(StoreView(store)) as found:
        yield found


async def pages(world: World, path: str, query: dict[str, Any], who: str = "boss") -> list[Any]:
    """All items, page by page."""
    found, cursor = [], ""
    while True:
        page = await world.get(path, {**query, **({"cursor": cursor} if cursor else {})}, who)
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            return found
        assert page["items"], "a page with a next one is not empty"


async def test_scopes(world: World) -> None:
    a, b = await pages(world, "/v3/scopes", {"limit": 1})
    assert a == {
        "scope_id": "A",
        "begin": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T07:00:00Z",
        "frames": 6,
        "last_complete": "2026-01-01T06:00:00Z",
        "newest_status": "rated",
        "open_gaps": 1,
    }
    assert b["scope_id"] == SECRET_SCOPE
    assert await world.get("/v3/scopes/A", who="ann") == a
    assert [scope["scope_id"] for scope in await pages(world, "/v3/scopes", {}, "ann")] == ["A"]
    assert await pages(world, "/v3/scopes", {}, "lost") == []


async def test_frames_by_pages(world: World) -> None:
    found = await pages(world, "/v3/scopes/A/frames", {"limit": 2})
    assert [frame["begin"][11:13] for frame in found] == ["00", "01", "02", "03", "04", "06"]
    some = {"begin": "2026-01-01T01:00:00Z", "end": "2026-01-01T05:00:00Z", "status": "partial"}
    [frame] = await pages(world, "/v3/scopes/A/frames", some)
    assert frame == await world.get("/v3/scopes/A/frames/2026-01-01T04:00:00Z", who="ann")
    assert (frame["status"], frame["revision"], frame["lines"]) == ("partial", 0, 1)
    assert frame["totals"] == [
        {"metric": "cpu", "unit": "GiB", "qty": "1.5", "price": "0.0000000000000000000000001", "lines": 1}
    ]
    assert frame["gaps"][0] == {
        "gap_id": GAP,
        "metric": "cpu",
        "source": "prom",
        "begin": "2026-01-01T04:45:00Z",
        "end": "2026-01-01T05:00:00Z",
        "reason": "no answer",
    }


async def test_coverage_says_of_each_second_what_is_known(world: World) -> None:
    asked = {"begin": "2026-01-01T04:10:00Z", "end": "2026-01-01T06:00:00Z", "metric": "cpu"}
    found = await world.get("/v3/scopes/A/coverage", asked, "ann")

    def span(begin: str, end: str) -> dict[str, str]:
        return {"begin": f"2026-01-01T{begin}:00Z", "end": f"2026-01-01T{end}:00Z"}

    assert found["metrics"] == [
        {
            "metric": "cpu",
            "source": "prom",
            "proven": [span("04:10", "04:30")],
            "weak": [span("04:30", "04:45")],
            "missing": [span("04:45", "05:00")],
        }
    ]
    assert found["not_closed"] == [span("05:00", "06:00")]
    assert (await world.get("/v3/scopes/A/coverage", {**asked, "metric": "none"}))["metrics"] == []


async def test_gaps_and_who_accepted_them(world: World) -> None:
    assert [gap["gap_id"] for gap in await pages(world, "/v3/gaps", {"scope_id": "A"})] == [GAP]
    states = [("state", "open"), ("state", "accepted"), ("state", "resolved"), ("limit", "1")]
    first = await world.get("/v3/gaps", [*states, ("scope_id", "A")])
    second = await world.get("/v3/gaps", [*states, ("scope_id", "A"), ("cursor", first["next"])])
    [gap] = second["items"]
    assert (gap["gap_id"], gap["state"]) == (ACCEPTED, "accepted")
    assert gap["accepted"]["author"] == "kim"
    assert gap == await world.get(f"/v3/scopes/A/gaps/{ACCEPTED}", who="ann")
    everybody = await pages(world, "/v3/gaps", {"limit": 1})
    assert {gap["scope_id"] for gap in everybody} == {"A", SECRET_SCOPE}
    assert {gap["scope_id"] for gap in await pages(world, "/v3/gaps", {"limit": 1}, "ann")} == {"A"}


async def test_a_gap_is_accepted_with_a_reason(store: Store) -> None:
    control = Control()
    async with serving(StoreView(store), control=control) as world:
        path = f"/v3/scopes/A/gaps/{GAP}/accept"
        found = await world.ask(path, method="POST", json={"reason": "the meter is gone"})
        assert (found.status, found.body) == (
            202,
            {"gap_id": GAP, "scope_id": "A", "author": "boss", "reason": "the meter is gone"},
        )
        assert control.sent == [
            GapAccepted(
                GAP, "A", "instance", "prometheus", JANUARY, JANUARY + 60, JANUARY + 120, "boss", "the meter is gone"
            )
        ]
        assert (await world.ask(path, method="POST", json={"reason": ""})).status == 422
        assert (await world.ask(path, method="POST", json={"reason": "x"}, who="ann")).status == 403
        resolved = await world.ask(f"/v3/scopes/A/gaps/{RESOLVED}/accept", method="POST", json={"reason": "x"})
        assert (resolved.status, resolved.body["faults"][0]["place"]) == (409, "path.gap_id")
        for other in (f"/v3/scopes/A/gaps/{'f' * 32}/accept", f"/v3/scopes/{SECRET_SCOPE}/gaps/{GAP}/accept"):
            assert (await world.ask(other, method="POST", json={"reason": "x"})).status == 404
        assert len(control.sent) == 1


async def test_a_frame_is_closed_by_force(store: Store) -> None:
    control = Control()
    async with serving(StoreView(store), control=control) as world:
        path = "/v3/scopes/A/frames/2026-01-01T05:00:00Z/force"
        found = await world.ask(path, method="POST", json={"reason": "month end"})
        assert (found.status, found.body["period_begin"]) == (202, "2026-01-01T05:00:00Z")
        assert control.sent == [FrameForced("A", JANUARY + 5 * HOUR, "boss", "month end")]
        assert (await world.ask(path, method="POST", json={"reason": "x"}, who="ann")).status == 403
        for when in ("2026-01-01T05:00:01Z", "2099-01-01T05:00:00Z", "soon"):
            refused = await world.ask(f"/v3/scopes/A/frames/{when}/force", method="POST", json={"reason": "x"})
            assert (refused.status, refused.body["faults"][0]["place"]) == (422, "path.period_begin")
        assert len(control.sent) == 1


async def test_sources_and_audits(store: Store, world: World) -> None:
    found = await world.get("/v3/sources", {"days": 366})
    [prometheus] = found["items"]
    assert prometheus["source"] == "prometheus"
    assert prometheus["metrics"][0]["open_gaps"] == 2
    assert await world.get("/v3/audit") == {"last": None}
    broken = StoredViolation("totals_are_sums", "A", JANUARY, "cpu", "1", "2", ["frames(scope_id=A)"])
    write_audit(store, AuditRow(JANUARY, 1.5, 0, 7, 0, {}, 1, [broken]))
    audit = (await world.get("/v3/audit"))["last"]
    assert (audit["frames"], audit["violation_count"]) == (7, 1)
    assert audit["violations"][0]["period_begin"] == "2026-01-01T00:00:00Z"
    for path in ("/v3/sources", "/v3/audit"):
        assert (await world.ask(path, who="ann")).status == 403


FOREIGN = (
    f"/v3/scopes/{SECRET_SCOPE}",
    f"/v3/scopes/{SECRET_SCOPE}/frames",
    f"/v3/scopes/{SECRET_SCOPE}/frames/2026-01-01T00:00:00Z",
    f"/v3/scopes/{SECRET_SCOPE}/coverage?begin=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z",
    f"/v3/scopes/{SECRET_SCOPE}/gaps/{4:032x}",
    f"/v3/gaps?scope_id={SECRET_SCOPE}",
    f"/v3/alerts?scope_id={SECRET_SCOPE}",
)


@pytest.mark.parametrize("path", FOREIGN)
async def test_a_reader_cannot_tell_a_foreign_scope_from_none(world: World, path: str) -> None:
    foreign = await world.ask(path, who="ann")
    unknown = await world.ask(path.replace(f"/{SECRET_SCOPE}", "/C").replace(f"={SECRET_SCOPE}", "=C"), who="ann")
    assert (foreign.status, unknown.status) == (404, 404)
    assert str(foreign.body).replace("'B'", "'C'") == str(unknown.body)
    assert (await world.ask(path)).status == (503 if "alerts" in path else 200), "it is there"


async def test_bounds_are_kept(world: World) -> None:
    for path, place in (
        ("/v3/scopes/A/frames?limit=1001", "query.limit"),
        ("/v3/scopes/A/frames?begin=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "query.end"),
        ("/v3/scopes/A/frames?begin=2026-01-01", "query.begin"),
        ("/v3/scopes/A/frames?begin=2026-01-01T00:00:00", "query.begin"),
        ("/v3/scopes/A/frames?status=fine", "query.status"),
        ("/v3/scopes/A/frames?cursor=abc", "query.cursor"),
        ("/v3/scopes/A/coverage?begin=2026-01-01T00:00:00Z&end=2026-03-01T00:00:00Z", "query.end"),
        ("/v3/scopes/A/coverage", "query.begin"),
        ("/v3/gaps?cursor=abc", "query.cursor"),
        ("/v3/sources?days=0", "query.days"),
        (f"/v3/scopes/{'x' * 256}", "path.scope_id"),
        ("/v3/scopes/A/gaps/0F", "path.gap_id"),
    ):
        found = await world.ask(path)
        assert (found.status, found.body["faults"][0]["place"]) == (422, place), path


async def test_no_amount_is_a_float(world: World) -> None:
    [frame] = await pages(world, "/v3/scopes/A/frames", {"status": "partial"})
    for total in frame["totals"]:
        assert Decimal(total["price"]) == Decimal("1e-25")
        assert "e" not in total["price"].lower()
