"""What a rule book is made of: its tables, the entries in them, and what can become of an event.

For `rater.rating.book` and `rater.rating.draft`; an `Overlay` lets an event be tried without touching a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

import msgspec

from rater.model.errors import RaterError
from rater.model.rules import Field, Group, MappingRule, ModuleSet, Service, ThresholdRule

__all__ = [
    "Applied",
    "Children",
    "Ignored",
    "IgnoredReason",
    "InvalidChangeError",
    "MappingEntry",
    "Outcome",
    "Overlay",
    "Tables",
    "ThresholdEntry",
]

K = TypeVar("K")
V = TypeVar("V")
Children: TypeAlias = list[str]  # never changed once it is in a table


class MappingEntry(msgspec.Struct, frozen=True):
    """A mapping and who did what to it when (seconds since the epoch, UTC)."""

    rule: MappingRule
    created_at: int
    created_by: str
    updated_at: int | None = None
    updated_by: str | None = None
    deleted_at: int | None = None
    deleted_by: str | None = None


class ThresholdEntry(msgspec.Struct, frozen=True):
    """A threshold and who created and last changed it when (seconds since the epoch, UTC)."""

    rule: ThresholdRule
    created_at: int
    created_by: str
    updated_at: int | None = None
    updated_by: str | None = None


class IgnoredReason(Enum):
    """Why an event changed nothing."""

    VERSION_CONFLICT = "version_conflict"  # somebody else was faster
    UNKNOWN = "unknown"  # a change names something that is not there
    DUPLICATE = "duplicate"  # an id or a name that is taken
    INVALID = "invalid"  # a rule that cannot be


class Applied(msgspec.Struct, frozen=True):
    """The event counts; the book is now at `version`."""

    version: int


class Ignored(msgspec.Struct, frozen=True):
    """The event changed nothing, for every reader alike. `message` says which change, what is wrong, what to do."""

    reason: IgnoredReason
    message: str


Outcome: TypeAlias = Applied | Ignored


class InvalidChangeError(RaterError):
    """A change that breaks an invariant of the book."""

    def __init__(self, reason: IgnoredReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Tables:
    """What a book is made of. Tables keep the order of creation; `…_of` the order of the children of one parent."""

    __slots__ = (
        "fields", "fields_of", "groups", "mappings", "mappings_of",
        "modules", "names", "services", "thresholds", "thresholds_of",
    )  # fmt: skip

    def __init__(self) -> None:
        self.modules: dict[str, ModuleSet] = {}
        self.services: dict[str, Service] = {}
        self.fields: dict[str, Field] = {}
        self.groups: dict[str, Group] = {}
        self.mappings: dict[str, MappingEntry] = {}
        self.thresholds: dict[str, ThresholdEntry] = {}
        self.names: dict[tuple[str, str, str], str] = {}  # (kind, id of the parent, name) to id
        self.fields_of: dict[str, Children] = {}
        self.mappings_of: dict[str, Children] = {}  # without the deleted ones
        self.thresholds_of: dict[str, Children] = {}

    def copy(self) -> Tables:
        """Tables that can be changed without changing these."""
        other = Tables()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name).copy())
        return other


class Overlay(Generic[K, V]):
    """A table with changes that are not yet in it. None stands for a row that is to go."""

    __slots__ = ("base", "changed")

    def __init__(self, base: dict[K, V]) -> None:
        self.base = base
        self.changed: dict[K, V | None] = {}

    def __getitem__(self, key: K) -> V | None:
        return self.changed[key] if key in self.changed else self.base.get(key)

    def __setitem__(self, key: K, row: V) -> None:
        self.changed[key] = row

    def __delitem__(self, key: K) -> None:
        self.changed[key] = None

    def used(self, key: K) -> bool:
        """Whether the key has a row, or had one before this event."""
        return key in self.changed or key in self.base

    def rows(self) -> Iterator[tuple[K, V]]:
        """All rows, as a list would show them after the commit."""
        for key in [*self.base, *(key for key in self.changed if key not in self.base)]:
            if (row := self[key]) is not None:
                yield key, row

    def commit(self) -> None:
        """Put the changes into the table."""
        for key, row in self.changed.items():
            if row is None:
                self.base.pop(key, None)
            else:
                self.base[key] = row
