"""Gathers samples per scope and makes them numbered requests, as final bytes. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from rater.client.errors import BatchInfo, InvalidItemError
from rater.client.wire import (
    CHUNK_SAMPLES,
    MAX_SCOPE_RECORDS,
    PushedCollection,
    PushedPlan,
    PushedSample,
    PushedValue,
    chunks_of,
)
from rater.model.codec import encode_msgpack, quantity_fault
from rater.model.errors import RejectedError
from rater.model.labels import canonical_series

__all__ = ["Batch", "Gatherer", "encoded", "normal_collection", "normal_plan", "normal_sample"]

MAX_LABEL_BYTES = 200_000  # of one sample: a thousand of usual ones have less
SCOPE_BYTES = 400_000  # gathered of one scope; so that what becomes of it stays under the service's limit of a record
REQUEST_BYTES = 1_000_000
REQUEST_SAMPLES = 5_000


class Batch(msgspec.Struct, frozen=True):
    """A request: its bytes never change, however often it is sent."""

    info: BatchInfo
    body: bytes


class _Push(msgspec.Struct, omit_defaults=True):
    """A UsagePush whose items are bytes already."""

    source: str
    producer_id: str
    sequences: dict[str, int] = {}
    samples: list[msgspec.Raw] = []
    collections: list[msgspec.Raw] = []
    plans: list[msgspec.Raw] = []


class _Scope:
    """What was gathered of one scope."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.items: list[msgspec.Raw] = []
        self.bytes = 0
        self.counts: dict[tuple[str | None, str], int] = {}

    def records(self) -> int:
        """How many sequence numbers it takes."""
        return sum(chunks_of(count) for count in self.counts.values())

    def fits(self, source: str | None, metric: str) -> bool:
        """Whether one more still makes a request that a repetition is known by."""
        return self.records() < MAX_SCOPE_RECORDS or self.counts.get((source, metric), 0) % CHUNK_SAMPLES > 0


class Gatherer:
    """Samples that wait for their request, and the numbers of one producer. `now` is any clock that never goes back."""

    def __init__(
        self,
        source: str,
        producer_id: str,
        sequences: Mapping[str, int],
        batches: int,
        *,
        batch_samples: int,
        max_delay: float,
    ) -> None:
        self.source = source
        self.producer_id = producer_id
        self.sequences = dict(sequences)
        """By scope, the next number."""
        self.batches = batches
        """The number of the last request."""
        self.bytes = 0
        """Of what is gathered."""
        self._batch_samples = batch_samples
        self._max_delay = max_delay
        self._scopes: dict[str, _Scope] = {}

    def add(self, sample: PushedSample, raw: bytes, now: float) -> list[Batch]:
        """Takes a sample; gives the requests that its scope has enough for now."""
        ready = []
        scope = self._scopes.get(sample.scope_id)
        source = None if sample.source == self.source else sample.source
        if scope is not None and (scope.bytes + len(raw) > SCOPE_BYTES or not scope.fits(source, sample.metric)):
            ready.append(self._sealed([sample.scope_id]))
            scope = None
        if scope is None:
            scope = self._scopes[sample.scope_id] = _Scope(now)
        scope.items.append(msgspec.Raw(raw))
        scope.bytes += len(raw)
        scope.counts[source, sample.metric] = scope.counts.get((source, sample.metric), 0) + 1
        self.bytes += len(raw)
        if len(scope.items) >= self._batch_samples:
            ready.append(self._sealed([sample.scope_id]))
        return ready

    def due(self) -> float | None:
        """When the next request is due at the latest; None while nothing is gathered."""
        return min((scope.since + self._max_delay for scope in self._scopes.values()), default=None)

    def ripe(self, now: float | None = None) -> list[Batch]:
        """Requests of the scopes that have waited long enough; of all scopes without `now`."""
        ready, found, size, samples = [], list[str](), 0, 0
        for scope_id, scope in list(self._scopes.items()):
            if now is not None and scope.since + self._max_delay > now:
                continue
            if found and (size + scope.bytes > REQUEST_BYTES or samples + len(scope.items) > REQUEST_SAMPLES):
                ready.append(self._sealed(found))
                found, size, samples = [], 0, 0
            found.append(scope_id)
            size, samples = size + scope.bytes, samples + len(scope.items)
        if found:
            ready.append(self._sealed(found))
        return ready

    def collection(self, collection: PushedCollection, raw: bytes) -> list[Batch]:
        """The requests of what was gathered of its scope, and of the collection."""
        ready = [self._sealed([collection.scope_id])] if collection.scope_id in self._scopes else []
        used = chunks_of(len(collection.samples))
        if used > MAX_SCOPE_RECORDS:
            raise InvalidItemError(
                f"the collection has {len(collection.samples)} samples, more than one request may hold: collect "
                "shorter ranges"
            )
        push = _Push(self.source, self.producer_id, collections=[msgspec.Raw(raw)])
        return [*ready, self._batch(push, {collection.scope_id: used}, len(collection.samples))]

    def plan(self, plan: PushedPlan, raw: bytes) -> Batch:
        """The request of a plan. It has no numbers: a plan sent twice says the same."""
        return self._batch(_Push(self.source, self.producer_id, plans=[msgspec.Raw(raw)]), {}, 0)

    def _sealed(self, scope_ids: list[str]) -> Batch:
        scopes = {scope_id: self._scopes.pop(scope_id) for scope_id in scope_ids}
        self.bytes -= sum(scope.bytes for scope in scopes.values())
        used = {scope_id: scope.records() for scope_id, scope in scopes.items()}
        items = [item for scope in scopes.values() for item in scope.items]
        return self._batch(_Push(self.source, self.producer_id, samples=items), used, len(items))

    def _batch(self, push: _Push, used: Mapping[str, int], samples: int) -> Batch:
        numbers = {}
        for scope_id, count in used.items():
            first = self.sequences.get(scope_id, 0)
            self.sequences[scope_id] = first + count
            numbers[scope_id] = (first, first + count)
        push.sequences = {scope_id: first for scope_id, (first, _) in numbers.items()}
        self.batches += 1
        return Batch(BatchInfo(self.batches, self.producer_id, numbers, samples), encode_msgpack(push))


