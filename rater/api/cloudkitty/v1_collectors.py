"""Version 1: which collector a service has, and whether a collector is on. Kept, and looked at by nobody, as upstream.

What is collected here is said in section `collect`, by metrics.yml.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rule_changes import change_rules, deleted, quoted
from rater.model.rules import Change, CollectorMapped, CollectorSwitched
from rater.rating import RuleBook

__all__ = ["ROUTES"]

MAX_NAME = 255


async def list_mappings(backend: Backend, call: Call) -> Answer:
    """GET collector/mappings?collector=."""
    backend.policy.authorize(call.identity, "collector:list_mappings")
    wanted = arguments_v1(call, {"collector": text}).get("collector")
    found = (await backend.book()).collector_of.items()
    return Answer({"mappings": [_mapping(*pair) for pair in found if not wanted or pair[1] == wanted]})


async def get_mapping(backend: Backend, call: Call) -> Answer:
    """GET collector/mappings/SERVICE."""
    backend.policy.authorize(call.identity, "collector:get_mapping")
    service = arguments_v1(call, {"service": text})["service"]
    collector = (await backend.book()).collector_of.get(service)
    if collector is None:
        raise _no_mapping(service)
    return Answer(_mapping(service, collector))


async def set_mapping(backend: Backend, call: Call) -> Answer:
    """POST collector/mappings, or collector/mappings/COLLECTOR/SERVICE."""
    backend.policy.authorize(call.identity, "collector:manage_mapping")
    asked = arguments_v1(call, {"collector": _name, "service": _name}, "collector", "service")
    service, collector = asked["service"], asked["collector"]

    def decide(book: RuleBook) -> tuple[Change, ...]:
        return () if book.collector_of.get(service) == collector else (CollectorMapped(service, collector),)

    done = await change_rules(backend, call, "collector of a service set", decide, _of(service))
    return Answer(_mapping(service, collector), before=done.before)


async def delete_mapping(backend: Backend, call: Call) -> Answer:
    """DELETE collector/mappings/SERVICE."""
    backend.policy.authorize(call.identity, "collector:manage_mapping")
    service = arguments_v1(call, {"service": text}, "service")["service"]

    def decide(book: RuleBook) -> tuple[Change, ...]:
        if service not in book.collector_of:
            raise _no_mapping(service)
        return (CollectorMapped(service),)

    return deleted(await change_rules(backend, call, "collector of a service deleted", decide, _of(service)))


async def get_state(backend: Backend, call: Call) -> Answer:
    """GET collector/states?name=, collector/NAME/states."""
    backend.policy.authorize(call.identity, "collector:get_state")
    name = arguments_v1(call, {"name": text}, "name")["name"]
    return Answer({"name": name, "enabled": (await backend.book()).collectors.get(name, False)})


async def set_state(backend: Backend, call: Call) -> Answer:
    """PUT collector/states, collector/NAME/states."""
    backend.policy.authorize(call.identity, "collector:update_state")
    asked = arguments_v1(call, {"name": _name, "enabled": flag}, "name", "enabled", of_body="infos")
    name, enabled = asked["name"], asked["enabled"]

    def decide(book: RuleBook) -> tuple[Change, ...]:
        return () if book.collectors.get(name, False) == enabled else (CollectorSwitched(name, enabled),)

    done = await change_rules(
        backend, call, "collector switched", decide, lambda book: book.collectors.get(name, False)
    )
    return Answer({"name": name, "enabled": enabled}, before=done.before)


def _name(raw: str) -> str:
    if not 0 < len(quoted(raw)) <= MAX_NAME:
        raise ValueError(f"1 to {MAX_NAME} characters are taken")
    return raw


def _of(service: str) -> Callable[[RuleBook], Any]:
    return lambda book: book.collector_of.get(service)


def _mapping(service: str, collector: str) -> dict[str, str]:
    return {"service": service, "collector": collector}


def _no_mapping(service: str) -> ApiFaultError:
    return ApiFaultError(404, f"No mapping for service: {service}")


ROUTES = (
    Route("collector/mappings", list_mappings),
    Route("collector/mappings", set_mapping, "POST"),
    Route("collector/mappings", delete_mapping, "DELETE"),
    Route("collector/mappings/{service}", get_mapping),
    Route("collector/mappings/{service}", delete_mapping, "DELETE"),
    Route("collector/mappings/{collector}/{service}", set_mapping, "POST"),
    Route("collector/states", get_state),
    Route("collector/states", set_state, "PUT"),
    Route("collector/{name}/states", get_state),
    Route("collector/{name}/states", set_state, "PUT"),
)
