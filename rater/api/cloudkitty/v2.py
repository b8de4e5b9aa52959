"""Version 2: summaries by any attributes, and points."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import Any

from rater.api.cloudkitty.arguments import Query, instant, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.times import calendar, month_bounds, seconds, zoned_text
from rater.api.cloudkitty.v2_posting import NO_SCOPE
from rater.reports import Attribute, Choice, Condition, Kind, PointPage, PointRow, PointsRequest, SumPage, SumsRequest

__all__ = ["ROUTES"]

_TIMES = {"time-d": "day_of_the_year", "time-w": "week_of_the_year", "time-m": "month", "time-y": "year"}
_FIELD = re.compile(r"\s*SUM\(\s*(qty|price)\s*\)\s+AS\s+\"?(\w{1,64})\"?\s*", re.IGNORECASE | re.ASCII)
DEFAULT_FIELDS = (("qty", "qty"), ("price", "rate"))
MAX_GROUPS = 50
FORMS = ("table", "object")


async def summary(backend: Backend, call: Call) -> Answer:
    """GET summary."""
    query = Query(call)
    offset, limit = query.page()
    begin, end = _bounds(query, call)
    form = query.single("response_format", text, "table")
    if form not in FORMS:
        query.fault(f"Invalid response format [{form}]. Valid format are {list(FORMS)}.", "response_format")
    fields = _fields(query)
    names = _groups(query)
    filters = query.pairs("filters", unique=False)
    query.refuse()
    identity = call.identity
    backend.policy.authorize(identity, "summary:get_summary", identity.scopes)
    if not identity.is_admin and not identity.scopes:
        return Answer({"total": 0, "columns": [], "results": []})
    choice = Choice(seconds(begin), seconds(end), _conditions(backend, call, filters), backend.zone.key)
    request = SumsRequest(choice, tuple(map(backend.attribute, names)), offset, limit)
    page: SumPage = await backend.read(lambda: backend.view.sums(request))
    results = []
    for row in page.rows:
        found: dict[str, Any] = dict(zip(names, row.keys, strict=True))
        by_period = found.pop("time", None) is not None
        values = {"qty": float(row.qty), "price": float(row.price)}
        results.append(
            {
                "begin": zoned_text(row.begin if by_period else begin, backend.zone),
                "end": zoned_text(row.end if by_period else end, backend.zone),
                **{alias: values[field] for field, alias in fields},
                **found,
            }
        )
    return Answer(_formed(form, page.total, results))


async def dataframes(backend: Backend, call: Call) -> Answer:
    """GET dataframes: pages of points, put together to frames."""
    query = Query(call)
    offset, limit = query.page()
    begin, end = _bounds(query, call)
    filters = query.pairs("filters", unique=True)
    query.refuse()
    identity = call.identity
    backend.policy.authorize(identity, "dataframes:get", identity.scopes)
    if not identity.is_admin and not identity.scopes:
        return Answer({"total": 0, "dataframes": []})
    choice = Choice(seconds(begin), seconds(end), _conditions(backend, call, filters), backend.zone.key)
    page: PointPage = await backend.read(lambda: backend.view.point_page(PointsRequest(choice, offset, limit)))
    if not page.total:
        raise ApiFaultError(404, "No resource found for provided filters.")
    return Answer({"total": page.total, "dataframes": list(_frames(backend, page.rows))})


def _bounds(query: Query, call: Call) -> tuple[datetime, datetime]:
    begin, end = month_bounds(call.now)
    return query.single("begin", instant) or begin, query.single("end", instant) or end


def _groups(query: Query) -> list[str]:
    """The attributes of `groupby`, each once."""
    names = []
    for name in query.many("groupby"):
        if name.startswith("time-") and name not in _TIMES:
            query.fault(f"there is no grouping by {name!r}: use time, {', '.join(_TIMES)}", "groupby")
        names.append(_TIMES.get(name, name))
    if len(names) > MAX_GROUPS:
        query.fault(f"at most {MAX_GROUPS} attributes are taken", "groupby")
    return list(dict.fromkeys(names))


def _fields(query: Query) -> tuple[tuple[str, str], ...]:
    """(field, alias) of `custom_fields`: sums of qty and price under other names. Nothing of it is run as a query."""
    wanted = query.single("custom_fields", text)
    if not wanted:
        return DEFAULT_FIELDS
    found = [_FIELD.fullmatch(part) for part in wanted.split(",")]
    fields = tuple((match[1].lower(), match[2]) for match in found if match)
    if len(fields) < len(found):
        query.fault("expected SUM(qty) AS name or SUM(price) AS name, with commas between", "custom_fields")
    return fields


def _conditions(backend: Backend, call: Call, filters: dict[str, list[str]]) -> tuple[Condition, ...]:
    """What the filters say; who is no administrator sees the own scopes, whatever is asked for."""
    if not call.identity.is_admin:
        filters = {**filters, backend.scope_key: list(call.identity.scopes)}
    attributes = [(_filtered(backend, name), values) for name, values in filters.items()]
    return tuple(Condition(attribute, tuple(values)) for attribute, values in attributes)


def _filtered(backend: Backend, name: str) -> Attribute:
    attribute = backend.attribute(name)
    return Attribute(Kind.LABEL, name) if attribute.kind is Kind.PERIOD else attribute


def _formed(form: str, total: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    if form == "object":
        return {"total": total, "results": results, "format": form}
    columns = list(results[0]) if results else []
    return {"total": total, "columns": columns, "results": [list(row.values()) for row in results], "format": form}


def _frames(backend: Backend, rows: Iterable[PointRow]) -> Iterable[dict[str, Any]]:
    for (begin, end), of_period in groupby(rows, lambda row: (row.period_begin, row.period_end)):
        usage: dict[str, list[dict[str, Any]]] = {}
        for row in of_period:
            usage.setdefault(row.metric, []).append(_point(backend, row))
        yield {
            "period": {"begin": zoned_text(begin, backend.zone), "end": zoned_text(end, backend.zone)},
            "usage": dict(sorted(usage.items())),
        }


def _point(backend: Backend, row: PointRow) -> dict[str, Any]:
    times = {} if row.posted else calendar(row, backend.zone)  # what is posted is given back as it came
    scope = {} if row.scope_id == NO_SCOPE else {backend.scope_key: row.scope_id}
    return {
        "vol": {"unit": row.unit, "qty": float(row.qty)},
        "rating": {"price": float(row.price)},
        "groupby": {**times, **row.groupby, **scope},
        "metadata": row.metadata,
    }


ROUTES = (
    Route("summary", summary),
    Route("dataframes", dataframes),
)
