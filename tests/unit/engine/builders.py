"""Short ways to make records, states and rules for the tests of the engine."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from rater.engine import EngineContext, EngineSettings, OutboxItem, PartitionState, Record, apply, decide
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, decode_alert, decode_rated, encode_json, encode_msgpack
from rater.model.interval import Interval
from rater.model.metric import Aggregation, Catalog, Coverage, MetricSpec
from rater.model.rated import Alert, AlertKind, RatedFrame
from rater.model.rules import (
    Field,
    FieldCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.model.usage import (
    Collection,
    CollectionFailed,
    FrameForced,
    QuarantinedItem,
    Sample,
    ScopePlan,
    Series,
    UsageRecord,
)
from rater.rating import Chain, RuleBook

HOUR = 3600
T = 1_767_225_600  # 2026-01-01T00:00:00Z
HALF = HOUR // 2
GRACE = 3 * HOUR  # the hour in which a frame closes that nothing delays: its period and two more
VM1 = Series({"id": "vm1"}, {"flavor": "tiny"})
VM2 = Series({"id": "vm2"}, {"flavor": "tiny"})
HUGE = Series({"id": "vm3"}, {"flavor": "huge"})
_names = count()

CATALOG = Catalog(
    [
        MetricSpec("cpu"),
        MetricSpec("disk", unit="GiB", aggregation=Aggregation.MAX),
        MetricSpec("net", proof=Coverage.SAMPLES, resolution=60),
        *(MetricSpec(f"m_{a.value}", aggregation=a) for a in Aggregation),
    ]
)


def context(**settings: Any) -> EngineContext:
    return EngineContext(msgspec.convert(settings, EngineSettings), CATALOG)


def state(partition: int = 0, partitions: int = 1) -> PartitionState:
    return PartitionState(partition, partitions, HOUR)


def sample(begin: int, qty: str = "1", end: int | None = None, series: int = 0) -> Sample:
    return Sample(series, begin, begin if end is None else end, Decimal(qty))


def collection(begin: int = T, end: int = T + HOUR, qty: str | None = "1", **changes: Any) -> Collection:
    """A complete answer for scope A and metric cpu: one sample of vm1 over all of the range, or an empty one.

    Batches that say no `sequence` are the only one of their producer.
    """
    producer_id, sequence = ("p", 0) if "sequence" in changes else (f"p{next(_names)}", 0)
    part = Collection(
        source="prom",
        scope_id="A",
        metric="cpu",
        begin=begin,
        end=end,
        attempt=1,
        collection_id=f"c{begin}-{end}",
        producer_id=producer_id,
        sequence=sequence,
        covers=[Interval(begin, end)],
        series=[VM1] if qty is not None else [],
        samples=[sample(begin, qty, end)] if qty is not None else [],
    )
    return msgspec.structs.replace(part, **changes)


def push(*samples: Sample, begin: int = T, end: int = T + HOUR, **changes: Any) -> Collection:
    """Samples that a source without plan or proof pushes: metric net."""
    return collection(begin, end, metric="net", source="push", covers=[], samples=list(samples), **changes)


def plan(*metrics: str, begin: int = T, until: int | None = None, source: str = "prom") -> ScopePlan:
    return ScopePlan(source, "A", begin, until, list(metrics))


def failed(begin: int = T, end: int = T + HOUR, reason: str = "timeout", metric: str = "cpu") -> CollectionFailed:
    return CollectionFailed("prom", "A", metric, begin, end, reason)


def forced(period_begin: int = T) -> FrameForced:
    return FrameForced("A", period_begin, "kim", "month end")


def not_a_number(value: str = "NaN", **labels: str) -> QuarantinedItem:
    return QuarantinedItem(value, "not a finite number", labels)


class Log:
    """A partition of `usage` in memory; `at` is the broker's clock in seconds."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.at = T + HOUR

    def add(self, record: UsageRecord, form: str = JSON) -> Record:
        encode = encode_msgpack if form == MSGPACK else encode_json
        return self.raw(encode(record), record.scope_id.encode(), form)

    def raw(self, value: bytes, key: bytes | None = b"A", form: str = JSON) -> Record:
        made = Record(len(self.records), self.at * 1000, key, value, ((CONTENT_TYPE, form.encode()),))
        self.records.append(made)
        return made


