"""Version 1: the rating modules."""

from __future__ import annotations

from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, ModuleInfo, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.rule_changes import Done, change_rules, quoted
from rater.rating import RuleBook, validation

__all__ = ["ROUTES", "module_values", "modules_of", "set_module", "whole"]


def modules_of(backend: Backend, book: RuleBook) -> list[ModuleInfo]:
    """The modules that are installed, and those that the rules name, by name."""
    known = {module.name: module for module in backend.modules}
    others = {name: ModuleInfo(name, None, False) for name in book.modules}
    return [module for _, module in sorted((others | known).items())]


def module_values(module: ModuleInfo, book: RuleBook, hot_config: str) -> dict[str, Any]:
    """A module as an answer shows it; `hot_config` is how the version at hand spells that."""
    state = book.module(module.name)
    return {
        "module_id": module.name,
        "description": module.description,
        "enabled": state.enabled or module.name == "noop",  # which cannot be switched off
        hot_config: module.hot_config,
        "priority": state.priority,
    }


async def list_modules(backend: Backend, call: Call) -> Answer:
    """GET rating/modules."""
    backend.policy.authorize(call.identity, "rating:list_modules")
    arguments_v1(call)
    book = await backend.book()
    return Answer({"modules": [module_values(module, book, "hot-config") for module in modules_of(backend, book)]})


async def get_module(backend: Backend, call: Call) -> Answer:
    """GET rating/modules/NAME."""
    backend.policy.authorize(call.identity, "rating:get_module")
    name = arguments_v1(call, {"module_id": text})["module_id"]
    book = await backend.book()
    for module in modules_of(backend, book):
        if module.name == name:
            return Answer(module_values(module, book, "hot-config"))
    raise ApiFaultError(404, "Module not found.")


async def update_module(backend: Backend, call: Call) -> Answer:
    """PUT rating/modules/NAME, mostly with the whole module: its switch and priority are looked at."""
    backend.policy.authorize(call.identity, "rating:update_module")
    asked = arguments_v1(call, _ATTRIBUTES, "module_id", of_body="module")
    name, enabled, priority = asked["module_id"], asked.get("enabled"), asked.get("priority")
    done = await set_module(backend, call, name, enabled, priority, "Module not found.")
    return Answer(status=302, headers={"Location": call.url}, before=done.before, after=done.after)


async def set_module(
    backend: Backend, call: Call, name: str, enabled: bool | None, priority: int | None, missing: str
) -> Done:
    """Switches a module and gives it its priority; None leaves it. Raises ApiFaultError 404 `missing`, 400."""

    def decide(book: RuleBook) -> validation.Answer:
        known = {module.name for module in modules_of(backend, book)}
        if name not in known:
            raise ApiFaultError(404, missing)
        return validation.set_module(book, name, known, enabled=enabled, priority=priority)

    return await change_rules(backend, call, "module set", decide, lambda book: book.module(name))


def whole(raw: str) -> int:
    """A whole number. Raises ValueError."""
    try:
        return int(raw)
    except ValueError:
        raise ValueError("expected int") from None


_ATTRIBUTES: dict[str, Any] = {
    **dict.fromkeys(("module_id", "description"), quoted),
    **dict.fromkeys(("enabled", "hot-config"), flag),
    "priority": whole,
}


async def reload_modules(backend: Backend, call: Call) -> Answer:
    """GET rating/reload_modules: rules are always as they were last written, so there is nothing to do."""
    backend.policy.authorize(call.identity, "rating:module_config")
    arguments_v1(call)
    return Answer(status=204)


async def unconfigurable(backend: Backend, call: Call) -> Answer:
    """Whatever a module has no settings for."""
    backend.policy.authorize(call.identity, "rating:module_config")
    names = {module.name for module in backend.modules} - _CONFIGURABLE
    if call.path["module"] in names:
        raise ApiFaultError(409, "Module is not configurable")
    raise ApiFaultError(404, "The resource could not be found.", of_route=True)


_CONFIGURABLE = {"hashmap", "pyscripts"}
ROUTES = (
    Route("rating/modules", list_modules),
    Route("rating/modules", update_module, "PUT"),
    Route("rating/modules/{module_id}", get_module),
    Route("rating/modules/{module_id}", update_module, "PUT"),
    Route("rating/reload_modules", reload_modules),
    *(Route("rating/module_config/{module}", unconfigurable, method) for method in ("GET", "POST", "PUT", "DELETE")),
)
