"""Version 2: what is to be rated again and what was, as CloudKitty's reprocessing tasks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from rater.api.cloudkitty.arguments import Query, instant, text
from rater.api.cloudkitty.bodies import Body
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import naive_text, seconds
from rater.api.cloudkitty.v2_scopes import ScopeNow, ask_frames, scopes_now
from rater.reports import ReworkRequest, View
from rater.rework import RequestBook, Task

__all__ = ["ROUTES"]

ORDERS = ("asc", "desc")
EVERY = "ALL"
MAX_REASON = 2000
SHOWN = 10  # names in a refusal


class _Row(NamedTuple):
    """A task as it is told. Times are begins of periods; `current` is None before the first of them is done."""

    asked_at: int
    scope_id: str
    reason: str
    start: int
    end: int
    current: int | None


async def list_tasks(backend: Backend, call: Call) -> Answer:
    """GET task/reprocesses[/SCOPE]: one task for each request or rework and scope, newest first."""
    query = Query(call)
    offset, limit = query.page()
    order = query.single("order", text, "desc")
    wanted = query.many("scope_ids")
    if call.path:
        wanted = list(call.path.values())
    if (order or "").lower() not in ORDERS:
        query.fault(f"expected one of {list(ORDERS)}", "order")
    query.refuse()
    backend.policy.authorize(call.identity, "schedule:get_task_reprocesses")
    book = await backend.requests.book()
    known = list(book.tasks.values())
    rows = await backend.read(lambda: _rows(backend.view, known, backend.period, wanted))
    if order.lower() == "desc":
        rows.reverse()
    return Answer({"results": [_values(row) for row in rows[offset : offset + limit]]})


async def create(backend: Backend, call: Call) -> Answer:
    """POST task/reprocesses. What is wrong is told in CloudKitty's order, one thing after the other."""
    body = Body(call)
    body.require("scope_ids", "start_reprocess_time", "end_reprocess_time", "reason")
    wanted = body.many("scope_ids")
    start = body.single("start_reprocess_time", instant)
    end = body.single("end_reprocess_time", instant)
    reason = body.single("reason", text)
    body.refuse()
    backend.policy.authorize(call.identity, "schedule:task_reprocesses")
    _check(wanted, start, end, reason, backend.period)
    book = await backend.requests.book()
    known = await scopes_now(backend, book)
    known = {name: scope for name, scope in known.items() if scope.active}
    chosen = sorted(known) if not wanted or wanted == [EVERY] else list(dict.fromkeys(wanted))
    first, last = seconds(start), seconds(end)
    _check_scopes(known, chosen, first, last)
    _check_overlap(book, chosen, first, last + backend.period)
    return await ask_frames(backend, call, "reprocess", chosen, first, last + backend.period, reason)


def _check(wanted: list[str], start: datetime, end: datetime, reason: str, period: int) -> None:
    """What can be said without knowing any scope. Raises ApiFaultError 400."""
    if not reason.strip():
        raise ApiFaultError(
            400,
            "Empty or blank reason text is not allowed. Please, do inform/register the reason for the reprocessing of "
            "a previously processed timestamp.",
        )
    if EVERY in wanted and len(wanted) > 1:
        raise ApiFaultError(400, f"Cannot use {EVERY!r} with other scope IDs {wanted[:SHOWN]}.")
    if end < start:
        raise ApiFaultError(
            400, f"End reprocessing timestamp [{end}] cannot be less than start reprocessing timestamp [{start}]."
        )
    for what, moment in (("Start", start), ("End", end)):
        at = seconds(moment)
        if at % period or moment.microsecond:
            near = [naive_text(at // period * period), naive_text(at // period * period + period)]
            raise ApiFaultError(
                400,
                f"{what} reprocess time [{moment}] is not at the begin of a period of {period} seconds. A valid time "
                f"window near the provided one is {near}",
            )


def _check_scopes(known: dict[str, ScopeNow], chosen: Iterable[str], first: int, last: int) -> None:
    """Raises ApiFaultError 400."""
    unknown = [scope_id for scope_id in chosen if scope_id not in known]
    if unknown:
        raise ApiFaultError(400, f"Scope IDs {unknown[:SHOWN]} do not exist or are not active.")
    for what, at in (("Start", first), ("End", last)):
        later = [scope_id for scope_id in chosen if at > known[scope_id].reached]
        if later:
            reached = naive_text(known[later[0]].reached)
            raise ApiFaultError(
                400,
                f"{what} reprocessing timestamp [{naive_text(at)}] is after the last processed timestamp [{reached}] "
                f"of scope [{later[0]}].",
            )


def _check_overlap(book: RequestBook, chosen: Iterable[str], begin: int, end: int) -> None:
    """Raises ApiFaultError 400. The fold checks it again: two requests may come at the same time."""
    other = book.overlap(chosen, begin, end)
    if other is not None:
        raise ApiFaultError(
            400,
            f"Cannot schedule a reprocessing for scope [{other.scope_id}] from [{naive_text(begin)}] on: "
            f"a {other.kind} from [{naive_text(other.begin)}] on (request {other.request_id}) is not over.",
        )


def _rows(view: View, known: list[Task], period: int, wanted: list[str]) -> list[_Row]:
    """Oldest first. What was rated again without a request, by a command or by itself, is told as it was done."""
    spans: dict[tuple[str, str], _Row] = {}
    scope_id = wanted[0] if len(wanted) == 1 else None
    for row in view.reworks(ReworkRequest(scope_id)):
        key = (row.rework_id, row.scope_id)
        begin = row.period_begin
        was = spans.get(key) or _Row(0, row.scope_id, row.requested, begin, begin, begin)
        spans[key] = was._replace(
            asked_at=max(was.asked_at, row.raised_at),
            start=min(was.start, begin),
            end=max(was.end, begin),
            current=max(was.current or 0, begin),
        )
    for task in known:
        done = spans.get(task.key)
        last = task.end - period
        current = last if task.outcome else (done.current if done else None)
        spans[task.key] = _Row(task.asked_at, task.scope_id, _reason(task), task.begin, last, current)
    found = (row for row in spans.values() if not wanted or row.scope_id in wanted)
    return sorted(found, key=lambda row: (row.asked_at, row.scope_id))


def _reason(task: Task) -> str:
    """With what is to be known of its end."""
    if task.outcome is None or not task.outcome.left:
        return task.reason
    return f"{task.reason} ({task.outcome.left} period(s) left as they were: {task.outcome.told})"


def _values(row: _Row) -> dict[str, str]:
    return {
        "scope_id": row.scope_id,
        "reason": row.reason,
        "start_reprocess_time": naive_text(row.start),
        "end_reprocess_time": naive_text(row.end),
        "current_reprocess_time": "" if row.current is None else naive_text(row.current),
    }


ROUTES = (
    Route("task/reprocesses", list_tasks),
    Route("task/reprocesses", create, "POST"),
    Route("task/reprocesses/{scope_id}", list_tasks),
)
