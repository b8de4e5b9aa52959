"""Version 1: the rating scripts of the rule book."""

from __future__ import annotations

import hashlib
from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import seconds
from rater.api.cloudkitty.v1_rules import AUDIT, audit_values, passes_audit
from rater.rating import ScriptEntry

__all__ = ["ROUTES"]


async def list_scripts(backend: Backend, call: Call) -> Answer:
    """GET scripts; with `no_data` without their text."""
    backend.policy.authorize(call.identity, "rating:module_config")
    asked = arguments_v1(call, {"no_data": flag, **AUDIT})
    book, now = await backend.book(), seconds(call.now)
    found = [entry for entry in book.scripts.values() if passes_audit(entry, entry.script, asked, now)]
    return Answer({"scripts": [_script(entry, with_data=not asked.get("no_data")) for entry in found]})


async def get_script(backend: Backend, call: Call) -> Answer:
    """GET scripts/ID; a deleted one is not found."""
    backend.policy.authorize(call.identity, "rating:module_config")
    script_id = arguments_v1(call, {"script_id": text})["script_id"]
    entry = (await backend.book()).scripts.get(script_id)
    if entry is None or entry.deleted_at is not None:
        raise ApiFaultError(404, f"No such script: None (UUID: {script_id})")
    return Answer(_script(entry, with_data=True))


def _script(entry: ScriptEntry, *, with_data: bool) -> dict[str, Any]:
    script = entry.script
    data = {"data": script.data} if with_data else {}
    checksum = hashlib.sha512(script.data.encode("utf-8", "surrogatepass")).hexdigest()
    own = {"script_id": script.script_id, "name": script.name, **data, "checksum": checksum}
    return own | audit_values(entry, script)


ROUTES = (
    Route("rating/module_config/pyscripts/scripts", list_scripts),
    Route("rating/module_config/pyscripts/scripts/{script_id}", get_script),
)
