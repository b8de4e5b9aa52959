"""What stands in Gnocchi's answers: granules, groups, archive policies. Times are seconds since the epoch, UTC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

__all__ = ["Definition", "Group", "Point", "Policy", "instant", "policy_of", "seconds_of"]

_SPAN = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)(\.\d+)?")


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A granule: when it begins, how long it is in seconds, and its value."""

    begins: str
    length: float
    value: float

    @property
    def begin(self) -> int:
        """In seconds since the epoch; fractions are cut off."""
        return int(instant(self.begins))


class _Aggregated(msgspec.Struct, frozen=True):
    aggregated: list[Point] = []


class _Measures(msgspec.Struct, frozen=True):
    measures: _Aggregated = _Aggregated()


class Group(msgspec.Struct, frozen=True):
    """The granules of all resources, and revisions of them, that have the same attributes."""

    group: dict[str, Any]
    measures: _Measures = _Measures()

    @property
    def points(self) -> list[Point]:
        """In Gnocchi's order: the coarsest first where there are several lengths."""
        return self.measures.measures.aggregated


class Definition(msgspec.Struct, frozen=True):
    """One row of an archive policy: granules so long are kept for so long, in seconds."""

    granularity: float
    timespan: float


class Policy(msgspec.Struct, frozen=True):
    """An archive policy; its definitions begin with the finest."""

    name: str
    methods: frozenset[str]
    definitions: tuple[Definition, ...]

    def has(self, granularity: float) -> Definition | None:
        """The definition with that granularity, if there is one."""
        return next((one for one in self.definitions if one.granularity == granularity), None)

    def finest(self, reach: float) -> Definition:
        """The finest granularity that is kept for so many seconds, else the one that is kept longest."""
        kept = [one for one in self.definitions if one.timespan >= reach]
        return kept[0] if kept else max(self.definitions, key=lambda one: one.timespan)

    @property
    def marker(self) -> str:
        """The method whose granules show when something was measured: `count` if it is there."""
        plain = sorted(method for method in self.methods if not method.startswith("rate:"))
        return "count" if "count" in self.methods else next(iter(plain), min(self.methods))


def policy_of(row: Mapping[str, Any]) -> Policy:
    """An archive policy as Gnocchi shows it. Raises KeyError, ValueError, TypeError for what is none."""
    definitions = [
        Definition(
            seconds_of(one["granularity"]), float("inf") if one["timespan"] is None else seconds_of(one["timespan"])
        )
        for one in row["definition"]
    ]
    if not definitions or not row["aggregation_methods"]:
        raise ValueError("it keeps nothing")
    ordered = sorted(definitions, key=lambda one: one.granularity)
    return Policy(row["name"], frozenset(row["aggregation_methods"]), tuple(ordered))


def seconds_of(span: str | float) -> float:
    """A stretch of time as Gnocchi shows it: `0:05:00`, `30 days, 0:00:00`, or a number. Raises ValueError."""
    if isinstance(span, int | float):
        return float(span)
    found = _SPAN.fullmatch(span)
    if found is None:
        raise ValueError(f"{span!r} is no stretch of time")
    days, hours, minutes, whole, fraction = found.groups()
    return int(days or 0) * 86400.0 + int(hours) * 3600 + int(minutes) * 60 + int(whole) + float(fraction or 0)


def instant(text: str) -> float:
    """An instant as Gnocchi shows it. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
