"""What a rule book is made of: its tables, the entries in them, and what can become of an event.

For `rater.rating.book` and `rater.rating.draft`, which alone change tables.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from rater.model.errors import RaterError
from rater.model.rules import Field, Group, MappingRule, ModuleSet, Script, Service, ThresholdRule, Tiers

__all__ = [
    "Applied",
    "Children",
    "Ignored",
    "IgnoredReason",
    "InvalidChangeError",
    "MappingEntry",
    "Order",
    "Outcome",
    "ScriptEntry",
    "Tables",
    "ThresholdEntry",
]

Children: TypeAlias = dict[str, bool]  # ids in order; the value is always True in a finished book


class MappingEntry(msgspec.Struct, frozen=True, gc=False):
    """A mapping and who did what to it when (seconds since the epoch, UTC)."""

    rule: MappingRule
    created_at: int
    created_by: str
    updated_at: int | None = None
    updated_by: str | None = None
    deleted_at: int | None = None
    deleted_by: str | None = None


class ThresholdEntry(msgspec.Struct, frozen=True, gc=False):
    """A threshold and who created and last changed it when (seconds since the epoch, UTC)."""

    rule: ThresholdRule
    created_at: int
    created_by: str
    updated_at: int | None = None
    updated_by: str | None = None


class ScriptEntry(msgspec.Struct, frozen=True, gc=False):
    """A script and who did what to it when (seconds since the epoch, UTC)."""

    script: Script
    created_at: int
    created_by: str
    updated_at: int | None = None
    updated_by: str | None = None
    deleted_at: int | None = None
    deleted_by: str | None = None


class IgnoredReason(Enum):
    """Why an event changed nothing."""

    VERSION_CONFLICT = "version_conflict"  # somebody else was faster
    UNKNOWN = "unknown"  # a change names something that is not there
    DUPLICATE = "duplicate"  # an id or a name that is taken
    INVALID = "invalid"  # a rule that cannot be


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The event counts; the book is now at `version`."""

    version: int


class Ignored(msgspec.Struct, frozen=True, gc=False):
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
    """What a book is made of. Rows keep the order of creation; `…_of` the order of the children of one parent.

    A book never changes its tables. The fold owns a copy and lets one `Draft` after the other change it.
    """

    __slots__ = (
        "collector_of", "collectors", "deleted_of", "fields", "fields_of", "groups", "in_group", "mappings",
        "mappings_of", "modules", "names", "scripts", "scripts_of", "services", "thresholds", "thresholds_of", "tiers",
    )  # fmt: skip

    def __init__(self) -> None:
        self.modules: dict[str, ModuleSet] = {}
        self.services: dict[str, Service] = {}
        self.fields: dict[str, Field] = {}
        self.groups: dict[str, Group] = {}
        self.mappings: dict[str, MappingEntry] = {}
        self.thresholds: dict[str, ThresholdEntry] = {}
        self.tiers: dict[str, Tiers] = {}  # by service
        self.scripts: dict[str, ScriptEntry] = {}
        self.collector_of: dict[str, str] = {}  # by service
        self.collectors: dict[str, bool] = {}  # whether it is switched on
        self.names: dict[tuple[str, str, str], str] = {}  # (kind, id of the parent, name) to id
        self.fields_of: dict[str, Children] = {}
        self.mappings_of: dict[str, Children] = {}  # without the deleted ones
        self.thresholds_of: dict[str, Children] = {}
        self.scripts_of: dict[str, Children] = {}  # of parent "" alone; without the deleted ones
        self.deleted_of: dict[str, Children] = {}  # deleted mappings; what deletes a parent need not look at all rules
        self.in_group: dict[str, Children] = {}  # mappings, the deleted ones too, and thresholds

    def copy(self) -> Tables:
        """Tables that can be changed without changing these."""
        other = Tables()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name).copy())
        for by_parent in (
            other.fields_of, other.mappings_of, other.thresholds_of, other.scripts_of, other.deleted_of, other.in_group,
        ):  # fmt: skip
            for parent_id, children in by_parent.items():
                by_parent[parent_id] = children.copy()
        return other


class Order:
    """The children of one parent and the moves among them, made together at the end: one at a time would take long."""

    __slots__ = ("children", "moves")

    def __init__(self, children: Children) -> None:
        self.children = children
        self.moves: list[tuple[str, str | None]] = []

    def commit(self) -> None:
        """Put the children in their new order."""
        order = [*self.children]
        after: dict[str | None, str | None] = dict(zip([None, *order], [*order, None], strict=True))
        ahead: dict[str | None, str | None] = dict(zip([*order, None], [None, *order], strict=True))
        for child_id, before in self.moves:
            left, right = ahead[child_id], after[child_id]
            after[left], ahead[right] = right, left
            left = ahead[before]
            after[left], ahead[before] = child_id, child_id
            ahead[child_id], after[child_id] = left, before
        moved: Children = {}
        child = after[None]
        while child is not None:
            moved[child] = self.children[child]
            child = after[child]
        self.children.clear()
        self.children.update(moved)
