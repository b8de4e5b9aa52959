"""What hashmap's handlers share: filters of lists, and how numbers and groups are shown."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, instant, text
from rater.api.cloudkitty.calls import Backend, Call
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import naive_text, seconds
from rater.model.rules import COST_DECIMALS, LEVEL_DECIMALS, NUMBER_DIGITS, Group, MappingRule, ThresholdRule
from rater.rating import MappingEntry, RuleBook, ScriptEntry

__all__ = [
    "AUDIT",
    "COST",
    "HASHMAP",
    "LEVEL",
    "PARENTS",
    "audit_values",
    "book_of",
    "fixed",
    "group_values",
    "known_group",
    "of_parents",
    "passes_audit",
    "required",
]

HASHMAP = "rating/module_config/hashmap"
COST, LEVEL = Decimal(1).scaleb(-COST_DECIMALS), Decimal(1).scaleb(-LEVEL_DECIMALS)
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


PARENTS: dict[str, Callable[[str], Any]] = {
    "service_id": text,
    "field_id": text,
    "group_id": text,
    "no_group": flag,
    "tenant_id": text,
    "filter_tenant": flag,
}


async def book_of(backend: Backend, call: Call) -> RuleBook:
    """The rule book, for whoever may see it. Raises RefusalError 403, ApiFaultError 503."""
    backend.policy.authorize(call.identity, "rating:module_config")
    return await backend.book()


def required(call: Call, name: str) -> str:
    """The one argument of a request. Raises ApiFaultError 400."""
    return str(arguments_v1(call, {name: text}, name)[name])


def known_group(book: RuleBook, group_id: str) -> Group:
    """A group that must be there. Raises ApiFaultError 404."""
    group = book.groups.get(group_id)
    if group is None:
        raise ApiFaultError(404, f"No such group: None (UUID: {group_id})")
    return group


def of_parents(rule: MappingRule | ThresholdRule, asked: dict[str, Any]) -> bool:
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


def fixed(number: Decimal, places: Decimal) -> str:
    """With all its decimals, as CloudKitty's database gives it back: also `1E-28`."""
    return str(number.quantize(places, context=_WIDE))


def group_values(group: Group) -> dict[str, Any]:
    """A group as an answer shows it."""
    return {"group_id": group.group_id, "name": group.name}
