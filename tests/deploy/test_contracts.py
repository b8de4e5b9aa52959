"""AsyncAPI and OpenAPI documents, read by parsers that are not ours; the alert rules, by Prometheus' own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from rater.kafka import Topic
from tests.deploy.chart import BIN, CHART, ROOT, call, program

ASYNCAPI = ROOT / "schemas" / "asyncapi.yaml"
RULES = CHART / "files" / "rules.yaml"
RULE_TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
WARNING = 1  # of the parser: 0 is an error, 2 and 3 are remarks


def parsed(file: Path) -> dict[str, Any]:
    modules = BIN.parent / "asyncapi" / "node_modules"
    assert modules.is_dir(), f"{modules.relative_to(ROOT)} is not there: run `make deploy-tools`"
    said = call("env", f"NODE_PATH={modules}", "node", Path(__file__).with_name("asyncapi.cjs"), file)
    assert said.code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def complaints(found: dict[str, Any]) -> list[str]:
    return [f"{one['place']}: {one['message']}" for one in found["diagnostics"] if one["severity"] <= WARNING]


def test_the_asyncapi_document_is_one() -> None:
    found = parsed(there(ASYNCAPI))

    assert complaints(found) == []
    assert len(found["channels"]) == len(Topic), found["channels"]
    assert found["operations"]


def test_the_parser_finds_a_planted_fault(tmp_path: Path) -> None:
    spoiled = tmp_path / "asyncapi.yaml"
    info = {"title": "planted", "version": "1"}
    spoiled.write_text(yaml.safe_dump({"asyncapi": "3.0.0", "info": info, "channels": {"usage": {"adress": "usage"}}}))

    assert any("adress" in said for said in complaints(parsed(spoiled)))


def test_the_openapi_document_is_one() -> None:
    document = json.loads(there(ROOT / "schemas" / "openapi.json").read_text())

    assert [str(fault) for fault in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert len(document["paths"]) > 20


def test_prometheus_takes_the_alert_rules() -> None:
    said = call(program("promtool"), "check", "rules", there(RULES))

    assert said.code == 0, said.out + said.err
    found = re.search(r"SUCCESS: (\d+) rules found", said.out)
    assert found, said.out
    assert int(found[1]) >= 7


def test_there_are_tests_of_the_alert_rules() -> None:
    assert RULE_TESTS, "tests/deploy/rules has no file for `promtool test rules`"


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: str(file.stem))
def test_the_alerts_fire_when_they_have_to(file: Path) -> None:
    said = call(program("promtool"), "test", "rules", file)

    assert said.code == 0, said.out + said.err


def there(file: Path) -> Path:
    assert file.is_file(), f"{file.relative_to(ROOT)} is missing"
    return file
