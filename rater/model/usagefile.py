"""The shape of the lines of a usage file: samples, and claims that a source answered completely.

The JSON Schema in `schemas/` is made of it; `collectors.replay.usage_file` reads by it and checks what it cannot say.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.labels import Labels

__all__ = ["CoversLine", "CoversRange", "UsageLine"]

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Time: TypeAlias = Annotated[
    str, Meta(description="ISO 8601 with offset, whole seconds", examples=["2026-01-01T00:00:00Z"])
]


class UsageLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sample of a usage file. `end` absent: an instant."""

    scope_id: Name
    metric: Name
    begin: Time
    qty: Annotated[Decimal, Meta(description="decimal text or a JSON number, read exactly")]
    end: Time | None = None
    unit: Name | None = None
    """Default: the unit that metrics.yml gives the metric, or `undefined`."""
    groupby: Labels = {}
    metadata: Labels = {}


class CoversRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source answered completely for this time; `*` as scope or metric means all that the file names."""

    scope_id: Name
    metric: Name
    begin: Time
    end: Time
    source: Name | None = None


class CoversLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a usage file that claims coverage."""

    covers: CoversRange
