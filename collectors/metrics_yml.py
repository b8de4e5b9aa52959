"""CloudKitty's metrics.yml, read unchanged and whole: every fault at once, each with its path and line.

Both sides read the same file: the collectors what to ask a source for, the worker (`MetricsFile.specs`) which metrics
there are and in which unit. Three things that CloudKitty takes and then gets wrong are refused: two metrics with one
public name (it loses one of them), MAP without a map and text as key of a map (both price every item as 0). So is a
`skip_datapoints_expression` that collectors/skip_expression.py does not know how to evaluate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import msgspec

from collectors.skip_expression import Skip, skip_fault
from rater.model.document import DocumentError, Node, Problem, Problems, member_path, plain
from rater.model.document import load as load_document
from rater.model.metric import MetricSpec

__all__ = ["ExtraReader", "MapEntry", "Metric", "MetricsFile", "Mutate", "Number", "load", "read"]

_KEYS = (
    "unit", "factor", "offset", "alt_name", "description", "groupby", "metadata",
    "mutate", "mutate_map", "skip_datapoints_expression", "extra_args",
)  # fmt: skip
_FRACTION = re.compile(r"\s*[+-]?\d+\s*/\s*\d+\s*")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_MAX_NUMBER_LENGTH = 100

ExtraReader: TypeAlias = Callable[[Problems, Node | None], object]
"""Reads `extra_args` for one kind of source; it notes faults and returns what the source wants to have.

Where a metric has none the node is null, with the place at which they would stand.
"""


class Mutate(Enum):
    """What is done to a quantity after its conversion."""

    NONE = "NONE"
    NUMBOOL = "NUMBOOL"
    NOTNUMBOOL = "NOTNUMBOOL"
    FLOOR = "FLOOR"
    CEIL = "CEIL"
    MAP = "MAP"


class Number(msgspec.Struct, frozen=True):
    """A number of the file, as it stands there and as CloudKitty computes with it."""

    exact: Fraction
    binary: Decimal
    """Of all but a bare integer the nearest binary float, all of its digits."""


class MapEntry(msgspec.Struct, frozen=True):
    """One pair of a `mutate_map`."""

    key: Number
    value: Decimal


class Metric(msgspec.Struct, frozen=True):
    """One metric to collect. `name` is public (alt_name, the hashmap service), `metric` is what the source calls it."""

    metric: str
    name: str
    unit: str
    factor: Number
    offset: Number
    mutate: Mutate
    mutate_map: tuple[MapEntry, ...]
    groupby: tuple[str, ...]
    metadata: tuple[str, ...]
    description: str
    skip: Skip | None
    """What says of a point that it is left out; None if nothing does, or if it never would."""
    extra_args: object
    """What the ExtraReader made of `extra_args`; without a reader the plain mapping."""

    @property
    def internal_key(self) -> str:
        """CloudKitty's own key of the metric, by which it sorts them."""
        return self.metric if self.name == self.metric else f"{self.metric}@#{self.name}"

    def grouped_by(self, scope_key: str) -> tuple[str, ...]:
        """`groupby`, with the scope key appended where it is absent."""
        return self.groupby if scope_key in self.groupby else (*self.groupby, scope_key)


class MetricsFile(msgspec.Struct, frozen=True):
    """All metrics of a metrics.yml, in CloudKitty's order."""

    metrics: tuple[Metric, ...]

    def specs(self) -> list[MetricSpec]:
        """What the worker has to know of each metric: one sample per resource and period, added up."""
        return [MetricSpec(metric.name, metric.unit, description=metric.description) for metric in self.metrics]


