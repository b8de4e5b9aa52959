"""Parameters and body of a request, read into the structs of its operation; all faults are found at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import msgspec

from rater.api.faults import Faults, RefusalError
from rater.api.reading import read_struct
from rater.api.v3.operations import JSON, Operation, RawBody

__all__ = ["header_name", "is_list", "parameter_place", "read_arguments", "without_none"]

MAX_SHOWN = 100  # characters of what was sent
MAX_VALUES = 1000  # of one parameter


def read_arguments(
    operation: Operation,
    path: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    body: bytes,
    content_type: str,
) -> tuple[Any, Any]:
    """Parameters and body. Raises RefusalError: 415, 400 for what is no JSON, 422 with every fault and its place."""
    faults = Faults()
    parameters = _parameters(operation, path, query, headers, faults)
    content = _body(operation, body, content_type, faults)
    faults.refuse(422, "nothing was written" if operation.writes else "nothing was answered")
    return parameters, content


def parameter_place(operation: Operation, field: msgspec.structs.FieldInfo) -> str:
    """`path`, `query` or `header`."""
    if field.name in operation.names:
        return "path"
    return "header" if header_name(field) else "query"


def header_name(field: msgspec.structs.FieldInfo) -> str:
    """The name of a field that is a header, else empty."""
    kind = field.type
    if get_origin(kind) is Annotated:
        for meta in get_args(kind)[1:]:
            if isinstance(meta, msgspec.Meta) and (meta.extra or {}).get("in") == "header":
                return field.encode_name
    return ""


def is_list(kind: Any) -> bool:
    """Whether a parameter of that type may be repeated."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) in (list, tuple)


def without_none(kind: Any) -> Any:
    """What a parameter of that type is where it is sent: there is no text for nothing."""
    several = get_args(kind)
    if NoneType not in several:
        return kind
    [sent] = [one for one in several if one is not NoneType]
    return sent


def _is_time(kind: Any) -> bool:
    return kind is datetime or (get_origin(kind) is Annotated and _is_time(get_args(kind)[0]))


def _parameters(
    operation: Operation,
    path: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    faults: Faults,
) -> Any:
    sent: dict[str, list[str]] = {}
    for name, value in query:
        sent.setdefault(name, []).append(value)
    found: dict[str, Any] = {}
    before = len(faults)
    fields = {(parameter_place(operation, field), field.encode_name): field for field in _fields(operation)}
    for (place, name), field in fields.items():
        match place:
            case "path":
                values = [path[name]]
            case "header":
                values = [headers[name]] if name in headers else []
            case _:
                values = sent.pop(name, [])
        _read(field, f"{place}.{name}", values, found, faults)
    names = ", ".join(name for place, name in fields if place == "query")
    for name in sent:
        said = f"there are {names}" if names else "there are none"
        faults.add(f"query.{name[:MAX_SHOWN]}", f"is no parameter here: {said}")
    if len(faults) > before:
        return None
    try:
        return msgspec.convert(found, operation.parameters)
    except msgspec.ValidationError as fault:  # what only shows when all is read together
        faults.add("", str(fault))
        return None


def _fields(operation: Operation) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(operation.parameters)


def _read(
    field: msgspec.structs.FieldInfo, place: str, values: list[str], found: dict[str, Any], faults: Faults
) -> None:
    if not values:
        if field.required:
            faults.add(place, "is missing")
        return
    if any("\0" in value or any("\ud800" <= c <= "\udfff" for c in value) for value in values):
        faults.add(place, "holds NUL or half of a surrogate pair")
        return
    several = is_list(field.type)
    if not several and len(values) > 1:
        faults.add(place, f"is given {len(values)} times")
        return
    if len(values) > MAX_VALUES:
        faults.add(place, f"is given {len(values)} times, at most {MAX_VALUES} are taken")
        return
    kind = without_none(field.type)
    try:
        # read again with all others as what it is: what is kept is text where text was sent; not being strict
        # would make times of numbers, and 1970 of `0`
        read = msgspec.convert(values if several else values[0], kind, strict=_is_time(kind))
    except msgspec.ValidationError as fault:
        faults.add(place, str(fault).replace("`$", f"`{place}"))
        return
    found[field.encode_name] = read


def _body(operation: Operation, body: bytes, content_type: str, faults: Faults) -> Any:
    if operation.body is None:
        if body:
            faults.add("body", "is not expected here")
        return None
    if content_type not in operation.body_forms:
        said = f"the content type is {content_type[:MAX_SHOWN]!r}" if content_type else "there is no Content-Type"
        raise RefusalError(415, f"{said}: send {' or '.join(operation.body_forms)}")
    if content_type != JSON or operation.body is RawBody:
        return body
    return read_struct(body, operation.body, faults)
