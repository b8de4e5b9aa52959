"""From a request to the records of topic `usage`: pure, and the same bytes for the same request, whoever does it.

The engine knows a repetition by producer, sequence and content. So nothing in a record comes from a clock, a counter or
chance of ours: a request that is repeated, here or at another replica, becomes the same records and counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from collectors.replay.usage_file import instant
from rater.api.faults import Faults, RefusalError
from rater.api.records import Group, Head, Record, Table, Value
from rater.client.wire import (
    CHUNK_SAMPLES,
    MAX_SCOPE_RECORDS,
    Accepted,
    AcceptedScope,
    PushedCollection,
    PushedPlan,
    PushedSample,
    PushedValue,
    UsagePush,
    chunks_of,
)
from rater.model.codec import encode_json, encode_msgpack, quantity_fault
from rater.model.errors import RejectedError
from rater.model.interval import Interval, period_of
from rater.model.labels import canonical_series
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.partition import partition_of
from rater.model.usage import Collection, QuarantinedItem, Sample, ScopePlan

__all__ = ["Intake", "Limits", "Taken"]

MAX_PERIODS = 20_000  # as the engine's limit for one record or plan
MAX_RECORD_BYTES = 900_000  # under the 1 MB that brokers take by default
MAX_KEY = 255
MAX_NAMED = 20  # metrics that a fault lists


class Limits(NamedTuple):
    """What one request may hold."""

    samples: int
    period: int
    """Seconds of a processing period."""


class Taken(NamedTuple):
    """What is written for a request, and the answer once it is."""

    records: list[Record]
    accepted: Accepted


class Intake:
    """What requests are judged by. Never changed, shared by all of them."""

    def __init__(self, catalog: Catalog, limits: Limits, topic: str, partitions: int) -> None:
        self.catalog = catalog
        self.limits = limits
        self._topic = topic
        self._partitions = partitions

    def take(self, push: UsagePush, key: str, allowed: Callable[[str, str], bool]) -> Taken:
        """The records of a request with that Idempotency-Key, or none. `allowed` is asked for (scope_id, source).

        Raises RefusalError: 413 for too many samples, 403 for what is not allowed, 422 for everything else.
        """
        samples = len(push.samples) + sum(len(c.samples) for c in push.collections)
        if samples > self.limits.samples:
            raise RefusalError(413, f"{samples} samples in one request: at most {self.limits.samples} are taken")
        draft = _Draft(self, push, key)
        draft.check_frame()
        _check_allowed(push, allowed)
        draft.plans()
        draft.collections()
        draft.samples()
        draft.check_numbers()
        draft.faults.refuse(422)
        return Taken(draft.records, self._accepted(push, draft, samples))

    def _accepted(self, push: UsagePush, draft: _Draft, samples: int) -> Accepted:
        counts: dict[str, int] = {}
        for record in draft.records:
            counts[record.scope_id] = counts.get(record.scope_id, 0) + 1
        scopes = [
            AcceptedScope(
                scope_id,
                partition_of(scope_id.encode(), self._partitions),
                count,
                push.sequences[scope_id] + draft.used[scope_id]
                if push.producer_id and scope_id in draft.used
                else None,
            )
            for scope_id, count in counts.items()
        ]
        return Accepted(self._topic, len(draft.records), samples, len(push.collections), len(push.plans), scopes)


def _check_allowed(push: UsagePush, allowed: Callable[[str, str], bool]) -> None:
    faults, judged = Faults(), dict[tuple[str, str], bool]()
    lists: Sequence[tuple[str, Sequence[PushedSample | PushedCollection | PushedPlan]]] = (
        ("plans", push.plans),
        ("collections", push.collections),
        ("samples", push.samples),
    )
    for name, items in lists:
        for number, item in enumerate(items):
            pair = (item.scope_id, item.source or push.source or "")
            if pair not in judged:
                judged[pair] = allowed(*pair)
                if not judged[pair]:
                    faults.add(f"{name}[{number}]", f"the token may not push scope {pair[0]!r} of source {pair[1]!r}")
    faults.refuse(403)


class _Draft:
    """One request on its way to records, with the faults found so far."""

    def __init__(self, intake: Intake, push: UsagePush, key: str) -> None:
        self.faults = Faults()
        self.records: list[Record] = []
        self.used: dict[str, int] = {}
        """Numbers used so far, by scope."""
        self._intake = intake
        self._period = intake.limits.period
        self._push = push
        self._key = key
        self._keyed: dict[tuple[str, str, str], int] = {}
        """The same for requests with a key: by scope, source and metric."""

    # --- the request as a whole

    def check_frame(self) -> None:
        """Whether it says who sends it, and holds anything."""
        push, faults = self._push, self.faults
        if not push.samples and not push.collections and not push.plans:
            faults.add("", "holds neither samples nor collections nor plans")
        if push.producer_id is None and push.sequences:
            faults.add("producer_id", "is missing: sequences are those of a producer")
        if push.producer_id is not None and self._key:
            faults.add("producer_id", "stands beside the header Idempotency-Key: send one of them")
        if len(self._key) > MAX_KEY:
            faults.add("", f"the header Idempotency-Key has {len(self._key)} characters: at most {MAX_KEY} are taken")
        if push.producer_id is None and not self._key and (push.samples or push.collections):
            faults.add(
                "",
                "has neither producer_id and sequences nor the header Idempotency-Key: repeated, it would count twice",
            )

    def check_numbers(self) -> None:
        """Whether each scope has a number, and not more records than a repetition is known by."""
        push = self._push
        if push.producer_id is None or len(self.faults):  # of what is faulty the numbers are not known
            return
        for scope_id, count in self.used.items():
            if scope_id not in push.sequences:
                self.faults.add("sequences", f"has no number for scope {scope_id!r}")
            elif count > MAX_SCOPE_RECORDS:
                self.faults.add(
                    "",
                    f"scope {scope_id!r} makes {count} records: at most {MAX_SCOPE_RECORDS} in one request, split it",
                )
        for scope_id in push.sequences.keys() - self.used.keys():
            self.faults.add("sequences", f"has a number for scope {scope_id!r}, which has no samples here")

    def _number(self, scope_id: str, source: str, metric: str, count: int) -> tuple[str, int]:
        """Producer and first number of the next `count` records."""
        push = self._push
        first = self.used.get(scope_id, 0)
        self.used[scope_id] = first + count
        if push.producer_id is not None:
            return push.producer_id, push.sequences.get(scope_id, 0) + first
        group = (scope_id, source, metric)
        first = self._keyed.get(group, 0)
        self._keyed[group] = first + count
        named = encode_json([self._key, source, metric])
        return f"key-{blake2b(named, digest_size=16).hexdigest()}", first

    # --- what every item needs

    def _source(self, own: str | None, place: str) -> str:
        source = own or self._push.source
        if source is None:
            self.faults.add(f"{place}.source", "is missing, and so is the request's")
        return source or ""

    def _metric(self, name: str, unit: str | None, proof: Coverage, place: str) -> MetricSpec | None:
        spec = self._intake.catalog.get(name)
        if spec is None:
            known = self._intake.catalog.names()
            listed = ", ".join(known[:MAX_NAMED]) + (", …" if len(known) > MAX_NAMED else "")
            self.faults.add(f"{place}.metric", f"{name!r} is unknown: use {listed or 'none, no metric is declared'}")
            return None
        if unit is not None and unit != spec.unit:
            self.faults.add(f"{place}.unit", f"is {unit!r}: metric {name!r} is declared in {spec.unit!r}")
        if spec.proof is not proof:
            other = "send it as a collection" if proof is Coverage.SAMPLES else "send its samples by themselves"
            self.faults.add(f"{place}.metric", f"{name!r} has `proof: {spec.proof.value}`: {other}")
        return spec

    def _instant(self, value: int | str, place: str, field: str) -> int:
        if isinstance(value, int):
            return value
        try:
            return instant(value, field)
        except RejectedError as fault:
            self.faults.add(f"{place}.{field}", str(fault).removeprefix(f"{field} "))
            return -1

    def _sample(self, item: PushedSample | PushedValue, table: Table, place: str) -> Value | None:
        begin = self._instant(item.begin, place, "begin")
        end = begin if item.end is None else self._instant(item.end, place, "end")
        if begin < 0 or end < 0:
            return None
        if end < begin:
            self.faults.add(f"{place}.end", f"is {item.end}, before begin {item.begin}")
        fault = quantity_fault(item.qty)
        if fault:
            self.faults.add(f"{place}.qty", fault)
        try:
            return table.series(item.groupby, item.metadata), Sample(0, begin, end, item.qty)
        except RejectedError as refused:
            self.faults.add(place, str(refused))
            return None

    def _add(self, scope_id: str, record: Collection | ScopePlan, place: str) -> None:
        value = encode_msgpack(record)
        if len(value) > MAX_RECORD_BYTES:
            self.faults.add(
                place,
                f"scope {scope_id!r} makes a record of {len(value)} bytes: at most {MAX_RECORD_BYTES} are taken, send "
                "fewer samples of one metric at once, or shorter labels",
            )
        self.records.append(Record(scope_id, value))

    # --- plans

    def plans(self) -> None:
        """The records of plans."""
        for number, plan in enumerate(self._push.plans):
            place = f"plans[{number}]"
            source = self._source(plan.source, place)
            for position, name in enumerate(plan.metrics):
                if self._intake.catalog.get(name) is None:
                    self.faults.add(f"{place}.metrics[{position}]", f"{name!r} is unknown")
            begin = self._instant(plan.begin, place, "begin")
            until = None if plan.until is None else self._instant(plan.until, place, "until")
            if begin < 0 or (until is not None and self._is_wrong_range(begin, until, place)):
                continue
            self._add(plan.scope_id, ScopePlan(source, plan.scope_id, begin, until, plan.metrics), place)

    def _is_wrong_range(self, begin: int, end: int, place: str) -> bool:
        if begin < 0 or end < 0:
            return True
        if begin >= end:
            self.faults.add(place, f"[{begin}, {end}) holds no time: begin must be before its end")
        elif (end - begin) // self._period > MAX_PERIODS:
            self.faults.add(place, f"[{begin}, {end}) spans more than {MAX_PERIODS} periods of {self._period} s")
        else:
            return False
        return True

    # --- explicit collections

    def collections(self) -> None:
        """The records of collections, each of one or more parts."""
        for number, collection in enumerate(self._push.collections):
            place = f"collections[{number}]"
            source = self._source(collection.source, place)
            spec = self._metric(collection.metric, collection.unit, Coverage.COLLECTION, place)
            begin = self._instant(collection.begin, place, "begin")
            end = self._instant(collection.end, place, "end")
            if self._is_wrong_range(begin, end, place):
                continue
            covers = self._covers(collection, Interval(begin, end), place)
            values = self._values(collection, Interval(begin, end), place)
            quarantined = self._quarantined(collection, place)
            if spec is not None:
                head = Head(source, collection.scope_id, spec, begin, end, collection.attempt, collection.proof)
                self._parts(head, values, place, covers=covers, quarantined=quarantined, note=collection.note)

    def _covers(self, collection: PushedCollection, span: Interval, place: str) -> list[Interval]:
        covers = []
        for number, (first, last) in enumerate(collection.covers):
            where = f"{place}.covers[{number}]"
            begin, end = self._instant(first, where, "begin"), self._instant(last, where, "end")
            if begin < 0 or end < 0:
                continue
            if not span.begin <= begin < end <= span.end:
                self.faults.add(where, f"[{begin}, {end}) does not lie within the range [{span.begin}, {span.end})")
            covers.append(Interval(begin, end))
        return covers

    def _values(self, collection: PushedCollection, span: Interval, place: str) -> list[Value]:
        table, values = Table(), []
        for number, item in enumerate(collection.samples):
            where = f"{place}.samples[{number}]"
            value = self._sample(item, table, where)
            if value is None:
                continue
            if not span.begin <= value[1].begin < span.end:
                self.faults.add(f"{where}.begin", f"is {item.begin}, outside [{span.begin}, {span.end})")
            values.append(value)
        return values

    def _quarantined(self, collection: PushedCollection, place: str) -> list[QuarantinedItem]:
        for number, item in enumerate(collection.quarantined):
            try:
                canonical_series(item.groupby, item.metadata)
            except RejectedError as fault:
                self.faults.add(f"{place}.quarantined[{number}]", str(fault))
        return collection.quarantined

    def _parts(self, head: Head, values: list[Value], place: str, **first_part: Any) -> None:
        """The records of one collection; `quarantined` stands in its first part."""
        parts = chunks_of(len(values))
        producer_id, first = self._number(head.scope_id, head.source, head.spec.name, parts)
        quarantined = first_part.pop("quarantined")
        records = [
            head.record(
                values[part * CHUNK_SAMPLES : (part + 1) * CHUNK_SAMPLES],
                producer_id,
                first + part,
                collection_id=f"{producer_id}-{first}",
                part=part,
                parts=parts,
                quarantined=[] if part else quarantined,
                **first_part,
            )
            for part in range(parts)
        ]
        for record in _named(records):
            self._add(head.scope_id, record, place)

    # --- loose samples

    def samples(self) -> None:
        """The records of samples, by scope, source and metric in the order in which they first appear."""
        groups: dict[tuple[str, str | None, str], Group | None] = {}
        for number, item in enumerate(self._push.samples):
            key = (item.scope_id, item.source or self._push.source, item.metric)
            if key not in groups:
                groups[key] = self._group(item, f"samples[{number}]")
            group = groups[key]
            if group is not None:
                self._take(item, group, f"samples[{number}]")
        for group in filter(None, groups.values()):
            self._write(group)

    def _group(self, item: PushedSample, place: str) -> Group | None:
        source = self._source(item.source, place)
        spec = self._metric(item.metric, None, Coverage.SAMPLES, place)
        return None if spec is None else Group(item.scope_id, source, spec)

    def _take(self, item: PushedSample, group: Group, place: str) -> None:
        if item.unit is not None and item.unit != group.spec.unit:
            self.faults.add(f"{place}.unit", f"is {item.unit!r}: {item.metric!r} is declared in {group.spec.unit!r}")
        taken = self._sample(item, group.table, place)
        if taken is None:
            return
        sample = taken[1]
        if sample.end > period_of(sample.begin, self._period).end:
            self.faults.add(
                f"{place}.end",
                f"is {item.end}, in another period than begin {item.begin}: split it at the full {self._period} s",
            )
        group.samples.append(taken)

    def _write(self, group: Group) -> None:
        chunks = chunks_of(len(group.samples))
        producer_id, first = self._number(group.scope_id, group.source, group.spec.name, chunks)
        for chunk in range(chunks):
            samples = group.samples[chunk * CHUNK_SAMPLES : (chunk + 1) * CHUNK_SAMPLES]
            if not samples:  # all of them are faulty: there is nothing to write, and a fault says so
                continue
            begin = min(sample.begin for _, sample in samples)
            end = max(max(sample.end, sample.begin + 1) for _, sample in samples)
            if self._is_wrong_range(begin, end, ""):
                continue
            head = Head(group.source, group.scope_id, group.spec, begin, end, 0, "proven")
            record = head.record(samples, producer_id, first + chunk, collection_id=f"{producer_id}-{first + chunk}")
            for named in _named([record]):
                self._add(group.scope_id, named, "")


def _named(parts: Sequence[Collection]) -> list[Collection]:
    """The parts of a collection, under an id that is also one of their content.

    What comes under a used number or key is refused by the engine, and stored beside what was taken: under one id it
    would replace it in table `usage`, and be rated by the next rework.
    """
    digest = blake2b(b"".join(map(encode_msgpack, parts)), digest_size=8).hexdigest()
    return [msgspec.structs.replace(part, collection_id=f"{part.collection_id}-{digest}") for part in parts]
