"""Operations as the OpenAPI document has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rater.api.v3.arguments import is_list, parameter_place, without_none
from rater.api.v3.operations import JSON, YAML, Operation, RawBody

__all__ = ["described", "structs_of"]

PROBLEM = "application/problem+json"
_VALUES = (JSON, YAML)
"""Forms whose texts are values with a schema; of others the document only says that they are text."""
_REFUSALS = {
    400: "What was sent cannot be read.",
    401: "The service asks for a token, and there is none or an unknown one.",
    403: "Whoever asks may not do this.",
    404: "There is no such thing, or it is not yours.",
    406: "The answer does not exist in the form that was asked for.",
    408: "The body did not arrive in time.",
    409: "It contradicts what is there.",
    412: "What is to be changed is not as it was when it was read.",
    413: "Too many bytes.",
    415: "Content type or encoding is unknown.",
    422: "Wrong parameters or content: each fault is listed with its place.",
    428: "Say by If-Match what is to be changed.",
    429: "Too much at once: ask again after Retry-After seconds.",
    503: "Store or Kafka is away: ask again after Retry-After seconds.",
}
_EVERYWHERE = (400, 401, 403, 406, 422, 429, 503)
_WITH_BODY = (408, 413, 415)
_WAITS = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}

Schema = Callable[[Any], dict[str, Any]]


def structs_of(operations: Iterable[Operation]) -> list[Any]:
    """Types whose schemas stand in the document: bodies, answers, and each parameter."""
    found: list[Any] = []
    for operation in operations:
        found += [without_none(field.type) for field in msgspec.structs.fields(operation.parameters)]
        found += [kind for kind in (operation.body, operation.result) if kind not in (None, RawBody)]
    return found


def described(operation: Operation, schema: Schema, problem: dict[str, Any]) -> dict[str, Any]:
    """The operation object. `schema` gives the schema, or a reference to it, of a type of `structs_of`."""
    found: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if operation.description:
        found["description"] = " ".join(inspect.cleandoc(operation.description).split())
    parameters = [_parameter(operation, field, schema) for field in msgspec.structs.fields(operation.parameters)]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        forms = {form: {"schema": _body_schema(operation, form, schema)} for form in operation.body_forms}
        found["requestBody"] = {"required": True, "content": forms}
    found["responses"] = {str(operation.status): _answer(operation, schema), **_refused(operation, problem)}
    found["x-policy"] = operation.action
    return found


def _body_schema(operation: Operation, form: str, schema: Schema) -> dict[str, Any]:
    if form not in _VALUES:
        return {"type": "string"}
    return {"type": "object"} if operation.body is RawBody else schema(operation.body)


def _parameter(operation: Operation, field: msgspec.structs.FieldInfo, schema: Schema) -> dict[str, Any]:
    said = dict(schema(without_none(field.type)))
    if not field.required and field.default not in (msgspec.NODEFAULT, None, "", ()):
        said["default"] = msgspec.json.decode(msgspec.json.encode(field.default))
    found: dict[str, Any] = {
        "name": field.encode_name,
        "in": parameter_place(operation, field),
        "required": field.required,
        "schema": said,
    }
    if "description" in said and "$ref" not in said:
        found["description"] = said.pop("description")
    if is_list(field.type):
        found |= {"style": "form", "explode": True}
    return found


def _answer(operation: Operation, schema: Schema) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.answers or "What was asked for."}
    if operation.result is not None:
        answer["content"] = {form: _content(operation, form, schema) for form in operation.forms}
    return answer


def _content(operation: Operation, form: str, schema: Schema) -> dict[str, Any]:
    """Streams are texts to the document, which knows no schema of their items."""
    return {"schema": schema(operation.result) if form in _VALUES else {"type": "string"}}


def _refused(operation: Operation, problem: dict[str, Any]) -> dict[str, Any]:
    statuses = {*_EVERYWHERE, *operation.refusals}
    if operation.body is not None:
        statuses.update(_WITH_BODY)
    if operation.names:
        statuses.add(404)
    return {
        str(status): {
            "description": _REFUSALS[status],
            "content": {PROBLEM: {"schema": problem}},
            **({"headers": _WAITS} if status in (429, 503) else {}),
        }
        for status in sorted(statuses)
    }
