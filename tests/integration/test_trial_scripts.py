"""Rating scripts in their real sandbox: a file priced with them, a frame explained, what-if with and without them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.cli.app import _run
from rater.sandbox import Sandbox
from tests.unit.store.builders import memory_store
from tests.unit.trial.world import HOUR, T, World, book_from, measured

BOOK = """
modules: {hashmap: {priority: 2}, pyscripts: {priority: 1}}
hashmap: {services: [{name: cpu, mappings: [{cost: "0.1"}]}, {name: disk, mappings: [{cost: "1"}]}]}
pyscripts:
  scripts:
    - name: mixed
      data: |
        from decimal import Decimal
        usage = data["usage"]
        for point in usage.get("cpu", []):
            if point["groupby"].get("id") == "half":
                point["rating"]["price"] /= 2
            if point["groupby"].get("id") == "more":
                point["vol"]["qty"] *= 3
                point["metadata"]["changed"] = True
        usage["cpu"] = [point for point in usage.get("cpu", []) if point["groupby"].get("id") != "gone"]
        if len(usage["cpu"]) > 1:
            usage["fee"] = [
                {"vol": {"unit": "fee", "qty": 1}, "rating": {"price": Decimal("2.5")}, "groupby": {}, "metadata": {}}
            ]
        assert "bad" not in [point["groupby"].get("id") for point in usage["cpu"]], "a bad one"
"""
WITHOUT = BOOK[: BOOK.index("pyscripts:\n")].replace("pyscripts: {priority: 1}", "pyscripts: {enabled: false}")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "rules.yaml").write_text(BOOK)

    def run(lines: list[dict[str, Any]], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        (tmp_path / "usage.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        status = _run(["rate", "--rules", "rules.yaml", *arguments, "usage.jsonl"])
        told = capfd.readouterr()
        return status, [json.loads(line) for line in told.out.splitlines()], told.err

    return run


def cpu(name: str, hour: int = 0, scope_id: str = "A", qty: str = "2") -> dict[str, Any]:
    begin, end = (f"2026-01-01T{at:02}:00:00Z" for at in (hour, hour + 1))
    groupby = {"id": name}
    return {"scope_id": scope_id, "metric": "cpu", "begin": begin, "end": end, "qty": qty, "groupby": groupby}


@pytest.mark.parametrize("explain", [False, True])
def test_a_file_is_priced_with_scripts(call: Callable[..., Any], *, explain: bool) -> None:
    # given three frames, the second of which fails
    lines = [cpu("half"), cpu("gone"), cpu("more"), cpu("bad", 1), cpu("plain", 1), cpu("half", 0, "B")]
    # when
    status, found, err = call(lines, *(["--explain"] if explain else []))
    # then
    assert status == 1
    because = [entry.pop("because", None) for entry in found]
    half, gone, more, fee, bad, plain, other = found
    assert half == {**cpu("half"), "price": "0.1"}
    assert gone == {**cpu("gone"), "dropped": True}
    assert more == {**cpu("more"), "qty": "6", "unit": "undefined", "metadata": {"changed": True}, "price": "0.2"}
    assert fee == {
        "scope_id": "A", "metric": "fee", "begin": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z", "qty": "1",
        "unit": "fee", "groupby": {}, "metadata": {}, "price": "2.5", "added": True,
    }  # fmt: skip
    assert bad["error"] == plain["error"]
    assert bad["error"].startswith("script 'mixed', line ")
    assert bad["error"].endswith("AssertionError: a bad one")
    assert other == {**cpu("half", 0, "B"), "price": "0.1"}
    assert [row.split()[:3] for row in err.splitlines() if row.strip().startswith(("A ", "B "))] == [
        ["A", "cpu", "2"], ["A", "fee", "1"], ["B", "cpu", "1"],
    ]  # fmt: skip
    if explain:
        assert [[step["module"] for step in steps] if steps else None for steps in because] == [
            *[["hashmap", "pyscripts"]] * 3, ["pyscripts"], None, None, ["hashmap", "pyscripts"],
        ]  # fmt: skip
        assert because[2][1]["changes"] == ["qty 2 -> 6", "metadata {} -> {'changed': True}"]
        assert because[1][1]["after"] is None


def test_usage_out_of_order_is_refused_with_the_reason(call: Callable[..., Any]) -> None:
    status, found, err = call([cpu("half", 1), cpu("half", 0)])
    assert status == 1
    assert [entry["price"] for entry in found] == ["0.1"]
    assert "order the usage by scope_id" in err


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store, Sandbox() as sandbox:
        yield World(store, book_from(BOOK), sandbox)


def test_a_frame_rated_with_scripts_is_explained_and_compared(world: World) -> None:
    # given a frame that a script changed, and one that it failed
    for number, name in enumerate(("half", "gone", "more", "plain")):
        world.take(measured("cpu", "2", groupby={"id": name}, source=f"s{number}", collection_id=name))
    world.take(measured("cpu", "2", begin=T + HOUR, groupby={"id": "bad"}, source="s0", collection_id="bad"))
    world.close(T + HOUR)
    world.close(T + 6 * HOUR)
    # when
    first, failed, *_ = world.explained()
    # then
    told = {line.points[0].groupby.get("id", line.metric): (line.qty, line.price) for line in first.lines}
    assert told == {"half": ("2", "0.1"), "more": ("6", "0.2"), "plain": ("2", "0.2"), "fee": ("1", "2.5")}
    by_name = {line.points[0].groupby.get("id"): line for line in first.lines}
    assert by_name["more"].metadata == {"changed": "True"}
    assert [sample.collection_id for sample in by_name["more"].samples] == ["more"]
    assert by_name[None].samples == []
    assert [dropped.groupby["id"] for dropped in first.dropped] == ["gone"]
    assert "a bad one" in failed.note
    # when rated again, with the same script and without
    same = world.what_if(world.book).found
    without = world.what_if(book_from(WITHOUT)).found
    # then the first is what is stored
    assert (same.total().changed, same.total().old, same.failed) == (0, 3, 1)
    # and without the script all five points cost the same, and there is no fee
    cpu_sums, fee = without.by_key["A", "cpu"], without.by_key["A", "fee"]
    assert (str(cpu_sums.old), str(cpu_sums.new), cpu_sums.newly_rated) == ("0.5", "1.0", 1)
    assert (str(fee.old), fee.new, fee.lines, fee.changed) == ("2.5", 0, 1, 1)
