"""Version 2: frames that come with their prices, as lines of topic `usage`.

They are taken whole or, with every fault and its place, not at all, and answered when the broker has confirmed them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, DecimalException
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from rater.api.cloudkitty.arguments import text
from rater.api.cloudkitty.calls import Answer, Backend, Call, Route
from rater.api.cloudkitty.faults import JSON, ApiFaultError, Faults
from rater.api.cloudkitty.times import read_time
from rater.model.amounts import STORED_DECIMALS, decimals
from rater.model.codec import encode_json, encode_msgpack
from rater.model.labels import Labels, label_text
from rater.model.posted import LAST_POSTED, MAX_POSTED_LINES, PostedLine, PostedLines, line_fault, month_of_line

__all__ = ["NO_SCOPE", "ROUTES", "Point", "read_frames", "records_of"]

NO_SCOPE = "__UNDEF__"
"""The scope of points whose groupby names none, as CloudKitty's version 1 writes it."""
IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_KEY = 255
MAX_NAME = 255
PART_BYTES = 500_000  # of a record, as JSON: half of what the engine takes
MAX_LINE_BYTES = PART_BYTES - 5_000  # what remains for the names beside it
MOST_FAULTS = 1000  # that are looked for
HEAD = "Invalid data : "
MAX_SHOWN = 100  # characters of a key or value in a fault
_DIGITS = Context(prec=200, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX)  # so that nothing becomes 0
_sorted = msgspec.json.Encoder(order="deterministic").encode


class Point(NamedTuple):
    """A line and the scope that it is of."""

    scope_id: str
    line: PostedLine


async def add_dataframes(backend: Backend, call: Call) -> Answer:
    """POST dataframes."""
    backend.policy.authorize(call.identity, "dataframes:add")
    key = call.headers.get(IDEMPOTENCY_KEY, "")
    _check_headers(call, key)
    points = await asyncio.to_thread(read_frames, call.body, backend.scope_key)
    author = call.identity.user[:MAX_NAME]
    post_id = _named(author, key, points)
    if key:
        await _write(backend, records_of(post_id, author, points))
    else:
        post_id = await _write_unnamed(backend, post_id, author, points, call.now.timestamp())
    return Answer(status=204, after={"post_id": post_id, "points": len(points)})


async def _write_unnamed(backend: Backend, content: str, author: str, points: Sequence[Point], now: float) -> str:
    """Writes a post that has no key; its id. Each is another one, but for the repetition of one that failed.

    CloudKitty's client can send no key, and repeats what was answered 503. Raises ApiFaultError 503.
    """
    post_id = backend.unconfirmed.take(content, now) or secrets.token_hex(16)
    try:
        await _write(backend, records_of(post_id, author, points))
    except BaseException:  # cancelled, too: what is under way then may be there
        backend.unconfirmed.keep(content, post_id, now)
        raise
    return post_id


async def _write(backend: Backend, records: Iterable[PostedLines]) -> None:
    await backend.post([(record.scope_id.encode(), encode_msgpack(record)) for record in records])


def _check_headers(call: Call, key: str) -> None:
    """Raises ApiFaultError 415, 400."""
    if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
        raise ApiFaultError(
            415, "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
        )
    if len(key) > MAX_KEY:
        raise ApiFaultError(400, f"the header {IDEMPOTENCY_KEY} has {len(key)} characters: at most {MAX_KEY} are taken")
    if not _is_sound(key):  # bytes that are no UTF-8 come as such
        raise ApiFaultError(400, f"the header {IDEMPOTENCY_KEY} is no UTF-8")


def _named(author: str, key: str, points: Sequence[Point]) -> str:
    """The id of a post with this key. Other content under a used key is another post: it must not replace the first."""
    digest = blake2b(encode_json([author, key]), digest_size=16)
    for point in points:
        digest.update(_sorted(point))
    return digest.hexdigest()


