"""The OpenAPI document as a page: plain HTML that needs no JavaScript and loads nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

__all__ = ["HEADERS", "page"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.1rem;margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{background:#f5f5f5;padding:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e5e5e5}
.method{display:inline-block;min-width:4rem;font-weight:700}nav li{list-style:none}nav ul{padding:0}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#181818}pre{background:#242424}a{color:#8ab4f8}}
"""
_DIGEST = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""What goes with the page: a browser that reads it loads nothing and runs nothing."""


def page(document: Mapping[str, Any]) -> bytes:
    """The page of an OpenAPI document."""
    return "".join(_parts(document)).encode()


def _parts(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    yield f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{escape(info['title'])}, version {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
    yield '<p>For programs: <a href="/v3/openapi.json">openapi.json</a>.</p><nav><ul>'
    for method, path, operation in operations:
        name = escape(operation["operationId"])
        yield f'<li><a href="#{name}"><code><span class="method">{method}</span> {escape(path)}</code></a>'
        yield f" {escape(operation['summary'])}</li>"
    yield "</ul></nav>"
    for method, path, operation in operations:
        yield from _operation(method, path, operation)
    yield "<h1>Schemas</h1>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h2 id="schema-{escape(name)}"><code>{escape(name)}</code></h2>'
        yield from _schema(schema)
    yield "</body></html>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    name = escape(operation["operationId"])
    yield f'<h2 id="{name}"><code><span class="method">{method}</span> {escape(path)}</code></h2>'
    yield f"<p>{escape(operation['summary'])}.</p>"
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    if operation.get("parameters"):
        yield "<table><tr><th>Parameter</th><th>in</th><th>is</th><th></th></tr>"
        for parameter in operation["parameters"]:
            must = "required" if parameter["required"] else ""
            said = " ".join(filter(None, (parameter.get("description", ""), must)))
            yield f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
            yield f"<td>{_kind(parameter['schema'])}</td><td>{escape(said)}</td></tr>"
        yield "</table>"
    for form, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body <code>{escape(form)}</code>: {_kind(content.get('schema', {}))}</p>"
    yield "<table><tr><th>Status</th><th></th><th>is</th></tr>"
    for status, answer in operation["responses"].items():
        forms = ", ".join(
            f"<code>{escape(form)}</code> {_kind(content.get('schema', {}))}"
            for form, content in answer.get("content", {}).items()
        )
        yield f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td><td>{forms}</td></tr>"
    yield "</table>"


def _schema(schema: Mapping[str, Any]) -> Iterator[str]:
    if "description" in schema:
        yield f"<p>{escape(schema['description'])}</p>"
    if "properties" not in schema:
        yield f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
        return
    required = set(schema.get("required", ()))
    yield "<table><tr><th>Field</th><th>is</th><th></th></tr>"
    for name, field in schema["properties"].items():
        said = " ".join(filter(None, (field.get("description", ""), "required" if name in required else "")))
        yield f"<tr><td><code>{escape(name)}</code></td><td>{_kind(field)}</td><td>{escape(said)}</td></tr>"
    yield "</table>"


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in some words, with links to those that have a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "anything")
    words = [kind if isinstance(kind, str) else " or ".join(kind)]
    if "format" in schema:
        words.append(f"({schema['format']})")
    text = escape(" ".join(words))
    if "items" in schema and isinstance(schema["items"], Mapping):
        text += f" of {_kind(schema['items'])}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return text + (f", {escape(', '.join(bounds))}" if bounds else "")


_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "minLength": "length from",
    "maxLength": "length to",
    "maxItems": "items at most",
    "default": "default",
    "pattern": "as",
}
