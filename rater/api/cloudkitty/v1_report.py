"""Version 1: tenants, totals, summaries, and the points behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import groupby
from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, flag, instant, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.times import calendar, month_bounds, naive_text, seconds
from rater.api.cloudkitty.v2_posting import NO_SCOPE
from rater.model.codec import encode_json
from rater.reports import Attribute, Choice, Condition, Kind, PointRow, SumPage, SumsRequest, plain_text

__all__ = ["ROUTES"]

_SCOPE, _METRIC = Attribute(Kind.SCOPE), Attribute(Kind.METRIC)
_EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN)
CHUNK_FRAMES = 200  # of an answer, written together


async def tenants(backend: Backend, call: Call) -> Answer:
    """GET report/tenants: every scope that has a frame, whenever."""
    backend.policy.authorize(call.identity, "report:list_tenants")
    arguments_v1(call, {"begin": instant, "end": instant})
    states = await backend.read(backend.view.scope_states)
    return Answer([state.scope_id for state in states])


async def total(backend: Backend, call: Call) -> Answer:
    """GET report/total."""
    arguments = arguments_v1(
        call, {"begin": instant, "end": instant, "tenant_id": text, "service": text, "all_tenants": flag}
    )
    scopes = _scopes(backend, call, arguments, "report:get_total")
    begin, end = _bounds(call, arguments)
    page: SumPage = await backend.read(lambda: backend.view.sums(_request(backend, begin, end, scopes, arguments)))
    amount = Decimal(0)
    for row in page.rows:
        amount = _EXACT.add(amount, row.price)
    return Answer(plain_text(amount))


async def summary(backend: Backend, call: Call) -> Answer:
    """GET report/summary."""
    arguments = arguments_v1(
        call,
        {"begin": instant, "end": instant, "tenant_id": text, "service": text, "groupby": text, "all_tenants": flag},
    )
    scopes = _scopes(backend, call, arguments, "report:get_summary")
    begin, end = _bounds(call, arguments)
    asked = arguments.get("groupby", "")  # looked for in the text, as CloudKitty does
    groups = [attribute for name, attribute in (("tenant_id", _SCOPE), ("res_type", _METRIC)) if name in asked]
    request = _request(backend, begin, end, scopes, arguments, groups)
    page: SumPage = await backend.read(lambda: backend.view.sums(request))
    rows = []
    for row in page.rows:
        found = dict(zip(groups, row.keys, strict=True))
        rows.append(
            {
                "begin": naive_text(begin),
                "end": naive_text(end),
                "tenant_id": found.get(_SCOPE) or "ALL",
                "res_type": found.get(_METRIC) or "ALL",
                "rate": _rate(row.price),
            }
        )
    return Answer({"summary": rows})


async def dataframes(backend: Backend, call: Call) -> Answer:
    """GET storage/dataframes: one frame for each period, scope and type, without paging."""
    arguments = arguments_v1(call, {"begin": instant, "end": instant, "tenant_id": text, "resource_type": text})
    identity = call.identity
    scopes: tuple[str, ...] | None
    if identity.is_admin:
        scopes = (arguments["tenant_id"],) if arguments.get("tenant_id") else None
    else:
        scopes = (arguments["tenant_id"],) if arguments.get("tenant_id") else identity.scopes
    backend.policy.authorize(identity, "storage:list_data_frames", scopes)
    begin, end = _bounds(call, arguments)
    conditions = backend.scopes_are(scopes) + _types(arguments.get("resource_type"))
    choice = Choice(seconds(begin), seconds(end), conditions, backend.zone.key)
    if scopes is not None and not scopes:
        return Answer({"dataframes": []})
    return Answer(chunks=_chunks(backend, choice))


def _scopes(backend: Backend, call: Call, arguments: dict[str, Any], action: str) -> tuple[str, ...] | None:
    """The scopes that a report is about, None for all. Raises ApiFaultError 403."""
    scopes: tuple[str, ...] | None
    if arguments.get("all_tenants"):
        scopes = None
    elif arguments.get("tenant_id"):
        scopes = (arguments["tenant_id"],)
    else:
        scopes = call.identity.scopes or None
    backend.policy.authorize(call.identity, action, scopes)
    return scopes


def _bounds(call: Call, arguments: dict[str, Any]) -> tuple[datetime, datetime]:
    begin, end = month_bounds(call.now)
    return arguments.get("begin") or begin, arguments.get("end") or end


def _types(service: str | None) -> tuple[Condition, ...]:
    return (Condition(_METRIC, (service,)),) if service else ()


def _request(
    backend: Backend,
    begin: datetime,
    end: datetime,
    scopes: tuple[str, ...] | None,
    arguments: dict[str, Any],
    groups: Iterable[Attribute] = (),
) -> SumsRequest:
    conditions = backend.scopes_are(scopes) + _types(arguments.get("service"))
    return SumsRequest(Choice(seconds(begin), seconds(end), conditions, backend.zone.key), tuple(groups))


def _rate(price: Decimal) -> str:
    """Five decimals, through a float: what CloudKitty's scripts compare with."""
    return str(float(f"{float(price):.5f}")) if price else "0"


def _chunks(backend: Backend, choice: Choice) -> Iterator[bytes]:
    """The answer to GET storage/dataframes, in pieces."""
    yield b'{"dataframes":['
    rows = backend.view.points(choice)
    waiting: list[bytes] = []
    lead = b""
    for (scope_id, metric, *_), points in groupby(rows, _of_frame):
        waiting.append(encode_json(_frame(backend, scope_id, metric, list(points))))
        if len(waiting) == CHUNK_FRAMES:
            yield lead + b",".join(waiting)
            lead, waiting = b",", []
    if waiting:
        yield lead + b",".join(waiting)
    yield b"]}"


def _of_frame(row: PointRow) -> tuple[str, str, int, int, bool]:
    return row.scope_id, row.metric, row.period_begin, row.period_end, row.posted


def _frame(backend: Backend, scope_id: str, metric: str, points: list[PointRow]) -> dict[str, Any]:
    times = {} if points[0].posted else calendar(points[0], backend.zone)
    scope = {} if scope_id == NO_SCOPE else {backend.scope_key: scope_id}
    return {
        "begin": naive_text(points[0].period_begin),
        "end": naive_text(points[0].period_end),
        "tenant_id": scope_id,
        "resources": [
            {
                "service": metric,
                "desc": {**row.metadata, **times, **row.groupby, **scope},
                "volume": plain_text(row.qty),
                "rating": plain_text(row.price),
            }
            for row in points
        ],
    }


ROUTES = (
    Route("report/tenants", tenants),
    Route("report/total", total),
    Route("report/summary", summary),
    Route("storage/dataframes", dataframes),
)