def records_of(post_id: str, author: str, points: Iterable[Point]) -> list[PostedLines]:
    """The records of a post, each of one scope and month and within what a record may hold."""
    groups: dict[tuple[str, tuple[int, int]], list[PostedLine]] = {}
    for scope_id, line in points:
        groups.setdefault((scope_id, month_of_line(line)), []).append(line)
    return [
        PostedLines(scope_id, post_id, part, author=author)
        for (scope_id, _), lines in groups.items()
        for part in _parts(lines)
    ]


def _parts(lines: Iterable[PostedLine]) -> Iterator[list[PostedLine]]:
    part: list[PostedLine] = []
    size = 0
    for line in lines:
        of_line = len(encode_json(line)) + 1
        if part and (size + of_line > MAX_LINE_BYTES or len(part) == MAX_POSTED_LINES):
            yield part
            part, size = [], 0
        part.append(line)
        size += of_line
    yield part


# --- reading


def read_frames(body: bytes, scope_key: str) -> list[Point]:
    """The points of a body in their order. Raises ApiFaultError 400 with every fault."""
    try:
        # a number is what its text says, and not the binary float next to it
        sent = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_members)
    except (ValueError, RecursionError, DecimalException) as fault:
        message = f"The body is no JSON: {str(fault)[:MAX_SHOWN]}"
        raise ApiFaultError(400, message, for_logs="The body is no JSON") from None
    reading = _Reading(scope_key)
    for number, frame in enumerate(reading.frames(sent)):
        reading.frame(frame, f"['dataframes'][{number}]")
    reading.faults.refuse(HEAD)
    return reading.points


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a name that comes twice: which of the two counts, nobody would be told."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has {twice[:MAX_SHOWN]!r} twice")
    return found


