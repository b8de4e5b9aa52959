"""What scripts/chart.py makes of values.yaml, and what it says of one that says too little."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "rater"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart", ROOT / "scripts" / "chart.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object with properties, and where it stands."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}/{number}")


def test_no_object_takes_keys_that_nobody_reads() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    found = list(objects(schema))
    assert len(found) > 80
    assert [path for path, one in found if one.get("additionalProperties") is not False] == []


def test_the_settings_are_those_of_rater_with_their_words() -> None:
    definitions = json.loads((CHART / "values.schema.json").read_text())["$defs"]
    partitions = definitions["KafkaSettings"]["properties"]["partitions"]
    assert (partitions["type"], partitions["minimum"]) == ("integer", 1)
    assert definitions["KeystoneAuth"]["properties"]["project"]["description"]  # of the class that it extends
    assert definitions["RestBearer"]["required"] == []  # the file comes with the Secret


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {}\n", "values.yaml:1: a is empty: say with `# @schema` what it takes"),
        ("a: []\n", "values.yaml:1: a is a list: say with `# @schema` of what"),
        ("b: 1\n# @schema {x\na: {}\n", "values.yaml:2: a: `@schema` is no JSON"),
    ],
)
def test_a_value_whose_type_is_not_known_is_refused(script: ModuleType, text: str, message: str) -> None:
    with pytest.raises(script.ChartError) as refused:
        script._Values(text).schema()
    assert str(refused.value).startswith(message)


def test_types_come_from_defaults_and_more_from_comments(script: ModuleType) -> None:
    text = '# -- How many,\n# at least.\n# @schema {"minimum": 1}\na: 2\nb: {c: true, d: "x"}\n'
    schema = script._Values(text).schema()
    assert schema["properties"]["a"] == {"type": "integer", "minimum": 1, "description": "How many, at least."}
    assert schema["properties"]["b"]["properties"] == {"c": {"type": "boolean"}, "d": {"type": "string"}}
    assert schema["required"] == ["a", "b"]


def test_a_readme_without_a_place_for_a_table_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.ChartError, match="has no `<!-- values: written by"):
        script._filled("# Chart\n", {"values": "| |"})
