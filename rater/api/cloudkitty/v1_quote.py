"""Version 1: what resources would cost, by the rules for everybody as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import ApiFaultError, Faults
from rater.api.cloudkitty.times import seconds
from rater.model.errors import RejectedError
from rater.model.labels import Labels, check_labels
from rater.rating import Failed, RatingFrame, RatingPoint

__all__ = ["ROUTES"]

MAX_RESOURCES = 10_000
MAX_NUMBER = 400  # characters of a volume
MAX_DIGITS = 30  # of a quantity, before the point
_PRICES = Context(prec=28)  # of CloudKitty's sum
_Scalar: TypeAlias = str | int | float | bool | None


class Resource(msgspec.Struct, forbid_unknown_fields=True):
    """So much of something. `desc` has its labels, below `groupby` and `metadata` or beside these."""

    service: Annotated[str, Meta(min_length=1, max_length=255)]
    volume: msgspec.Raw
    desc: dict[str, _Scalar | dict[str, _Scalar]]


class Resources(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request."""

    resources: Annotated[list[Resource], Meta(max_length=MAX_RESOURCES)]


async def quote(backend: Backend, call: Call) -> Answer:
    """POST rating/quote: the sum of the prices, as text."""
    backend.policy.authorize(call.identity, "rating:quote")
    try:
        sent = msgspec.json.decode(call.body, type=Resources).resources
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ApiFaultError(400, f"Invalid input for field/attribute res_data: {fault}") from None
    points = _points(sent, exact=backend.exact_numbers)
    now = seconds(call.now)
    found = await backend.quote(await backend.book(), RatingFrame(None, now, now + backend.period, points))
    if isinstance(found, Failed):
        # A script is the administrators' business: others are not told what it says.
        why = f": {found.text()}" if call.identity.is_admin else ""
        if found.by_chance:
            raise ApiFaultError(503, f"this cannot be rated now{why}: ask again", headers={"Retry-After": "2"})
        raise ApiFaultError(400, f"this cannot be rated{why}")
    if found.unrated:
        reasons = "; ".join(f"resources[{one.point.origin}]: {one.reason}" for one in found.unrated[:10])
        raise ApiFaultError(400, f"this cannot be rated: {reasons}")
    total = Decimal(0)
    for point in found.points:
        total = _PRICES.add(total, point.price)
    return Answer(str(total) if total else "0")


def _points(sent: list[Resource], *, exact: bool) -> tuple[RatingPoint, ...]:
    """Raises ApiFaultError 400 with every fault."""
    faults = Faults()
    points = []
    for number, resource in enumerate(sent):
        try:
            qty = _volume(bytes(resource.volume).decode(), exact=exact)
            groupby, metadata = _labels(resource.desc)
            points.append(RatingPoint(resource.service, "undef", qty, Decimal(0), groupby, metadata, number))
        except (ValueError, RejectedError) as fault:
            faults.add(f"resources[{number}]: {fault}")
    faults.refuse()
    return tuple(points)


def _volume(raw: str, *, exact: bool) -> Decimal:
    """A quantity as text (exact), or as number, which is a float unless `exact`. Raises ValueError."""
    fault = ValueError(f"volume {raw[:50]} is no number with at most {MAX_DIGITS} digits before the point")
    if len(raw) > MAX_NUMBER:
        raise fault
    try:
        if raw.startswith('"'):
            qty = Decimal(msgspec.json.decode(raw, type=str))
        else:
            qty = Decimal(raw) if exact or raw.lstrip("-").isdigit() else Decimal(float(raw))
    except (ValueError, InvalidOperation, msgspec.DecodeError):
        raise fault from None
    if not qty.is_finite() or qty.adjusted() >= MAX_DIGITS:
        raise fault
    return qty


def _labels(desc: Mapping[str, Any]) -> tuple[Labels, Labels]:
    """groupby and metadata; what stands beside them is metadata too. Raises ValueError, RejectedError."""
    groupby, metadata = desc.get("groupby") or {}, desc.get("metadata") or {}
    flat = {name: value for name, value in desc.items() if name not in ("groupby", "metadata")}
    wrong = [name for name, value in flat.items() if isinstance(value, dict)]
    wrong += [name for name in ("groupby", "metadata") if not isinstance(desc.get(name) or {}, dict)]
    if wrong:
        raise ValueError(f"desc has {', '.join(wrong)[:300]}: groupby and metadata are objects, all else is none")
    found = dict(groupby), {**flat, **metadata}
    for labels in found:
        check_labels(labels)
    return found


ROUTES = (Route("rating/quote", quote, "POST"),)
