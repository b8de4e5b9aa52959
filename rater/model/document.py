"""Files that people write by hand, YAML or JSON, read so that every fault can be named with line and path.

`load` gives a tree of `Node`s that keep their source text (a bare number is exact decimal text, never a float);
`Problems` collects faults while the tree is read, and `refuse()` raises them all at once as one `DocumentError`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

import yaml

from rater.model._document_node import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NODES,
    NAMES,
    DocumentError,
    Kind,
    Node,
    Problem,
    Scalar,
    member_path,
)
from rater.model._document_source import read

__all__ = [
    "MAX_CHARACTERS",
    "MAX_DEPTH",
    "MAX_NODES",
    "DocumentError",
    "Kind",
    "Node",
    "Plain",
    "Problem",
    "Problems",
    "dump",
    "instant_text",
    "load",
    "member_path",
    "plain",
]

Plain: TypeAlias = Scalar | list["Plain"] | dict[Scalar, "Plain"]

MAX_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?")
_LEADING_ZERO = re.compile(r"[+-]?0\d")


def load(text: str, name: str) -> Node:
    """The tree of a YAML or JSON document; `name` is the file name that errors show.

    JSON is read as such if the name ends in `.json` or the text is valid JSON. Only the plain YAML types are read
    (text, numbers, booleans, null, lists, mappings; timestamps stay text), anchors, aliases and merge keys within the
    bounds of this module. Raises DocumentError for everything else, for repeated keys and for a document too large.
    """
    return read(text, name)


def plain(node: Node) -> Plain:
    """The ordinary Python value of a node: numbers as int and float, mappings as dict."""
    if node.kind == "map":
        return {key.value: plain(value) for key, value in node.entries}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    return node.value


def instant_text(instant: int) -> str:
    """Seconds since the epoch as the text that `Problems.instant` reads: `2026-01-01T00:00:00Z`."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(value: object) -> str:
    """YAML text of plain values, keys in the given order, one line for each innermost list or mapping.

    Text of several lines stands as a block where that gives it back exactly.
    """
    return yaml.dump(
        value, Dumper=_Dumper, default_flow_style=None, sort_keys=False, allow_unicode=True, width=float("inf")
    )


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, since two equal values of a document have nothing to do with each other."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        """What cannot be seen is escaped: in the other styles YAML folds some line breaks and blanks away."""
        style = None if data.isprintable() else '"'
        if "\n" in data and data[0] not in " \n" and data.replace("\n", "").isprintable():
            style = "|"  # unless a line ends with a blank: then the emitter takes quotes itself
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_text)


class Problems:
    """Collects faults while a document is read. Each reader returns None (or nothing) after it noted a fault."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[Problem] = []

    def add(self, node: Node, message: str) -> None:
        """Note a fault of a node; the message says what is wrong and what to do."""
        self.found.append(Problem(node.path, node.line, message))

    def refuse(self) -> None:
        """Raise DocumentError with all faults, if there are any."""
        if self.found:
            raise DocumentError(self.name, self.found)

    def members(self, node: Node, known: Collection[str], required: Collection[str] = ()) -> dict[str, Node]:
        """The members of a mapping by key. Unknown and missing keys and anything but a mapping are faults."""
        if node.kind != "map":
            self._expected(node, "a mapping")
            return {}
        members: dict[str, Node] = {}
        for key, value in node.entries:
            if key.text in known and key.kind == "str":
                members[key.text] = value
            else:
                self.add(key, f"unknown key {key.text!r}: use {', '.join(known)}")
        for name in required:
            if name not in members:
                self.add(node, f"{name!r} is missing")
        return members

    def items(self, node: Node | None) -> tuple[Node, ...]:
        """The members of a list; none if it is absent or null."""
        if node is None or node.kind == "null":
            return ()
        if node.kind != "list":
            self._expected(node, "a list")
        return node.items

    def text(self, node: Node, max_length: int = 255, *, empty: bool = False) -> str | None:
        """Text, which may be empty only if `empty`; a bare number counts as its source text."""
        if node.kind not in ("str", "int", "float"):
            quotes = f", in quotes: '{node.text}'" if node.kind == "bool" else ""
            self._expected(node, f"text{quotes}")
        elif not node.text and not empty:
            self.add(node, "is empty: give at least one character")
        elif len(node.text) > max_length:
            self.add(node, f"has {len(node.text)} characters: at most {max_length} are taken")
        else:
            return node.text
        return None

    def decimal(self, node: Node) -> Decimal | None:
        """A number, quoted or bare, read exactly from its decimal text. Not finite ones are faults."""
        if node.kind not in ("str", "int", "float") or not _NUMBER.fullmatch(node.text):
            shown = f" {node.text[:50]!r}" if node.text else ""
            self.add(node, f"expected a decimal number, got {NAMES[node.kind]}{shown}")
        elif node.kind == "int" and _LEADING_ZERO.match(node.text):
            self.add(node, f"{node.text!r} may be read as octal: write it without leading zeros")
        else:
            return Decimal(node.text)
        return None

    def integer(self, node: Node, minimum: int, maximum: int) -> int | None:
        """A whole number from `minimum` to `maximum`."""
        if node.kind != "int" or not isinstance(node.value, int):
            self._expected(node, "a whole number")
        elif not minimum <= node.value <= maximum:
            self.add(node, f"is {node.text[:50]}: must be from {minimum} to {maximum}")
        else:
            return node.value
        return None

    def boolean(self, node: Node) -> bool | None:
        """`true` or `false`."""
        if isinstance(node.value, bool):
            return node.value
        self._expected(node, "true or false")
        return None

    def choice(self, node: Node, allowed: Collection[str]) -> str | None:
        """One of some words."""
        if node.kind == "str" and node.text in allowed:
            return node.text
        self._expected(node, f"one of {', '.join(allowed)}")
        return None

    def instant(self, node: Node) -> int | None:
        """An ISO 8601 time with offset as seconds since the epoch, UTC. Fractions of a second are a fault."""
        try:
            instant = datetime.fromisoformat(node.text) if node.kind == "str" else None
        except ValueError:
            instant = None
        if instant is None:
            self._expected(node, "a time such as 2026-01-01T00:00:00Z")
        elif instant.tzinfo is None:
            self.add(
                node, f"{node.text!r} has no offset from UTC: write it as {instant:%Y-%m-%dT%H:%M:%SZ} if it is UTC"
            )
        elif instant.microsecond:
            self.add(node, f"{node.text!r} has a fraction of a second: whole seconds are taken")
        elif not 0 <= (seconds := int(instant.timestamp())) <= MAX_INSTANT:
            self.add(node, f"{node.text!r} is out of range: times from 1970 to 9999 are taken")
        else:
            return seconds
        return None

    def _expected(self, node: Node, what: str) -> None:
        shown = f" {node.text[:50]!r}" if node.text else ""
        self.add(node, f"expected {what}, got {NAMES[node.kind]}{shown}")