class _Reading:
    """The points and the faults found so far."""

    def __init__(self, scope_key: str) -> None:
        self.faults = Faults()
        self.points: list[Point] = []
        self._scope_key = scope_key

    def frames(self, sent: Any) -> list[Any]:
        """Raises ApiFaultError 400 if there is none."""
        found = self._members(sent, "", ("dataframes",))
        frames = None if found is None else found.get("dataframes")
        if found is not None and "dataframes" in found and not isinstance(frames, list):
            self._add("expected a list", "['dataframes']")
        self.faults.refuse(HEAD)
        if not frames:
            raise ApiFaultError(400, "Parameter dataframes must not be empty.")
        return list(frames)

    def frame(self, frame: Any, place: str) -> None:
        """Takes a frame's points."""
        found = self._members(frame, place, ("period", "usage"))
        if found is None:
            return
        span = self._period(found["period"], f"{place}['period']") if "period" in found else None
        usage = found.get("usage", {})
        if not isinstance(usage, dict):
            self._add("expected a dictionary", f"{place}['usage']")
            return
        for metric, points in usage.items():
            where = f"{place}['usage'][{metric[:MAX_SHOWN]!r}]"
            self._name(metric, where)
            if not isinstance(points, list):
                self._add("expected a list", where)
                continue
            for number, point in enumerate(points):
                self._point(point, metric, span or (0, 1), f"{where}[{number}]")

    def _period(self, sent: Any, place: str) -> tuple[int, int] | None:
        found = self._members(sent, place, ("begin", "end"))
        if found is None or len(found) < 2:
            return None
        begin, end = (self._instant(found[name], f"{place}['{name}']") for name in ("begin", "end"))
        if begin is None or end is None:
            return None
        if begin >= end:
            self._add("begin must be before end", place)
            return None
        return begin, end

    def _instant(self, sent: Any, place: str) -> int | None:
        try:
            second = int(read_time(sent).replace(microsecond=0).timestamp())
        except (ValueError, OverflowError, TypeError, AttributeError):
            self._add("expected a time such as 2026-01-01T00:00:00", place)
            return None
        if 0 <= second <= LAST_POSTED:
            return second
        self._add("expected a time from 1970 to 2106", place)
        return None

    def _point(self, sent: Any, metric: str, span: tuple[int, int], place: str) -> None:
        before = len(self.faults)
        found = self._members(sent, place, ("vol", "groupby", "metadata"), ("rating",))
        if found is None:
            return
        unit, qty = self._volume(found["vol"], f"{place}['vol']") if "vol" in found else ("", Decimal(0))
        price = self._price(found.get("rating", {}), f"{place}['rating']")
        groupby = self._labels(found.get("groupby", {}), f"{place}['groupby']")
        metadata = self._labels(found.get("metadata", {}), f"{place}['metadata']")
        scope_id = self._scope(groupby, place)
        if len(self.faults) > before:
            return
        line = PostedLine(len(self.points), metric, *span, qty, price, unit or "undefined", groupby, metadata)
        fault = line_fault(line)
        if not fault and len(encode_json(line)) > MAX_LINE_BYTES:
            fault = f"is longer than {MAX_LINE_BYTES} bytes"
        if fault:
            self._add(f"the point {fault}", place)
        self.points.append(Point(scope_id, line))

    def _volume(self, sent: Any, place: str) -> tuple[str, Decimal]:
        found = self._members(sent, place, ("unit", "qty"))
        if found is None:
            return "", Decimal(0)
        unit = found.get("unit", "")
        if unit != "":  # no unit is "undefined"
            self._name(unit, f"{place}['unit']")
        return unit, self._number(found["qty"], f"{place}['qty']") if "qty" in found else Decimal(0)

    def _price(self, sent: Any, place: str) -> Decimal:
        found = self._members(sent, place, (), ("price",))
        return self._number((found or {}).get("price", 0), f"{place}['price']")

    def _number(self, sent: Any, place: str) -> Decimal:
        if isinstance(sent, str | int | Decimal) and not isinstance(sent, bool):
            with suppress(ValueError, DecimalException):
                return _canonical(Decimal(sent))
        self._add("expected a number", place)
        return Decimal(0)

    def _scope(self, groupby: Labels, place: str) -> str:
        named = groupby.get(self._scope_key)
        scope_id = NO_SCOPE if named is None or named == "" else label_text(named)
        self._name(scope_id, f"{place}['groupby'][{self._scope_key!r}]")
        return scope_id

    def _labels(self, sent: Any, place: str) -> Labels:
        if not isinstance(sent, dict):
            self._add("expected a dictionary", place)
            return {}
        labels: Labels = {}
        for name, value in sent.items():
            where = f"{place}[{name[:MAX_SHOWN]!r}]"
            if isinstance(value, dict | list):
                self._add("expected a text, a number, a boolean or null", where)
            elif _is_sound(name) and (not isinstance(value, str) or _is_sound(value)):
                labels[name] = float(value) if isinstance(value, Decimal) else value
            else:
                self._add("holds half of a surrogate pair", where)
        return labels

    def _name(self, sent: Any, place: str) -> None:
        if not isinstance(sent, str):
            self._add("expected str", place)
            return
        try:
            text(sent)
        except ValueError as fault:
            self._add(str(fault), place)
        else:
            if not 0 < len(sent) <= MAX_NAME:
                self._add(f"expected a text of 1 to {MAX_NAME} characters", place)

    def _members(
        self, sent: Any, place: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """The members of an object that there may be; None if it is no object."""
        if not isinstance(sent, dict):
            self._add("expected a dictionary", place)
            return None
        for name in sent.keys() - {*required, *optional}:
            self._add("extra keys not allowed", f"{place}[{name[:MAX_SHOWN]!r}]")
        for name in required:
            if name not in sent:
                self._add("required key not provided", f"{place}['{name}']")
        return {name: sent[name] for name in (*required, *optional) if name in sent}

    def _add(self, message: str, place: str) -> None:
        self.faults.add(f"{message} (path: '{place}')")
        if len(self.faults) == MOST_FAULTS:
            self.faults.refuse(HEAD)


def _canonical(number: Decimal) -> Decimal:
    """The number without what its text says more than needed. What cannot be kept stays as it is."""
    if not number:
        return Decimal(0) if number.is_finite() else number
    if number.is_finite() and decimals(number) > STORED_DECIMALS and len(number.as_tuple().digits) <= _DIGITS.prec:
        return _DIGITS.normalize(number)
    return number


def _is_sound(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


ROUTES = (Route("dataframes", add_dataframes, "POST"),)
