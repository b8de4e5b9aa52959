"""Version 1: services, fields, groups, mappings and thresholds of the rule book."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Context, Decimal
from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, instant, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import naive_text, seconds
from rater.model.rules import (
    COST_DECIMALS,
    LEVEL_DECIMALS,
    NUMBER_DIGITS,
    Field,
    Group,
    MappingRule,
    Service,
    ThresholdRule,
)
from rater.rating import MappingEntry, RuleBook, ScriptEntry, ThresholdEntry

__all__ = ["ROUTES", "audit_values", "passes_audit"]

_COST, _LEVEL = Decimal(1).scaleb(-COST_DECIMALS), Decimal(1).scaleb(-LEVEL_DECIMALS)
_WIDE = Context(prec=NUMBER_DIGITS + COST_DECIMALS)
AUDIT = {
    "deleted": flag,
    "start": instant,
    "end": instant,
    "updated_by": text,
    "created_by": text,
    "deleted_by": text,
    "description": text,
    "is_active": flag,
}
"""Filters that mappings and scripts share."""


async def types(backend: Backend, call: Call) -> Answer:
    """GET types."""
    await _book(backend, call)
    arguments_v1(call)
    return Answer(["flat", "rate"])


async def list_services(backend: Backend, call: Call) -> Answer:
    """GET services."""
    book = await _book(backend, call)
    arguments_v1(call)
    return Answer({"services": [_service(service) for service in book.services.values()]})


async def get_service(backend: Backend, call: Call) -> Answer:
    """GET services/ID."""
    book, service_id = await _book(backend, call), arguments_v1(call, {"service_id": text})["service_id"]
    service = book.services.get(service_id)
    if service is None:
        raise ApiFaultError(404, f"No such service: None (UUID: {service_id})")
    return Answer(_service(service))


async def list_fields(backend: Backend, call: Call) -> Answer:
    """GET fields?service_id=: empty for what is no service, which the dashboard relies on."""
    book = await _book(backend, call)
    service_id = arguments_v1(call, {"service_id": text}, "service_id")["service_id"]
    fields = book.fields_of(service_id) if service_id in book.services else []
    return Answer({"fields": [_field(field) for field in fields]})


async def get_field(backend: Backend, call: Call) -> Answer:
    """GET fields/ID."""
    book, field_id = await _book(backend, call), arguments_v1(call, {"field_id": text})["field_id"]
    field = book.fields.get(field_id)
    if field is None:
        raise ApiFaultError(404, f"No such field: {field_id}")
    return Answer(_field(field))


async def list_groups(backend: Backend, call: Call) -> Answer:
    """GET groups."""
    book = await _book(backend, call)
    arguments_v1(call)
    return Answer({"groups": [_group(group) for group in book.groups.values()]})


async def get_group(backend: Backend, call: Call) -> Answer:
    """GET groups/ID."""
    book, group_id = await _book(backend, call), arguments_v1(call, {"group_id": text})["group_id"]
    return Answer(_group(_known_group(book, group_id)))


async def group_mappings(backend: Backend, call: Call) -> Answer:
    """GET groups/mappings?group_id=, groups/ID/mappings."""
    book, group_id = await _book(backend, call), _required(call, "group_id")
    mappings = (entry for entry in _mappings(book) if entry.rule.group_id == group_id and entry.deleted_at is None)
    return Answer({"mappings": [_mapping(entry) for entry in mappings]})


async def group_thresholds(backend: Backend, call: Call) -> Answer:
    """GET groups/thresholds?group_id=, groups/ID/thresholds."""
    book, group_id = await _book(backend, call), _required(call, "group_id")
    thresholds = (entry for entry in book.thresholds.values() if entry.rule.group_id == group_id)
    return Answer({"thresholds": [_threshold(entry) for entry in thresholds]})


async def list_mappings(backend: Backend, call: Call) -> Answer:
    """GET mappings."""
    book = await _book(backend, call)
    asked = arguments_v1(call, {**_PARENTS, **AUDIT, "all": flag})
    if not asked.get("all", True) and not any(asked.get(name) for name in ("service_id", "field_id", "group_id")):
        raise ApiFaultError(400, "You must specify either service_uuid, field_uuid or group_uuid.")
    now = seconds(call.now)
    found = [
        _mapping(entry)
        for entry in _mappings(book)
        if _of_parents(entry.rule, asked) and passes_audit(entry, entry.rule, asked, now)
    ]
    return Answer({"mappings": found})


async def get_mapping(backend: Backend, call: Call) -> Answer:
    """GET mappings/ID, also a deleted one."""
    book, mapping_id = await _book(backend, call), arguments_v1(call, {"mapping_id": text})["mapping_id"]
    entry = book.mappings.get(mapping_id)
    if entry is None:
        raise ApiFaultError(404, f"No such mapping: {mapping_id}")
    return Answer(_mapping(entry))


async def mapping_group(backend: Backend, call: Call) -> Answer:
    """GET mappings/group?mapping_id=, mappings/ID/group."""
    book, mapping_id = await _book(backend, call), _required(call, "mapping_id")
    entry = book.mappings.get(mapping_id)
    if entry is None or entry.rule.group_id is None:
        raise ApiFaultError(404, f"Mapping has no group (UUID: {mapping_id})")
    return Answer(_group(_known_group(book, entry.rule.group_id)))


async def list_thresholds(backend: Backend, call: Call) -> Answer:
    """GET thresholds: of a service, a field or a group."""
    book = await _book(backend, call)
    asked = arguments_v1(call, {**_PARENTS})
    if not any(asked.get(name) for name in ("service_id", "field_id", "group_id")):
        raise ApiFaultError(400, "You must specify either service_id, field_id or group_id.")
    found = [_threshold(entry) for entry in book.thresholds.values() if _of_parents(entry.rule, asked)]
    return Answer({"thresholds": found})


async def get_threshold(backend: Backend, call: Call) -> Answer:
    """GET thresholds/ID."""
    book, threshold_id = await _book(backend, call), arguments_v1(call, {"threshold_id": text})["threshold_id"]
    entry = book.thresholds.get(threshold_id)
    if entry is None:
        raise ApiFaultError(404, f"No such threshold: {threshold_id}")
    return Answer(_threshold(entry))


async def threshold_group(backend: Backend, call: Call) -> Answer:
    """GET thresholds/group?threshold_id=, thresholds/ID/group."""
    book, threshold_id = await _book(backend, call), _required(call, "threshold_id")
    entry = book.thresholds.get(threshold_id)
    if entry is None or entry.rule.group_id is None:
        raise ApiFaultError(404, f"Threshold has no group (UUID: {threshold_id})")
    return Answer(_group(_known_group(book, entry.rule.group_id)))


_PARENTS: dict[str, Callable[[str], Any]] = {
    "service_id": text,
    "field_id": text,
    "group_id": text,
    "no_group": flag,
    "tenant_id": text,
    "filter_tenant": flag,
}


async def _book(backend: Backend, call: Call) -> RuleBook:
    backend.policy.authorize(call.identity, "rating:module_config")
    return await backend.book()


def _required(call: Call, name: str) -> str:
    return str(arguments_v1(call, {name: text}, name)[name])


def _known_group(book: RuleBook, group_id: str) -> Group:
    group = book.groups.get(group_id)
    if group is None:
        raise ApiFaultError(404, f"No such group: None (UUID: {group_id})")
    return group


def _mappings(book: RuleBook) -> Iterable[MappingEntry]:
    return book.mappings.values()


def _of_parents(rule: MappingRule | ThresholdRule, asked: dict[str, Any]) -> bool:
    """Whether a rule is below what was asked for: a service before a field, a group before none."""
    if asked.get("service_id"):
        if rule.service_id != asked["service_id"]:
            return False
    elif asked.get("field_id") and rule.field_id != asked["field_id"]:
        return False
    if asked.get("filter_tenant") and rule.tenant_id != asked.get("tenant_id"):
        return False
    if asked.get("group_id"):
        return bool(rule.group_id == asked["group_id"])
    return not asked.get("no_group") or rule.group_id is None


def passes_audit(entry: MappingEntry | ScriptEntry, rule: Any, asked: dict[str, Any], now: int) -> bool:
    """Whether a mapping or script passes the filters AUDIT; `rule` has its dates and description."""
    start = rule.start or 0
    if asked.get("is_active") and not (start <= now and (rule.end is None or rule.end > now) and not entry.deleted_at):
        return False
    wanted = (
        not asked.get("description") or asked["description"].lower() in (rule.description or "").lower(),
        *(not asked.get(name) or getattr(entry, name) == asked[name] for name in _WHO),
        asked.get("deleted") or entry.deleted_at is None,
        "start" not in asked or start >= seconds(asked["start"]),
        "end" not in asked or (rule.end is not None and rule.end < seconds(asked["end"])),
    )
    return all(wanted)


_WHO = ("updated_by", "created_by", "deleted_by")


def audit_values(entry: MappingEntry | ScriptEntry, rule: Any) -> dict[str, Any]:
    """What mappings and scripts have in common."""
    return {
        "created_at": naive_text(entry.created_at),
        "start": naive_text(rule.start or 0),
        "end": None if rule.end is None else naive_text(rule.end),
        "name": rule.name,
        "description": rule.description,
        "deleted": None if entry.deleted_at is None else naive_text(entry.deleted_at),
        "created_by": entry.created_by,
        "updated_by": entry.updated_by,
        "deleted_by": entry.deleted_by,
    }


def _fixed(number: Decimal, places: Decimal) -> str:
    """With all its decimals, as CloudKitty's database gives it back: also `1E-28`."""
    return str(number.quantize(places, context=_WIDE))


