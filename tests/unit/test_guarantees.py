"""docs/guarantees.md promises nothing that no test shows; docs/completeness.md names tests, or what is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
GAPS = (ROOT / "docs" / "completeness.md").read_text(encoding="utf-8")
PROMISES = PAGE[PAGE.index("## Nothing is silently missing") : PAGE.index("## What is not promised")]


@pytest.mark.parametrize("promise", re.split(r"\n- ", PROMISES)[1:], ids=lambda text: " ".join(text.split())[:60])
def test_every_promise_names_a_test(promise: str) -> None:
    assert REFERENCE.search(promise)


@pytest.mark.parametrize(("file", "name"), sorted(set(REFERENCE.findall(PAGE + GAPS))))
def test_the_tests_that_are_named_exist(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions


def test_every_silent_gap_of_cloudkitty_has_a_row() -> None:
    rows = {row.split("|")[1].strip(): row for row in GAPS.splitlines() if row.startswith("| G")}
    assert list(rows) == [f"G{number}" for number in range(1, 18)]
    assert [name for name, row in rows.items() if not REFERENCE.search(row) and "yet**" not in row] == []