class Bench:
    """A state with its log: apply what is given, decide at a given hour, read what came out."""

    def __init__(self, rules: Chain | None = None, **settings: Any) -> None:
        self.context = context(**settings)
        self.state = state()
        self.log = Log()
        self.rules = rules or price_list()

    def take(self, *records: UsageRecord, at: int | None = None, form: str = JSON) -> None:
        if at is not None:
            self.log.at = at
        for record in records:
            apply(self.state, self.log.add(record, form), self.context)

    def take_raw(self, value: bytes, key: bytes | None = b"A", form: str = JSON) -> None:
        apply(self.state, self.log.raw(value, key, form), self.context)

    def decide(self, now: int, *, caught_up: bool = True) -> list[RatedFrame]:
        """Decides; the frames published since the last call. Alerts and refusals stay for `alerts`, `rejected`."""
        decide(self.state, now, self.rules, self.context, caught_up=caught_up)
        return [decode_rated(item.value, JSON) for item in self._drain("rated")]

    def one(self, now: int) -> RatedFrame:
        """The same for the case that exactly one part of a frame is published."""
        (frame,) = self.decide(now)
        return frame

    def alerts(self, kind: AlertKind | None = None) -> list[Alert]:
        found = [decode_alert(item.value, JSON) for item in self._drain("alerts")]
        return [alert for alert in found if kind is None or alert.kind is kind]

    def rejected(self) -> list[str]:
        """The reasons of what was refused since the last call."""
        return [dict(item.headers)["reason"].decode() for item in self._drain("rejected")]

    def _drain(self, topic: str) -> list[OutboxItem]:
        found = [item for item in self.state.outbox if item.topic == topic]
        self.state.outbox[:] = [item for item in self.state.outbox if item.topic != topic]
        return found


def full_bench() -> Bench:
    """Something in every field of the state."""
    bench = Bench(late_horizon_periods=0)
    bench.take(plan("cpu"), collection(), at=T + HOUR)
    bench.decide(T + HOUR)
    bench.take(collection(T + HOUR, T + HOUR + 60, quarantined=[not_a_number()]), failed(T + HOUR, T + 2 * HOUR))
    bench.take(push(sample(T + HOUR, "2.50"), begin=T + HOUR, end=T + 2 * HOUR), forced(T + 2 * HOUR))
    bench.take(collection(T + HOUR, T + 2 * HOUR, metric="m_delta", part=1, parts=3, series=[VM1, VM2]))
    decide(bench.state, T + HOUR + GRACE, bench.rules, bench.context)
    bench.take(collection(T, T + HOUR, attempt=7), at=T + HOUR + GRACE)
    bench.take_raw(b"nonsense")
    return bench


def quantities(frame: RatedFrame) -> dict[str, Decimal]:
    """Quantity by label `id`, of the lines of all metrics."""
    return {str(line.groupby["id"]): line.qty for line in frame.lines}


def holes(frame: RatedFrame) -> list[tuple[int, int]]:
    """Gaps of the frame in minutes after T."""
    return [((gap.begin - T) // 60, (gap.end - T) // 60) for gap in frame.gaps]


def _uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def price_list() -> Chain:
    """cpu: 0.1 a unit, and 7 for flavor `huge`; disk: a threshold on label `size`, which text cannot pass."""
    changes = (
        ModuleSet("hashmap", True),
        ServiceCreated(Service(_uuid(1), "cpu")),
        MappingCreated(MappingRule(_uuid(2), Decimal("0.1"), service_id=_uuid(1))),
        FieldCreated(Field(_uuid(3), _uuid(1), "flavor")),
        MappingCreated(MappingRule(_uuid(4), Decimal(7), value="huge", field_id=_uuid(3))),
        ServiceCreated(Service(_uuid(5), "disk")),
        FieldCreated(Field(_uuid(6), _uuid(5), "size")),
        ThresholdCreated(ThresholdRule(_uuid(7), level=Decimal(1), cost=Decimal(2), field_id=_uuid(6))),
    )
    event = RuleEvent(expected_version=0, author="test", reason="", created_at=0, changes=changes)
    book, outcome = RuleBook.empty().apply(event)
    assert book.version == 1, outcome
    return Chain(book)