# --- what is checked before anything is taken: one bad item would have its whole request refused


def encoded(item: PushedSample | PushedCollection | PushedPlan) -> bytes:
    """Its bytes in a request. Raises InvalidItemError if they have not the shape that the service reads."""
    decode = _DECODERS[type(item)]
    try:
        raw = encode_msgpack(item)
        decode(raw)
    except (msgspec.DecodeError, TypeError, OverflowError) as fault:
        raise InvalidItemError(f"{_shown(item)}: {fault}") from None
    return raw


def normal_sample(sample: PushedSample) -> PushedSample:
    """The sample with its times in seconds. Raises InvalidItemError."""
    _check_kind(sample, PushedSample, "Sample")
    begin, end = _times(sample)
    _check_value(sample, begin, end)
    return msgspec.structs.replace(sample, begin=begin, end=None if sample.end is None else end)


def normal_collection(collection: PushedCollection) -> PushedCollection:
    """The collection with its times in seconds. Raises InvalidItemError."""
    _check_kind(collection, PushedCollection, "Collection")
    begin, end = _seconds(collection.begin, "begin"), _seconds(collection.end, "end")
    if begin >= end:
        raise InvalidItemError(f"the collection's range [{begin}, {end}) holds no time")
    covers = [(_seconds(first, "covers"), _seconds(last, "covers")) for first, last in collection.covers]
    for first, last in covers:
        if not begin <= first < last <= end:
            raise InvalidItemError(f"covers [{first}, {last}) does not lie within the range [{begin}, {end})")
    values = []
    for value in collection.samples:
        _check_kind(value, PushedValue, "Value")
        value_begin, value_end = _times(value)
        _check_value(value, value_begin, value_end)
        if not begin <= value_begin < end:
            raise InvalidItemError(f"a sample begins at {value_begin}, outside the range [{begin}, {end})")
        values.append(msgspec.structs.replace(value, begin=value_begin, end=None if value.end is None else value_end))
    return msgspec.structs.replace(collection, begin=begin, end=end, covers=covers, samples=values)


def normal_plan(plan: PushedPlan) -> PushedPlan:
    """The plan with its times in seconds. Raises InvalidItemError."""
    _check_kind(plan, PushedPlan, "Plan")
    begin, until = _seconds(plan.begin, "begin"), None if plan.until is None else _seconds(plan.until, "until")
    if until is not None and begin >= until:
        raise InvalidItemError(f"the plan's range [{begin}, {until}) holds no time")
    return msgspec.structs.replace(plan, begin=begin, until=until)


def _check_kind(item: object, kind: type, name: str) -> None:
    if not isinstance(item, kind):
        raise InvalidItemError(f"{_shown(item)}: is no {name}: give a rater.client.{name}")


def _times(item: PushedSample | PushedValue) -> tuple[int, int]:
    begin = _seconds(item.begin, "begin")
    return begin, begin if item.end is None else _seconds(item.end, "end")


def _check_value(item: PushedSample | PushedValue, begin: int, end: int) -> None:
    if end < begin:
        raise InvalidItemError(f"{_shown(item)}: end lies before begin")
    if not isinstance(item.qty, Decimal):
        raise InvalidItemError(f"{_shown(item)}: qty must be a Decimal, as Decimal('1.5'): floats are not exact")
    fault = quantity_fault(item.qty)
    if fault:
        raise InvalidItemError(f"{_shown(item)}: qty {fault}")
    try:
        size = len(canonical_series(item.groupby, item.metadata))
    except (RejectedError, TypeError) as refused:
        raise InvalidItemError(f"{_shown(item)}: {refused}") from None
    if size > MAX_LABEL_BYTES:
        raise InvalidItemError(f"{_shown(item)}: labels have {size} bytes: at most {MAX_LABEL_BYTES} are taken")


def _seconds(value: int | str, field: str) -> int:
    """Whole seconds since the epoch, given as such or as a time with offset."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        read = datetime.fromisoformat(value)  # type: ignore[arg-type]  # what is neither is told below
    except (TypeError, ValueError):
        raise InvalidItemError(f"{field} is {value!r}: give seconds since the epoch or 2026-01-01T00:00:00Z") from None
    if read.tzinfo is None or read.microsecond:
        raise InvalidItemError(f"{field} is {value!r}: give whole seconds and the offset from UTC, as …Z")
    return int(read.timestamp())


def _shown(item: object) -> str:
    return repr(item)[:300]


_DECODERS: dict[type, Any] = {
    kind: msgspec.msgpack.Decoder(kind).decode for kind in (PushedSample, PushedCollection, PushedPlan)
}
