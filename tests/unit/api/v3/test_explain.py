"""Explanations over HTTP: what engine and rating made, told step by step and proven."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rater.rating import RuleBook
from tests.unit.api.v3.world import KnownRules, KnownTrials, serving
from tests.unit.trial.world import HOUR, T, World, a_world, book_from, measured

RULES = """
hashmap:
  services:
    - name: cpu
      mappings: [{cost: "0.1"}]
"""
PATH = "/v3/scopes/A/frames/2026-01-01T00:00:00Z/explanation"


@pytest.fixture
def made() -> Iterator[World]:
    found = a_world(book_from(RULES))
    found.take(measured("cpu", "1", "2", scope_id="A"))
    found.take(measured("net", "4", scope_id="A"))
    found.close(T + 4 * HOUR)
    yield found
    found.store.close()


class Books(KnownRules):
    """One book at every version, so that it is no matter which one a frame names."""

    def __init__(self, book: RuleBook) -> None:
        super().__init__()
        self._always = book

    async def book_at(self, version: int) -> RuleBook:
        return self._always


def behind(made: World, book: RuleBook) -> dict[str, Any]:
    trials = KnownTrials()
    trials.context = made.context
    return {"view": made.view, "rules": Books(book), "trials": trials}


async def test_lines_are_explained(made: World) -> None:
    async with serving(**behind(made, made.book)) as world:
        found = await world.get(PATH, who="ann")
        assert len(found["lines"]) == 2
        assert [(line["metric"], line["price"]) for line in found["lines"]] == [("cpu", "0.3"), ("net", "0")]
        one = found["lines"][1]
        assert (await world.get(PATH, {"line_id": one["line_id"]}))["lines"] == [one]
        few = await world.get(PATH, {"limit": 1})
        assert (few["lines"], few["more_lines"]) == ([found["lines"][0]], 1)
        assert (await world.get(PATH, {"metric": "disk"}))["lines"] == []
        wrong = [PATH.replace("00:00:00Z", "09:00:00Z"), PATH.replace("00:00:00Z", "00:00:01Z"), PATH + "?line_id=x"]
        assert [(await world.ask(path)).status for path in wrong] == [404, 422, 422]
        assert (await world.ask(PATH, {"line_id": "0" * 32})).status == 404
        assert (await world.ask(PATH, who="lost")).body["detail"] == "no scope 'A' is known to you"


async def test_prices_that_do_not_follow_from_the_rules_are_no_explanation(made: World) -> None:
    async with serving(**behind(made, book_from(RULES.replace("0.1", "0.2")))) as world:
        for _ in range(3):  # more than may be made at a time: each gives its place back
            found = await world.ask(PATH)
            assert (found.status, "do not follow" in found.body["detail"]) == (409, True)
