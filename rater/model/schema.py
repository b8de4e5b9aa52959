"""JSON Schemas (2020-12) of what stands in the topics and in files, generated from the structs, kept in `schemas/`.

`python -m rater.model.schema` writes them; with `--check` it writes nothing and fails with a diff if they are stale.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rater.model import interval, posted, rated, requests, rulefile, rules, usage, usagefile
from rater.model.version import FORMAT_VERSION

__all__ = ["DECIMAL_PATTERN", "DOCUMENTS", "Document", "generate", "main", "stale", "write"]

DECIMAL_PATTERN = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,6})?$"

_Schema = dict[str, Any]


class Document(NamedTuple):
    """One file of `schemas/`. What it describes is of one of `kinds`."""

    name: str
    kinds: tuple[Any, ...]
    title: str
    description: str


DOCUMENTS = (
    Document(
        "usage",
        (usage.UsageRecord,),
        "Record of topic usage",
        "What the sources found, what is expected of them, and their failures. Key: the scope id in UTF-8.",
    ),
    Document(
        "rules",
        (rules.RuleEvent,),
        "Record of topic rules",
        "A step of the rule book. One partition, read from its beginning.",
    ),
    Document(
        "requests",
        (requests.RequestRecord,),
        "Record of topic requests",
        "What was asked for through the API, and what became of it. One partition, read from its beginning.",
    ),
    Document(
        "rated",
        (rated.RatedFrame, posted.PostedLines),
        "Record of topic rated",
        "One part of one revision of a frame: its lines, totals, coverage and gaps; or lines that were posted with "
        "their price, of which those with the same post_id and n count once. Key: the scope id in UTF-8.",
    ),
    Document(
        "alerts",
        (rated.Alert,),
        "Record of topic alerts",
        "Something that a person or a program should act on. Key: the scope id in UTF-8.",
    ),
    Document(
        "rejected-headers",
        (rated.RejectedHeaders,),
        "Headers of a record of topic rejected",
        "Each header's value is UTF-8 text, a number its decimal text. Key and value are the refused record's own.",
    ),
    Document(
        "rule-document",
        (rulefile.RuleFile,),
        "Rule document",
        "All rating rules of an installation, as YAML or JSON. A bare number is read from its decimal text. "
        "What a schema cannot say (digits of numbers, duplicates, rising bounds, syntax of scripts) is checked by "
        "`rater rules check`.",
    ),
    Document(
        "usage-file",
        (usagefile.UsageLine, usagefile.CoversLine),
        "Line of a usage file",
        "A sample, or a claim that the source answered completely for some time. One line of JSON each.",
    ),
)


def generate() -> dict[str, str]:
    """The text of each schema by file name. The same structs always give the same text."""
    return {f"{document.name}.json": _text(document) for document in DOCUMENTS}


def write(directory: Path) -> list[str]:
    """Writes every schema into `directory`; the names of the files that changed."""
    directory.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, text in generate().items():
        if _read(directory / name) != text:
            (directory / name).write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def stale(directory: Path) -> str:
    """The unified diff from the schemas in `directory` to what the structs say; empty if they agree."""
    return "".join(
        line
        for name, text in generate().items()
        for line in difflib.unified_diff(
            _read(directory / name).splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{directory.name}/{name}",
            "the structs",
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Status 1 if `--check` found a stale schema."""
    parser = argparse.ArgumentParser(prog="python -m rater.model.schema", description="Write the JSON Schemas.")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 and a diff if one is stale")
    parser.add_argument("--directory", type=Path, default=Path("schemas"), help="where they lie (default: schemas)")
    options = parser.parse_args(arguments)
    if not options.check:
        sys.stdout.writelines(f"written: {options.directory / name}\n" for name in write(options.directory))
        return 0
    difference = stale(options.directory)
    sys.stdout.write(difference)
    if difference:
        sys.stderr.write("schemas are stale: run `python -m rater.model.schema` and commit what it wrote\n")
    return 1 if difference else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _text(document: Document) -> str:
    roots, components = msgspec.json.schema_components(document.kinds, ref_template="#/$defs/{name}")
    for name, component in components.items():
        _describe_fields(component, _classes()[name])
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:rater:schema:{document.name}:{FORMAT_VERSION}",
        "title": document.title,
        "description": document.description,
        **(roots[0] if len(roots) == 1 else {"anyOf": list(roots)}),
        "$defs": dict(sorted(components.items())),
    }
    edits = [_drop_discriminator, _tidy_description, _pin_version, _merge_types, _say_decimal]
    if document.name == "rejected-headers":
        edits.append(_number_as_text)
    if document.name == "usage-file":
        edits.append(_or_number)
    return json.dumps(_edited(schema, edits), indent=2, ensure_ascii=False) + "\n"


def _edited(node: Any, edits: Iterable[Callable[[_Schema], None]]) -> Any:
    """The same tree after every edit was made to every object of it, the inner ones first."""
    if isinstance(node, list):
        return [_edited(item, edits) for item in node]
    if not isinstance(node, dict):
        return node
    edited = {key: _edited(value, edits) for key, value in node.items()}
    for edit in edits:
        edit(edited)
    return edited


def _drop_discriminator(node: _Schema) -> None:
    """It belongs to OpenAPI; strict validators refuse the word."""
    if isinstance(node.get("discriminator"), dict) and "anyOf" in node:
        del node["discriminator"]


def _tidy_description(node: _Schema) -> None:
    """Docstrings come with the line breaks and the indentation of the source."""
    text = node.get("description")
    if isinstance(text, str):
        paragraphs = inspect.cleandoc(text).split("\n\n")
        node["description"] = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _pin_version(node: _Schema) -> None:
    """Of a struct with a `version` only the one that is current is read."""
    version = node.get("properties", {}).get("version")
    if version is not None:
        version.clear()
        version.update(const=FORMAT_VERSION, default=FORMAT_VERSION)


def _merge_types(node: _Schema) -> None:
    """A choice between plain types, as one list of types: label values are on every page otherwise."""
    choice = node.get("anyOf", [])
    if choice and all(list(item) == ["type"] for item in choice):
        del node["anyOf"]
        node["type"] = [
            item["type"] for item in choice if item["type"] != "integer" or {"type": "number"} not in choice
        ]


def _say_decimal(node: _Schema) -> None:
    if node.get("format") == "decimal":
        del node["format"]
        node["pattern"] = DECIMAL_PATTERN


def _or_number(node: _Schema) -> None:
    """In a file that people write a number needs no quotes; msgspec reads it exactly, but its schema says text."""
    if node.get("pattern") == DECIMAL_PATTERN:
        node["type"] = ["string", "number"]


def _number_as_text(node: _Schema) -> None:
    if node.get("type") == "integer":
        node["type"] = "string"
        node["pattern"] = "^-?[0-9]+$"
        node["default"] = str(node["default"])


def _classes() -> dict[str, type]:
    modules = (interval, posted, rated, requests, rulefile, rules, usage, usagefile)
    return {name: kind for module in modules for name, kind in vars(module).items() if isinstance(kind, type)}


def _describe_fields(component: _Schema, kind: type) -> None:
    """Adds the text that stands under a field in the source to the field's description."""
    texts = _field_texts(kind)
    if texts:
        for field in msgspec.structs.fields(kind):
            if field.name in texts:
                known = component["properties"][field.encode_name]
                known["description"] = "; ".join(filter(None, (texts[field.name], known.get("description", ""))))


def _field_texts(kind: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


if __name__ == "__main__":
    sys.exit(main())
