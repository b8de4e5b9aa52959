"""Version 1: the rating scripts of the rule book."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from rater.api.cloudkitty.arguments import Reader, Unquoted, arguments_v1, flag, text
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
    quoted,
    shown,
)
from rater.api.cloudkitty.times import seconds
from rater.api.cloudkitty.v1_rules import AUDIT, audit_values, passes_audit, required
from rater.model.rules import MAX_SCRIPT
from rater.rating import RuleBook, ScriptEntry, validation
from rater.rating.validation import ScriptInput

__all__ = ["ROUTES"]

_PATH = "rating/module_config/pyscripts/scripts"


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


async def create_script(backend: Backend, call: Call) -> Answer:
    """POST scripts?force=."""
    authorized(backend, call)
    asked = arguments_v1(call, {**_ATTRIBUTES, **FORCE}, "name", of_body="script_data")
    wanted, script_id, now = input_of(ScriptInput, asked), new_id(), seconds(call.now)
    done = await change_rules(
        backend,
        call,
        "script created",
        lambda book: validation.create_script(book, wanted, script_id, now, force=asked.get("force", False)),
        _script_shown(script_id),
    )
    return created(call, script_id, done)


async def update_script(backend: Backend, call: Call) -> Answer:
    """PUT scripts/ID, or the id is in the body. 201 with the script, as in CloudKitty."""
    authorized(backend, call)
    asked = arguments_v1(call, _ATTRIBUTES, "script_id", of_body="script_data")
    wanted, script_id, now = input_of(ScriptInput, asked), asked["script_id"], seconds(call.now)
    done = await change_rules(
        backend,
        call,
        "script updated",
        lambda book: validation.update_script(book, script_id, wanted, now),
        _script_shown(script_id),
    )
    answer = created(call, script_id, done)
    if "script_id" in call.path:  # which stands in the place already
        return msgspec.structs.replace(answer, headers={"Location": call.url})
    return answer


async def delete_script(backend: Backend, call: Call) -> Answer:
    """DELETE scripts/ID: it is kept, for whoever asks for deleted ones."""
    authorized(backend, call)
    script_id = required(call, "script_id")
    done = await change_rules(
        backend,
        call,
        "script deleted",
        lambda book: validation.delete_script(book, script_id),
        _script_shown(script_id),
    )
    return deleted(done)


def _data(raw: str) -> str:
    """The text of a script. Raises ValueError for one that is too long, or holds what is no character."""
    if isinstance(raw, Unquoted):
        raise ValueError("expected text in quotes")  # noqa: TRY004  as all readers do
    if len(raw) > MAX_SCRIPT:
        raise ValueError(f"at most {MAX_SCRIPT} characters are taken")
    return raw


_ATTRIBUTES: dict[str, Reader] = {
    **dict.fromkeys(("script_id", "checksum"), quoted),
    **AUDITED,
    "data": _data,
}


def _whole(entry: ScriptEntry) -> dict[str, Any]:
    return _script(entry, with_data=True)


def _script(entry: ScriptEntry, *, with_data: bool) -> dict[str, Any]:
    script = entry.script
    data = {"data": script.data} if with_data else {}
    checksum = hashlib.sha512(script.data.encode("utf-8", "surrogatepass")).hexdigest()
    own = {"script_id": script.script_id, "name": script.name, **data, "checksum": checksum}
    return own | audit_values(entry, script)


def _script_shown(script_id: str) -> Callable[[RuleBook], Any]:
    return shown(lambda book: book.scripts, script_id, _whole)


ROUTES = (
    Route(_PATH, list_scripts),
    Route(_PATH, create_script, "POST"),
    Route(_PATH, update_script, "PUT"),
    Route(_PATH, delete_script, "DELETE"),
    Route(f"{_PATH}/{{script_id}}", get_script),
    Route(f"{_PATH}/{{script_id}}", update_script, "PUT"),
    Route(f"{_PATH}/{{script_id}}", delete_script, "DELETE"),
)
