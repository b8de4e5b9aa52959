"""docs/guarantees.md promises nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISES = PAGE[PAGE.index("## Nothing is silently missing") : PAGE.index("## What is not promised")]


@pytest.mark.parametrize("promise", re.split(r"\n- ", PROMISES)[1:], ids=lambda text: " ".join(text.split())[:60])
def test_every_promise_names_a_test(promise: str) -> None:
    assert REFERENCE.search(promise)


@pytest.mark.parametrize(("file", "name"), sorted(set(REFERENCE.findall(PAGE))))
def test_the_tests_that_are_named_exist(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
