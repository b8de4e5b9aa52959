"""docs/differences-from-cloudkitty.md: every difference has its reason, its section, and a test that shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "differences-from-cloudkitty.md").read_text(encoding="utf-8")
HEAD = ["CloudKitty", "rater", "Why", "Section", "Shown by"]


def rows() -> list[list[str]]:
    """The cells of all tables, without their heads."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TEXT.splitlines() if line[:1] == "|"]
    return [row for row in lines if row != HEAD and not row[0].startswith("---")]


ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=[str(number) for number in range(len(ROWS))])
def test_a_difference_names_a_test_that_shows_it(row: list[str]) -> None:
    assert len(row) == len(HEAD), row
    assert all(row)
    assert re.fullmatch(r"\d(\.\d)?", row[3])
    shown = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[4])
    assert shown, row[4]
    tree = ast.parse((ROOT / shown[1]).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert shown[2] in {node.name for node in tree.body if isinstance(node, functions)}


def test_every_difference_stands_in_a_table_of_its_part() -> None:
    parts = re.findall(r"^## (.+)\n\n\| (.+) \|$", TEXT, re.MULTILINE)

    names = [name for name, _ in parts]
    parts_in_order = ["Collecting", "Changes of rules", "Rule documents", "Rating", "Scripts", "Modules", "REST API"]
    assert names == parts_in_order
    assert {head for _, head in parts} == {" | ".join(HEAD)}
    assert len(ROWS) >= 35
    assert len({(row[0], row[1]) for row in ROWS}) == len(ROWS)