def _service(service: Service) -> dict[str, Any]:
    return {"service_id": service.service_id, "name": service.name}


def _field(field: Field) -> dict[str, Any]:
    return {"field_id": field.field_id, "name": field.name, "service_id": field.service_id}


def _group(group: Group) -> dict[str, Any]:
    return {"group_id": group.group_id, "name": group.name}


def _mapping(entry: MappingEntry) -> dict[str, Any]:
    rule = entry.rule
    return {
        "mapping_id": rule.mapping_id,
        "value": rule.value,
        "type": rule.type.value,
        "cost": _fixed(rule.cost, _COST),
        "service_id": rule.service_id,
        "field_id": rule.field_id,
        "group_id": rule.group_id,
        "tenant_id": rule.tenant_id,
        **audit_values(entry, rule),
    }


def _threshold(entry: ThresholdEntry) -> dict[str, Any]:
    rule = entry.rule
    return {
        "threshold_id": rule.threshold_id,
        "level": _fixed(rule.level, _LEVEL),
        "type": rule.type.value,
        "cost": _fixed(rule.cost, _COST),
        "service_id": rule.service_id,
        "field_id": rule.field_id,
        "group_id": rule.group_id,
        "tenant_id": rule.tenant_id,
    }


_HASHMAP = "rating/module_config/hashmap"
ROUTES = (
    Route(f"{_HASHMAP}/types", types),
    Route(f"{_HASHMAP}/services", list_services),
    Route(f"{_HASHMAP}/services/{{service_id}}", get_service),
    Route(f"{_HASHMAP}/fields", list_fields),
    Route(f"{_HASHMAP}/fields/{{field_id}}", get_field),
    Route(f"{_HASHMAP}/groups", list_groups),
    Route(f"{_HASHMAP}/groups/mappings", group_mappings),
    Route(f"{_HASHMAP}/groups/thresholds", group_thresholds),
    Route(f"{_HASHMAP}/groups/{{group_id}}", get_group),
    Route(f"{_HASHMAP}/groups/{{group_id}}/mappings", group_mappings),
    Route(f"{_HASHMAP}/groups/{{group_id}}/thresholds", group_thresholds),
    Route(f"{_HASHMAP}/mappings", list_mappings),
    Route(f"{_HASHMAP}/mappings/group", mapping_group),
    Route(f"{_HASHMAP}/mappings/{{mapping_id}}", get_mapping),
    Route(f"{_HASHMAP}/mappings/{{mapping_id}}/group", mapping_group),
    Route(f"{_HASHMAP}/thresholds", list_thresholds),
    Route(f"{_HASHMAP}/thresholds/group", threshold_group),
    Route(f"{_HASHMAP}/thresholds/{{threshold_id}}", get_threshold),
    Route(f"{_HASHMAP}/thresholds/{{threshold_id}}/group", threshold_group),
)
