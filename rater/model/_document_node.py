"""The values that `rater.model.document` gives out: nodes, problems, and the error made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Literal, TypeAlias

import msgspec

from rater.model.errors import RaterError

MAX_CHARACTERS = 16_000_000  # 100 000 rules of 150 characters
MAX_NODES = 1_000_000  # about 50 000 rules; counts each use of an alias anew: what bounds "a billion laughs"
MAX_DEPTH = 50

Kind: TypeAlias = Literal["map", "list", "str", "int", "float", "bool", "null"]
Scalar: TypeAlias = str | int | float | bool | None

NAMES: dict[str, str] = {
    "map": "a mapping",
    "list": "a list",
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
_SIMPLE_KEY = re.compile(r"[\w-]+")


class Problem(msgspec.Struct, frozen=True):
    """One fault: where it is (path within the document, line from 1) and what is wrong."""

    path: str
    line: int
    message: str


class DocumentError(RaterError):
    """A document that is refused, with all its faults: one `file:line: path: what` per line of the message."""

    def __init__(self, name: str, problems: Collection[Problem]) -> None:
        self.name = name
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(self._text(problem) for problem in self.problems))

    def _text(self, problem: Problem) -> str:
        path = f"{problem.path}: " if problem.path else ""
        return f"{self.name}:{problem.line}: {path}{problem.message}"


class Node(msgspec.Struct, frozen=True):
    """A value of the document. `text` and `value` are set for scalars, `items` for lists, `entries` for mappings."""

    kind: Kind
    path: str
    line: int
    text: str = ""
    """The source text of a scalar without its quotes; empty for null."""
    value: Scalar = None
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()
    literal: bool = False
    """Whether a text stands as a block (`|`), its lines below `line` as they are."""

    def get(self, key: str) -> Node | None:
        """The value of a text key of a mapping, None if it is not there."""
        return next((value for name, value in self.entries if name.value == key), None)


def member_path(path: str, key: str) -> str:
    """The path of a mapping's member: `a.b`, and `a["b c"]` where the key is more than a word."""
    if not _SIMPLE_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key
