"""Version 2: the rating modules."""

from __future__ import annotations

from rater.api.cloudkitty.arguments import Query, flag
from rater.api.cloudkitty.bodies import Body
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.v1_rating import module_values, modules_of, set_module, whole

__all__ = ["ROUTES"]


async def list_modules(backend: Backend, call: Call) -> Answer:
    """GET rating/modules."""
    Query(call).refuse()
    backend.policy.authorize(call.identity, "v2_rating:list_modules")
    book = await backend.book()
    return Answer({"modules": [module_values(module, book, "hot_config") for module in modules_of(backend, book)]})


async def get_module(backend: Backend, call: Call) -> Answer:
    """GET rating/modules/NAME."""
    Query(call).refuse()
    backend.policy.authorize(call.identity, "v2_rating:get_module")
    name = call.path["module_id"]
    book = await backend.book()
    for module in modules_of(backend, book):
        if module.name == name:
            return Answer(module_values(module, book, "hot_config"))
    raise ApiFaultError(404, _missing(name))


async def update_module(backend: Backend, call: Call) -> Answer:
    """PUT rating/modules/NAME."""
    backend.policy.authorize(call.identity, "v2_rating:update_module")
    Query(call).refuse()
    body = Body(call)
    enabled, priority = body.single("enabled", flag), body.single("priority", whole)
    body.refuse()
    name = call.path["module_id"]
    done = await set_module(backend, call, name, enabled, priority, _missing(name))
    return Answer(status=204, before=done.before, after=done.after)


def _missing(name: str) -> str:
    return f"Module '{name[:255]}' not found"


ROUTES = (
    Route("rating/modules", list_modules),
    Route("rating/modules/{module_id}", get_module),
    Route("rating/modules/{module_id}", update_module, "PUT"),
)
