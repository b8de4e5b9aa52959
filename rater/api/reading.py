"""From the bytes of a request to a UsagePush: at once where it is sound, field by field where it is not.

A request with faults is read a second time piece by piece, so that all of them are told at once. Decompression ends
where the limit does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import cramjam
import msgspec

from rater.api.faults import Faults, RefusalError
from rater.client.wire import PushedCollection, PushedPlan, PushedSample, PushedValue, UsagePush
from rater.model.codec import JSON, MSGPACK

__all__ = ["decompressed", "read_push", "read_struct"]

S = TypeVar("S")

_MEDIA = {
    JSON: JSON,
    MSGPACK: MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}
_WHOLE = {JSON: msgspec.json.Decoder(UsagePush).decode, MSGPACK: msgspec.msgpack.Decoder(UsagePush).decode}
_LOOSE: dict[str, Callable[..., Any]] = {JSON: msgspec.json.decode, MSGPACK: msgspec.msgpack.decode}
_LISTS: Mapping[type, Mapping[str, type]] = {
    UsagePush: {"samples": PushedSample, "collections": PushedCollection, "plans": PushedPlan},
    PushedCollection: {"samples": PushedValue},
}
"""Fields whose members are looked at one by one."""
_ENCODINGS = ("gzip", "deflate", "zstd")
_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32  # whichever the first bytes say: "deflate" is sent in both forms
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its content encoding (empty for none).

    Raises RefusalError: 415 for an unknown one, 413 beyond `limit` bytes, 400 for what is no such thing.
    """
    match encoding.lower():
        case "" | "identity":
            return body
        case "gzip" | "deflate":
            return _inflated(body, encoding, limit)
        case "zstd":
            return _unzstd(body, limit)
    raise RefusalError(415, f"content encoding {encoding!r} is unknown: send {', '.join(_ENCODINGS)} or none")


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as fault:
        raise RefusalError(400, f"the body is no {encoding}: {fault}") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        raise RefusalError(400, f"the body is no whole {encoding}: it must be one stream, to its end")
    return plain


def _unzstd(body: bytes, limit: int) -> bytes:
    plain = bytearray(limit)
    try:
        length = cramjam.zstd.decompress_into(body, plain)
    except cramjam.DecompressionError as fault:
        if "whole buffer" in str(fault):  # the only way in which it tells that more would come out
            raise _too_large(limit) from None
        raise RefusalError(400, f"the body is no whole zstd: {fault}") from None
    return bytes(memoryview(plain)[:length])


def _too_large(limit: int) -> RefusalError:
    return RefusalError(413, f"the body is larger than {limit} bytes: split it")


def read_push(body: bytes, form: str) -> UsagePush:
    """The request that a body holds; `form` is its content type. Raises RefusalError with every fault."""
    media = _MEDIA.get(form.lower())
    if media is None:
        raise RefusalError(415, f"content type {form!r} is unknown: send {JSON} or {MSGPACK}")
    try:
        return _WHOLE[media](body)
    except _UNREADABLE as fault:
        reason = str(fault)
    faults = Faults()
    try:
        _read_struct(msgspec.Raw(body), UsagePush, "", _LOOSE[media], faults)
    except _UNREADABLE as fault:
        raise RefusalError(400, f"this is no {media}: {fault}") from None
    if not len(faults):  # what only shows when all is read together
        faults.add("", reason)
    faults.refuse(422)
    raise AssertionError("refuse raises where there are faults")


def read_struct(body: bytes, kind: type[S], faults: Faults) -> S | None:
    """The struct that a JSON body holds; None if there are faults, which are noted with their places.

    Raises RefusalError 400 for what is no JSON.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except _UNREADABLE as fault:
        reason = str(fault)
    before = len(faults)
    try:
        _read_struct(msgspec.Raw(body), kind, "", _LOOSE[JSON], faults)
    except _UNREADABLE as fault:
        raise RefusalError(400, f"this is no {JSON}: {fault}") from None
    if len(faults) == before:  # what only shows when all is read together
        faults.add("", reason)
    return None


def _read_struct(raw: msgspec.Raw, kind: type, place: str, decode: Callable[..., Any], faults: Faults) -> None:
    """Notes every fault of a mapping. Raises what the decoder raises for bytes that are no document at all."""
    try:
        members = decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as fault:
        faults.add(place, str(fault))
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, value in members.items():
        where = f"{place}.{name}" if place else name
        if name not in fields:
            faults.add(where, f"is no field: use {', '.join(fields)}")
        elif name in _LISTS.get(kind, {}):
            _read_list(value, _LISTS[kind][name], where, decode, faults)
        else:
            _read_value(value, fields[name].type, where, decode, faults)
    for name, field in fields.items():
        if field.required and name not in members:
            faults.add(f"{place}.{name}" if place else name, "is missing")


def _read_list(raw: msgspec.Raw, kind: type, place: str, decode: Callable[..., Any], faults: Faults) -> None:
    try:
        items = decode(raw, type=list[msgspec.Raw])
    except msgspec.ValidationError as fault:
        faults.add(place, str(fault))
        return
    for number, item in enumerate(items):
        try:
            decode(item, type=kind)
        except msgspec.ValidationError:
            _read_struct(item, kind, f"{place}[{number}]", decode, faults)


def _read_value(raw: msgspec.Raw, kind: Any, place: str, decode: Callable[..., Any], faults: Faults) -> None:
    try:
        decode(raw, type=kind)
    except msgspec.ValidationError as fault:
        faults.add(place, str(fault).replace("`$", f"`{place}"))
