"""Arguments of requests, read as each version reads them; all faults of a request are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from rater.api.cloudkitty.calls import Call
from rater.api.cloudkitty.faults import ApiFaultError, Faults
from rater.api.cloudkitty.times import read_time

__all__ = ["Query", "Reader", "Unquoted", "arguments_v1", "flag", "instant", "text"]

Reader: TypeAlias = Callable[[str], Any]
"""Makes a value of a text. Raises ValueError, whose text says what was expected."""


class Unquoted(str):
    """What stood in a JSON body without quotes: the text of a number, as it was sent, or `True` or `False`."""

    __slots__ = ()


MAX_SHOWN = 300  # characters of what was sent
MAX_TEXT = 1000  # characters of a name or value
MAX_KEYS = 50  # of pairs
MAX_VALUES = 1000  # of one argument
NONE: Mapping[str, Reader] = MappingProxyType({})
_FALSE = frozenset({"", "0", "f", "false", "n", "no", "off"})


def text(raw: str) -> str:
    """A text as it is. Raises ValueError for a long one, and for what no name holds."""
    if len(raw) > MAX_TEXT:
        raise ValueError(f"at most {MAX_TEXT} characters are taken")
    if "\0" in raw or any("\ud800" <= character <= "\udfff" for character in raw):
        raise ValueError("expected text without NUL and halves of surrogate pairs")
    return raw


def flag(raw: str) -> bool:
    """Anything that does not say no is true, as in CloudKitty."""
    return raw.strip().lower() not in _FALSE


def instant(raw: str) -> datetime:
    """A time. Raises ValueError."""
    try:
        return read_time(raw)
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2026-01-01T00:00:00") from None


def arguments_v1(call: Call, readers: Mapping[str, Reader] = NONE, *required: str, of_body: str = "") -> dict[str, Any]:
    """The arguments of a v1 request, from the path, the query or a JSON body, by name; absent ones are missing.

    `readers` names all that there are, `required` those that must not be absent. `of_body`: the body is one argument
    of that name, and has attributes.

    Raises ApiFaultError 400 with every fault.
    """
    faults = Faults()
    found: dict[str, Any] = {}
    given: set[str] = set()
    members = list(_members(call.body))
    if of_body:
        unknown = [name[:MAX_SHOWN] for name, _ in members if name not in readers]
        members = [member for member in members if member[0] in readers]
        if unknown:
            faults.add(f"Unknown attribute for argument {of_body}: {', '.join(unknown)}")
    for name, raw in [*members, *call.query, *call.path.items()]:  # the path has the last word
        if name not in readers:
            faults.add(f'Unknown argument: "{name[:MAX_SHOWN]}"')
        elif raw is not None:
            given.add(name)
            try:
                found[name] = readers[name](raw)
            except ValueError as fault:
                faults.add(f"Invalid input for field/attribute {name}. Value: '{raw[:MAX_SHOWN]}'. {fault}")
    for name in required:
        if name not in given:
            mandatory = f"Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing."
            faults.add(mandatory if of_body else f'Missing argument: "{name}"')
    faults.refuse()
    return found


def _members(body: bytes) -> Iterable[tuple[str, str | None]]:
    if not body.strip():
        return
    try:
        for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items():
            yield name, _value(bytes(raw).decode())
    except (msgspec.DecodeError, ValueError, RecursionError) as fault:  # among them what is no UTF-8
        raise ApiFaultError(400, f"The body is no JSON object of simple values: {fault}") from None


def _value(raw: str) -> str | None:
    """What one value of a JSON object says. A number keeps its text: whoever wants it decides how exact it is."""
    if raw[0] in '"{[':
        return msgspec.json.decode(raw, type=str)
    named = {"null": None, "true": Unquoted(True), "false": Unquoted(False)}
    return named[raw] if raw in named else Unquoted(raw)


class Query:
    """The query of a v2 request. Ask for each argument, then `refuse`."""

    def __init__(self, call: Call) -> None:
        self._sent: dict[str, list[str]] = {}
        for name, value in call.query:
            self._sent.setdefault(name, []).append(value)
        self._left = dict(self._sent)
        self._faults = Faults()

    def single(self, name: str, read: Reader, default: Any = None) -> Any:
        """An argument that is given once."""
        values = self._left.pop(name, [])
        if not values:
            return default
        if len(values) > 1:
            return self._fault("length of value must be 1", name)
        return self._value(values[0], read, name)

    def many(self, name: str, read: Reader = text) -> list[Any]:
        """An argument that is repeated, or whose values stand between commas."""
        values = [value for given in self._left.pop(name, []) for value in given.split(",")]
        read_values = [self._value(value, read, name) for value in self._bounded(values, name)]
        return [value for value in read_values if value is not None]

    def pairs(self, name: str, *, unique: bool) -> dict[str, list[str]]:
        """`key:value` pairs, repeated or between commas; `unique` refuses a second value of a key."""
        found: dict[str, list[str]] = {}
        values = [value for given in self._left.pop(name, []) for value in given.split(",")]
        for pair in self._bounded(values, name):
            key, *rest = pair.split(":")
            if len(rest) != 1 or len(pair) > MAX_TEXT:
                self._fault(f"invalid key:value association {pair[:MAX_SHOWN]}", name)
            elif self._value(pair, text, name) is None:
                continue
            elif unique and key in found:
                self._fault(f"key {key} already provided", name)
            else:
                found.setdefault(key, []).append(rest[0])
        if len(found) > MAX_KEYS:
            self._fault(f"at most {MAX_KEYS} keys are taken", name)
        return found

    def page(self) -> tuple[int, int]:
        """`offset` (0) and `limit` (100)."""
        offset = self.single("offset", _whole(0), 0)
        limit = self.single("limit", _whole(1), 100)
        return offset, limit

    def fault(self, message: str, name: str) -> None:
        """Notes what a handler finds wrong with an argument."""
        self._fault(message, name)

    def refuse(self) -> None:
        """Raises ApiFaultError 400 with every fault, arguments that nobody asked for among them."""
        for name in self._left:
            self._fault("extra keys not allowed", name)
        self._faults.refuse(f"Invalid data '{str(self._sent)[:MAX_SHOWN]}' : ")

    def _value(self, raw: str, read: Reader, name: str) -> Any:
        try:
            return read(raw)
        except ValueError as fault:
            return self._fault(str(fault), name)

    def _bounded(self, values: list[str], name: str) -> list[str]:
        if len(values) > MAX_VALUES:
            self._fault(f"at most {MAX_VALUES} values are taken", name)
        return values[:MAX_VALUES]

    def _fault(self, message: str, name: str) -> None:
        self._faults.add(f"{message} (path: '[{name[:MAX_SHOWN]!r}]')")


def _whole(least: int) -> Reader:
    def read(raw: str) -> int:
        try:
            number = int(raw)
        except ValueError:
            raise ValueError("expected int") from None
        if number < least:
            raise ValueError(f"value must be at least {least}")
        return min(number, 2**60)

    return read
