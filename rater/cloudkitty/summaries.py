"""Sums of quantity and price by scope and metric, read from a service that speaks CloudKitty's API.

Version 2 gives them page by page; where there is none (CloudKitty with a storage of version 1), version 1 gives prices
alone, rounded to five decimals.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from typing import Any, NamedTuple

import msgspec

from rater.cloudkitty.client import CloudKittyError
from rater.cloudkitty.side import Side
from rater.model.interval import Interval

__all__ = ["Amount", "Group", "Sums", "Wanted", "read_both", "read_reached", "read_sums"]

PAGE = 5000  # groups asked for at once; the most that CloudKitty takes with Loki
FULL_V1 = 1000  # CloudKitty cuts off a summary of version 1 here
MAX_GROUPS = 500_000  # of one service and one time, about 200 MB
MAX_ALONE = 50  # scopes that are asked for one by one; more are picked out of all
TRIES = 3  # of a listing that changes while it is read
MAX_EXPONENT = 400  # of a number; that of a double ends at 308


class Amount(NamedTuple):
    """What a service says of one scope and metric. `qty` is None where the API does not tell it."""

    qty: Decimal | None
    rate: Decimal


class Group(NamedTuple):
    """What is added up."""

    scope_id: str
    metric: str


class Wanted(msgspec.Struct, frozen=True):
    """What to add up: these scopes and metrics, all if there are none named."""

    scope_key: str = "project_id"
    scopes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def takes(self, group: Group) -> bool:
        """Whether a group is asked for."""
        return (not self.scopes or group.scope_id in self.scopes) and (not self.metrics or group.metric in self.metrics)


class Sums(NamedTuple):
    """The sums of one service over one time, and by which version of the API they came."""

    version: int
    rows: dict[Group, Amount]


class _Page(msgspec.Struct):
    total: int
    columns: list[str] = []
    results: list[list[Any]] = []


class _Row1(msgspec.Struct):
    rate: Any = None
    tenant_id: str | None = None
    res_type: str | None = None


class _Summary1(msgspec.Struct):
    summary: list[_Row1]


class _State(msgspec.Struct):
    scope_id: str
    last_processed_timestamp: str | None = None


class _States(msgspec.Struct):
    results: list[_State]


class _Unstable(Exception):  # noqa: N818 - never leaves this module
    """The listing changed between two pages."""


async def read_sums(side: Side, span: Interval, wanted: Wanted, told: Callable[[int, int], None]) -> Sums:
    """The sums over `span`. `told` hears of groups read and of how many there are. Raises CloudKittyError."""
    for _ in range(TRIES):
        rows: dict[Group, Amount] = {}
        try:
            for scope in _one_by_one(wanted):
                if not await _pages(side, span, wanted, scope, rows, told):
                    return Sums(1, await _version_1(side, span, wanted, told))
        except _Unstable:
            continue
        return Sums(2, rows)
    raise CloudKittyError(
        f"{side.name}: its list of groups changed each of the {TRIES} times that it was read, or it knows no "
        "pages (with Loki CloudKitty does not): choose fewer scopes with --scope"
    )


def _one_by_one(wanted: Wanted) -> Sequence[str | None]:
    """Scopes to filter by, or None for all: CloudKitty can filter by no name that has a colon or comma in it."""
    scopes = wanted.scopes
    can = 0 < len(scopes) <= MAX_ALONE and not any(sign in scope for scope in scopes for sign in ":,")
    return tuple(dict.fromkeys(scopes)) if can else (None,)


async def _pages(
    side: Side,
    span: Interval,
    wanted: Wanted,
    scope: str | None,
    rows: dict[Group, Amount],
    told: Callable[[int, int], None],
) -> bool:
    """Adds the groups of all pages to `rows`; False if there is no version 2. Raises _Unstable."""
    query = [
        ("begin", _utc_text(span.begin)),
        ("end", _utc_text(span.end)),
        ("groupby", f"{wanted.scope_key},type"),
        ("limit", str(PAGE)),
        *([("filters", f"{wanted.scope_key}:{scope}")] if scope is not None else []),
    ]
    offset, total = 0, -1
    while total < 0 or offset < total:
        body = await side.get("v2/summary", [*query, ("offset", str(offset))], missing=(404, 405))
        if body is None:
            return False
        page = _decoded(side, body, _Page)
        if total not in (-1, page.total) or (page.total > offset and not page.results):
            raise _Unstable
        total = page.total
        for group, amount in _groups(side, page, wanted.scope_key):
            if wanted.takes(group):
                _add(side, rows, group, amount)
        offset += len(page.results)
        told(offset, total)
    return True


def _groups(side: Side, page: _Page, scope_key: str) -> Iterable[tuple[Group, Amount]]:
    if not page.results:
        return
    try:
        scope, metric, qty, rate = (page.columns.index(name) for name in (scope_key, "type", "qty", "rate"))
        for row in page.results:
            yield Group(str(row[scope] or ""), str(row[metric] or "")), Amount(_number(row[qty]), _number(row[rate]))
    except (IndexError, ValueError, DecimalException) as fault:
        raise _foreign(side, fault) from fault


def _add(side: Side, rows: dict[Group, Amount], group: Group, amount: Amount) -> None:
    if group in rows:
        raise _Unstable
    if len(rows) >= MAX_GROUPS:
        raise CloudKittyError(
            f"{side.name}: more than {MAX_GROUPS} scopes and metrics: compare some of them at a time, with --scope"
        )
    rows[group] = amount


async def _version_1(
    side: Side, span: Interval, wanted: Wanted, told: Callable[[int, int], None]
) -> dict[Group, Amount]:
    """By API v1: all at once, and scope by scope if that was cut off."""
    times = [("begin", _utc_text(span.begin)), ("end", _utc_text(span.end))]
    query = [*times, ("groupby", "tenant_id,res_type")]
    rows: dict[Group, Amount] = {}
    if not wanted.scopes:
        found = await _summary_1(side, [*query, ("all_tenants", "true")])
        if len(found) < FULL_V1:
            _take_1(side, rows, found, wanted)
            told(len(rows), len(rows))
            return rows
    scopes = wanted.scopes or _decoded(side, await side.get("v1/report/tenants", times) or b"", list[str])
    for number, scope in enumerate(sorted(set(scopes))):
        found = await _summary_1(side, [*query, ("tenant_id", scope)])
        if len(found) >= FULL_V1:
            raise CloudKittyError(f"{side.name}: scope {scope!r} has {FULL_V1} metrics or more: API v1 cuts that off")
        _take_1(side, rows, found, wanted)
        told(number + 1, len(scopes))
    return rows


async def _summary_1(side: Side, query: list[tuple[str, str]]) -> list[_Row1]:
    found: _Summary1 = _decoded(side, await side.get("v1/report/summary", query) or b"", _Summary1)
    return found.summary


def _take_1(side: Side, rows: dict[Group, Amount], found: list[_Row1], wanted: Wanted) -> None:
    try:
        for row in found:
            group = Group(row.tenant_id or "", row.res_type or "")
            if wanted.takes(group):
                _add(side, rows, group, Amount(None, _number(row.rate)))
    except (ValueError, DecimalException) as fault:
        raise _foreign(side, fault) from fault
    except _Unstable:
        raise _foreign(side, ValueError("a group is told twice")) from None


async def read_reached(side: Side, scope_id: str, scope_key: str) -> int | None:
    """The begin of the period up to which a service says that it has rated a scope; None if it does not tell."""
    try:
        query = [("scope_id", scope_id), ("scope_key", scope_key)]
        body = await side.get("v2/scope", query, missing=(400, 403, 404, 405), once=True)
        states = _decoded(side, body, _States).results if body else []
    except CloudKittyError:  # CloudKitty 25 answers 500 where a row has null keys: it is a remark, nothing rests on it
        return None
    reached = [_instant(state.last_processed_timestamp) for state in states if state.scope_id == scope_id]
    return reached[0] if len(reached) == 1 else None


def _instant(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _decoded(side: Side, body: bytes, kind: Any) -> Any:
    try:
        plain = json.loads(body, parse_float=Decimal, parse_constant=_no_number)
        return msgspec.convert(plain, kind)
    except (ValueError, RecursionError, msgspec.ValidationError, DecimalException) as fault:
        raise _foreign(side, fault) from fault


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no amount")


def _number(value: Any) -> Decimal:
    """An amount. Null is what a sum over nothing is. Raises ValueError, DecimalException."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal | None):
        raise ValueError(f"{type(value).__name__} in place of an amount")  # noqa: TRY004 - the answer is at fault
    number = Decimal(value or 0)
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError("an amount beyond all bounds")
    return number


def _foreign(side: Side, fault: Exception) -> CloudKittyError:
    return CloudKittyError(
        f"{side.name}: its answer is not that of CloudKitty's API ({type(fault).__name__}: {fault!s:.200}): is the URL "
        "that of the rating service?"
    )


def _utc_text(seconds: int) -> str:
    """Without offset, which both versions take for UTC, wherever their server stands."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


async def read_both(
    one: Side, other: Side, span: Interval, wanted: Wanted, told: Callable[[int, int], None]
) -> tuple[Sums, Sums]:
    """The sums of two services at once. Raises CloudKittyError, the first one."""
    done: dict[str, tuple[int, int]] = {}

    def telling(name: str) -> Callable[[int, int], None]:
        def tell(read: int, total: int) -> None:
            done[name] = (read, total)
            told(sum(pair[0] for pair in done.values()), sum(pair[1] for pair in done.values()))

        return tell

    tasks = [asyncio.create_task(read_sums(side, span, wanted, telling(side.name))) for side in (one, other)]
    try:
        first, second = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return first, second
