"""Version 1: services, fields and groups of hashmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rule_changes import authorized, change_rules, created, deleted, new_id, quoted, shown
from rater.api.cloudkitty.v1_mappings import mapping_values
from rater.api.cloudkitty.v1_rules import HASHMAP, book_of, group_values, known_group, required
from rater.api.cloudkitty.v1_thresholds import threshold_values
from rater.model.rules import Field, Service
from rater.rating import RuleBook, validation

__all__ = ["ROUTES"]


async def types(backend: Backend, call: Call) -> Answer:
    """GET types."""
    await book_of(backend, call)
    arguments_v1(call)
    return Answer(["flat", "rate"])


async def list_services(backend: Backend, call: Call) -> Answer:
    """GET services."""
    book = await book_of(backend, call)
    arguments_v1(call)
    return Answer({"services": [_service(service) for service in book.services.values()]})


async def get_service(backend: Backend, call: Call) -> Answer:
    """GET services/ID."""
    book, service_id = await book_of(backend, call), arguments_v1(call, {"service_id": text})["service_id"]
    service = book.services.get(service_id)
    if service is None:
        raise ApiFaultError(404, f"No such service: None (UUID: {service_id})")
    return Answer(_service(service))


async def create_service(backend: Backend, call: Call) -> Answer:
    """POST services."""
    authorized(backend, call)
    asked = arguments_v1(call, {"service_id": quoted, "name": quoted}, "name", of_body="service_data")
    service_id = new_id()
    done = await change_rules(
        backend,
        call,
        "service created",
        lambda book: validation.create_service(book, asked["name"], service_id),
        _service_shown(service_id),
    )
    return created(call, service_id, done)


async def delete_service(backend: Backend, call: Call) -> Answer:
    """DELETE services/ID: with all that belongs to it."""
    authorized(backend, call)
    service_id = required(call, "service_id")
    done = await change_rules(
        backend,
        call,
        "service deleted",
        lambda book: validation.delete_service(book, service_id),
        _service_shown(service_id),
    )
    return deleted(done)


async def list_fields(backend: Backend, call: Call) -> Answer:
    """GET fields?service_id=: empty for what is no service, which the dashboard relies on."""
    book = await book_of(backend, call)
    service_id = arguments_v1(call, {"service_id": text}, "service_id")["service_id"]
    fields = book.fields_of(service_id) if service_id in book.services else []
    return Answer({"fields": [_field(field) for field in fields]})


async def get_field(backend: Backend, call: Call) -> Answer:
    """GET fields/ID."""
    book, field_id = await book_of(backend, call), arguments_v1(call, {"field_id": text})["field_id"]
    field = book.fields.get(field_id)
    if field is None:
        raise ApiFaultError(404, f"No such field: {field_id}")
    return Answer(_field(field))


async def create_field(backend: Backend, call: Call) -> Answer:
    """POST fields."""
    authorized(backend, call)
    readers = dict.fromkeys(("field_id", "name", "service_id"), quoted)
    asked = arguments_v1(call, readers, "name", "service_id", of_body="field_data")
    field_id = new_id()
    done = await change_rules(
        backend,
        call,
        "field created",
        lambda book: validation.create_field(book, asked["service_id"], asked["name"], field_id),
        _field_shown(field_id),
    )
    return created(call, field_id, done)


async def delete_field(backend: Backend, call: Call) -> Answer:
    """DELETE fields/ID: with its rules."""
    authorized(backend, call)
    field_id = required(call, "field_id")
    done = await change_rules(
        backend, call, "field deleted", lambda book: validation.delete_field(book, field_id), _field_shown(field_id)
    )
    return deleted(done)


async def list_groups(backend: Backend, call: Call) -> Answer:
    """GET groups."""
    book = await book_of(backend, call)
    arguments_v1(call)
    return Answer({"groups": [group_values(group) for group in book.groups.values()]})


async def get_group(backend: Backend, call: Call) -> Answer:
    """GET groups/ID."""
    book, group_id = await book_of(backend, call), arguments_v1(call, {"group_id": text})["group_id"]
    return Answer(group_values(known_group(book, group_id)))


async def create_group(backend: Backend, call: Call) -> Answer:
    """POST groups."""
    authorized(backend, call)
    asked = arguments_v1(call, {"group_id": quoted, "name": quoted}, "name", of_body="group_data")
    group_id = new_id()
    done = await change_rules(
        backend,
        call,
        "group created",
        lambda book: validation.create_group(book, asked["name"], group_id),
        _group_shown(group_id),
    )
    return created(call, group_id, done)


async def delete_group(backend: Backend, call: Call) -> Answer:
    """DELETE groups/ID?recursive=: with its rules, or they stay without a group."""
    authorized(backend, call)
    asked = arguments_v1(call, {"group_id": text, "recursive": flag}, "group_id")
    group_id, recursive = asked["group_id"], asked.get("recursive", False)
    done = await change_rules(
        backend,
        call,
        "group deleted" + " with its rules" * recursive,
        lambda book: validation.delete_group(book, group_id, recursive=recursive),
        _group_shown(group_id),
    )
    return deleted(done)


async def group_mappings(backend: Backend, call: Call) -> Answer:
    """GET groups/mappings?group_id=, groups/ID/mappings."""
    book, group_id = await book_of(backend, call), required(call, "group_id")
    mappings = (
        entry for entry in book.mappings.values() if entry.rule.group_id == group_id and entry.deleted_at is None
    )
    return Answer({"mappings": [mapping_values(entry) for entry in mappings]})


async def group_thresholds(backend: Backend, call: Call) -> Answer:
    """GET groups/thresholds?group_id=, groups/ID/thresholds."""
    book, group_id = await book_of(backend, call), required(call, "group_id")
    thresholds = (entry for entry in book.thresholds.values() if entry.rule.group_id == group_id)
    return Answer({"thresholds": [threshold_values(entry) for entry in thresholds]})


def _service(service: Service) -> dict[str, Any]:
    return {"service_id": service.service_id, "name": service.name}


def _field(field: Field) -> dict[str, Any]:
    return {"field_id": field.field_id, "name": field.name, "service_id": field.service_id}


def _service_shown(service_id: str) -> Callable[[RuleBook], Any]:
    return shown(lambda book: book.services, service_id, _service)


def _field_shown(field_id: str) -> Callable[[RuleBook], Any]:
    return shown(lambda book: book.fields, field_id, _field)


def _group_shown(group_id: str) -> Callable[[RuleBook], Any]:
    return shown(lambda book: book.groups, group_id, group_values)


ROUTES = (
    Route(f"{HASHMAP}/types", types),
    Route(f"{HASHMAP}/services", list_services),
    Route(f"{HASHMAP}/services", create_service, "POST"),
    Route(f"{HASHMAP}/services", delete_service, "DELETE"),
    Route(f"{HASHMAP}/services/{{service_id}}", get_service),
    Route(f"{HASHMAP}/services/{{service_id}}", delete_service, "DELETE"),
    Route(f"{HASHMAP}/fields", list_fields),
    Route(f"{HASHMAP}/fields", create_field, "POST"),
    Route(f"{HASHMAP}/fields", delete_field, "DELETE"),
    Route(f"{HASHMAP}/fields/{{field_id}}", get_field),
    Route(f"{HASHMAP}/fields/{{field_id}}", delete_field, "DELETE"),
    Route(f"{HASHMAP}/groups", list_groups),
    Route(f"{HASHMAP}/groups", create_group, "POST"),
    Route(f"{HASHMAP}/groups", delete_group, "DELETE"),
    Route(f"{HASHMAP}/groups/mappings", group_mappings),
    Route(f"{HASHMAP}/groups/thresholds", group_thresholds),
    Route(f"{HASHMAP}/groups/{{group_id}}", get_group),
    Route(f"{HASHMAP}/groups/{{group_id}}", delete_group, "DELETE"),
    Route(f"{HASHMAP}/groups/{{group_id}}/mappings", group_mappings),
    Route(f"{HASHMAP}/groups/{{group_id}}/thresholds", group_thresholds),
)
