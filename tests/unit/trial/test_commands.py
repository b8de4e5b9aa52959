"""`rater explain` and `rater whatif` on a store, without Kafka: what they print, and how they end."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rater.cli.app import _run
from rater.model.usage import Sample, Series
from rater.store import Store, StoreSettings
from tests.unit.engine.builders import GRACE, not_a_number, plan
from tests.unit.trial.world import HOUR, T, World, book_from, measured

RULES = """
hashmap:
  services:
    - name: cpu
      mappings: [{cost: "0.1"}]
      fields: [{name: size, thresholds: [{level: "1", cost: "2", type: rate}]}]
"""
CONFIG = """
kafka: {bootstrap: "127.0.0.1:1"}
store: {dsn: "chdb://store"}
metrics: {cpu: {}}
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs `rater …` in this process beside a store of four frames: many lines, few, a failed one, an empty one."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "rater.yaml").write_text(CONFIG)
    (tmp_path / "rules.yaml").write_text(RULES)
    world = World(Store(StoreSettings(dsn=f"chdb://{tmp_path / 'store'}")), book_from(RULES))
    with world.store:
        many = [Series({"id": f"r{n}"}, {"size": str(n)}) for n in range(15)]
        samples = [Sample(n % 15, T + n, T + n + 1, 1) for n in range(15 * 20)]  # type: ignore[arg-type]  # written as 1
        world.take(
            plan("cpu"),
            msgspec.structs.replace(measured("cpu", collection_id="c"), series=many, samples=samples),
            measured("cpu", "1", "2", begin=T + HOUR, metadata={"size": "big"}, quarantined=[not_a_number(id="r9")]),
        )
        world.close(T + HOUR)
        world.take(
            measured("cpu", "5", begin=T + HOUR, source="twin", collection_id="t", end=T + 2 * HOUR),
        )
        world.close(T + 2 * HOUR)
        world.take(measured("cpu", begin=T + 2 * HOUR))
        world.close(T + 3 * HOUR + GRACE)
        world.close(T + 4 * HOUR + GRACE)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = _run(list(arguments))
        told = capfd.readouterr()
        return status, told.out, told.err

    return run


def explain(call: Call, hour: int, *more: str) -> tuple[int, str, str]:
    begin = f"2026-01-01T0{hour}:00"
    return call("explain", "--scope", "A", "--period", begin, "--rules", "rules.yaml", *more)


def test_a_frame_with_many_lines_lists_them(call: Call) -> None:
    # when
    status, out, err = explain(call, 0)
    # then
    assert status == 0
    assert out.startswith("A, 2026-01-01 00:00 to 2026-01-01 01:00 UTC: rated, revision 0, rules version 1, 15 lines\n")
    assert out.count("size=") == 15
    assert err == "15 lines, all of them proven: choose with --line ID or --metric, or raise --limit\n"
    # when one of them is chosen by the begin of its id
    line_id = next(row.split()[0] for row in out.splitlines() if "size=14," in row)
    status, out, err = explain(call, 0, "--line", line_id[:8].upper())
    # then
    assert (status, err) == (0, "")
    told = out.splitlines()
    assert told[1:6] == [
        "",
        f"line {line_id}",
        "  quantity sum of 20 samples:",
        "    from prom, collection c, attempt 1",
        "      2026-01-01T00:00:14Z to 2026-01-01T00:00:15Z: 1",
    ]
    assert "      and 8 more (--out json has all)" in told
    assert told[-2:] == ["  price 4", "  stored: quantity 20 undefined, price 4, the same"]
    # and with a higher limit all are told
    assert explain(call, 0, "--limit", "15")[1].count("the same") == 15


def test_json_is_for_programs(call: Call) -> None:
    # when
    status, out, err = explain(call, 0, "--out", "json", "--limit", "2", "--metric", "cpu")
    # then
    assert status == 0
    assert "15 lines" in err
    frame, *lines = [json.loads(text) for text in out.splitlines()]
    assert (frame["kind"], frame["scope_id"], frame["lines"], frame["period_begin"]) == (
        "frame", "A", 15, "2026-01-01T00:00:00Z",
    )  # fmt: skip
    assert [(line["kind"], line["price"], len(line["samples"])) for line in lines] == [
        ("line", line["points"][0]["price"], 20) for line in lines
    ]
    assert len(lines) == 2
    assert explain(call, 0, "--metric", "other")[1].count("\n") == 1


def test_usage_without_a_price_is_explained(call: Call) -> None:
    # when
    status, out, _ = explain(call, 1)
    # then
    assert status == 0
    assert "without a price: cpu from prom, value NaN: not a finite number" in out
    assert "without a price: cpu, value 3: metric 'cpu': field 'size' has thresholds" in out
    assert "    every point: flat 0.1 (group _DEFAULT_) -> flat 0.1, rate 1" in out
    assert "stored: quantity 5 undefined, price 0.5, the same" in out
    # and a limit cuts them, too
    assert "and 1 more without a price: raise --limit" in explain(call, 1, "--limit", "1")[2]
    kinds = [json.loads(text)["kind"] for text in explain(call, 1, "--out", "json")[1].splitlines()]
    assert kinds == ["frame", "line", "without_price", "without_price"]


