"""AsyncAPI and OpenAPI documents, read by parsers that are not ours. Alert rules: test_alert_rules.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from rater.kafka import Topic
from tests.deploy.chart import BIN, ROOT, call

ASYNCAPI = ROOT / "schemas" / "asyncapi.yaml"
WARNING = 1  # of the parser: 0 is an error, 2 and 3 are remarks


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the parser says of our document, and of one with a misspelled field."""
    modules = BIN.parent / "asyncapi" / "node_modules"
    assert modules.is_dir(), f"{modules.relative_to(ROOT)} is not there: run `make deploy-tools`"
    spoiled = tmp_path_factory.mktemp("asyncapi") / "spoiled.yaml"
    info = {"title": "planted", "version": "1"}
    spoiled.write_text(yaml.safe_dump({"asyncapi": "3.0.0", "info": info, "channels": {"usage": {"adress": "usage"}}}))
    script = Path(__file__).with_name("asyncapi.cjs")
    said = call("env", f"NODE_PATH={modules}", "node", script, there(ASYNCAPI), spoiled)
    assert said.code == 0, said.err
    found: list[dict[str, Any]] = json.loads(said.out)
    return found


def complaints(found: dict[str, Any]) -> list[str]:
    return [f"{one['place']}: {one['message']}" for one in found["diagnostics"] if one["severity"] <= WARNING]


def test_the_asyncapi_document_is_one(parsed: list[dict[str, Any]]) -> None:
    ours, _ = parsed

    assert complaints(ours) == []
    assert len(ours["channels"]) == len(Topic), ours["channels"]
    assert ours["operations"]


def test_the_parser_finds_a_planted_fault(parsed: list[dict[str, Any]]) -> None:
    _, spoiled = parsed

    assert any("adress" in said for said in complaints(spoiled))


def test_the_openapi_document_is_one() -> None:
    document = json.loads(there(ROOT / "schemas" / "openapi.json").read_text())

    assert [str(fault) for fault in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert len(document["paths"]) > 20


def there(file: Path) -> Path:
    assert file.is_file(), f"{file.relative_to(ROOT)} is missing"
    return file
