"""The JSON Schemas are those of the structs; what the engine makes is valid by them, and broken records are not."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from collectors.replay.usage_file import parse
from rater.engine import decide
from rater.model.codec import decode_usage, encode_json
from rater.model.errors import RejectedError
from rater.model.rules import (
    MappingCreated,
    MappingRule,
    ModuleSet,
    Moved,
    RuleEvent,
    RuleType,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.model.schema import DECIMAL_PATTERN, DOCUMENTS, generate, main, stale, write
from tests.unit.engine.builders import HOUR, Bench, T, collection, forced, full_bench, not_a_number, plan

CHECKED_IN = Path(__file__).parents[3] / "schemas"
SCHEMAS = {name.removesuffix(".json"): json.loads(text) for name, text in generate().items()}
ID = "00000000-0000-4000-8000-000000000001"


def faults(name: str, record: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMAS[name]).iter_errors(record)]


def test_the_schemas_of_the_project_are_those_of_the_structs() -> None:
    assert stale(CHECKED_IN) == ""


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_one(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:rater:schema:{name}:1"
    assert schema["title"]
    assert schema["description"].endswith(".")
    assert " ".join(sorted(SCHEMAS)) == "alerts rated rejected-headers requests rule-document rules usage usage-file"


@pytest.mark.parametrize("name", SCHEMAS)
def test_texts_are_free_of_the_sources_line_breaks_and_words_of_other_standards(name: str) -> None:
    for node in _nodes(SCHEMAS[name]):
        text = node.get("description")
        if isinstance(text, str):
            assert not re.search(r"  |[^\n]\n[^\n]|\n ", text), text
        assert "discriminator" not in node
        assert "format" not in node


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _nodes(item)


def test_a_field_says_what_stands_under_it_in_the_source() -> None:
    fields = SCHEMAS["usage"]["$defs"]["Collection"]["properties"]
    assert fields["sequence"]["description"].startswith("Counts up by one per (producer_id, scope_id)")
    assert fields["begin"]["description"] == "seconds since the epoch, UTC"
    assert "description" not in fields["source"]


def test_what_the_engine_publishes_is_valid() -> None:
    # given frames with lines, gaps, quarantined points and zeros, alerts of each kind, and refusals
    bench = full_bench()
    bench.take(collection(source="twin", attempt=2, begin=T + HOUR, end=T + 2 * HOUR))
    decide(bench.state, T + 5 * HOUR, bench.rules, bench.context)
    messages = {topic: [i for i in bench.state.outbox if i.topic == topic] for topic in ("rated", "alerts", "rejected")}

    # when, then
    for topic in ("rated", "alerts"):
        assert [faults(topic, json.loads(item.value)) for item in messages[topic]] == [[]] * len(messages[topic])
    headers = [{name: text.decode() for name, text in item.headers} for item in messages["rejected"]]
    assert [faults("rejected-headers", header) for header in headers] == [[]] * len(headers)
    assert [len(messages[topic]) > 1 for topic in messages] == [True] * 3
    records = [record.value for record in bench.log.records]
    readable = [json.loads(value) for value in records if value != b"nonsense"]
    assert [faults("usage", record) for record in readable] == [[]] * len(readable)


def test_rule_events_are_valid() -> None:
    event = RuleEvent(
        expected_version=0,
        author="kim",
        reason="",
        created_at=T,
        changes=(
            ModuleSet("hashmap", True),
            ServiceCreated(Service(ID, "cpu")),
            MappingCreated(MappingRule(ID, Decimal("0.015"), service_id=ID, start=T, name="n", description="d")),
            ThresholdCreated(ThresholdRule(ID, Decimal(5), Decimal("1e-3"), RuleType.RATE, field_id=ID)),
            Moved(ID, ID),
        ),
    )
    record = json.loads(encode_json(event))
    assert faults("rules", record) == []
    assert faults("rules", {**record, "changes": []})
    assert faults("rules", {**record, "changes": [{"type": "service_created"}]})
    assert faults("rules", {**record, "expected_version": -1})
    assert faults("rules", {**record, "colour": "red"})


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no type": lambda r: r.pop("type"),
    "another type": lambda r: r.update(type="alert"),
    "no source": lambda r: r.pop("source"),
    "an empty source": lambda r: r.update(source=""),
    "a text for a time": lambda r: r.update(begin="2026-01-01"),
    "a time with a fraction": lambda r: r.update(begin=T + 0.5),
    "a time before 1970": lambda r: r.update(begin=-1),
    "a version to come": lambda r: r.update(version=2),
    "an unknown field": lambda r: r.update(colour="red"),
    "a proof nobody knows": lambda r: r.update(proof="strong"),
    "covers of three numbers": lambda r: r.update(covers=[[T, T + 1, T + 2]]),
    "a quantity that is no number": lambda r: r["samples"][0].__setitem__(3, "three"),
    "a quantity that is not finite": lambda r: r["samples"][0].__setitem__(3, "NaN"),
    "a sample without quantity": lambda r: r["samples"][0].pop(),
    "a label that is a list": lambda r: r["series"][0]["groupby"].update(id=[1]),
    "no parts": lambda r: r.update(parts=0),
    "too long a note": lambda r: r.update(note="x" * 2001),
}


@pytest.mark.parametrize("edit", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_usage_record_is_neither_valid_nor_taken(edit: Callable[[dict[str, Any]], Any]) -> None:
    # given
    record = json.loads(encode_json(collection(quarantined=[not_a_number()])))
    assert faults("usage", record) == []

    # when
    edit(record)

    # then
    assert faults("usage", record)
    with pytest.raises(RejectedError):
        decode_usage(json.dumps(record).encode(), "application/json")


def test_a_record_of_one_topic_is_not_valid_on_another() -> None:
    bench = Bench()
    bench.take(plan("cpu"), forced())
    records = {"usage": bench.log.records[0].value}
    bench.decide(T + HOUR)
    bench.take(collection())
    decide(bench.state, T + 2 * HOUR, bench.rules, bench.context)
    records |= {item.topic: item.value for item in bench.state.outbox}
    for topic, value in records.items():
        valid = [name for name in SCHEMAS if name != "rejected-headers" and not faults(name, json.loads(value))]
        assert valid == [topic]


@pytest.mark.parametrize("text", ["0", "-1.50", "+3", "1E-38", "1e30", ".5", "5.", "12345678901234567890.1"])
def test_a_decimal_is_a_text_like_this(text: str) -> None:
    assert re.search(DECIMAL_PATTERN, text)
    Decimal(text)


@pytest.mark.parametrize("text", ["", ".", "NaN", "inf", "1,5", "0x10", "1e", "1_000", " 1", "--1", "1e1234567"])
def test_a_decimal_is_no_text_like_this(text: str) -> None:
    assert not re.search(DECIMAL_PATTERN, text)


def test_write_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given nothing, then everything written
    directory = tmp_path / "a" / "schemas"
    assert main(["--check", "--directory", str(directory)]) == 1
    assert main(["--directory", str(directory)]) == 0
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        f"{document.name}.json" for document in DOCUMENTS
    )
    capsys.readouterr()

    # when nothing has changed, then nothing is written or said
    assert write(directory) == []
    assert main(["--check", "--directory", str(directory)]) == 0
    assert capsys.readouterr() == ("", "")

    # when a schema is stale, then the difference is shown, and writing mends it
    path = directory / "alerts.json"
    path.write_text(path.read_text().replace("gap_opened", "gap_found"))
    assert main(["--check", "--directory", str(directory)]) == 1
    out, err = capsys.readouterr()
    assert "--- schemas/alerts.json\n+++ the structs\n" in out
    assert '-        "gap_found",\n+        "gap_opened",\n' in out
    assert err == "schemas are stale: run `python -m rater.model.schema` and commit what it wrote\n"
    assert main(["--directory", str(directory)]) == 0
    assert capsys.readouterr().out == f"written: {path}\n"
    assert stale(directory) == ""


def test_the_module_is_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "rater.model.schema")
    monkeypatch.setattr(sys, "argv", ["schema", "--check", "--directory", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("rater.model.schema", run_name="__main__")
    assert caught.value.code == 1


SAMPLE = {"scope_id": "projA", "metric": "instance", "begin": "2026-01-01T00:00:00Z", "qty": "1.5"}
COVERS = {"scope_id": "*", "metric": "*", "begin": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00+01:00"}
LINES: list[tuple[bool, dict[str, Any]]] = [
    (True, SAMPLE),
    (True, {**SAMPLE, "qty": 1.5, "end": None, "unit": None, "groupby": {"a": "b"}, "metadata": {"n": 1, "o": None}}),
    (True, {"covers": COVERS}),
    (True, {"covers": {**COVERS, "source": "replay"}}),
    (False, {}),
    (False, {**SAMPLE, "colour": "red"}),
    (False, {**SAMPLE, "qty": "three"}),
    (False, {**SAMPLE, "qty": None}),
    (False, {**SAMPLE, "begin": 1_767_225_600}),
    (False, {**SAMPLE, "metric": ""}),
    (False, {**SAMPLE, "groupby": {"a": ["b"]}}),
    (False, {**SAMPLE, "covers": COVERS}),
    (False, {"covers": {**COVERS, "end": None}}),
]


@pytest.mark.parametrize(("taken", "line"), LINES)
def test_a_line_of_a_usage_file_is_valid_if_it_is_taken(taken: bool, line: dict[str, Any]) -> None:
    assert (faults("usage-file", line) == []) == taken
    if taken:
        parse(json.dumps(line).encode())
    else:
        with pytest.raises(RejectedError):
            parse(json.dumps(line).encode())


def test_the_lines_of_the_first_example_are_valid() -> None:
    lines = (CHECKED_IN.parent / "examples/first/usage.jsonl").read_text().splitlines()

    assert lines
    assert [faults("usage-file", json.loads(line)) for line in lines] == [[]] * len(lines)
