"""The OpenAPI 3.1 document of the HTTP service, made from the structs that requests are read into.

`python -m rater.api.openapi` writes `schemas/openapi.json`; the service answers the same at /v3/openapi.json.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from rater.api.v3.catalogue import OPERATIONS
from rater.api.v3.describe import Schema, described, structs_of
from rater.api.v3.operations import Operation
from rater.client.wire import CHUNK_SAMPLES, IDEMPOTENCY_KEY, MAX_SCOPE_RECORDS, PATH, Accepted, Problem, UsagePush

__all__ = ["document", "main", "text"]

FILE = Path("schemas") / "openapi.json"
_BODIES = ("application/json", "application/msgpack")
_REFUSALS = {
    400: "The body cannot be read.",
    401: "The service asks for a token, and there is none or an unknown one.",
    403: "The token may not push some of these scopes or sources.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or samples: split the request.",
    415: "Content type or encoding is unknown.",
    422: "Wrong content: each fault is listed with its place.",
    429: "Too much at once: send the same again after Retry-After seconds.",
    503: "Kafka is away or did not confirm: send the same again after Retry-After seconds.",
}


def document(operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """The OpenAPI document as plain values. The same operations always give the same document."""
    kinds = structs_of(operations)
    found, components = msgspec.json.schema_components(
        (UsagePush, Accepted, Problem, *kinds), ref_template="#/components/schemas/{name}"
    )
    push, accepted, problem, *others = found
    schemas = {name: _tidy(component) for name, component in sorted(components.items())}

    def schema(kind: Any) -> dict[str, Any]:
        tidy: dict[str, Any] = _tidy(others[next(n for n, known in enumerate(kinds) if known is kind or known == kind)])
        return tidy

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rater",
            "version": "3",
            "description": "What was used, what is missing of it, and what it costs. Times are UTC, amounts decimal "
            "text. Usage that is answered 202 is in the log for good.",
        },
        "paths": {
            PATH: {"post": _operation(push, accepted, problem)},
            **_paths(operations, schema, problem),
            "/v3/openapi.json": {
                "get": {
                    "operationId": "describe",
                    "summary": "This document",
                    "security": [],
                    "responses": {"200": {"description": "OK", "content": {"application/json": {}}}},
                }
            },
            "/v3/docs": {
                "get": {
                    "operationId": "showDocument",
                    "summary": "This document as a page to read",
                    "security": [],
                    "responses": {"200": {"description": "OK", "content": {"text/html": {}}}},
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _paths(operations: Sequence[Operation], schema: Schema, problem: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in operations:
        found = _tidy(described(operation, schema, problem))
        paths.setdefault(f"/v3/{operation.path}", {})[operation.method.lower()] = found
    return paths


def _operation(push: dict[str, Any], accepted: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    refused = {"application/problem+json": {"schema": problem}}
    waits = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return {
        "operationId": "pushUsage",
        "summary": "Push samples, collections and plans",
        "description": (
            "Answers when Kafka has confirmed all of it. The same request may be repeated at any time, at any replica: "
            "it counts once. In a numbered request (producer_id, sequences) each scope uses one number for each "
            f"{CHUNK_SAMPLES} samples, or begun {CHUNK_SAMPLES}, of a collection, then of each (source, metric) of its "
            f"samples; at most {MAX_SCOPE_RECORDS}. Holes in the numbers raise the alert batches_lost."
        ),
        "parameters": [
            {
                "name": IDEMPOTENCY_KEY,
                "in": "header",
                "required": False,
                "description": "A text of your own for this request, in place of producer_id and sequences; it is "
                "known for a week, per scope, source and metric.",
                "schema": {"type": "string", "maxLength": 255},
            },
            {
                "name": "Content-Encoding",
                "in": "header",
                "required": False,
                "schema": {"enum": ["gzip", "deflate", "zstd"]},
            },
        ],
        "requestBody": {"required": True, "content": {form: {"schema": push} for form in _BODIES}},
        "responses": {
            "202": {
                "description": "Kafka has all of it; rating follows. The same request always gets this same answer.",
                "content": {"application/json": {"schema": accepted}},
            },
            **{
                str(status): {
                    "description": text,
                    "content": refused,
                    **({"headers": waits} if status in (429, 503) else {}),
                }
                for status, text in _REFUSALS.items()
            },
        },
    }


def _tidy(node: Any) -> Any:
    """Docstrings come with the line breaks of the source; decimals may be written as numbers too."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items()}
    described = tidy.get("description")
    if isinstance(described, str):
        tidy["description"] = " ".join(inspect.cleandoc(described).split())
    if tidy.get("format") == "decimal":
        tidy["type"] = ["string", "number"]
    return tidy


def text() -> str:
    """The document as it stands in `schemas/`."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the document."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
