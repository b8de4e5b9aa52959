"""Version 2: what was rated again, as CloudKitty's reprocessing tasks."""

from __future__ import annotations

from rater.api.cloudkitty.arguments import Query, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.times import naive_text
from rater.reports import ReworkRequest, View

__all__ = ["ROUTES"]

ORDERS = ("asc", "desc")


async def reprocesses(backend: Backend, call: Call) -> Answer:
    """GET task/reprocesses[/SCOPE]: one task for each rework and scope that has come to an end, newest first."""
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
    tasks = await backend.read(lambda: _tasks(backend.view))
    tasks = [task for task in tasks if not wanted or task["scope_id"] in wanted]
    if order.lower() == "desc":
        tasks.reverse()
    return Answer({"results": tasks[offset : offset + limit]})


def _tasks(view: View) -> list[dict[str, str]]:
    """Oldest first."""
    spans: dict[tuple[str, str], tuple[int, str, int, int]] = {}
    for row in view.reworks(ReworkRequest()):
        key = (row.rework_id, row.scope_id)
        raised_at, reason, begin, end = spans.get(key, (0, row.requested, row.period_begin, row.period_begin))
        spans[key] = (max(raised_at, row.raised_at), reason, min(begin, row.period_begin), max(end, row.period_begin))
    return [
        {
            "scope_id": scope_id,
            "reason": reason,
            "start_reprocess_time": naive_text(begin),
            "end_reprocess_time": naive_text(end),
            "current_reprocess_time": naive_text(end),
        }
        for (_, scope_id), (_, reason, begin, end) in sorted(spans.items(), key=lambda item: (item[1][0], item[0]))
    ]


ROUTES = (Route("task/reprocesses", reprocesses), Route("task/reprocesses/{scope_id}", reprocesses))
