"""Whether what is written by one JSON Schema can be read by another: old and new releases of rater's schemas.

Only the words that our schemas use are known, and an unknown one is an error: what is not compared must not pass.
Objects hold the fields that their writer's schema names, and no others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from rater.model.errors import RaterError

__all__ = ["ContractError", "Parties", "unread"]

Schema: TypeAlias = Mapping[str, Any]

_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description", "examples", "default"})
_CHOICES = frozenset({"anyOf", "oneOf"})
_KNOWN = frozenset(
    {"$ref", "type", "enum", "const", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
    | {"properties", "required", "additionalProperties", "items", "prefixItems", "dependentRequired"}
)
_LEAST = {"minimum": "less", "minLength": "shorter text", "minItems": "fewer items"}
_MOST = {"maximum": "more", "maxLength": "longer text", "maxItems": "more items"}


class ContractError(RaterError):
    """Schemas that cannot be compared, or do not go together."""


class Parties(NamedTuple):
    """Who writes and who reads, as a sentence names them: `records of 1.0`, `programs made for 1.1`."""

    writers: str
    readers: str
    open_kinds: Collection[str] = ()
    """Places at which readers pass over values that they do not know."""


def unread(written: Schema, read: Schema, parties: Parties) -> list[str]:
    """Each fault as `PLACE: sentence`: what may be written by one schema, and is refused or misunderstood by the other.

    Raises ContractError for schemas with words that are not known here.
    """
    return list(dict.fromkeys(_Comparison(written, read, parties).of(written, read, "")))


class _Comparison:
    """Of two documents; a pair of definitions is looked at once."""

    def __init__(self, written: Schema, read: Schema, parties: Parties) -> None:
        self._roots = written, read
        self._parties = parties
        self._begun: set[tuple[str, str]] = set()

    def of(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        """The faults at and below a place."""
        pair = str(written.get("$ref", "")), str(read.get("$ref", ""))
        if any(pair):
            place = place or pair[0].rpartition("/")[2]
            if pair in self._begun:
                return
            if all(pair):
                self._begun.add(pair)
        written, read = _resolved(written, self._roots[0], place), _resolved(read, self._roots[1], place)
        theirs, ours = _choices(written), _choices(read)
        if len(theirs) == 1 and len(ours) == 1:
            yield from self._plain(written, read, place)
            return
        for choice in theirs:
            yield from self._best(choice, ours, place)

    def _best(self, written: Schema, choices: list[Schema], place: str) -> Iterator[str]:
        """The faults beside the choice that fits best: the one with the same tag, else the one with the fewest."""
        tag = self._tag(written, self._roots[0])
        tagged = [choice for choice in choices if tag and self._tag(choice, self._roots[1]) == tag]
        if tag and not tagged and any(self._tag(choice, self._roots[1]) for choice in choices):
            if (place or "type") not in self._parties.open_kinds:
                yield self._fault(place or "type", "{writers} may be of type " + repr(tag) + ", which {readers} refuse")
            return
        begun = set(self._begun)
        tried = []
        for choice in tagged or choices:
            self._begun = set(begun)
            tried.append((list(self.of(written, choice, place)), self._begun))
        faults, self._begun = min(tried, key=lambda found: len(found[0]))
        yield from faults

    def _tag(self, schema: Schema, root: Schema) -> str:
        """The value of field `type` that tells a struct from others; empty if it has none."""
        values = _values(_resolved(schema, root, "").get("properties", {}).get("type", {}))
        return str(values[0]) if values and len(values) == 1 else ""

    def _plain(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        yield from self._values(written, read, place)
        yield from self._bounds(written, read, place)
        if written.get("dependentRequired") != read.get("dependentRequired"):
            yield self._fault(place, "which fields have to stand together is another question for {readers}")
        if read.get("oneOf") != written.get("oneOf"):
            yield self._fault(place, "which of several forms is meant is another question for {readers}")
        yield from self._fields(written, read, place)
        yield from self._items(written, read, place)

    def _values(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        known, may = _values(read), _values(written)
        if known is not None and place not in self._parties.open_kinds:
            if may is None:
                yield self._fault(place, "{writers} may hold any value, {readers} take " + _listed(known))
            for value in may or ():
                if value not in known:
                    yield self._fault(place, "{writers} may hold " + repr(value) + ", which {readers} refuse")
        takes, gives = _types(read), _types(written)
        if takes is not None:
            if gives is None and may is not None:
                gives = {_type_of(value) for value in may}
            for kind in sorted({"any"} if gives is None else gives):
                if kind not in takes and not (kind == "integer" and "number" in takes):
                    yield self._fault(
                        place, "{writers} may hold " + kind + ", {readers} take " + _listed(sorted(takes))
                    )

    def _bounds(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        for words, is_beyond in ((_LEAST, _less), (_MOST, _more)):
            for word, what in words.items():
                bound = read.get(word)
                if bound is not None and is_beyond(written.get(word), bound):
                    yield self._fault(
                        place, "{writers} may hold " + what + " than " + str(bound) + ", {readers} do not"
                    )
        pattern = read.get("pattern")
        if pattern is not None and written.get("pattern") != pattern:
            yield self._fault(
                place, "{readers} take only text of the form " + str(pattern) + ", {writers} may hold other"
            )

    def _fields(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        ours, theirs = read.get("properties", {}), written.get("properties", {})
        required, always = set(read.get("required", ())), set(written.get("required", ()))
        others = read.get("additionalProperties", True)
        for name in theirs.keys() - ours.keys():
            at = f"{place}.{name}"
            if others is False:
                yield self._fault(at, "{writers} may have this field, {readers} refuse it")
        for name in ours.keys() - theirs.keys():
            at = f"{place}.{name}"
            if name in required:
                yield self._fault(at, "{readers} require this field, {writers} do not have it")
        for name in [name for name in theirs if name in ours]:
            at = f"{place}.{name}"
            if name in required and name not in always:
                yield self._fault(at, "{readers} require this field, {writers} may lack it")
            elif name not in always and _default(theirs[name]) != _default(ours[name]):
                said, taken = _default(theirs[name]), _default(ours[name])
                yield self._fault(at, f"left out it means {said} in {{writers}}, {taken} to {{readers}}")
            yield from self.of(theirs[name], ours[name], at)
        values = written.get("additionalProperties", True)
        if isinstance(values, Mapping) and isinstance(others, Mapping):
            yield from self.of(values, others, f"{place}.*")
        elif isinstance(values, Mapping) and others is False:
            yield self._fault(place, "{writers} may have fields of any name, {readers} refuse them")

    def _items(self, written: Schema, read: Schema, place: str) -> Iterator[str]:
        if isinstance(written.get("items"), Mapping) and isinstance(read.get("items"), Mapping):
            yield from self.of(written["items"], read["items"], f"{place}[]")
        theirs, ours = written.get("prefixItems", []), read.get("prefixItems", [])
        for number, (item, known) in enumerate(zip(theirs, ours, strict=False)):
            yield from self.of(item, known, f"{place}[{number}]")
        if ("items" in written) != ("items" in read) or (bool(theirs) != bool(ours)):
            yield self._fault(place, "the items of {writers} have other meanings than those that {readers} look for")

    def _fault(self, place: str, text: str) -> str:
        return (
            f"{place}: {text.replace('{writers}', self._parties.writers).replace('{readers}', self._parties.readers)}"
        )


def _resolved(schema: Schema, root: Schema, place: str) -> Schema:
    """What a reference leads to, with what stands beside it."""
    unknown = schema.keys() - _ANNOTATIONS - _CHOICES - _KNOWN
    if unknown:
        raise ContractError(
            f"{place or 'the schema'}: {_listed(sorted(unknown))} cannot be compared: teach it compatibility.py"
        )
    if "$ref" not in schema:
        return schema
    name = str(schema["$ref"])
    if not name.startswith("#/$defs/") or name.removeprefix("#/$defs/") not in root.get("$defs", {}):
        raise ContractError(f"{place}: {name} leads nowhere")
    beside = {word: value for word, value in schema.items() if word != "$ref"}
    return {**_resolved(root["$defs"][name.removeprefix("#/$defs/")], root, place), **beside}


def _choices(schema: Schema) -> list[Schema]:
    """What `anyOf` lists if nothing else is said, else the schema itself. `oneOf` stands beside other words in ours."""
    return list(schema["anyOf"]) if "anyOf" in schema else [schema]


def _values(schema: Schema) -> list[Any] | None:
    """All values that are possible; None if there is no list of them."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _types(schema: Schema) -> set[str] | None:
    said = schema.get("type")
    return None if said is None else {said} if isinstance(said, str) else set(said)


def _type_of(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return names.get(type(value), "object")


def _default(schema: Schema) -> str:
    return repr(schema["default"]) if "default" in schema else "nothing"


def _less(written: float | None, bound: float) -> bool:
    return written is None or written < bound


def _more(written: float | None, bound: float) -> bool:
    return written is None or written > bound


def _listed(values: Collection[object]) -> str:
    return ", ".join(map(str, values))
