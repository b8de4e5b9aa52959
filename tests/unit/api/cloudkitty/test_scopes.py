"""Scopes added and reset, and reprocessing tasks: what is asked for, what is refused and in which words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest

from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.requests import Requests
from rater.model.requests import FramesAsked, FramesOver, RequestRecord, ScopeAdded, ScopeOutcome, ScopeSwitched
from rater.rating import RuleBook
from rater.reports import StoreView
from rater.rework import RequestBook
from rater.stream.interfaces import StreamUnavailableError
from tests.unit.api.cloudkitty.world import Found, RequestsInMemory, World, filled_store, opened, serving
from tests.unit.store.builders import HOUR, JANUARY

TASKS = "/v2/task/reprocesses"
HOURS = [f"2026-01-01T{hour:02}:00:00" for hour in range(6)]


@pytest.fixture(scope="module")
def view() -> Iterator[StoreView]:
    yield from opened(filled_store)


class Desk(NamedTuple):
    """The service, and what reached the topic."""

    world: World
    topic: RequestsInMemory

    async def send(self, method: str, path: str, **values: Any) -> Found:
        """A request with a JSON body."""
        headers = {"Content-Type": "application/json"}
        return await self.world.ask(path, method=method, data=json.dumps(values), headers=headers)

    async def task(self, start: str = HOURS[1], end: str = HOURS[2], reason: str = "why", **values: Any) -> Found:
        """Asks for a reprocess of scope A, or as `values` say."""
        asked = {"scope_ids": "A", **values}
        times = {"start_reprocess_time": start, "end_reprocess_time": end}
        return await self.send("POST", TASKS, reason=reason, **times, **asked)

    async def refused(self, **values: Any) -> str:
        """Why a reprocess is refused."""
        found = await self.task(**values)
        assert found.status == 400, found
        return str(found.body["message"])


@pytest.fixture
async def desk(view: StoreView) -> AsyncIterator[Desk]:
    topic = RequestsInMemory()
    async with serving(view, RuleBook.empty(), requests=Requests(topic)) as world:
        yield Desk(world, topic)


def asked(topic: RequestsInMemory) -> list[tuple[Any, ...]]:
    """What was asked for, without what chance and the clock say."""
    found = [record for record in topic.records if isinstance(record, FramesAsked)]
    return [(r.kind, r.scopes, (r.begin - JANUARY) // HOUR, (r.end - JANUARY) // HOUR, r.author) for r in found]


@pytest.mark.parametrize("name", ["state", "last_processed_timestamp"])
async def test_a_reset_reaches_from_the_period_of_its_time_to_the_newest_one(desk: Desk, name: str) -> None:
    one = await desk.send("PUT", "/v2/scope", scope_id="A", **{name: "2026-01-01 01:30:00+00:00"})
    every = await desk.send("PUT", "/v2/scope", all_scopes=True, collector="prometheus", **{name: HOURS[3]})
    assert [(found.status, found.body) for found in (one, every)] == [(202, {})] * 2
    assert asked(desk.topic) == [("reset", ("A",), 1, 4, "unknown"), ("reset", ("A", "B"), 3, 4, "unknown")]
    assert desk.topic.records[0].reason == "scope reset to 2026-01-01T01:30:00+00:00"


@pytest.mark.parametrize(
    ("values", "status", "told"),
    [
        ({"state": HOURS[1]}, 400, "either scope_id or all_scopes"),
        ({"state": HOURS[1], "scope_id": "A", "all_scopes": True}, 400, "either scope_id or all_scopes"),
        ({"scope_id": "A"}, 400, "give one time"),
        ({"scope_id": "A", "state": HOURS[1], "last_processed_timestamp": HOURS[2]}, 400, "give one time"),
        ({"scope_id": "A", "state": "yesterday"}, 400, "expected a time"),
        ({"scope_id": "A", "state": HOURS[1], "colour": "red"}, 400, "extra keys not allowed"),
        ({"scope_id": "A", "state": HOURS[4]}, 400, "not rated so far yet"),
        ({"scope_id": "C", "state": HOURS[1]}, 404, "No resource found"),
        ({"all_scopes": True, "state": HOURS[1], "fetcher": "x"}, 404, "No resource found"),
        ({"scope_id": {"a": 1}, "state": HOURS[1]}, 400, "no JSON object of simple values"),
    ],
)
async def test_a_reset_is_refused(desk: Desk, values: dict[str, Any], status: int, told: str) -> None:
    found = await desk.send("PUT", "/v2/scope", **values)
    assert found.status == status, found
    assert told in found.body["message"]
    assert desk.topic.records == []


async def test_a_scope_is_added_and_listed(desk: Desk) -> None:
    found = await desk.send("POST", "/v2/scope", scope_id="new", last_processed_timestamp="2026-01-05T06:20:00")
    again = await desk.send("POST", "/v2/scope", scope_id="new", last_processed_timestamp=HOURS[0])
    rated = await desk.send("POST", "/v2/scope", scope_id="A", last_processed_timestamp=HOURS[0])
    other = await desk.send("POST", "/v2/scope", scope_id="x", last_processed_timestamp=HOURS[0], collector="gnocchi")
    bare = await desk.send("POST", "/v2/scope")
    listed = await desk.world.get("/v2/scope")

    assert (found.status, found.body["last_processed_timestamp"]) == (200, "2026-01-05T06:00:00+00:00")
    assert [one.status for one in (again, rated, other, bare)] == [404, 404, 400, 400]
    assert "is 'prometheus' for all scopes" in other.body["message"]
    assert bare.body["message"].count("required key not provided") == 2
    assert [scope["scope_id"] for scope in listed["results"]] == ["A", "B", "new"]
    assert listed["results"][2] == found.body
    assert [type(record) for record in desk.topic.records] == [ScopeAdded]


async def test_a_scope_is_switched_off_and_on(desk: Desk) -> None:
    before = await desk.send("PATCH", "/v2/scope", scope_id="A", collector="prometheus")
    off = await desk.send("PATCH", "/v2/scope", scope_id="A", active=False)
    same = await desk.send("PATCH", "/v2/scope", scope_id="A", active=False)
    listed = [scope["scope_id"] for scope in (await desk.world.get("/v2/scope", {"active": "0"}))["results"]]
    active = [scope["scope_id"] for scope in (await desk.world.get("/v2/scope", {"active": "1"}))["results"]]
    refused = [await desk.refused(), (await desk.send("PUT", "/v2/scope", scope_id="A", state=HOURS[0])).status]
    every = await desk.send("PUT", "/v2/scope", all_scopes=True, state=HOURS[0])
    on = await desk.send("PATCH", "/v2/scope", scope_id="A", active="true", inactive_time="skip")

    assert (before.body["active"], before.body["scope_activation_toggle_date"]) == (True, None)
    assert (off.status, off.body["active"], listed, active) == (200, False, ["A"], ["B"])
    assert same.body == off.body
    assert off.body["scope_activation_toggle_date"].endswith("+00:00")
    assert refused == ["Scope IDs ['A'] do not exist or are not active.", 404]
    assert every.status == 202
    assert on.body["active"] is True
    switches = [record for record in desk.topic.records if isinstance(record, ScopeSwitched)]
    assert [(s.scope_id, s.active, s.inactive_time, s.author) for s in switches] == [
        ("A", False, "bill", "unknown"),
        ("A", True, "skip", "unknown"),
    ]
    assert asked(desk.topic) == [("reset", ("B",), 0, 4, "unknown")]


@pytest.mark.parametrize(
    ("values", "status", "told"),
    [
        ({}, 400, "required key not provided"),
        ({"scope_id": "C", "active": False}, 404, "No resource found"),
        ({"scope_id": "A", "collector": "gnocchi"}, 400, "is 'prometheus' for all scopes"),
        ({"scope_id": "A", "active": False, "inactive_time": "skip"}, 400, "with active: true"),
        ({"scope_id": "A", "active": True, "inactive_time": "never"}, 400, "one of ['bill', 'skip']"),
        ({"scope_id": "A", "colour": "red"}, 400, "extra keys not allowed"),
    ],
)
async def test_a_switch_is_refused(desk: Desk, values: dict[str, Any], status: int, told: str) -> None:
    found = await desk.send("PATCH", "/v2/scope", **values)
    assert (found.status, told in found.body["message"]) == (status, True), found
    assert desk.topic.records == []


async def test_a_scope_can_be_added_as_one_that_is_off(desk: Desk) -> None:
    found = await desk.send("POST", "/v2/scope", scope_id="x", last_processed_timestamp=HOURS[0], active=False)
    assert (found.status, found.body["active"]) == (200, False)
    # the switch first: it is not there as one that is on if the answer to it does not come, and may be asked for again
    assert [type(record) for record in desk.topic.records] == [ScopeSwitched, ScopeAdded]


async def test_what_becomes_of_the_inactive_time_is_decided_once(desk: Desk) -> None:
    """A word that changes nothing is refused: who says `skip` must not find the time billed."""
    never = await desk.send("PATCH", "/v2/scope", scope_id="A", active=True, inactive_time="skip")
    await desk.send("PATCH", "/v2/scope", scope_id="A", active=False)
    answers = [
        await desk.send("PATCH", "/v2/scope", scope_id="A", active=True, **said)
        for said in ({"inactive_time": "bill"}, {"inactive_time": "bill"}, {}, {"inactive_time": "skip"})
    ]
    assert (never.status, "never switched off" in never.body["message"]) == (400, True)
    assert [answer.status for answer in answers] == [200, 200, 200, 400]
    assert "switched on already, with inactive_time 'bill'" in answers[-1].body["message"]
    assert [type(record) for record in desk.topic.records] == [ScopeSwitched] * 2


async def test_a_reset_of_all_scopes_leaves_out_those_that_ended_before(desk: Desk) -> None:
    await desk.send("POST", "/v2/scope", scope_id="old", last_processed_timestamp=HOURS[1])
    every = await desk.send("PUT", "/v2/scope", all_scopes=True, state=HOURS[2])
    one = await desk.send("PUT", "/v2/scope", scope_id=["A", "old"], state=HOURS[2])
    none = await desk.send("PUT", "/v2/scope", all_scopes=True, state="2027-01-01T00:00:00")
    assert [found.status for found in (every, one, none)] == [202, 400, 400]
    assert asked(desk.topic) == [("reset", ("A", "B"), 2, 4, "unknown")]


async def test_a_reprocess_takes_its_last_period_with_it(desk: Desk) -> None:
    found = await desk.task()
    listed = await desk.task(scope_ids=["B"], start=HOURS[0], end=HOURS[0])
    assert [(one.status, one.body) for one in (found, listed)] == [(202, {})] * 2
    assert asked(desk.topic) == [("reprocess", ("A",), 1, 3, "unknown"), ("reprocess", ("B",), 0, 1, "unknown")]


@pytest.mark.parametrize("every", ["ALL", ["ALL"], []])
async def test_a_reprocess_of_all_scopes(desk: Desk, every: Any) -> None:
    assert (await desk.task(scope_ids=every)).status == 202
    assert asked(desk.topic) == [("reprocess", ("A", "B"), 1, 3, "unknown")]


async def test_what_is_wrong_with_a_reprocess_is_told_in_order(desk: Desk) -> None:
    """Each has all the faults of those that follow; the bounds and what is under way are checked last."""
    assert (await desk.task(end=HOURS[1])).status == 202
    bad: dict[str, Any] = {
        "reason": " ", "scope_ids": ["ALL", "x"], "start": "2026-01-01T05:10:00", "end": "2026-01-01T05:05:00",
    }  # fmt: skip
    assert "Empty or blank reason" in await desk.refused(**bad)
    bad["reason"] = "why"
    assert "Cannot use 'ALL'" in await desk.refused(**bad)
    bad["scope_ids"] = ["A", "x"]
    assert "cannot be less than start" in await desk.refused(**bad)
    bad["end"] = "2026-01-01T05:20:00"
    near = "A valid time window near the provided one is ['2026-01-01T05:00:00', '2026-01-01T06:00:00']"
    assert near in await desk.refused(**bad)
    bad["start"] = HOURS[5]
    assert near in await desk.refused(**bad)
    bad["end"] = HOURS[5]
    assert await desk.refused(**bad) == "Scope IDs ['x'] do not exist or are not active."
    bad["scope_ids"] = ["A"]
    assert "is after the last processed timestamp [2026-01-01T03:00:00]" in await desk.refused(**bad)
    bad["start"] = HOURS[1]
    assert "End reprocessing timestamp" in await desk.refused(**bad)
    bad["end"] = HOURS[3]
    assert "is not over" in await desk.refused(**bad)
    assert "required key" in await desk.refused(reason=None)
    assert len(desk.topic.records) == 1


async def test_of_two_that_overlap_and_come_at_once_the_log_takes_one(view: StoreView) -> None:
    topic = Late()
    async with serving(view, RuleBook.empty(), requests=Requests(topic)) as world:
        told = await Desk(world, topic).refused()
    assert "Cannot reprocess: reprocess of-another of scope 'A' is under way" in told


class Late(RequestsInMemory):
    """Somebody else's record gets there first."""

    async def append(self, record: RequestRecord) -> RequestBook:
        await super().append(FramesAsked("of-another", "reprocess", ("A",), JANUARY, JANUARY + 9 * HOUR, "x", "y", 1))
        return await super().append(record)


