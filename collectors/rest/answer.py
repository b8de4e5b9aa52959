"""What an answer says: JSON or CSV as a document, expressions that find something in it, and times.

Numbers keep the digits that they were written with: a quantity is not to pass through a binary float.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import jmespath
import msgspec

from collectors.errors import SourceError
from collectors.rest.settings import HEADER, TimeFormat

__all__ = ["Expression", "Page", "csv_document", "instant", "json_document", "kind_of", "written"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z
_KINDS = {dict: "an object", list: "a list", type(None): "null", bool: "a boolean", str: "a text"}
_FAULTS = (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError)
"""What jmespath raises for a document that an expression does not fit: beside its own errors Python's."""


class _Written(float):
    """A number with a point, and its text. Functions of JMESPath take it as the float that it is."""

    __slots__ = ("text",)
    text: str


_Written.__name__ = "float"  # jmespath tells types by their names


class Page(msgspec.Struct, frozen=True):
    """One page of an answer: what it holds, and its headers by their names in small letters."""

    document: Any
    headers: Mapping[str, str]
    items: list[Any]


class Expression:
    """A JMESPath, or `header:NAME`, of the setting `key`."""

    def __init__(self, key: str, text: str) -> None:
        """`text` was checked when the settings were read."""
        self.key = key
        self.text = text
        self._header = text.removeprefix(HEADER).strip().lower() if text.startswith(HEADER) else ""
        self._compiled = None if self._header else jmespath.compile(text)

    def of(self, document: Any, headers: Mapping[str, str] | None = None) -> Any:
        """What it finds, None if there is nothing. Raises SourceError where it cannot be applied."""
        if self._compiled is None:
            value = (headers or {}).get(self._header)
            if value is not None and not value.isprintable():
                raise SourceError(f"{self.key} finds a header that is no text")
            return value
        try:
            return self._compiled.search(document)
        except _FAULTS as fault:
            name = type(fault).__name__
            raise SourceError(f"{self.key} cannot be applied to what the source answered ({name})") from None


def json_document(body: bytes) -> Any:
    """The document of a JSON body. Raises ValueError for what is no JSON; NaN and infinities are taken."""
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=_with_text, parse_constant=_with_text)
        if b"\\ud" in body.lower():  # half a surrogate pair is JSON, and no text that a record could hold
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return document


def csv_document(body: bytes, delimiter: str) -> list[dict[str, str]]:
    """The rows of a CSV body by column. Raises ValueError without a header, and for a row of another length."""
    reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as fault:
        raise ValueError(f"line {reader.line_num}: {fault}") from None
    if not rows:
        raise ValueError("it has not even a header")
    (_, columns), *others = rows
    if len(set(columns)) != len(columns):
        raise ValueError("two columns of its header have one name")
    for number, row in others:
        if len(row) != len(columns):
            raise ValueError(f"line {number} has {len(row)} cells, the header has {len(columns)}")
    return [dict(zip(columns, row, strict=True)) for _, row in others]


def _with_text(text: str) -> _Written:
    number = _Written(text)
    number.text = text
    return number


def written(value: Any) -> str | None:
    """A number or text as the answer wrote it; None for anything else."""
    if isinstance(value, _Written):
        return value.text
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    return _KINDS.get(type(value), "a number")


def instant(value: Any, form: TimeFormat) -> Decimal:
    """A time of an answer in seconds since the epoch, with fractions.

    Raises ValueError for what is no such time; the message ends the sentence 'its time …'.
    """
    text = written(value)
    if text is None:
        raise ValueError(f"is {kind_of(value)}")
    shown = repr(text[:60])
    try:
        seconds = _number(text, form) if form in ("seconds", "milliseconds") else _calendar(text, form)
    except (ValueError, OverflowError):
        raise ValueError(f"is {shown}, not of the form {form}") from None
    if not 0 <= seconds <= _MAX_INSTANT:
        raise ValueError(f"is {shown}, out of range: times from 1970 to 9999 are taken")
    return seconds


def _number(text: str, form: TimeFormat) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    if not number.is_finite():
        raise ValueError
    return number / 1000 if form == "milliseconds" else number


def _calendar(text: str, form: TimeFormat) -> Decimal:
    found = datetime.fromisoformat(text)
    if (found.tzinfo is None) != (form == "utc"):
        raise ValueError
    passed = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)) - _EPOCH
    return Decimal(passed // timedelta(microseconds=1)) / 1_000_000
