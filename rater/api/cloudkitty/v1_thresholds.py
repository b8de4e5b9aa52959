"""Version 1: hashmap's thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rater.api.cloudkitty.arguments import Reader, arguments_v1, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rule_changes import (
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
from rater.api.cloudkitty.v1_rules import (
    COST,
    HASHMAP,
    LEVEL,
    PARENTS,
    book_of,
    fixed,
    group_values,
    known_group,
    of_parents,
    required,
)
from rater.rating import RuleBook, ThresholdEntry, validation
from rater.rating.validation import ThresholdInput

__all__ = ["ROUTES", "threshold_values"]


async def list_thresholds(backend: Backend, call: Call) -> Answer:
    """GET thresholds: of a service, a field or a group."""
    book = await book_of(backend, call)
    asked = arguments_v1(call, {**PARENTS})
    if not any(asked.get(name) for name in ("service_id", "field_id", "group_id")):
        raise ApiFaultError(400, "You must specify either service_id, field_id or group_id.")
    found = [threshold_values(entry) for entry in book.thresholds.values() if of_parents(entry.rule, asked)]
    return Answer({"thresholds": found})


async def get_threshold(backend: Backend, call: Call) -> Answer:
    """GET thresholds/ID."""
    book, threshold_id = await book_of(backend, call), arguments_v1(call, {"threshold_id": text})["threshold_id"]
    entry = book.thresholds.get(threshold_id)
    if entry is None:
        raise ApiFaultError(404, f"No such threshold: {threshold_id}")
    return Answer(threshold_values(entry))


async def create_threshold(backend: Backend, call: Call) -> Answer:
    """POST thresholds."""
    authorized(backend, call)
    asked = arguments_v1(call, _attributes(backend), of_body="threshold_data")
    wanted, threshold_id = input_of(ThresholdInput, asked), new_id()
    done = await change_rules(
        backend,
        call,
        "threshold created",
        lambda book: validation.create_threshold(book, wanted, threshold_id),
        _threshold_shown(threshold_id),
    )
    return created(call, threshold_id, done)


async def update_threshold(backend: Backend, call: Call) -> Answer:
    """PUT thresholds/ID, or the id is in the body."""
    authorized(backend, call)
    asked = arguments_v1(call, _attributes(backend), "threshold_id", of_body="threshold")
    wanted, threshold_id = input_of(ThresholdInput, asked), asked["threshold_id"]
    done = await change_rules(
        backend,
        call,
        "threshold updated",
        lambda book: validation.update_threshold(book, threshold_id, wanted),
        _threshold_shown(threshold_id),
    )
    return updated(call, done)


async def delete_threshold(backend: Backend, call: Call) -> Answer:
    """DELETE thresholds/ID."""
    authorized(backend, call)
    threshold_id = required(call, "threshold_id")
    done = await change_rules(
        backend,
        call,
        "threshold deleted",
        lambda book: validation.delete_threshold(book, threshold_id),
        _threshold_shown(threshold_id),
    )
    return deleted(done)


async def threshold_group(backend: Backend, call: Call) -> Answer:
    """GET thresholds/group?threshold_id=, thresholds/ID/group."""
    book, threshold_id = await book_of(backend, call), required(call, "threshold_id")
    entry = book.thresholds.get(threshold_id)
    if entry is None or entry.rule.group_id is None:
        raise ApiFaultError(404, f"Threshold has no group (UUID: {threshold_id})")
    return Answer(group_values(known_group(book, entry.rule.group_id)))


def threshold_values(entry: ThresholdEntry) -> dict[str, Any]:
    """A threshold as an answer shows it."""
    rule = entry.rule
    return {
        "threshold_id": rule.threshold_id,
        "level": fixed(rule.level, LEVEL),
        "type": rule.type.value,
        "cost": fixed(rule.cost, COST),
        "service_id": rule.service_id,
        "field_id": rule.field_id,
        "group_id": rule.group_id,
        "tenant_id": rule.tenant_id,
    }


def _attributes(backend: Backend) -> dict[str, Reader]:
    return {
        **dict.fromkeys(("threshold_id", "type", "service_id", "field_id", "group_id", "tenant_id"), quoted),
        **dict.fromkeys(("level", "cost"), number(exact=backend.exact_numbers)),
    }


def _threshold_shown(threshold_id: str) -> Callable[[RuleBook], Any]:
    return shown(lambda book: book.thresholds, threshold_id, threshold_values)


ROUTES = (
    Route(f"{HASHMAP}/thresholds", list_thresholds),
    Route(f"{HASHMAP}/thresholds", create_threshold, "POST"),
    Route(f"{HASHMAP}/thresholds", update_threshold, "PUT"),
    Route(f"{HASHMAP}/thresholds", delete_threshold, "DELETE"),
    Route(f"{HASHMAP}/thresholds/group", threshold_group),
    Route(f"{HASHMAP}/thresholds/{{threshold_id}}", get_threshold),
    Route(f"{HASHMAP}/thresholds/{{threshold_id}}", update_threshold, "PUT"),
    Route(f"{HASHMAP}/thresholds/{{threshold_id}}", delete_threshold, "DELETE"),
    Route(f"{HASHMAP}/thresholds/{{threshold_id}}/group", threshold_group),
)
