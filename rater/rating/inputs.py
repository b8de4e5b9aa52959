"""Rules as somebody sends them to the API: nothing of it is checked yet, None is what is left out or null."""

from __future__ import annotations

import msgspec

from rater.rating.compat import RawNumber, RawTime

__all__ = ["MappingInput", "ScriptInput", "ThresholdInput"]


class MappingInput(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping."""

    cost: RawNumber | None = None
    type: str | None = None
    value: str | None = None
    service_id: str | None = None
    field_id: str | None = None
    group_id: str | None = None
    tenant_id: str | None = None
    start: RawTime | None = None
    end: RawTime | None = None
    name: str | None = None
    description: str | None = None


class ThresholdInput(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold."""

    level: RawNumber | None = None
    cost: RawNumber | None = None
    type: str | None = None
    service_id: str | None = None
    field_id: str | None = None
    group_id: str | None = None
    tenant_id: str | None = None


class ScriptInput(msgspec.Struct, frozen=True, kw_only=True):
    """A script."""

    name: str | None = None
    data: str | None = None
    start: RawTime | None = None
    end: RawTime | None = None
    description: str | None = None
