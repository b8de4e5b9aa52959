"""docs/logs.md and docs/tracing.md name what the code has: fields, levels, spans, and attributes of spans."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from rater.config import ObserveSettings
from rater.log_fields import Fields
from rater.observe import REQUEST_ID, _Json

ROOT = Path(__file__).parents[2]
LOGS, TRACING = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("logs.md", "tracing.md"))
SOURCES = [path for package in ("rater", "collectors") for path in sorted((ROOT / package).rglob("*.py"))]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    table = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture
def request_id() -> Iterator[None]:
    token = REQUEST_ID.set("req-1")
    yield
    REQUEST_ID.reset(token)


def calls(of: str) -> Iterator[tuple[Path, ast.Call]]:
    """Calls of methods of something called so: `log`, `_tracing`, `span`."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if f"{of}." in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if of == (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")):
                    yield path, node


def attributes_of(call: ast.Call) -> set[str]:
    return {word.arg.replace("__", ".") for word in call.keywords if word.arg and "__" in word.arg}


def test_each_field_is_in_the_page_and_no_other(request_id: None) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json())
    fault = (ValueError, ValueError(), None)
    handler.handle(logging.getLogger("x").makeRecord("x", logging.ERROR, "", 0, "", (), fault))
    usual = set(json.loads(stream.getvalue()))
    audit = {"audit"}  # rater/api/audit_log.py

    assert names([row[0] for row in rows(LOGS, "Fields")]) == usual | audit | set(Fields.__annotations__)


def test_fields_of_lines_are_set_by_nothing_else() -> None:
    """`extra={…}` would bring others in; the audit log's own is the only one."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path, call in calls("log")
        for keyword in call.keywords
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict)
    }
    assert found == {"rater/api/audit_log.py"}


def test_each_level_that_can_be_chosen_is_explained() -> None:
    chosen = get_args(get_type_hints(ObserveSettings)["log_level"])
    assert names([row[0] for row in rows(LOGS, "Levels")]) == set(chosen)


def test_each_span_and_its_attributes_are_in_the_page() -> None:
    made = [call for _, call in calls("_tracing") if call.args]
    spans = {str(call.args[0].value) if isinstance(call.args[0], ast.Constant) else "METHOD /route" for call in made}
    attributes = {name for call in made for name in attributes_of(call)}
    attributes |= {name for _, call in calls("span") for name in attributes_of(call)}

    table = rows(TRACING, "Spans")
    assert names([row[0] for row in table]) == spans
    ours = {name for name in attributes if name.startswith("rater.")}
    assert ours
    assert {name for name in names([row[2] for row in table]) if name.startswith("rater.")} == ours
    assert names([row[2] for row in table]) <= attributes


@pytest.mark.parametrize("page", ["logs.md", "tracing.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / "docs" / link).exists()] == []


def test_the_settings_of_the_pages_are_settings(tmp_path: Path) -> None:
    from rater.config import load_config

    for page in (LOGS, TRACING):
        [block] = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        file = tmp_path / "rater.yaml"
        file.write_text(block)
        assert load_config(file, {}).settings.observe != ObserveSettings()


def test_the_lines_of_the_page_are_lines_of_ours() -> None:
    [block] = re.findall(r"^```json\n(.*?)^```$", LOGS, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        assert set(json.loads(line)) <= {"logged_at", "level", "logger", "message"} | set(Fields.__annotations__)
