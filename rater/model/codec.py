"""Bytes on a topic to structs and back, and every check that needs nothing but the record itself.

The content type stands in the record header `content-type`: `application/json` (also when there is no header) or
`application/msgpack`, for the same structs. What cannot be read raises RejectedError with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Context, Decimal, DecimalException, localcontext
from typing import Any, TypeAlias, TypeVar

import msgspec

from rater.model.amounts import MAX_DECIMALS, MAX_MAGNITUDE, decimals, quantity_fault
from rater.model.errors import RejectedError
from rater.model.posted import PostedLines, check_posted
from rater.model.rated import Alert, RatedFrame, RejectedHeaders
from rater.model.usage import Collection, CollectionFailed, Sample, ScopePlan, UsageRecord
from rater.model.version import FORMAT_VERSION

__all__ = [
    "CONTENT_TYPE",
    "JSON",
    "MAX_DECIMALS",
    "MAX_MAGNITUDE",
    "MSGPACK",
    "Headers",
    "RatedRecord",
    "check_key",
    "content_type",
    "decode_alert",
    "decode_rated",
    "decode_rated_record",
    "decode_usage",
    "decoder",
    "encode_json",
    "encode_msgpack",
    "is_posted",
    "quantity_fault",
    "rejected_headers",
]

JSON = "application/json"
MSGPACK = "application/msgpack"
CONTENT_TYPE = "content-type"

_WIDE = Context(prec=200)  # holds the sum of the quantities of a part exactly: 36 digits and 100 decimals
_ZERO = Decimal(0)

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
T = TypeVar("T")

encode_json: Callable[[Any], bytes] = msgspec.json.Encoder().encode
encode_msgpack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


class _Probe(msgspec.Struct):
    """Reads the version of a record that does not fit, so that the reason can say so."""

    version: int = FORMAT_VERSION


class _Kind(msgspec.Struct):
    """Of which kind a record is, and nothing else of it."""

    type: str = ""


_kinds = {JSON: msgspec.json.Decoder(_Kind).decode, MSGPACK: msgspec.msgpack.Decoder(_Kind).decode}


def content_type(headers: Iterable[tuple[str, bytes]]) -> str:
    """The content type that the headers name; JSON where they name none."""
    for name, value in headers:
        if name.lower() == CONTENT_TYPE:
            return bytes(value).decode("utf-8", "replace")
    return JSON


def decoder(kind: Any, what: str) -> Callable[[bytes, str], Any]:
    """A function `(bytes, content type) -> kind` that raises RejectedError, for the records called `what`."""
    readers = {
        JSON: (msgspec.json.Decoder(kind).decode, msgspec.json.Decoder(_Probe).decode),
        MSGPACK: (msgspec.msgpack.Decoder(kind).decode, msgspec.msgpack.Decoder(_Probe).decode),
    }

    def decode(value: bytes, form: str) -> Any:
        if form not in readers:
            raise RejectedError(f"content type {form!r} is unknown: send {JSON} or {MSGPACK}", "unreadable")
        read, probe = readers[form]
        try:
            record = read(value)
        except RecursionError:
            raise RejectedError(f"this is no {what}: nested too deep", "unreadable") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            version = _version(probe, value)
            if version != FORMAT_VERSION:
                raise RejectedError(_unknown_version(what, version), "unreadable") from None
            raise RejectedError(f"this is no {what} as {form}: {fault}", "unreadable") from None
        if getattr(record, "version", FORMAT_VERSION) != FORMAT_VERSION:
            raise RejectedError(_unknown_version(what, record.version), "unreadable")
        return record

    return decode


def _version(probe: Callable[[bytes], _Probe], value: bytes) -> int:
    try:
        return probe(value).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return FORMAT_VERSION


def _unknown_version(what: str, version: int) -> str:
    return f"version {version} of {what} is unknown: this rater reads version {FORMAT_VERSION}"


RatedRecord: TypeAlias = RatedFrame | PostedLines
"""What stands in topic `rated`."""

_usage = decoder(UsageRecord, "usage record")
decode_rated: Callable[[bytes, str], RatedFrame] = decoder(RatedFrame, "rated frame")
decode_rated_record: Callable[[bytes, str], RatedRecord] = decoder(RatedRecord, "rated record")
decode_alert: Callable[[bytes, str], Alert] = decoder(Alert, "alert")


def is_posted(value: bytes, form: str) -> bool:
    """Whether a record of `usage` says that it holds posted lines: a tenth of the work of reading it."""
    try:
        return form in _kinds and _kinds[form](value).type == PostedLines.__struct_config__.tag
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def check_key(key: bytes | None, scope_id: str) -> None:
    """Raises RejectedError for a record of `usage` that lies under another key than its scope's."""
    if key != scope_id.encode():
        raise RejectedError(f"the record's key is {key!r}, it must be the scope_id {scope_id!r} in UTF-8", "wrong_key")


