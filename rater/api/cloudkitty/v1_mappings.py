"""Version 1: hashmap's mappings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rater.api.cloudkitty.arguments import Reader, arguments_v1, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rule_changes import (
    AUDITED,
    FORCE,
    authorized,
    change_rules,
    created,
    deleted,
    input_of,
    new_id,
    number,
    quoted,
    shown,
    updated,
)
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
from rater.rating import MappingEntry, RuleBook, validation
from rater.rating.validation import MappingInput

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


async def create_mapping(backend: Backend, call: Call) -> Answer:
    """POST mappings?force=."""
    authorized(backend, call)
    asked = arguments_v1(call, {**_attributes(backend), **FORCE}, of_body="mapping_data")
    wanted, mapping_id, now = input_of(MappingInput, asked), new_id(), seconds(call.now)
    done = await change_rules(
        backend,
        call,
        "mapping created",
        lambda book: validation.create_mapping(book, wanted, mapping_id, now, force=asked.get("force", False)),
        _mapping_shown(mapping_id),
    )
    return created(call, mapping_id, done)


async def update_mapping(backend: Backend, call: Call) -> Answer:
    """PUT mappings/ID, or the id is in the body, which is often the whole mapping."""
    authorized(backend, call)
    asked = arguments_v1(call, _attributes(backend), "mapping_id", of_body="mapping")
    wanted, mapping_id, now = input_of(MappingInput, asked), asked["mapping_id"], seconds(call.now)
    done = await change_rules(
        backend,
        call,
        "mapping updated",
        lambda book: validation.update_mapping(book, mapping_id, wanted, now),
        _mapping_shown(mapping_id),
    )
    return updated(call, done)


async def delete_mapping(backend: Backend, call: Call) -> Answer:
    """DELETE mappings/ID: it is kept, for whoever asks for deleted ones."""
    authorized(backend, call)
    mapping_id = required(call, "mapping_id")
    done = await change_rules(
        backend,
        call,
        "mapping deleted",
        lambda book: validation.delete_mapping(book, mapping_id),
        _mapping_shown(mapping_id),
    )
    return deleted(done)


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


def _attributes(backend: Backend) -> dict[str, Reader]:
    return {
        **dict.fromkeys(("mapping_id", "value", "type", "service_id", "field_id", "group_id", "tenant_id"), quoted),
        "cost": number(exact=backend.exact_numbers),
        **AUDITED,
    }


def _mapping_shown(mapping_id: str) -> Callable[[RuleBook], Any]:
    return shown(lambda book: book.mappings, mapping_id, mapping_values)


ROUTES = (
    Route(f"{HASHMAP}/mappings", list_mappings),
    Route(f"{HASHMAP}/mappings", create_mapping, "POST"),
    Route(f"{HASHMAP}/mappings", update_mapping, "PUT"),
    Route(f"{HASHMAP}/mappings", delete_mapping, "DELETE"),
    Route(f"{HASHMAP}/mappings/group", mapping_group),
    Route(f"{HASHMAP}/mappings/{{mapping_id}}", get_mapping),
    Route(f"{HASHMAP}/mappings/{{mapping_id}}", update_mapping, "PUT"),
    Route(f"{HASHMAP}/mappings/{{mapping_id}}", delete_mapping, "DELETE"),
    Route(f"{HASHMAP}/mappings/{{mapping_id}}/group", mapping_group),
)
