"""Version 2: scopes: how far each is rated, added, switched off and on, and rated again from a time on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from rater.api.cloudkitty.arguments import Query, flag, instant, text
from rater.api.cloudkitty.bodies import Body
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import seconds, zoned_text
from rater.model.requests import MAX_SCOPES, FramesAsked, RequestKind, ScopeAdded
from rater.rework import RequestBook

__all__ = ["ROUTES", "ScopeNow", "ask_frames", "author_of", "scopes_now"]

MAX_NAME = 255
NONE_FOUND = "No resource found for provided filters."


class ScopeNow(NamedTuple):
    """A scope. `reached`: the begin of its newest closed period, or what it was added with."""

    scope_id: str
    reached: int


async def list_scopes(backend: Backend, call: Call) -> Answer:
    """GET scope."""
    query = Query(call)
    offset, limit = query.page()
    wanted = query.many("scope_id")
    is_meant = _filtered(backend, query)
    active = query.many("active", _number)
    query.refuse()
    backend.policy.authorize(call.identity, "scope:get_state")
    found = await scopes_now(backend, await backend.requests.book())
    if not is_meant or (active and 1 not in active):
        found = {}
    chosen = [scope for name, scope in sorted(found.items()) if not wanted or name in wanted]
    page = chosen[offset : offset + limit]
    if not page:
        raise ApiFaultError(404, NONE_FOUND)
    return Answer({"results": [_values(backend, scope) for scope in page]})


async def add_scope(backend: Backend, call: Call) -> Answer:
    """POST scope: it is listed before it has a frame."""
    body = Body(call)
    body.require("scope_id", "last_processed_timestamp")
    scope_id = body.single("scope_id", _name)
    reached = body.single("last_processed_timestamp", instant)
    _same(backend, body)
    if body.single("active", flag, default=True) is False:
        body.fault("a scope is added as active", "active")
    body.refuse()
    backend.policy.authorize(call.identity, "scope:post_state")
    book = await backend.requests.book()
    if scope_id in await scopes_now(backend, book):
        raise ApiFaultError(404, f"Scope {scope_id} exists already.")
    begin = seconds(reached)
    record = ScopeAdded(scope_id, begin - begin % backend.period, author_of(call), int(call.now.timestamp()))
    await backend.requests.append(record)
    return Answer(_values(backend, ScopeNow(scope_id, record.reached)))


async def reset(backend: Backend, call: Call) -> Answer:
    """PUT scope: the period of the given time and every later one that is closed is rated again."""
    body = Body(call)
    wanted = body.many("scope_id", _name)
    every = body.single("all_scopes", flag, default=False)
    times = [time for name in ("last_processed_timestamp", "state") if (time := body.single(name, instant))]
    is_meant = _filtered(backend, body)
    if bool(wanted) == every:
        body.fault("give either scope_id or all_scopes", "scope_id")
    if len(set(times)) != 1:
        body.fault("give one time", "last_processed_timestamp")
    body.refuse()
    backend.policy.authorize(call.identity, "scope:reset_state")
    known = await scopes_now(backend, await backend.requests.book()) if is_meant else {}
    chosen = [scope for name, scope in sorted(known.items()) if every or name in wanted]
    if not chosen:
        raise ApiFaultError(404, NONE_FOUND)
    begin = seconds(times[0]) // backend.period * backend.period
    later = [scope.scope_id for scope in chosen if scope.reached < begin]
    if later:
        raise ApiFaultError(
            400, f"Scope(s) {_named(later)} are not rated so far yet: {zoned_text(times[0], backend.zone)} is to come."
        )
    end = max(scope.reached for scope in chosen) + backend.period
    reason = f"scope reset to {zoned_text(times[0], backend.zone)}"
    return await ask_frames(backend, call, "reset", [scope.scope_id for scope in chosen], begin, end, reason)


async def scopes_now(backend: Backend, book: RequestBook) -> dict[str, ScopeNow]:
    """All that have frames or were added, by name. Raises ApiFaultError 503."""
    found = {scope_id: ScopeNow(scope_id, added.reached) for scope_id, added in book.added.items()}
    for state in await backend.read(backend.view.scope_states):
        found[state.scope_id] = ScopeNow(state.scope_id, state.period_begin)
    return found


async def ask_frames(
    backend: Backend, call: Call, kind: RequestKind, scopes: Sequence[str], begin: int, end: int, reason: str
) -> Answer:
    """Has the frames of periods that begin within `[begin, end)` rated again: confirmed by Kafka, done later.

    Raises ApiFaultError 400 if an earlier request that is not over asks for some of them, 503.
    """
    now = int(call.now.timestamp())
    requests = []
    for first in range(0, len(scopes), MAX_SCOPES):
        some = tuple(scopes[first : first + MAX_SCOPES])
        asked = FramesAsked(uuid4().hex, kind, some, begin, end, author_of(call), reason, now)
        book = await backend.requests.append(asked)
        if refusal := book.refusal(asked.request_id):
            raise ApiFaultError(400, f"Cannot {kind}: {refusal}. Wait for its end.")
        requests.append(asked)
    return Answer({}, status=202, after=requests)


def author_of(call: Call) -> str:
    """Who asks; without authentication nobody is known, and CloudKitty says so."""
    return call.identity.user[:MAX_NAME] or "unknown"


def _values(backend: Backend, scope: ScopeNow) -> dict[str, Any]:
    reached = zoned_text(scope.reached, backend.zone)
    return {
        "scope_id": scope.scope_id,
        "scope_key": backend.scope_key,
        "fetcher": backend.fetcher,
        "collector": backend.collector,
        "last_processed_timestamp": reached,
        "state": reached,  # the client's name of it
        "active": True,
        "scope_activation_toggle_date": None,
    }


def _of_settings(backend: Backend) -> Iterator[tuple[str, str]]:
    """What all scopes have in common."""
    yield "scope_key", backend.scope_key
    yield "fetcher", backend.fetcher
    yield "collector", backend.collector


def _filtered(backend: Backend, query: Query) -> bool:
    """Whether the filters leave anything: all scopes are alike in what the settings say."""
    asked = [(value, query.many(name)) for name, value in _of_settings(backend)]
    return all(not values or value in values for value, values in asked)


def _same(backend: Backend, body: Body) -> None:
    """Notes what a request would have otherwise for one scope."""
    for name, value in _of_settings(backend):
        sent = body.single(name, text)
        if sent is not None and sent != value:
            body.fault(f"is {value!r} for all scopes, as the settings say", name)


def _named(scopes: Iterable[str]) -> str:
    found = sorted(scopes)
    return str(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")


def _name(raw: str) -> str:
    name = text(raw)
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"expected 1 to {MAX_NAME} characters")
    return name


def _number(raw: str) -> int:
    try:
        return int(raw)
    except ValueError:
        raise ValueError("expected int") from None


ROUTES = (
    Route("scope", list_scopes),
    Route("scope", add_scope, "POST"),
    Route("scope", reset, "PUT"),
)
