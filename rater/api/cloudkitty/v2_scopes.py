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
from rater.model.requests import MAX_SCOPES, FramesAsked, InactiveTime, RequestKind, ScopeAdded, ScopeSwitched
from rater.rework import RequestBook

__all__ = ["ROUTES", "ScopeNow", "ask_frames", "author_of", "scopes_now"]

MAX_NAME = 255
INACTIVE_TIMES: tuple[InactiveTime, ...] = ("bill", "skip")
NONE_FOUND = "No resource found for provided filters."


class ScopeNow(NamedTuple):
    """A scope. `reached`: the begin of its newest closed period, or what it was added with."""

    scope_id: str
    reached: int
    active: bool = True
    toggled_at: int | None = None


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
    chosen = [
        scope
        for name, scope in sorted(found.items())
        if is_meant and (not wanted or name in wanted) and (not active or int(scope.active) in active)
    ]
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
    active = body.single("active", flag, default=True)
    body.refuse()
    backend.policy.authorize(call.identity, "scope:post_state")
    book = await backend.requests.book()
    if scope_id in await scopes_now(backend, book):
        raise ApiFaultError(404, f"Scope {scope_id} exists already.")
    begin = seconds(reached)
    record = ScopeAdded(scope_id, begin - begin % backend.period, author_of(call), int(call.now.timestamp()))
    if not active:  # first: who has no answer asks again, and then it may not be there
        await _switch(backend, call, scope_id, active=False)
    book = await backend.requests.append(record)
    return Answer(_values(backend, _scope_now(book, scope_id, record.reached)))


async def patch(backend: Backend, call: Call) -> Answer:
    """PATCH scope: it is switched off, or on again."""
    body = Body(call)
    body.require("scope_id")
    scope_id = body.single("scope_id", _name)
    active = body.single("active", flag)
    inactive_time = body.single("inactive_time", text)
    _same(backend, body)
    if inactive_time is not None and (not active or inactive_time not in INACTIVE_TIMES):
        body.fault(f"with active: true it is one of {list(INACTIVE_TIMES)}", "inactive_time")
    body.refuse()
    backend.policy.authorize(call.identity, "scope:patch_state")
    book = await backend.requests.book()
    scope = (await scopes_now(backend, book)).get(scope_id)
    if scope is None:
        raise ApiFaultError(404, NONE_FOUND)
    before = _values(backend, scope)
    if active is not None and active != scope.active:
        book = await _switch(backend, call, scope_id, active=active, inactive_time=inactive_time or "bill")
    if inactive_time is not None:
        _check_inactive_time(book, scope_id, inactive_time)
    return Answer(_values(backend, _scope_now(book, scope_id, scope.reached)), before=before)


def _check_inactive_time(book: RequestBook, scope_id: str, asked: str) -> None:
    """What was decided when the scope was switched on holds: another word about it would be lost in silence.

    Raises ApiFaultError 400.
    """
    last = book.switches.last(scope_id)
    if last is None or not last.active:
        raise ApiFaultError(400, f"Scope {scope_id} was never switched off: there is no inactive_time to {asked}.")
    if last.inactive_time != asked:
        raise ApiFaultError(
            400,
            f"Scope {scope_id} was switched on already, with inactive_time {last.inactive_time!r}: that holds for the "
            "time that it was off.",
        )


async def _switch(
    backend: Backend, call: Call, scope_id: str, *, active: bool, inactive_time: InactiveTime = "bill"
) -> RequestBook:
    """Raises ApiFaultError 503."""
    now = int(call.now.timestamp())
    return await backend.requests.append(ScopeSwitched(scope_id, active, now, author_of(call), now, inactive_time))


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
    chosen = [scope for name, scope in sorted(known.items()) if scope.active and (every or name in wanted)]
    if not chosen:
        raise ApiFaultError(404, NONE_FOUND)
    begin = seconds(times[0]) // backend.period * backend.period
    later = [scope.scope_id for scope in chosen if scope.reached < begin]
    if every and len(later) < len(chosen):  # of a project that ended long ago nothing is rated so late: others are
        chosen = [scope for scope in chosen if scope.reached >= begin]
    elif later:
        raise ApiFaultError(
            400, f"Scope(s) {_named(later)} are not rated so far yet: {zoned_text(times[0], backend.zone)} is to come."
        )
    end = max(scope.reached for scope in chosen) + backend.period
    reason = f"scope reset to {zoned_text(times[0], backend.zone)}"
    return await ask_frames(backend, call, "reset", [scope.scope_id for scope in chosen], begin, end, reason)


async def scopes_now(backend: Backend, book: RequestBook) -> dict[str, ScopeNow]:
    """All that have frames or were added, by name. Raises ApiFaultError 503."""
    reached = {scope_id: added.reached for scope_id, added in book.added.items()}
    reached.update((state.scope_id, state.period_begin) for state in await backend.read(backend.view.scope_states))
    return {scope_id: _scope_now(book, scope_id, at) for scope_id, at in reached.items()}


def _scope_now(book: RequestBook, scope_id: str, reached: int) -> ScopeNow:
    last = book.switches.last(scope_id)
    return ScopeNow(scope_id, reached, last is None or last.active, last.switched_at if last else None)


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
        "active": scope.active,
        "scope_activation_toggle_date": None
        if scope.toggled_at is None
        else zoned_text(scope.toggled_at, backend.zone),
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
    Route("scope", patch, "PATCH"),
    Route("scope", reset, "PUT"),
)