def load(path: Path | str, extra_args: ExtraReader | None = None, skip: str = "") -> MetricsFile:
    """The metrics of a file; `skip` is the expression of those that have none of their own.

    Raises DocumentError with all faults, also if the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as fault:
        raise DocumentError(str(path), [Problem("", 1, f"cannot be read: {fault.strerror}")]) from fault
    except UnicodeDecodeError as fault:
        raise DocumentError(str(path), [Problem("", 1, f"is not text in UTF-8: {fault.reason}")]) from fault
    return read(text, str(path), extra_args, skip)


def read(text: str, name: str, extra_args: ExtraReader | None = None, skip: str = "") -> MetricsFile:
    """The metrics of a text; `name` is the file name that errors show, `skip` as `load` has it.

    Raises DocumentError with all faults.
    """
    problems = Problems(name)
    root = problems.members(load_document(text, name), ("metrics",), required=("metrics",))
    found: list[tuple[Node, Metric]] = []
    if "metrics" in root:
        for key, node in _definitions(problems, root["metrics"]):
            metric = _metric(problems, key, node, extra_args or _any_mapping, _skip_of(skip))
            if metric is not None:
                found.append((node, metric))
    _refuse_same_names(problems, found)
    problems.refuse()
    return MetricsFile(tuple(sorted((metric for _, metric in found), key=lambda metric: metric.internal_key)))


def _definitions(problems: Problems, node: Node) -> list[tuple[Node, Node]]:
    """Each (key, definition) under `metrics`; a list of definitions counts once for each."""
    if node.kind != "map" or not node.entries:
        problems.add(node, "expected a mapping with at least one metric")
        return []
    found = []
    for key, value in node.entries:
        if key.kind != "str" or not key.text:
            problems.add(key, f"expected the name of a metric as text, got {key.text!r}: put it in quotes")
        elif value.kind != "list":
            found.append((key, value))
        elif not value.items:
            problems.add(value, "is an empty list: give at least one definition")
        else:
            found.extend((key, item) for item in value.items)
    return found


def _metric(problems: Problems, key: Node, node: Node, extra_args: ExtraReader, skip: Skip | None) -> Metric | None:
    before = len(problems.found)
    members = problems.members(node, _KEYS, required=("unit",))
    name = problems.text(members["alt_name"]) if "alt_name" in members else key.text
    unit = problems.text(members["unit"]) if "unit" in members else None
    description = problems.text(members["description"], 2000) if "description" in members else ""
    factor = _number(problems, members["factor"]) if "factor" in members else _ONE
    offset = _number(problems, members["offset"]) if "offset" in members else _ZERO
    mutate = problems.choice(members["mutate"], [m.value for m in Mutate]) if "mutate" in members else "NONE"
    mutate_map = _mutate_map(problems, members.get("mutate_map"))
    if mutate == "MAP" and not mutate_map and "mutate_map" not in members:
        problems.add(members["mutate"], "MAP needs a `mutate_map`: without it every quantity would be 0")
    if "skip_datapoints_expression" in members:
        skip = _skip(problems, members["skip_datapoints_expression"])
    groupby = _labels(problems, members.get("groupby"))
    metadata = _labels(problems, members.get("metadata"))
    absent = Node("null", member_path(node.path, "extra_args"), node.line)
    extra = extra_args(problems, members.get("extra_args", absent))
    if len(key.text) > 255:
        problems.add(key, f"has {len(key.text)} characters: at most 255 are taken")
    if len(problems.found) > before:
        return None
    assert name is not None
    assert unit is not None
    assert description is not None
    assert factor is not None
    assert offset is not None
    return Metric(
        key.text, name, unit, factor, offset, Mutate(mutate), mutate_map, groupby, metadata, description, skip, extra
    )


def _any_mapping(problems: Problems, node: Node | None) -> object:
    if node is None or node.kind == "null":
        return {}
    if node.kind != "map":
        problems.add(node, "expected a mapping")
        return {}
    return plain(node)


def _labels(problems: Problems, node: Node | None) -> tuple[str, ...]:
    return tuple(label for label in (problems.text(item) for item in problems.items(node)) if label is not None)


def _number(problems: Problems, node: Node) -> Number | None:
    """An integer, a number with a point, a decimal text or a fraction such as `1/1048576`."""
    text = node.text.strip()
    if node.kind not in ("int", "float", "str") or len(text) > _MAX_NUMBER_LENGTH:
        problems.add(node, 'expected a number or a fraction such as "1/1048576"')
        return None
    if node.kind == "int" and isinstance(node.value, int):  # also 0x10 and 1_000: what YAML makes of it
        return Number(Fraction(node.value), Decimal(node.value))
    if not (_DECIMAL.fullmatch(text.replace("_", "")) or (node.kind == "str" and _FRACTION.fullmatch(text))):
        problems.add(node, f'expected a number or a fraction such as "1/1048576", got {text!r}')
        return None
    try:
        exact = Fraction(text.replace(" ", "").replace("_", ""))
        return Number(exact, Decimal(float(exact)))
    except (ZeroDivisionError, OverflowError):
        problems.add(node, f"{text!r} has no value: its denominator is 0 or it is too large")
        return None


_ONE = Number(Fraction(1), Decimal(1))
_ZERO = Number(Fraction(0), Decimal(0))


def _mutate_map(problems: Problems, node: Node | None) -> tuple[MapEntry, ...]:
    if node is None:
        return ()
    if node.kind != "map" or not node.entries:
        problems.add(node, "expected a mapping from numbers to numbers with at least one entry")
        return ()
    entries: list[MapEntry] = []
    for key, value in node.entries:
        mapped = _mapped_to(problems, value)
        if key.kind not in ("int", "float", "bool"):
            problems.add(key, f"{key.text!r} is no number: it would never match a quantity. Write it without quotes")
            continue
        number = _switch(key) or _number(problems, key)
        if number is not None and mapped is not None:
            entries.append(MapEntry(number, mapped))
    return tuple(entries)


def _mapped_to(problems: Problems, node: Node) -> Decimal | None:
    """What a key stands for: the shortest decimal text of a number, which CloudKitty makes of a float too."""
    switch = _switch(node)
    if switch is not None:
        return switch.binary
    if node.kind == "int":
        number = _number(problems, node)
        return number.binary if number is not None else None
    decimal = problems.decimal(node)
    return Decimal(str(float(decimal))) if decimal is not None and node.kind == "float" else decimal


def _switch(node: Node) -> Number | None:
    """True and False, which are 1 and 0 to Python."""
    return Number(Fraction(node.value), Decimal(node.value)) if isinstance(node.value, bool) else None


def _skip(problems: Problems, node: Node) -> Skip | None:
    text = problems.text(node, 10_000) if node.kind != "bool" else str(node.value)
    fault = skip_fault(text) if text is not None else ""
    if fault:
        problems.add(node, fault)
    return None if text is None or fault else _skip_of(text)


def _skip_of(text: str) -> Skip | None:
    return None if text.strip() in ("", "False") else Skip(text)


def _refuse_same_names(problems: Problems, found: list[tuple[Node, Metric]]) -> None:
    first: dict[str, Node] = {}
    for node, metric in found:
        known = first.setdefault(metric.name, node)
        if known is not node:
            problems.add(
                node.get("alt_name") or node,
                f"public name {metric.name!r} is taken by {known.path} on line {known.line}: one of the two would be "
                "lost. Give one of them another alt_name",
            )
