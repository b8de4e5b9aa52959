"""Version 1: hashmap's mappings."""

from __future__ import annotations

from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import seconds
from rater.api.cloudkitty.v1_rules import (
    AUDIT,
    COST,
    HASHMAP,
    PARENTS,
    audit_values,
    book_of,
    fixed,
    group_values,
    known_group,
    of_parents,
    passes_audit,
    required,
)
from rater.rating import MappingEntry

__all__ = ["ROUTES", "mapping_values"]


async def list_mappings(backend: Backend, call: Call) -> Answer:
    """GET mappings."""
    book = await book_of(backend, call)
    asked = arguments_v1(call, {**PARENTS, **AUDIT, "all": flag})
    if not asked.get("all", True) and not any(asked.get(name) for name in ("service_id", "field_id", "group_id")):
        raise ApiFaultError(400, "You must specify either service_uuid, field_uuid or group_uuid.")
    now = seconds(call.now)
    found = [
        mapping_values(entry)
        for entry in book.mappings.values()
        if of_parents(entry.rule, asked) and passes_audit(entry, entry.rule, asked, now)
    ]
    return Answer({"mappings": found})


async def get_mapping(backend: Backend, call: Call) -> Answer:
    """GET mappings/ID, also a deleted one."""
    book, mapping_id = await book_of(backend, call), arguments_v1(call, {"mapping_id": text})["mapping_id"]
    entry = book.mappings.get(mapping_id)
    if entry is None:
        raise ApiFaultError(404, f"No such mapping: {mapping_id}")
    return Answer(mapping_values(entry))


async def mapping_group(backend: Backend, call: Call) -> Answer:
    """GET mappings/group?mapping_id=, mappings/ID/group."""
    book, mapping_id = await book_of(backend, call), required(call, "mapping_id")
    entry = book.mappings.get(mapping_id)
    if entry is None or entry.rule.group_id is None:
        raise ApiFaultError(404, f"Mapping has no group (UUID: {mapping_id})")
    return Answer(group_values(known_group(book, entry.rule.group_id)))


def mapping_values(entry: MappingEntry) -> dict[str, Any]:
    """A mapping as an answer shows it."""
    rule = entry.rule
    return {
        "mapping_id": rule.mapping_id,
        "value": rule.value,
        "type": rule.type.value,
        "cost": fixed(rule.cost, COST),
        "service_id": rule.service_id,
        "field_id": rule.field_id,
        "group_id": rule.group_id,
        "tenant_id": rule.tenant_id,
        **audit_values(entry, rule),
    }


ROUTES = (
    Route(f"{HASHMAP}/mappings", list_mappings),
    Route(f"{HASHMAP}/mappings/group", mapping_group),
    Route(f"{HASHMAP}/mappings/{{mapping_id}}", get_mapping),
    Route(f"{HASHMAP}/mappings/{{mapping_id}}/group", mapping_group),
)
