"""The rule document over HTTP: read, tried, put in place against the version that was read, and its history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rater.api.v3.rules import OPERATIONS
from tests.unit.api.v3.world import KnownRules, World, serving

YAML = {"Content-Type": "application/yaml"}
TINY = """\
modules: {hashmap: {enabled: true, priority: 1}}
hashmap:
  services:
  - name: instance
    fields:
    - name: flavor
      mappings:
      - {value: m1.tiny, cost: "0.01", type: flat}
"""
DEARER = TINY.replace("0.01", "0.02")


@pytest.fixture
async def rules() -> AsyncIterator[tuple[World, KnownRules]]:
    known = KnownRules()
    nothing: Any = None  # no operation here asks the store
    async with serving(nothing, OPERATIONS, rules=known) as world:
        yield world, known


async def put(world: World, text: str, query: Any = None, **headers: str) -> Any:
    return await world.ask("/v3/rules", query, method="PUT", data=text.encode(), headers={**YAML, **headers})


async def test_a_document_is_put_in_place_and_read_back(rules: tuple[World, KnownRules]) -> None:
    world, _ = rules
    first = await world.ask("/v3/rules")
    assert (first.status, first.headers["Content-Type"], first.headers["ETag"]) == (200, "application/yaml", '"0"')

    done = await put(world, TINY, {"reason": "prices of 2026"}, **{"If-Match": '"0"'})

    assert done.status == 200, done.body
    assert (done.body["version"], done.body["applied"], done.body["removed"]) == (1, True, 0)
    assert done.headers["ETag"] == '"1"'
    mapping = next(entry for entry in done.body["entries"] if entry["what"] == "mapping")
    assert (mapping["sign"], mapping["place"]) == ("+", "instance / flavor = m1.tiny")
    assert "0.01" in mapping["after"]
    read = await world.get("/v3/rules", headers={"Accept": "application/json"})
    assert read["hashmap"]["services"][0]["fields"][0]["mappings"][0]["cost"] == "0.01"
    text = (await world.ask("/v3/rules")).body.decode()
    assert (await put(world, text, **{"If-Match": '"1"'})).body["applied"] is False, "it says what there is"
    assert (await world.ask("/v3/rules", {"version": "0"})).headers["ETag"] == '"0"'
    assert (await world.ask("/v3/rules", {"version": "7"})).status == 404


async def test_what_was_changed_meanwhile_is_not_overwritten(rules: tuple[World, KnownRules]) -> None:
    world, known = rules
    assert (await put(world, TINY)).status == 428
    assert (await put(world, TINY, **{"If-Match": '"3"'})).status == 412
    assert (await put(world, TINY, **{"If-Match": "*"})).body["version"] == 1

    async def somebody_else() -> None:
        await put(world, DEARER, **{"If-Match": "*"})

    loop, interrupted = asyncio.get_running_loop(), []

    def before_write() -> None:
        if not interrupted:
            interrupted.append(loop.create_task(somebody_else()))

    known.before_write = before_write
    both = await asyncio.gather(put(world, DEARER, **{"If-Match": '"1"'}), put(world, TINY, **{"If-Match": '"0"'}))
    await interrupted[0]
    assert [found.status for found in both] == [200, 412]
    assert "they are at version" in both[1].body["detail"]
    assert (await known.book()).version == 2


async def test_a_dry_run_changes_nothing(rules: tuple[World, KnownRules]) -> None:
    world, known = rules
    tried = await put(world, TINY, {"dry_run": "true"})
    assert (tried.status, tried.body["applied"], tried.body["version"]) == (200, False, 0)
    assert tried.body["added"] == len([entry for entry in tried.body["entries"] if entry["sign"] == "+"]) > 0
    assert (await known.book()).version == 0
    assert (await put(world, TINY, {"dry_run": "true"}, **{"If-Match": '"5"'})).status == 412


async def test_every_fault_of_a_document_has_its_line(rules: tuple[World, KnownRules]) -> None:
    world, known = rules
    wrong = TINY.replace("type: flat", "type: flatt").replace("instance", "''")
    found = await put(world, wrong, **{"If-Match": "*"})
    assert found.status == 422
    places = [fault["place"] for fault in found.body["faults"]]
    assert len(places) >= 2
    assert places[0].startswith("line 4, hashmap.services[0]")
    assert any(place.startswith("line 8, ") for place in places)
    for body in (b"\xff\xfe", b"[" * 100_000, b"a: &a [*a]"):
        refused = await world.ask("/v3/rules", method="PUT", data=body, headers={**YAML, "If-Match": "*"})
        assert refused.status in (400, 413, 422), refused
    file = TINY + "pyscripts: {scripts: [{name: x, file: /etc/passwd}]}\n"
    assert (await put(world, file, **{"If-Match": "*"})).status == 422, "a document that came over HTTP names no files"
    as_json = {"Content-Type": "application/json", "If-Match": "*"}
    taken = await world.ask("/v3/rules", method="PUT", data=json.dumps({"hashmap": {}}), headers=as_json)
    assert taken.status == 200
    assert (await known.book()).services == {}


async def test_the_history_says_who_and_why_and_goes_back_page_by_page(rules: tuple[World, KnownRules]) -> None:
    world, _ = rules
    for text, reason in ((TINY, "first"), (DEARER, "dearer"), (TINY, "back")):
        await put(world, text, {"reason": reason}, **{"If-Match": "*"})
    page = await world.get("/v3/rules/history", {"limit": "2"})
    assert [(item["version"], item["author"], item["reason"]) for item in page["items"]] == [
        (3, "boss", "back"),
        (2, "boss", "dearer"),
    ]
    (entry,) = page["items"][1]["changes"]
    assert (entry["sign"], "0.01" in entry["before"], "0.02" in entry["after"]) == ("~", True, True)
    rest = await world.get("/v3/rules/history", {"limit": "2", "cursor": page["next"]})
    assert ([item["reason"] for item in rest["items"]], rest["next"]) == (["first"], "")


async def test_rules_are_for_administrators(rules: tuple[World, KnownRules]) -> None:
    world, known = rules
    for who in ("ann", "meter", "lost"):
        assert (await world.ask("/v3/rules", who=who)).status == 403
        assert (await world.ask("/v3/rules/history", who=who)).status == 403
        refused = await world.ask("/v3/rules", method="PUT", who=who, data=TINY, headers={**YAML, "If-Match": "*"})
        assert refused.status == 403
    assert (await known.book()).version == 0
