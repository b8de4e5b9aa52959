"""The JSON Schema of rule documents agrees with the reader, as far as a schema can see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rater.model.document import DocumentError, load, plain
from tests.unit.rating.documents import COMPLETE
from tests.unit.rating.test_plan_and_export import SCRIPTED, TEXT
from tests.unit.rating.test_ruledoc_faults import FAULTS

ROOT = Path(__file__).parents[3]
VALIDATOR = Draft202012Validator(json.loads((ROOT / "schemas" / "rule-document.json").read_text()))
VALID = {
    "complete": COMPLETE,
    "exported": TEXT,
    "exported with scripts": SCRIPTED,
    "first example": (ROOT / "examples/first/rules.yaml").read_text(),
    "demo": (ROOT / "rater/demo/data/rules.yaml").read_text(),
    "empty": "{}",
    "everything null": "modules: {hashmap: }\nhashmap: {services: [{name: s, tiers: , fields: }]}\npyscripts:",
    "numbers as text": "hashmap: {groups: [1], services: [{name: 1.5, mappings: [{cost: 1e3, name: 7}]}]}",
    "other forms of time": "hashmap: {services: [{name: s, mappings: [{cost: 1, start: '20260101T00+0100'}]}]}",
}

# What no schema says: relations between values, digits, calendars, other files, syntax of scripts, what is installed.
UNSEEN = re.compile(
    r"digits (before|after) the point|is a duplicate|has the name|is listed twice|a second (service|field|script)"
    r"|end is before start|fraction of a second|is out of range|2026-02-30|read as octal|of the script:|the script: "
    r"|broken\.py|gone\.py|huge\.py|must be more than|the last step|a service has tiers|no rating module 'acme'"
    r"|modules\.(noop|7:|mmm)|a number '\.nan'"
)


def errors(document: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(document)]


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_a_valid_document_is_valid_by_the_schema(text: str) -> None:
    assert errors(plain(load(text, "r.yaml"))) == []


def readable() -> list[tuple[Any, list[str]]]:
    """The documents of the table of faults that are YAML at all, with their faults."""
    found = []
    for text, faults in FAULTS:
        try:
            found.append((plain(load(text, "r.yaml")), faults))
        except DocumentError:
            continue
    return found


@pytest.mark.parametrize(("document", "faults"), readable(), ids=[f"{number}" for number in range(len(readable()))])
def test_the_schema_sees_every_fault_that_a_schema_can_see(document: Any, faults: list[str]) -> None:
    assert bool(errors(document)) == any(not UNSEEN.search(fault) for fault in faults)


def test_a_schema_sees_at_least_40_of_the_documents_with_faults() -> None:
    assert sum(bool(errors(document)) for document, _ in readable()) >= 40