def test_frames_without_lines_say_why(call: Call) -> None:
    _, out, _ = explain(call, 2)
    assert "gap: cpu from twin: 2026-01-01 02:00 to 2026-01-01 03:00 UTC" in out
    _, out, _ = explain(call, 3)
    assert out.splitlines()[-1] == "nothing is known of what was used"


def test_what_is_not_there_and_what_does_not_follow(call: Call, tmp_path: Path) -> None:
    # when / then
    status, _, err = explain(call, 9)
    assert (status, "there is no frame of scope 'A' at 2026-01-01 09:00 UTC" in err) == (1, True)
    assert call("explain", "--scope", "A", "--period", "2026-01-01T00:30")[0] == 2
    status, _, err = explain(call, 0, "--line", "nothing")
    assert (status, "no line is 'nothing' alone: 15 lines of the frame are others" in err) == (1, True)
    assert "lines of the frame begin so: " in explain(call, 0, "--line", "")[2]
    # when the rules of that time are in Kafka only, which is away
    status, _, err = call("explain", "--scope", "A", "--period", "2026-01-01T00:00")
    assert status == 1
    assert "version 1 of the rules cannot be read: " in err
    assert "--rules FILE" in err
    # when the rules are others
    (tmp_path / "rules.yaml").write_text(RULES.replace("0.1", "0.2"))
    status, out, err = explain(call, 0)
    assert (status, out) == (1, "")
    assert "the stored prices do not follow from the stored usage and version 1 of the rules" in err
    assert "  and 10 more" in err


def whatif(call: Call, *more: str) -> tuple[int, list[dict[str, Any]], str]:
    status, out, err = call("whatif", "--rules", "rules.yaml", "--out", "csv", *more)
    return status, list(csv.DictReader(io.StringIO(out))), err


def test_what_if(call: Call, tmp_path: Path) -> None:
    # given other rules: dearer, and without a field that needs a number
    (tmp_path / "rules.yaml").write_text(RULES.replace("0.1", "0.2").replace("size", "n"))
    # when
    status, rows, err = whatif(call)
    # then: 15 lines of 20, all but one of them doubled before, and one of 5
    assert status == 0
    [row] = rows
    assert row == {
        "scope_id": "A", "metric": "cpu", "lines": "17", "changed": "3", "old_price": "58.5", "new_price": "61.6",
        "difference": "3.1", "percent": "5.3", "newly_without_price": "0", "newly_with_price": "1",
    }  # fmt: skip
    assert "going through all samples" in err
    assert "17 lines, 3 of them change: 58.5 -> 61.6, difference 3.1 (5.3 %)" in err
    assert "0 points newly without price, 1 newly with one" in err
    # and of a part of the time
    assert whatif(call, "--from", "2026-01-01T01:00", "--to", "2026-01-01T02:00", "--scope", "A")[1][0]["lines"] == "2"
    assert whatif(call, "--month", "2026-02")[0] == 1
    assert "there are no frames of that scope and time" in whatif(call, "--scope", "B")[2]


def test_what_if_a_frame_would_fail(call: Call, tmp_path: Path) -> None:
    # given a script that fails where there are many points
    (tmp_path / "rules.yaml").write_text(
        RULES + "pyscripts: {scripts: [{name: strict, data: \"assert len(data['usage']['cpu']) < 9\"}]}\n"
    )
    # when
    status, rows, err = whatif(call)
    # then
    assert status == 1
    assert "scope 'A', 2026-01-01T00:00:00Z: would fail: script 'strict', line 1: AssertionError" in err
    assert "0 frames could not be compared and are in neither sum; 1 would fail and cost nothing" in err
    assert rows[0]["newly_without_price"] == "15"


TIERS = "hashmap: {services: [{name: cpu, tiers: {steps: [{up_to: '10', cost: '1'}, {cost: '0.1'}]}}]}"


def test_tiers_that_came_in_the_middle_of_the_month(tmp_path: Path, call: Call) -> None:
    # given two hours of version 1, as they are, and in another month two of version 2
    (tmp_path / "rules.yaml").write_text(TIERS)
    status, out, err = call("whatif", "--rules", "rules.yaml", "--from", "2026-01-01T01:00", "--out", "csv")
    assert status == 0
    assert next(csv.DictReader(io.StringIO(out)))["new_price"] == "0.8"
    assert "graduated prices count from the begin of each month, as if these rules had held since then\n" in err
    # when a frame is explained by a document with tiers, and those before it were rated by another version
    frames = World(Store(StoreSettings(dsn=f"chdb://{tmp_path / 'store'}")), book_from(TIERS))
    with frames.store:
        for begin in (T + 5 * HOUR, T + 32 * 24 * HOUR):
            frames.take(measured("cpu", "4", begin=begin), at=begin)
            [frame] = [one for one in frames.bench.decide(begin + HOUR) if one.lines]
            frames.keep([msgspec.structs.replace(frame, rule_version=2)])
    # then: what they counted is not known by the document
    status, out, err = explain(call, 5)
    assert (status, out) == (1, "")
    assert "cannot be proven: earlier frames were rated by version 1 of the rules, the document of --rules is" in err
    # and the first one of its month is explained
    status, out, err = call("explain", "--scope", "A", "--period", "2026-02-02T00:00", "--rules", "rules.yaml")
    assert (status, err) == (0, "")
    assert "price 4, the same" in out
