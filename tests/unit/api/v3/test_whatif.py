"""What-if jobs over HTTP: what they find, who sees it, and that they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rater.api.v3 import jobs as module
from rater.rating import NoScripts, RuleBook, ScriptRunner
from tests.unit.api.v3.test_explain import RULES, behind
from tests.unit.api.v3.world import World as Served
from tests.unit.api.v3.world import serving
from tests.unit.trial.world import HOUR, T, World, a_world, book_from, measured

RANGE = {"begin": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}
DEARER = RULES.replace("0.1", "0.4")
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
def made() -> Iterator[World]:
    found = a_world(book_from(RULES))
    for scope in ("A", "B"):
        found.take(measured("cpu", "1", "2", scope_id=scope))
    found.close(T + 4 * HOUR)
    yield found
    found.store.close()


async def started(world: Served, query: Any = None, status: int = 202) -> Any:
    found = await world.ask("/v3/whatif", query or RANGE, method="POST", data=DEARER, headers=YAML)
    assert found.status == status, found
    return found.body


async def ended(world: Served, job_id: str, who: str = "boss", **query: Any) -> Any:
    async with asyncio.timeout(30):
        while (job := await world.get(f"/v3/whatif/{job_id}", query, who))["state"] in ("waiting", "running"):
            await asyncio.sleep(0.02)
    return job


async def test_a_job_tells_what_would_change_and_readers_see_their_own(made: World) -> None:
    async with serving(**behind(made, made.book)) as world:
        job_id = (await started(world))["job_id"]
        job = await ended(world, job_id)
        assert (job["state"], job["frames"], job["unknown_frames"], job["reason"]) == ("done", job["all_frames"], 0, "")
        assert [(x["scope_id"], x["old_price"], x["new_price"]) for x in job["differences"]] == [
            ("A", "0.3", "1.2"),
            ("B", "0.3", "1.2"),
        ]
        few = await ended(world, job_id, limit=1)
        assert (len(few["differences"]), few["more"]) == (1, 1)
        own = await ended(world, job_id, "ann")
        assert ([x["scope_id"] for x in own["differences"]], own["more"], own["unknown_frames"]) == (["A"], 0, None)
        of_b = (await started(world, {**RANGE, "scope_id": "B"}))["job_id"]
        foreign, none = [await world.ask(f"/v3/whatif/{name}", who="ann") for name in (of_b, "none")]
        assert (foreign.status, foreign.body["detail"].replace(of_b, "none")) == (404, none.body["detail"])
        assert (await world.ask(f"/v3/whatif/{job_id}", who="ann", method="DELETE")).status == 403
        assert (await world.ask("/v3/whatif", RANGE, "ann", "POST", data=DEARER, headers=YAML)).status == 403
        wrong = await world.ask("/v3/whatif", RANGE, method="POST", data="hashmap: 7", headers=YAML)
        assert (wrong.status, bool(wrong.body["faults"])) == (422, True)


async def test_jobs_are_few_and_can_be_cancelled(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    values = behind(made, made.book)
    go_on = threading.Event()

    @contextmanager
    def waiting(*books: RuleBook) -> Iterator[ScriptRunner]:
        assert go_on.wait(30)
        yield NoScripts()

    values["trials"].scripts = waiting
    async with serving(**values) as world:
        ids = [(await started(world))["job_id"] for _ in range(module.MAX_JOBS)]
        assert (await world.ask("/v3/whatif", RANGE, method="POST", data=DEARER, headers=YAML)).status == 429
        for job_id in ids[:2]:  # one that runs, and one that waits
            assert (await world.ask(f"/v3/whatif/{job_id}", method="DELETE")).status == 204
            assert (await world.ask(f"/v3/whatif/{job_id}")).status == 404
        go_on.set()
        assert [(await ended(world, job_id))["state"] for job_id in ids[2:]] == ["done", "done"]
        new = (await started(world))["job_id"]
        assert (await ended(world, new))["state"] == "done"
        assert (await world.ask(f"/v3/whatif/{ids[2]}")).status == 404  # forgotten for the new one


@pytest.mark.parametrize("bound", ["MAX_SECONDS", "MAX_ENTRIES"])
async def test_a_job_that_is_too_much_ends(made: World, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(module, bound, -1)
    async with serving(**behind(made, made.book)) as world:
        job = await ended(world, (await started(world))["job_id"])
        assert (job["state"], "compare a part" in job["reason"]) == ("failed", True)
