"""The dict `data` that scripts change, as CloudKitty gives it, and what is read back from it.

CloudKitty's checks, plus those that keep a frame writable in every format: finite numbers, plain labels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import msgspec

from rater.sandbox.wire import MAX_LABELS, MAX_NAME, MAX_NUMBER, JobPoint, Labels

__all__ = ["BadFrameError", "Frame", "OutRow", "Usage", "out_points"]

_MAX_EXPONENT = 1000
_LOW, _HIGH = -(2**63), 2**64 - 1  # of msgpack
_POINT_KEYS = {"vol", "rating", "groupby", "metadata"}
_REQUIRED_KEYS = ("vol", "groupby", "metadata")

_TEXT = {str}
_PLAIN = {str, int, bool, type(None)}
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_canonical = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_labels = msgspec.msgpack.Decoder(tuple[Labels, Labels]).decode


class BadFrameError(Exception):
    """What a script left in `data` is no frame; the text says where and why."""


Usage: TypeAlias = list[tuple[str, list[JobPoint]]]
"""Points by metric. Of a point that was added, `number` is -1."""


class Frame:
    """One script's view of the frame."""

    def __init__(self, begin: int, end: int, usage: Usage) -> None:
        self._period = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)
        self._usage = usage
        self._points: list[dict[str, Any]] = []  # held, so that no id is given again
        self._by_id: dict[int, JobPoint] = {}

    def sources(self) -> list[JobPoint]:
        """The points as they were given, in one list."""
        return [source for _, sources in self._usage for source in sources]

    def data(self) -> dict[str, Any]:
        """The dict for the script. To be called once."""
        hold = self._points.append
        usage: dict[str, list[dict[str, Any]]] = {}
        for metric, sources in self._usage:
            points = usage[metric] = []
            for source in sources:
                groupby, metadata = _decode_labels(source.labels)
                point = {
                    "vol": {"unit": source.unit, "qty": source.qty},
                    "rating": {"price": source.price},
                    "groupby": groupby,
                    "metadata": metadata,
                }
                hold(point)
                points.append(point)
        self._by_id = dict(zip(map(id, self._points), self.sources(), strict=True))
        begin, end = self._period
        return {"period": {"begin": begin, "end": end}, "usage": usage}

    def read(self, data: Any) -> Usage:
        """What is in `data` now, by metric, sorted. Raises BadFrameError, or what the script's objects raise."""
        usage = _member(data, "data", {"period", "usage"}, ("period", "usage"))["usage"]
        self._check_period(data["period"])
        if not isinstance(usage, dict):
            raise BadFrameError(f"data['usage'] is {_kind(usage)}: it must be a dict of lists of points")
        after: dict[str, list[JobPoint]] = {}
        for key, points in usage.items():
            metric = _metric(key)
            if not isinstance(points, list | tuple | deque):
                raise BadFrameError(f"metric {metric!r} is {_kind(points)}: it must be a list of points")
            after[metric] = self._read_points(metric, points)
        self._adopt(after)
        return sorted(after.items())

    def _read_points(self, metric: str, points: Iterable[Any]) -> list[JobPoint]:
        found: list[JobPoint] = []
        take, origin = found.append, self._by_id.pop
        try:
            for point in points:
                take(_point(point, origin(id(point), None)))
        except BadFrameError as fault:
            raise BadFrameError(f"metric {metric!r}, point {len(found) + 1}: {fault}") from None
        return found

    def _adopt(self, after: dict[str, list[JobPoint]]) -> None:
        """A point that was built anew with the metric and labels of one that is gone is that one."""
        orphans = [
            (metric, place, point)
            for metric, points in after.items()
            for place, point in enumerate(points)
            if point.number < 0
        ]
        if not orphans or not self._by_id:
            return
        gone = {source.number for source in self._by_id.values()}  # they were not met
        waiting: dict[tuple[str, bytes], deque[int]] = {}
        for metric, sources in self._usage:
            for source in sources:
                if source.number in gone and source.number >= 0:
                    waiting.setdefault((metric, _identity(source)), deque()).append(source.number)
        for metric, place, point in orphans:
            numbers = waiting.get((metric, _identity(point)))
            if numbers:
                after[metric][place] = JobPoint(numbers.popleft(), point.unit, point.qty, point.price, point.labels)

    def _check_period(self, period: Any) -> None:
        """CloudKitty stores a frame under the period that a script leaves; here a frame stays where it is."""
        bounds = _member(period, "data['period']", {"begin", "end"}, ("begin", "end"))
        for name, right in zip(("begin", "end"), self._period, strict=True):
            if _instant(bounds[name]) != right:
                raise BadFrameError(f"data['period'][{name!r}] was changed: a frame cannot be moved to another period")


def _instant(value: Any) -> datetime | None:
    try:
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _metric(key: Any) -> str:
    metric = str(key)
    if not 1 <= len(metric) <= MAX_NAME:
        raise BadFrameError(f"a metric's name has {len(metric)} characters: it must have 1 to {MAX_NAME}")
    _check_text(metric, "the name of a metric")
    return metric


