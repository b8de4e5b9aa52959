"""Writes the chart's values.schema.json and the tables of its README.md, from values.yaml and the settings of rater.

`make schemas` runs this. In values.yaml `# --` begins the description of the key below it and `# @schema` adds JSON to
what the default says of its type; `# @common` stands for what every component takes.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rater.config import Settings
from rater.model.document import Node, load, plain

CHART = Path(__file__).resolve().parent.parent / "deploy" / "helm" / "rater"
_BEGIN, _END = "<!-- {}: written by scripts/chart.py -->", "<!-- end of {} -->"

Schema = dict[str, Any]

_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_OPEN: Schema = {"type": "object"}
_OPENS: Schema = {"type": "array", "items": {"type": "object"}}
_QUANTITY: Schema = {"type": ["string", "number"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
_AMOUNTS: Schema = {
    "type": "object",
    "properties": dict.fromkeys(("cpu", "memory", "ephemeral-storage"), _QUANTITY),
    "additionalProperties": False,
}
_COUNTS = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold")
_COMPONENTS = ("worker", "sink", "api", "collect", "jobs", "test")
_OURS = ("kafka", "observe")  # sections of rater.yaml of which values.yaml has defaults that templates read
_NAME: Schema = {"type": "string", "minLength": 1}

DEFINITIONS: dict[str, Schema] = {
    "texts": _TEXTS,
    "open": _OPEN,
    "opens": _OPENS,
    "quantity": _QUANTITY,
    "duration": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
    "ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "resources": {
        "type": "object",
        "properties": {"requests": _AMOUNTS, "limits": _AMOUNTS, "claims": _OPENS},
        "additionalProperties": False,
    },
    "probe": {
        "type": "object",
        "properties": {name: {"type": "integer", "minimum": 0} for name in _COUNTS},
        "additionalProperties": False,
    },
    "variable": {
        "type": "object",
        "properties": {"name": _NAME, "value": {"type": "string"}, "valueFrom": _OPEN},
        "required": ["name"],
        "additionalProperties": False,
    },
    "extraSecret": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 40},
            "existingSecret": {"type": "string"},
            "keys": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}},
            "components": {"type": "array", "minItems": 1, "items": {"enum": list(_COMPONENTS)}},
        },
        "required": ["name", "keys"],
        "additionalProperties": False,
    },
    "externalData": {
        "type": "object",
        "properties": {
            "secretKey": _NAME,
            "remoteRef": {
                "type": "object",
                "properties": {
                    name: {"type": "string"}
                    for name in (
                        "key",
                        "property",
                        "version",
                        "conversionStrategy",
                        "decodingStrategy",
                        "metadataPolicy",
                    )
                },
                "required": ["key"],
                "additionalProperties": False,
            },
        },
        "required": ["secretKey", "remoteRef"],
        "additionalProperties": False,
    },
}

COMMON: dict[str, tuple[Schema, str]] = {
    "podAnnotations": ({"$ref": "#/$defs/texts"}, "Annotations of its pods, beside those of all."),
    "podLabels": ({"$ref": "#/$defs/texts"}, "Labels of its pods, beside those of all."),
    "nodeSelector": ({"$ref": "#/$defs/texts"}, "Nodes for its pods, in place of those for all."),
    "tolerations": ({"$ref": "#/$defs/opens"}, "Taints that its pods tolerate, in place of those of all."),
    "affinity": ({"$ref": "#/$defs/open"}, "Affinity of its pods, in place of that of all."),
    "topologySpreadConstraints": ({"$ref": "#/$defs/opens"}, "How its replicas are spread, in place of that of all."),
    "priorityClassName": ({"type": "string"}, "Priority class of its pods, in place of that of all."),
    "extraEnv": ({"type": "array", "items": {"$ref": "#/$defs/variable"}}, "Environment, before that of all."),
    "extraEnvFrom": ({"$ref": "#/$defs/opens"}, "The same from ConfigMaps and Secrets as a whole."),
    "extraVolumes": ({"$ref": "#/$defs/opens"}, "Volumes, beside those of all."),
    "extraVolumeMounts": ({"$ref": "#/$defs/opens"}, "Where volumes are mounted, beside those of all."),
    "initContainers": ({"$ref": "#/$defs/opens"}, "Containers that run before ours."),
    "sidecars": ({"$ref": "#/$defs/opens"}, "Containers that run beside ours."),
    "probes": (
        {
            "type": "object",
            "properties": {name: {"$ref": "#/$defs/probe"} for name in ("startup", "readiness", "liveness")},
            "additionalProperties": False,
        },
        "Numbers of the probes, in place of those of `probes`.",
    ),
}
"""What each component takes beside its own keys: the type, and what it is for."""


class Value(NamedTuple):
    """A key of values.yaml that has a description."""

    path: str
    node: Node
    description: str


class ChartError(Exception):
    """values.yaml says too little, or too much, of a key."""


class _Comments(NamedTuple):
    description: str
    schema: Schema


def main() -> int:
    """0, or 1 with what is wrong in values.yaml."""
    try:
        text = (CHART / "values.yaml").read_text(encoding="utf-8")
        found = _Values(text)
        schema = found.schema()
        (CHART / "values.schema.json").write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", "utf-8")
        tables = {"values": _table(found), "settings": _settings_table(schema)}
        readme = CHART / "README.md"
        readme.write_text(_filled(readme.read_text(encoding="utf-8"), tables), "utf-8")
    except ChartError as fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1
    return 0


class _Values:
    """values.yaml with its comments."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._tree = load(text, "values.yaml")
        self.described: list[Value] = []

    def schema(self) -> Schema:
        """JSON Schema in the draft that every Helm 3 and 4 reads. Raises ChartError."""
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Values of the chart rater",
            **self._map(self._tree, ""),
            "$defs": {**DEFINITIONS, **_settings()},
        }

    def _map(self, node: Node, path: str) -> Schema:
        properties: Schema = {}
        for key, value in node.entries:
            where = f"{path}.{key.text}" if path else key.text
            comments = self._comments(key.line, where)
            if comments.description:
                self.described.append(Value(where, value, comments.description))
            properties[key.text] = self._one(value, where, comments)
        required = list(
            properties
        )  # null takes a default away: then it is missing, which is told before a render fails
        if not path:
            properties["global"] = {"type": "object"}
        if path in _COMPONENTS:
            properties |= {name: {**schema, "description": said} for name, (schema, said) in COMMON.items()}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _one(self, node: Node, path: str, comments: _Comments) -> Schema:
        said = {"description": comments.description} if comments.description else {}
        if "$ref" in comments.schema:
            return {**comments.schema, **said}
        if node.kind == "map" and (node.entries or not comments.schema):
            if not node.entries:
                raise ChartError(f"values.yaml:{node.line}: {path} is empty: say with `# @schema` what it takes")
            return {**self._map(node, path), **said}
        kinds = {"map": "object", "list": "array", "text": "string", "int": "integer", "float": "number"}
        inferred: Schema = {"type": "boolean" if isinstance(node.value, bool) else kinds.get(node.kind, "string")}
        if "enum" in comments.schema:
            inferred = {}
        schema = {**inferred, **comments.schema, **said}
        if schema.get("type") == "array" and "items" not in schema:
            raise ChartError(f"values.yaml:{node.line}: {path} is a list: say with `# @schema` of what")
        return schema

    def _comments(self, line: int, path: str) -> _Comments:
        """What stands right above a line (the first is 1)."""
        block: list[str] = []
        while line > 1 and self._lines[line - 2].lstrip().startswith("#"):
            line -= 1
            block.insert(0, self._lines[line - 1].strip().removeprefix("#").strip())
        schema: Schema = {}
        words: list[str] = []
        for text in block:
            if text.startswith("@schema "):
                try:
                    schema = json.loads(text.removeprefix("@schema "))
                except ValueError as fault:
                    raise ChartError(f"values.yaml:{line}: {path}: `@schema` is no JSON: {fault}") from None
            elif text.startswith("-- "):
                words = [text.removeprefix("-- ")]
            elif words:
                words.append(text)
        return _Comments(" ".join(words), schema)