async def test_tasks_say_how_far_they_are(desk: Desk) -> None:
    await desk.task()
    await desk.task(scope_ids="B", reason="two")
    (first, second) = (record for record in desk.topic.records if isinstance(record, FramesAsked))
    waiting = await desk.world.get(TASKS, {"order": "asc"})
    await desk.topic.append(FramesOver(first.request_id, (ScopeOutcome("A", done=2),), JANUARY))
    await desk.topic.append(FramesOver(second.request_id, (ScopeOutcome("B", left=2, told="no worker"),), JANUARY))
    done = await desk.world.get(f"{TASKS}/A")
    left = await desk.world.get(TASKS, {"scope_ids": "B"})

    task = {"start_reprocess_time": HOURS[1], "end_reprocess_time": HOURS[2], "current_reprocess_time": ""}
    assert waiting["results"] == [
        {"scope_id": "A", "reason": "why", **task},
        {"scope_id": "B", "reason": "two", **task},
    ]
    task["current_reprocess_time"] = HOURS[2]
    assert done["results"] == [{"scope_id": "A", "reason": "why", **task}]
    assert left["results"][0]["reason"] == "two (2 period(s) left as they were: no worker)"


async def test_without_kafka_nothing_is_promised(view: StoreView) -> None:
    async with serving(view, RuleBook.empty(), requests=Requests(Away())) as world:
        away = Desk(world, Away())
        found = [await away.task(), await away.send("PUT", "/v2/scope", all_scopes=True, state=HOURS[0])]
        found.append(await world.ask("/v2/scope"))
    assert [one.status for one in found] == [503] * 3
    assert found[0].headers["Retry-After"] == "2"


class Away(RequestsInMemory):
    """A broker that is away."""

    async def book(self) -> RequestBook:
        raise StreamUnavailableError("gone")


async def test_a_record_that_is_not_confirmed_is_not_acknowledged(view: StoreView) -> None:
    class Lost(RequestsInMemory):
        async def append(self, record: RequestRecord) -> RequestBook:
            raise StreamUnavailableError("gone")

    async with serving(view, RuleBook.empty(), requests=Requests(Lost())) as world:
        found = await Desk(world, Lost()).task()
    assert (found.status, "may or may not be there" in found.body["message"]) == (503, True)
    with pytest.raises(ApiFaultError):
        await Requests(Lost()).append(ScopeAdded("a", 0, "b", 0))