def decode_usage(value: bytes, form: str) -> UsageRecord:
    """A record of topic `usage`, checked. Raises RejectedError with the reason."""
    record: UsageRecord = _usage(value, form)
    if isinstance(record, Collection):
        _check_collection(record)
    elif isinstance(record, PostedLines):
        check_posted(record)
    elif isinstance(record, CollectionFailed):
        _check_range(record.begin, record.end)
    elif isinstance(record, ScopePlan) and record.until is not None:
        _check_range(record.begin, record.until)
    return record


def _check_range(begin: int, end: int) -> None:
    if begin >= end:
        raise RejectedError(f"range [{begin}, {end}) holds no time: begin must be before end", "wrong_time")


def _check_collection(record: Collection) -> None:
    begin, end = record.begin, record.end
    _check_range(begin, end)
    if record.part >= record.parts:
        raise RejectedError(f"part {record.part} of {record.parts} parts: parts count from 0")
    for covered in record.covers:
        if not begin <= covered.begin < covered.end <= end:
            raise RejectedError(f"covers {list(covered)} does not lie within the range [{begin}, {end})")
    known = len(record.series)
    # A pass in C each, 110 ns a sample instead of 480: only a part with a fault is looked at sample by sample.
    misplaced = [s for s in record.samples if not (begin <= s.begin <= s.end and s.begin < end and s.series < known)]
    if misplaced or not _all_taken([s.qty for s in record.samples]):
        raise RejectedError(_first_fault(record))


def _first_fault(record: Collection) -> str:
    """Of a part that has one."""
    faults = ((number, _sample_fault(record, sample)) for number, sample in enumerate(record.samples))
    return next(f"samples[{number}] {fault}" for number, fault in faults if fault)


def _sample_fault(record: Collection, sample: Sample) -> str:
    if sample.series >= len(record.series):
        return f"names series {sample.series} of {len(record.series)}"
    if not record.begin <= sample.begin < record.end:
        return f"begins at {sample.begin}, outside the range [{record.begin}, {record.end})"
    if sample.end < sample.begin:
        return f"ends at {sample.end}, before it begins at {sample.begin}"
    fault = quantity_fault(sample.qty)
    return f"has a quantity that {fault}" if fault else ""


def _all_taken(quantities: list[Decimal]) -> bool:
    """Whether `quantity_fault` is empty for each of them, without asking it for each.

    A sum is finite only if all its members are, and has at least as many decimals as any of them; one that had to be
    rounded to 200 digits has too many decimals itself, or a member that is too large.
    """
    if not quantities:
        return True
    try:
        with localcontext(_WIDE):
            total = sum(quantities, _ZERO)
    except DecimalException:  # a signalling NaN, two infinities, an overflow
        return False
    return (
        total.is_finite()
        and decimals(total) <= MAX_DECIMALS
        and max(quantities) <= MAX_MAGNITUDE
        and min(quantities) >= -MAX_MAGNITUDE
    )


def rejected_headers(headers: RejectedHeaders) -> Headers:
    """The record headers of a refused record; the reason is cut at 2 000 characters."""
    fields: dict[str, str | int] = msgspec.to_builtins(headers)
    return tuple((name, str(value)[:2000].encode()) for name, value in fields.items())