def _settings() -> dict[str, Schema]:
    """The structs of rater.yaml, with what stands below their fields in the source."""
    _, components = msgspec.json.schema_components([Settings], ref_template="#/$defs/{name}")
    kinds = _structs(Settings)
    for name, component in components.items():
        component.pop("title", None)
        component["description"] = " ".join(inspect.cleandoc(component.get("description", "")).split())
        if name not in kinds:
            continue
        texts = _field_texts(kinds[name])
        for key, schema in component["properties"].items():
            if isinstance(schema.get("default"), dict | list) or schema.get("default", 0) is None:
                del schema["default"]  # as good as not to be there
            if key in texts:
                schema["description"] = " ".join(texts[key].split())
        # what a file brings may be missing in the values: the chart adds it
        component["required"] = [key for key in component.get("required", []) if not key.endswith("_file")]
    components["Settings"]["required"] = list(_OURS)
    components["KafkaSettings"]["required"] = ["partitions"]
    return {name: components[name] for name in sorted(components)}


def _structs(kind: Any) -> dict[str, type[msgspec.Struct]]:
    """The structs that a type is made of, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting = [msgspec.inspect.type_info(kind)]
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls.__name__ in found:
                continue
            found[info.cls.__name__] = info.cls
            waiting += [field.type for field in info.fields]
        waiting += list(getattr(info, "types", ()))
        for name in ("type", "item_type", "value_type"):
            if (inner := getattr(info, name, None)) is not None:
                waiting.append(inner)
    return found


def _field_texts(kind: type) -> dict[str, str]:
    """The text below each field in the source, also of the classes that it extends."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base in (object, msgspec.Struct) or not issubclass(base, msgspec.Struct):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef), "it is the source of a class"
        for field, text in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name), "fields have plain names"
                texts[field.target.id] = str(text.value.value)
    return texts


