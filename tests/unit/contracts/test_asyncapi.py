"""The examples are records that we read and that the schemas allow; the AsyncAPI document says what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from rater.contracts.__main__ import main
from rater.contracts.asyncapi import document, text
from rater.contracts.examples import Example, examples
from rater.kafka import KafkaSettings, Topic, new_topics
from rater.model import codec, requests, rules
from rater.model.events import event_headers, with_source
from rater.model.rated import AlertKind

SCHEMAS = Path(__file__).parents[3] / "schemas"
EXAMPLES = examples()
READERS = {
    Topic.USAGE: codec.decode_usage,
    Topic.RULES: codec.decoder(rules.RuleEvent, "rule event"),
    Topic.REQUESTS: codec.decoder(requests.RequestRecord, "request"),
    Topic.RATED: codec.decode_rated_record,
    Topic.ALERTS: codec.decode_alert,
}
DOCUMENT = document()


def label(example: Example) -> str:
    return f"{example.topic.value}-{example.name}"


def file_of(example: Example) -> Path:
    return SCHEMAS / "examples" / example.topic.value / f"{example.name}.json"


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


@pytest.mark.parametrize("example", EXAMPLES, ids=label)
def test_an_example_is_valid_and_read_as_what_it_is(example: Example) -> None:
    shown = json.loads(file_of(example).read_text())
    if example.topic is Topic.REJECTED:
        validator("rejected-headers").validate(shown)
        assert shown == dict(example.headers)
        return
    validator(example.topic.value).validate(shown)
    record = READERS[example.topic](json.dumps(shown).encode(), example.headers["content-type"])
    assert codec.encode_json(record) == example.value


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.topic in {Topic.RATED, Topic.ALERTS}], ids=label)
def test_the_headers_of_an_example_follow_from_it(example: Example) -> None:
    record = READERS[example.topic](example.value, codec.JSON)
    made = with_source(event_headers(record, example.key.encode(), example.value), f"rater.{example.topic.value}")
    assert {name: value.decode() for name, value in made} == example.headers
    schema = Draft202012Validator(DOCUMENT["components"]["schemas"]["eventHeaders"])
    schema.validate(dict(example.headers))


def test_there_are_examples_of_each_message_and_no_file_too_many() -> None:
    without = [name for name, message in DOCUMENT["components"]["messages"].items() if not message["examples"]]
    assert without == []
    files = {path for path in (SCHEMAS / "examples").rglob("*") if path.is_file()}
    assert files == {file_of(example) for example in EXAMPLES}
    assert len(files) == len(EXAMPLES)


def test_the_examples_tell_of_gaps_revisions_and_what_became_of_them() -> None:
    frames = [json.loads(e.value) for e in EXAMPLES if e.topic is Topic.RATED and e.name.startswith("frame")]
    assert {frame["status"] for frame in frames} == {"rated", "empty", "partial", "missing"}
    assert {frame["revision"] for frame in frames} == {0, 1}
    kinds = {json.loads(e.value)["kind"] for e in EXAMPLES if e.topic is Topic.ALERTS}
    assert kinds >= {"gap_opened", "gap_resolved", "gap_accepted", "late_usage", "quarantined", "rework_done"}
    assert kinds <= {kind.value for kind in AlertKind}


def test_the_document_of_the_project_is_that_of_the_code() -> None:
    assert (SCHEMAS / "asyncapi.yaml").read_text() == text(), "run `make schemas`"
    assert yaml.safe_load(text()) == DOCUMENT


def test_every_topic_is_a_channel_as_it_is_created() -> None:
    assert list(DOCUMENT["channels"]) == [topic.value for topic in Topic]
    created = {new.name: new for new in new_topics(KafkaSettings())}
    for name, channel in DOCUMENT["channels"].items():
        kafka, new = channel["bindings"]["kafka"], created[f"rater.{name}"]
        assert channel["address"].format(prefix=channel["parameters"]["prefix"]["default"]) == new.name
        assert (kafka["partitions"], kafka["replicas"]) == (new.num_partitions, new.replication_factor)
        said = {key: ",".join(v) if isinstance(v, list) else str(v) for key, v in kafka["topicConfiguration"].items()}
        assert said == new.topic_configs


def test_what_a_program_may_do_are_operations() -> None:
    assert {name: said["action"] for name, said in DOCUMENT["operations"].items()} == {
        "sendUsage": "send",
        "receiveRated": "receive",
        "receiveAlerts": "receive",
        "receiveRejected": "receive",
    }


def test_every_reference_leads_somewhere() -> None:
    found = list(_references(DOCUMENT))
    assert len(found) > 80
    assert [ref for ref in found if not _leads(ref)] == []


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _references(item)


def _leads(reference: str) -> bool:
    file, _, path = reference.partition("#")
    place = json.loads((SCHEMAS / file).read_text()) if file else DOCUMENT
    for part in path.strip("/").split("/") if path else ():
        if part not in place:
            return False
        place = place[part]
    return True


def test_the_command_writes_what_is_missing_and_takes_away_what_is_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples" / "rated").mkdir(parents=True)
    (tmp_path / "examples" / "rated" / "old.json").write_text("{}")
    assert main(["--directory", str(tmp_path), "write"]) == 0
    assert f"removed: {tmp_path / 'examples' / 'rated' / 'old.json'}\n" in capsys.readouterr().out
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert path.read_text() == (SCHEMAS / path.relative_to(tmp_path)).read_text()
    # and a second time there is nothing to do
    assert main(["--directory", str(tmp_path), "write"]) == 0
    assert capsys.readouterr().out == ""