def _point(point: Any, source: JobPoint | None) -> JobPoint:
    if not isinstance(point, dict):
        raise BadFrameError(f"is {_kind(point)}: it must be a dict")
    if len(point) != 4 or "rating" not in point:
        point = {"rating": {}, **_member(point, "it", _POINT_KEYS, _REQUIRED_KEYS)}
    elif "vol" not in point or "groupby" not in point or "metadata" not in point:
        _member(point, "it", _POINT_KEYS, _REQUIRED_KEYS)
    vol, rating, groupby, metadata = point["vol"], point["rating"], point["groupby"], point["metadata"]
    if not (type(vol) is dict and len(vol) == 2 and "unit" in vol and "qty" in vol):
        vol = _member(vol, "'vol'", {"unit", "qty"}, ("unit", "qty"))
    if not (type(rating) is dict and len(rating) == 1 and "price" in rating):
        rating = {"price": 0, **_member(rating, "'rating'", {"price"}, ())}
    unit, qty, price = vol["unit"], vol["qty"], rating["price"]
    if source is None:
        return JobPoint(-1, _unit(unit), _number(qty, "qty"), _number(price, "price"), _labels(groupby, metadata))
    if unit is not source.unit or not unit:
        unit = _unit(unit)
    if qty is not source.qty:
        qty = _number(qty, "qty")
    if price is not source.price:
        price = _number(price, "price")
    return JobPoint(source.number, unit, qty, price, _same_or_new(source.labels, groupby, metadata))


def _member(value: Any, what: str, keys: set[str], required: tuple[str, ...]) -> dict[str, Any]:
    """The value, a dict that has the required keys and no others than `keys`."""
    if not isinstance(value, dict):
        raise BadFrameError(f"{what} is {_kind(value)}: it must be a dict")
    for key in value:
        if key not in keys:
            raise BadFrameError(f"{what} has the key {_shown(key)}: it can only have {', '.join(sorted(keys))}")
    for key in required:
        if key not in value:
            raise BadFrameError(f"{what} lacks the key {key!r}")
    return value


def _unit(unit: Any) -> str:
    if not isinstance(unit, str):
        raise BadFrameError(f"unit is {_kind(unit)}: it must be text")
    if len(unit) > MAX_NAME:
        raise BadFrameError(f"unit has {len(unit)} characters: it can have {MAX_NAME}")
    _check_text(unit, "unit")
    return str.__str__(unit) or "undefined"


def _number(value: Any, name: str) -> Decimal:
    """By way of its text, so that the float 0.1 is 0.1, as CloudKitty reads it."""
    if type(value) is not Decimal:
        text = str(value)
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise BadFrameError(f"{name} is {_shown(text)}: it must be a number") from None
    if not value.is_finite():
        raise BadFrameError(f"{name} is {value}: it must be a finite number")
    if not -_MAX_EXPONENT < value.adjusted() < _MAX_EXPONENT or len(str(value)) > MAX_NUMBER:
        raise BadFrameError(f"{name} has more than {_MAX_EXPONENT} digits")
    number: Decimal = value
    return number


def _same_or_new(before: msgspec.Raw, groupby: Any, metadata: Any) -> msgspec.Raw:
    """The labels from before if they are the same, by value and type. Most are, so this way is the short one."""
    try:
        encoded = _encode((groupby, metadata))
    except Exception:  # noqa: BLE001 - whatever it is that cannot be encoded: it is looked at one by one
        return _labels(groupby, metadata)
    if encoded == bytes(before):
        return before
    return _fitting(encoded) if _plain(groupby) and _plain(metadata) else _labels(groupby, metadata)


def _plain(labels: Any) -> bool:
    """A dict of texts, and so on, that could be encoded: nothing is left to be looked at one by one."""
    return type(labels) is dict and set(map(type, labels)) <= _TEXT and set(map(type, labels.values())) <= _PLAIN


def _labels(groupby: Any, metadata: Any) -> msgspec.Raw:
    return _fitting(_encode((_label_dict(groupby, "groupby"), _label_dict(metadata, "metadata"))))


def _fitting(labels: bytes) -> msgspec.Raw:
    """Labels that a record can hold. The worker looks again: a script can write its result past all this."""
    if len(labels) > MAX_LABELS:
        raise BadFrameError(f"its labels have {len(labels)} bytes: those that a script gives can have {MAX_LABELS}")
    return msgspec.Raw(labels)


def _label_dict(value: Any, name: str) -> Labels:
    try:
        labels = dict(value)
    except (TypeError, ValueError):
        raise BadFrameError(f"{name} is {_kind(value)}: it must be a dict") from None
    return {_label_name(key, name): _label(member, f"{name}[{_shown(key)}]") for key, member in labels.items()}


def _label_name(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise BadFrameError(f"{name} has the key {_shown(key)}: a label's name must be text")
    _check_text(key, f"a name in {name}")
    return str.__str__(key)


def _label(value: Any, where: str) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _check_text(value, where)
        return str.__str__(value)
    if isinstance(value, int):
        if not _LOW <= value <= _HIGH:
            raise BadFrameError(f"{where} is an integer beyond 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadFrameError(f"{where} is {value}: it must be a finite number")
        return float(value)
    raise BadFrameError(f"{where} is {_kind(value)}: it must be text, a number, a boolean or None")


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadFrameError(f"{where} holds half of a surrogate pair, which is no character") from None


def _identity(point: JobPoint) -> bytes:
    return _canonical(_decode_labels(point.labels))


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


OutRow: TypeAlias = tuple[int, str | None, str | None, str | None, msgspec.Raw | None]
"""`OutPoint` with its labels encoded."""


def out_points(before: list[JobPoint], after: Usage) -> list[tuple[str, list[OutRow]]]:
    """What the worker does not know yet: `before` are the points of the job, by number."""
    return [(metric, [_out(before, point) for point in points]) for metric, points in after]


def _out(before: list[JobPoint], point: JobPoint) -> OutRow:
    number, unit, qty, price, labels = point.number, point.unit, point.qty, point.price, point.labels
    if number < 0:
        return number, unit, str(qty), str(price), labels
    source = before[number]
    return (
        number,
        None if unit == source.unit else unit,
        None if qty is source.qty else str(qty),
        None if price is source.price else str(price),
        None if labels is source.labels else labels,
    )
