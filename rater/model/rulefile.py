"""The shape of the rule document, the file that holds all rules of an installation.

The JSON Schema in `schemas/` is made of it, and `rater.rating.reading` takes the keys from it; what the values may be
is checked there, with line and path.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rater.model.rules import MAX_SCRIPT, RuleType

__all__ = [
    "MAX_LABELS",
    "MAX_STEPS",
    "FileField",
    "FileHashmap",
    "FileMapping",
    "FileModule",
    "FilePyscripts",
    "FileScript",
    "FileService",
    "FileServiceMapping",
    "FileStep",
    "FileThreshold",
    "FileTiers",
    "RuleFile",
    "keys_of",
]

MAX_STEPS = 1000  # of graduated prices, as rater.model.rules.Tiers takes them
MAX_LABELS = 100

Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)] | float
Number: TypeAlias = Annotated[str, Meta(pattern=r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?$")] | float
Time: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}[0-9W-]{3,6}.[0-9:.,]+(Z|[+-][0-9:.]+)$",
        description="ISO 8601 with offset, whole seconds: 2026-01-01T00:00:00Z",
    ),
]
ShortName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=32)] | float
Description: TypeAlias = Annotated[str, Meta(max_length=256)] | float


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping of the file."""


class FileModule(_Part, frozen=True):
    """A rating module; those with the highest priority come first."""

    enabled: bool = False
    """Default for hashmap and pyscripts: whether the section of that name stands in the document."""
    priority: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class FileMapping(_Part, frozen=True):
    """A cost for one value of a field."""

    value: Text
    """Compared with the label as text: case and blanks count."""
    cost: Number
    """At most 12 digits before and 28 after the point."""
    type: RuleType | None = RuleType.FLAT
    group: Text | None = None
    tenant_id: Text | None = None
    """The scope that the rule is for; null: all."""
    start: Time | None = None
    """The first period begin that the rule counts for; null: the beginning of time."""
    end: Time | None = None
    """The first period begin that the rule no longer counts for; null: for ever."""
    name: ShortName | None = None
    description: Description | None = None


class FileServiceMapping(_Part, frozen=True, kw_only=True):
    """A cost for every point of a metric."""

    value: None = None
    cost: Number
    """At most 12 digits before and 28 after the point."""
    type: RuleType | None = RuleType.FLAT
    group: Text | None = None
    tenant_id: Text | None = None
    """The scope that the rule is for; null: all."""
    start: Time | None = None
    """The first period begin that the rule counts for; null: the beginning of time."""
    end: Time | None = None
    """The first period begin that the rule no longer counts for; null: for ever."""
    name: ShortName | None = None
    description: Description | None = None


class FileThreshold(_Part, frozen=True):
    """A cost from a level of the quantity, or of the number in a field, on."""

    level: Number
    """At most 12 digits before and 8 after the point."""
    cost: Number
    """At most 12 digits before and 28 after the point."""
    type: RuleType | None = RuleType.FLAT
    group: Text | None = None
    tenant_id: Text | None = None


class FileStep(_Part, frozen=True, kw_only=True):
    """What each unit costs up to a quantity of the month."""

    up_to: Number | None = None
    """More than in the step before; null in the last step, and only there."""
    cost: Number


class FileTiers(_Part, frozen=True):
    """Graduated prices over what a scope has used since the begin of the month (UTC)."""

    by: Annotated[list[Text], Meta(max_length=MAX_LABELS)] | None = None
    """One count runs for each combination of the values of these labels."""
    steps: Annotated[list[FileStep], Meta(min_length=1, max_length=MAX_STEPS)] | UnsetType = UNSET


class FileField(_Part, frozen=True):
    """The rules about one label, a key of `groupby` or `metadata`."""

    name: Text
    mappings: list[FileMapping] | None = None
    thresholds: list[FileThreshold] | None = None


class FileService(_Part, frozen=True):
    """The rules of one metric, by its public name: mappings, thresholds and fields, or tiers."""

    name: Text
    mappings: list[FileServiceMapping] | None = None
    thresholds: list[FileThreshold] | None = None
    fields: list[FileField] | None = None
    tiers: Annotated[FileTiers | None, Meta(extra_json_schema={"dependentRequired": {"by": ["steps"]}})] = None


class FileHashmap(_Part, frozen=True):
    """All mappings, thresholds and tiers."""

    groups: list[Text] | None = None
    """A group that a rule names exists by that."""
    services: list[FileService] | None = None


class FileScript(_Part, frozen=True):
    """A rating script, as `data` or in a `file`."""

    name: Text
    data: Annotated[str, Meta(max_length=MAX_SCRIPT)] | float | UnsetType = UNSET
    file: Annotated[str, Meta(min_length=1, max_length=1000)] | float | UnsetType = UNSET
    """Relative to the document; the script is stored by its content."""
    start: Time | None = None
    """The first period begin that the script runs for; null: the beginning of time."""
    end: Time | None = None
    """The first period begin that the script no longer runs for; null: for ever."""
    description: Description | None = None


class FilePyscripts(_Part, frozen=True):
    """All scripts, in the order in which they run."""

    scripts: (
        list[Annotated[FileScript, Meta(extra_json_schema={"oneOf": [{"required": ["data"]}, {"required": ["file"]}]})]]
        | None
    ) = None


class RuleFile(_Part, frozen=True):
    """All rating rules of an installation."""

    modules: dict[str, FileModule | None] | None = None
    hashmap: FileHashmap | None = None
    pyscripts: FilePyscripts | None = None


@cache
def keys_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of a mapping of the file, and those that must be there."""
    fields = msgspec.structs.fields(kind)
    return tuple(field.name for field in fields), tuple(field.name for field in fields if field.required)
