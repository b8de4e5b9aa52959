"""Reads a settings struct from a node of rater.yaml and from environment variables, collecting every fault.

Knows nothing of what the settings mean: types, bounds and choices come from the structs that their packages own.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
import msgspec.inspect as inspect

from rater.model.document import DocumentError, Node, load, member_path, plain
from rater.model.errors import RaterError

__all__ = ["ConfigError", "Fault", "SettingsReader", "without_secrets"]

T = TypeVar("T", bound=msgspec.Struct)

MAX_SHOWN = 80  # characters of a refused value
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY_SECRET = re.compile(r"(?i)(password|secret|token)=[^&\s]*")
_SECRET = re.compile(r"password|secret|token", re.IGNORECASE)


class Fault(msgspec.Struct, frozen=True):
    """One fault: where it stands (`rater.yaml:12` or a variable), the key, and what is wrong and allowed."""

    where: str
    key: str
    message: str


class ConfigError(RaterError):
    """Settings that are refused, with every fault: one `where: key: what is wrong` per line of the message."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(": ".join(filter(None, (f.where, f.key, f.message))) for f in faults))


def without_secrets(key: str, text: str) -> str:
    """A value as it may be shown: no password, neither as the value itself nor inside a URL."""
    last = key.rsplit(".", 1)[-1]
    if _SECRET.search(last) and not last.endswith("_file"):
        return "(hidden)" if text else text
    return _QUERY_SECRET.sub(r"\1=(hidden)", _USERINFO.sub("(hidden)@", text))


class _Found(msgspec.Struct, frozen=True):
    """A value as written, and where."""

    node: Node
    where: str


class SettingsReader:
    """One pass over the settings. `faults` grows while it reads; what is faulty has its default in the result."""

    def __init__(self, name: str, environment: Mapping[str, str], prefix: str) -> None:
        self.name = name
        self.faults: list[Fault] = []
        self._environment = environment
        self._prefix = prefix
        self._used: set[str] = set()

    def unused(self) -> list[str]:
        """Names of variables that look like settings (`PREFIX…__…`) and that no field asked for."""
        return sorted(
            name
            for name in self._environment
            if name.startswith(self._prefix) and "__" in name and name not in self._used
        )

    def struct(self, kind: type[T], node: Node | None, key: str = "", where: str = "") -> T | None:
        """A struct from a mapping, each field overridable by its variable; no node stands for an absent mapping.

        What is faulty has its default; None if the struct cannot be made at all.
        """
        members: dict[str, _Found] = {}
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        moved: Mapping[str, str] = getattr(kind, "MOVED", {})  # settings that had other names, and what those are now
        for name, value in self._entries(node, key, where):
            if name in fields:
                members[name] = value
            elif name in moved:
                self._fault(value.where, member_path(key, name), f"has another name now: set {moved[name]}")
            else:
                self._fault(value.where, member_path(key, name), f"is no setting: use {', '.join(fields)}")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            found = members.get(name)
            path = member_path(key, name)
            section = _struct_of(field.type)
            if section is not None:
                if found is not None and found.node.kind == "null" and _optional(field.type):
                    continue
                if found is not None or self._names_below(path) or not _optional(field.type):
                    node_, where_ = (found.node, found.where) if found is not None else (None, "")
                    part = self.struct(section, node_, path, where_)
                    if part is not None:
                        values[field.name] = part
                continue
            found = self._override(path, field.type) or found
            if found is not None:
                value = self._value(found, field.type, path)
                if value is not msgspec.UNSET:
                    values[field.name] = value
            elif field.required:
                self._fault(where or self.name, path, f"is missing: give {allowed(field.type)}")
        return self._build(kind, values, key, where)

    def _build(self, kind: type[T], values: dict[str, Any], key: str, where: str) -> T | None:
        try:
            return kind(**values)
        except (ValueError, RaterError) as fault:  # the struct's own check of several fields together
            self._fault(where or self.name, key, str(fault))
        except TypeError:  # a required field is missing or faulty, which is noted already
            assert self.faults, f"{kind.__name__} cannot be built from {sorted(values)}"
        return None

    def _entries(self, node: Node | None, key: str, where: str) -> Iterator[tuple[str, _Found]]:
        if node is None or node.kind == "null":
            return
        if node.kind != "map":
            self._fault(where or self._at(node), key, f"is {_shown(key, node)}: a mapping of settings belongs here")
            return
        for name, value in node.entries:
            yield name.text, _Found(value, where if where and not where.startswith(self.name) else self._at(name))

    def _at(self, node: Node) -> str:
        return f"{self.name}:{node.line}"

    # --- variables

    def variable(self, path: str) -> str:
        """The variable that overrides a key: `kafka.bootstrap` is `RATER_KAFKA__BOOTSTRAP`."""
        return self._prefix + path.replace(".", "__").upper()

    def _names_below(self, path: str) -> bool:
        return any(name.startswith(self.variable(path) + "__") for name in self._environment)

    def _override(self, path: str, kind: Any) -> _Found | None:
        """The value of a key's variable: text as it is, everything else read as YAML."""
        name = self.variable(path)
        text = self._environment.get(name)
        if text is None:
            return None
        self._used.add(name)
        if isinstance(_info(kind), inspect.StrType):
            return _Found(Node("str", path, 0, text, text), name)
        try:
            return _Found(load(text, name), name)
        except DocumentError as fault:
            self._fault(name, path, f"cannot be read as YAML: {fault.problems[0].message}")
            return None

    # --- values

    def _value(self, found: _Found, kind: Any, path: str) -> Any:
        """The value as its type wants it; UNSET after a fault."""
        node = found.node
        bare = _bare(kind)
        if get_origin(bare) is dict and node.kind == "map":
            items = [(name.text, value) for name, value in node.entries]
            self._check_names(node, found, get_args(bare)[0], path)
            return self._members(items, found, get_args(bare)[1], path)
        if get_origin(bare) in (list, tuple) and node.kind == "list":
            one = get_args(bare)[0]
            numbered = [(f"{path}[{number}]", item) for number, item in enumerate(node.items)]
            values = [self._item(item, found, one, where) for where, item in numbered]
            return msgspec.UNSET if msgspec.UNSET in values else get_origin(bare)(values)
        return self._leaf(found, kind, path)

    def _check_names(self, node: Node, found: _Found, kind: Any, path: str) -> None:
        for name, _ in node.entries:
            try:
                msgspec.convert(name.text, kind)
            except msgspec.ValidationError:
                self._fault(found.where, path, f"{_shown(path, name)} is no name for it: must be {allowed(kind)}")

    def _members(self, items: list[tuple[str, Node]], found: _Found, kind: Any, path: str) -> Any:
        values = {name: self._item(node, found, kind, member_path(path, name)) for name, node in items}
        return msgspec.UNSET if msgspec.UNSET in values.values() else values

    def _item(self, node: Node, found: _Found, kind: Any, path: str) -> Any:
        where = found.where if not found.where.startswith(self.name) else self._at(node)
        section = _struct_of(kind)
        if section is None:
            return self._value(_Found(node, where), kind, path)
        before = len(self.faults)
        value = self.struct(section, node, path, where)
        return value if len(self.faults) == before else msgspec.UNSET

    def _leaf(self, found: _Found, kind: Any, path: str) -> Any:
        node, info = found.node, _info(kind)
        value: Any = plain(node)
        if node.kind in ("int", "float") and isinstance(info, inspect.StrType | inspect.DecimalType):
            value = node.text  # a bare number where text belongs; a decimal, exactly as it is written
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError:
            self._fault(found.where, path, f"is {_shown(path, node)}: must be {allowed(kind)}")
            return msgspec.UNSET

    def _fault(self, where: str, key: str, message: str) -> None:
        self.faults.append(Fault(where, key, message))


