"""What CloudKitty's API v1 lists, as it lists it: the seam between asking it and making rules of the answers."""

from __future__ import annotations

import msgspec

__all__ = ["FieldRow", "GroupRow", "Listing", "MappingRow", "ModuleRow", "ScriptRow", "ServiceRow", "ThresholdRow"]


class ServiceRow(msgspec.Struct, frozen=True):
    """One of `hashmap/services`."""

    service_id: str
    name: str


class FieldRow(msgspec.Struct, frozen=True):
    """One of `hashmap/fields`."""

    field_id: str
    service_id: str
    name: str


class GroupRow(msgspec.Struct, frozen=True):
    """One of `hashmap/groups`."""

    group_id: str
    name: str


class MappingRow(msgspec.Struct, frozen=True):
    """One of `hashmap/mappings`. Times are those of the server's local clock, without offset."""

    mapping_id: str
    type: str
    cost: str | int | float
    value: str | None = None
    service_id: str | None = None
    field_id: str | None = None
    group_id: str | None = None
    tenant_id: str | None = None
    created_at: str | None = None
    start: str | None = None
    end: str | None = None
    name: str | None = None
    description: str | None = None


class ThresholdRow(msgspec.Struct, frozen=True):
    """One of `hashmap/thresholds`."""

    threshold_id: str
    type: str
    cost: str | int | float
    level: str | int | float | None = None
    service_id: str | None = None
    field_id: str | None = None
    group_id: str | None = None
    tenant_id: str | None = None


class ScriptRow(msgspec.Struct, frozen=True):
    """One of `pyscripts/scripts`."""

    script_id: str
    name: str
    data: str
    created_at: str | None = None
    start: str | None = None
    end: str | None = None
    description: str | None = None


class ModuleRow(msgspec.Struct, frozen=True):
    """One of `rating/modules`."""

    module_id: str
    enabled: bool
    priority: int | None = None


class Listing(msgspec.Struct, frozen=True):
    """All rating rules of one CloudKitty, in the order in which it lists them."""

    modules: list[ModuleRow] = []
    groups: list[GroupRow] = []
    services: list[ServiceRow] = []
    fields: list[FieldRow] = []
    mappings: list[MappingRow] = []
    thresholds: list[ThresholdRow] = []
    scripts: list[ScriptRow] = []
