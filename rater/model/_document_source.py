"""Turns YAML and JSON text into the `Node`s of `rater.model.document`, for that module alone.

Both forms are reduced to the same few events, from which `_Tree` builds the nodes without recursion and within bounds.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

import yaml
from yaml.constructor import SafeConstructor

from rater.model import _document_node as bounds
from rater.model._document_node import DocumentError, Kind, Node, Problem, Scalar, member_path

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML came with libyaml
_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, Kind] = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "null": "null",
    "timestamp": "str", "value": "str",
}  # fmt: skip
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^\s,:{}\[\]"]+')
_JSON_WORDS: dict[str, tuple[Kind, Scalar]] = {
    "true": ("bool", True),
    "false": ("bool", False),
    "null": ("null", None),
}
_construct = SafeConstructor()
_MERGE = "<<"


class _StopError(Exception):
    """Reading cannot go on; the problem is noted."""


def read(text: str, name: str) -> Node:
    """The root node of a document. Raises DocumentError."""
    tree = _Tree()
    try:
        _check_text(tree, text)
        text = text.removeprefix("\ufeff")
        if name.lower().endswith(".json") or (text.lstrip()[:1] in ("{", "[") and _is_json(text)):
            _read_json(tree, text)
        else:
            _read_yaml(tree, text)
    except _StopError:
        pass
    if tree.problems:
        raise DocumentError(name, tree.problems)
    assert tree.root is not None, "a tree without problems has a root"
    return tree.root


class _Open:
    """A list or mapping that is being read."""

    def __init__(self, kind: Kind, path: str, line: int, anchor: str | None) -> None:
        self.kind = kind
        self.path = path
        self.line = line
        self.anchor = anchor
        self.items: list[Node] = []
        self.entries: dict[Scalar, tuple[Node, Node]] = {}
        self.merged: list[Node] = []
        self.key: Node | None = None
        self.merging = False


class _Tree:
    """Builds nodes from events: scalars, the begin and end of lists and mappings, and aliases of earlier nodes."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def note(self, path: str, line: int, message: str) -> None:
        self.problems.append(Problem(path, line, message))

    def stop(self, line: int, message: str) -> _StopError:
        """Note a fault after which nothing more can be read."""
        self.note(self.next_path(), line, message)
        return _StopError()

    def scalar(
        self,
        kind: Kind,
        text: str,
        value: Scalar,
        line: int,
        anchor: str | None = None,
        *,
        merge: bool = False,
        literal: bool = False,
    ) -> None:
        self._count(1, len(self._open), line)
        top = self._open[-1] if self._open else None
        if top is not None and top.kind == "map" and top.key is None:
            top.key = Node(kind, member_path(top.path, text), line, text, value)
            top.merging = merge
            self._keep(top.key, anchor)
        else:
            self._add(Node(kind, self.next_path(), line, text, value, literal=literal), anchor)

    def begin(self, kind: Kind, line: int, anchor: str | None = None) -> None:
        if self._open and self._open[-1].kind == "map" and self._open[-1].key is None:
            raise self.stop(line, "a key must be a single value, not a list or a mapping")
        self._count(1, len(self._open), line)
        self._open.append(_Open(kind, self.next_path(), line, anchor))

    def end(self) -> None:
        top = self._open.pop()
        for source in top.merged:
            self._merge(top, source)
        node = Node(top.kind, top.path, top.line, items=tuple(top.items), entries=tuple(top.entries.values()))
        self._add(node, top.anchor)

    def alias(self, anchor: str, line: int) -> None:
        node = self._anchors.get(anchor)
        if node is None:
            raise self.stop(line, f"alias *{anchor} refers to nothing that is complete here")
        top = self._open[-1]  # an alias always follows its anchor, hence inside something
        if top.kind == "map" and top.key is None:
            if node.kind in ("map", "list"):
                raise self.stop(line, "a key must be a single value, not a list or a mapping")
            self.scalar(node.kind, node.text, node.value, line)
        else:
            self._add(self._copy(node, self.next_path(), len(self._open)), None)

    def next_path(self) -> str:
        if not self._open:
            return ""
        top = self._open[-1]
        if top.kind == "list":
            return f"{top.path}[{len(top.items)}]"
        return top.path if top.key is None else top.key.path

    def _add(self, node: Node, anchor: str | None) -> None:
        self._keep(node, anchor)
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        if top.kind == "list":
            top.items.append(node)
            return
        key, top.key = top.key, None
        assert key is not None, "a value follows its key"
        if top.merging:
            self._note_merge(top, node)
        elif key.value in top.entries:
            first = top.entries[key.value][0]
            self.note(key.path, key.line, f"key {key.text!r} is repeated: first on line {first.line}")
        else:
            top.entries[key.value] = (key, node)

    def _keep(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _note_merge(self, top: _Open, node: Node) -> None:
        sources = node.items if node.kind == "list" else (node,)
        for source in sources:
            if source.kind == "map":
                top.merged.append(source)
            else:
                self.note(source.path, source.line, "only mappings can be merged by <<")

    def _merge(self, top: _Open, source: Node) -> None:
        for key, value in source.entries:
            if key.value not in top.entries:
                path = member_path(top.path, key.text)
                copy = self._copy(value, path, len(self._open) + 1)
                top.entries[key.value] = (Node(key.kind, path, key.line, key.text, key.value), copy)

    def _copy(self, node: Node, path: str, depth: int) -> Node:
        """The same node at another path. It keeps its line, which is where a fault in it can be mended."""
        self._count(1, depth, node.line)
        items = tuple(self._copy(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.items))
        entries = tuple(
            (
                Node(key.kind, member_path(path, key.text), key.line, key.text, key.value),
                self._copy(value, member_path(path, key.text), depth + 1),
            )
            for key, value in node.entries
        )
        return Node(node.kind, path, node.line, node.text, node.value, items, entries, node.literal)

    def _count(self, nodes: int, depth: int, line: int) -> None:
        self._nodes += nodes
        if depth > bounds.MAX_DEPTH:
            raise self.stop(line, f"nested deeper than {bounds.MAX_DEPTH} levels")
        if self._nodes > bounds.MAX_NODES:
            raise self.stop(line, f"more than {bounds.MAX_NODES} values, each use of an alias counted")


def _check_text(tree: _Tree, text: str) -> None:
    if len(text) > bounds.MAX_CHARACTERS:
        raise tree.stop(1, f"{len(text)} characters: at most {bounds.MAX_CHARACTERS} are read, split the document")
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise tree.stop(text.count("\n", 0, fault.start) + 1, "is not valid UTF-8 text") from None


def _read_yaml(tree: _Tree, text: str) -> None:
    loader = _Loader(text)
    documents = 0
    try:
        while loader.check_event():
            event = loader.get_event()
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise tree.stop(event.start_mark.line + 1, "a second document begins: give one per file")
            _read_event(tree, loader, event)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        assert mark is not None, "the YAML reader says where it stopped"
        context = f" {fault.context}" if fault.context else ""
        raise tree.stop(mark.line + 1, f"this is no YAML{context}: {fault.problem}") from None
    except yaml.reader.ReaderError as fault:
        line = text.count("\n", 0, text.find(chr(fault.character))) + 1
        raise tree.stop(line, f"the character U+{fault.character:04X} is not allowed in YAML") from None
    finally:
        loader.dispose()
    if tree.root is None:
        tree.scalar("null", "", None, 1)


def _read_event(tree: _Tree, loader: Any, event: yaml.Event) -> None:
    line = cast("yaml.Mark", event.start_mark).line + 1
    if isinstance(event, yaml.ScalarEvent):
        _read_scalar(tree, loader, event, line)
    elif isinstance(event, yaml.AliasEvent):
        tree.alias(cast("str", event.anchor), line)
    elif isinstance(event, yaml.MappingStartEvent):
        _check_tag(tree, event.tag, "map", line)
        tree.begin("map", line, event.anchor)
    elif isinstance(event, yaml.SequenceStartEvent):
        _check_tag(tree, event.tag, "seq", line)
        tree.begin("list", line, event.anchor)
    elif isinstance(event, yaml.CollectionEndEvent):
        tree.end()


def _check_tag(tree: _Tree, tag: str | None, kind: str, line: int) -> None:
    if tag is not None and tag != _TAG + kind:
        raise tree.stop(line, f"tag {tag} is not allowed: only plain YAML types are read")


def _read_scalar(tree: _Tree, loader: Any, event: yaml.ScalarEvent, line: int) -> None:
    tag = event.tag
    if tag is None or tag == "!":
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    merge = tag == _TAG + "merge"
    kind = "str" if merge else _KINDS.get(tag.removeprefix(_TAG))
    if kind is None:
        raise tree.stop(line, f"tag {tag} is not allowed: only plain YAML types are read")
    text: str = event.value
    try:
        value = _value(kind, text)
    except (KeyError, ValueError, OverflowError):
        tree.note(tree.next_path(), line, f"{text[:50]!r} cannot be read as {bounds.NAMES[kind]}")
        value = None
    shown = "" if kind == "null" else text
    tree.scalar(kind, shown, value, line, event.anchor, merge=merge, literal=event.style == "|")


def _value(kind: Kind, text: str) -> Scalar:
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return SafeConstructor.bool_values[text.lower()]
    node = yaml.ScalarNode(_TAG + kind, text)
    return _construct.construct_yaml_int(node) if kind == "int" else _construct.construct_yaml_float(node)


def _is_json(text: str) -> bool:
    try:
        _parse_json(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_json(text: str) -> None:
    json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse_constant)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _read_json(tree: _Tree, text: str) -> None:
    try:
        _parse_json(text)
    except RecursionError:
        raise tree.stop(1, f"nested deeper than {bounds.MAX_DEPTH} levels") from None
    except json.JSONDecodeError as fault:
        raise tree.stop(fault.lineno, f"this is no JSON: {fault.msg}") from None
    except ValueError as fault:
        raise tree.stop(1, f"this is no JSON: {fault}") from None
    line, at = 1, 0
    for match in _JSON_TOKEN.finditer(text):  # the grammar is known to be right by now
        line, at = line + text.count("\n", at, match.start()), match.start()
        word = match.group()
        if word in "{[":
            tree.begin("map" if word == "{" else "list", line)
        elif word in "}]":
            tree.end()
        else:
            _read_json_scalar(tree, word, line)


def _read_json_scalar(tree: _Tree, token: str, line: int) -> None:
    if token[0] == '"':
        text: str = json.loads(token)
        _check_unicode(tree, text, line)
        tree.scalar("str", text, text, line)
    elif token in _JSON_WORDS:
        kind, value = _JSON_WORDS[token]
        tree.scalar(kind, "" if kind == "null" else token, value, line)
    elif any(mark in token for mark in ".eE"):
        tree.scalar("float", token, float(token), line)
    else:
        try:
            number = int(token)
        except ValueError:
            tree.note(tree.next_path(), line, f"the number {token[:20]}… has too many digits")
            number = 0
        tree.scalar("int", token, number, line)


def _check_unicode(tree: _Tree, text: str, line: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        tree.note(tree.next_path(), line, "is not valid Unicode text (half a surrogate pair)")