def allowed(kind: Any) -> str:
    """What a field takes, as words for the person who mends the file."""
    return _allowed(_info(kind))


def _allowed(info: inspect.Type) -> str:
    match info:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=ge, le=le):
            return f"a whole number{_bounds(ge, le)}"
        case inspect.FloatType(ge=ge, le=le):
            return f"a number{_bounds(ge, le)}"
        case inspect.DecimalType():
            return "a decimal number"
        case inspect.StrType(pattern=pattern, max_length=longest):
            words = ["text"]
            words += [f"that matches {pattern}"] if pattern else []
            words += [f"of at most {longest} characters"] if longest else []
            return " ".join(words)
        case inspect.EnumType(cls=cls):
            return f"one of {', '.join(str(member.value) for member in cls)}"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(str(value) for value in values)}"
        case inspect.NoneType():
            return "null"
        case inspect.UnionType(types=kinds):
            return " or ".join(_allowed(one) for one in kinds)
        case inspect.DictType(value_type=value):
            return f"a mapping of names to {_allowed(value)}"
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return f"a list of {_allowed(item)}"
        case inspect.StructType():
            return "a mapping of settings"
    return type(info).__name__.removesuffix("Type").lower()


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    return "" if most is None else f" of at most {most}"


def _info(kind: Any) -> inspect.Type:
    info = inspect.type_info(kind)
    return info.type if isinstance(info, inspect.Metadata) else info


def _bare(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct class of a field that is a section of its own, None for every other field."""
    bare = _bare(kind)
    if get_origin(bare) in (Union, types.UnionType):
        structs = [one for one in get_args(bare) if _struct_of(one) is not None]
        return _struct_of(structs[0]) if len(structs) == 1 and _optional(kind) else None
    return bare if isinstance(bare, type) and issubclass(bare, msgspec.Struct) else None


def _optional(kind: Any) -> bool:
    bare = _bare(kind)
    return get_origin(bare) in (Union, types.UnionType) and type(None) in get_args(bare)


def _shown(key: str, node: Node) -> str:
    if node.kind in ("map", "list"):
        return "a mapping" if node.kind == "map" else "a list"
    if node.kind == "null":
        return "null"
    text = without_secrets(key, node.text)
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")