def _table(values: _Values) -> str:
    rows = ["| value | default | |", "|---|---|---|"]
    rows += [f"| `{one.path}` | {_shown(plain(one.node))} | {_cell(one.description)} |" for one in values.described]
    rows += [
        "",
        f"Each of {', '.join(f'`{name}`' for name in _COMPONENTS)} also takes:",
        "",
        "| value | |",
        "|---|---|",
    ]
    rows += [f"| `{name}` | {_cell(said)} |" for name, (_, said) in COMMON.items()]
    return "\n".join(rows)


def _settings_table(schema: Schema) -> str:
    rows = ["| setting | default of rater | |", "|---|---|---|"]
    for path, one in _leaves(schema["$defs"], "Settings", "config", {}):
        rows.append(f"| `{path}` | {_shown(one.get('default'))} | {_cell(one.get('description', ''))} |")
    return "\n".join(rows)


def _leaves(defs: Schema, name: str, path: str, shown: dict[str, str]) -> Iterator[tuple[str, Schema]]:
    """Each setting; of a section that stands in several places, the place where it was shown."""
    for key, one in defs[name].get("properties", {}).items():
        where = f"{path}.{key}" + (".NAME" if isinstance(one.get("additionalProperties"), dict) else "")
        sections = _refs(one, defs)
        if not sections:
            yield f"{path}.{key}", one
        for section in sections:
            if section in shown:
                yield f"{where}.…", {"description": f"As `{shown[section]}`."}
            else:
                shown[section] = where
                yield from _leaves(defs, section, where, shown)


def _refs(one: Schema, defs: Schema) -> list[str]:
    """The names of the structs in a field."""
    places = [one, *one.get("anyOf", [])]
    if isinstance(one.get("additionalProperties"), dict):
        places.append(one["additionalProperties"])
    names = [place["$ref"].rsplit("/", 1)[-1] for place in places if "$ref" in place]
    return [name for name in names if "properties" in defs[name]]


def _shown(value: object) -> str:
    text = "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _filled(readme: str, tables: dict[str, str]) -> str:
    for name, table in tables.items():
        begin, end = _BEGIN.format(name), _END.format(name)
        before, found, rest = readme.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ChartError(f"README.md of the chart has no `{begin}` with an `{end}` after it")
        readme = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return readme


if __name__ == "__main__":
    sys.exit(main())
