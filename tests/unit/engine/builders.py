"""Short ways to make records, states and rules for the tests of the engine."""

from __future__ import annotations

from decimal import Decimal
from itertools import count

from rater.engine import EngineContext, EngineSettings, PartitionState, Record, apply, decide
from rater.model.codec import CONTENT_TYPE, JSON, decode_alert, decode_rated, encode_json
from rater.model.interval import Interval
from rater.model.metric import Aggregation, Catalog, Coverage, MetricSpec
from rater.model.rated import Alert, AlertKind, RatedFrame
from rater.model.rules import (
    FieldCreated,
    Field,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.model.usage import Collection, Sample, Series, UsageRecord
from rater.rating import Compiler, RuleBook

HOUR = 3600
T = 1_767_225_600  # 2026-01-01T00:00:00Z
_sequence = count()

CATALOG = Catalog(
    [
        MetricSpec("cpu"),
        MetricSpec("disk", unit="GiB", aggregation=Aggregation.MAX),
        MetricSpec("net", proof=Coverage.SAMPLES, resolution=60),
        *(MetricSpec(f"m_{a.value}", aggregation=a) for a in Aggregation),
    ]
)


def context(**settings: object) -> EngineContext:
    return EngineContext(EngineSettings(**settings), CATALOG)  # type: ignore[arg-type]  # kwargs of the tests


def state(partitions: int = 1) -> PartitionState:
    return PartitionState(0, partitions, HOUR)


def sample(begin: int, qty: str, end: int | None = None, series: int = 0) -> Sample:
    return Sample(series, begin, begin if end is None else end, Decimal(qty))


def collection(begin: int = T, end: int = T + HOUR, qty: str | None = "1", **changes: object) -> Collection:
    fields: dict[str, object] = {
        "source": "prom",
        "scope_id": "A",
        "metric": "cpu",
        "begin": begin,
        "end": end,
        "attempt": 1,
        "collection_id": f"c{begin}-{end}",
        "producer_id": "p",
        "sequence": next(_sequence),
        "covers": [Interval(begin, end)],
        "series": [Series({"id": "vm1"}, {"flavor": "tiny"})] if qty is not None else [],
        "samples": [sample(begin, qty, end)] if qty is not None else [],
    }
    return Collection(**{**fields, **changes})  # type: ignore[arg-type]  # kwargs of the tests


class Log:
    """A partition of `usage` in memory; `at` is the broker's clock in seconds."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.at = T + HOUR

    def add(self, record: UsageRecord) -> Record:
        return self.raw(encode_json(record), record.scope_id.encode())

    def raw(self, value: bytes, key: bytes | None = b"A", form: str = JSON) -> Record:
        made = Record(len(self.records), self.at * 1000, key, value, ((CONTENT_TYPE, form.encode()),))
        self.records.append(made)
        return made


class Bench:
    """A state with its log: apply what is given, decide at a given hour, read what came out."""

    def __init__(self, rules: Compiler | None = None, **settings: object) -> None:
        self.context = context(**settings)
        self.state = state()
        self.log = Log()
        self.rules = rules or price_list()

    def take(self, *records: UsageRecord, at: int | None = None) -> None:
        if at is not None:
            self.log.at = at
        for record in records:
            apply(self.state, self.log.add(record), self.context)

    def take_raw(self, value: bytes, key: bytes | None = b"A", form: str = JSON) -> None:
        apply(self.state, self.log.raw(value, key, form), self.context)

    def decide(self, now: int) -> list[RatedFrame]:
        """Decides; the frames published since the last call. Alerts and refusals stay for `alerts`, `rejected`."""
        decide(self.state, now, self.rules, self.context)
        found = [decode_rated(i.value, JSON) for i in self.state.outbox if i.topic == "rated"]
        self.state.outbox[:] = [i for i in self.state.outbox if i.topic != "rated"]
        return found

    def alerts(self, kind: AlertKind | None = None) -> list[Alert]:
        found = [decode_alert(i.value, JSON) for i in self.state.outbox if i.topic == "alerts"]
        self.state.outbox[:] = [i for i in self.state.outbox if i.topic != "alerts"]
        return [alert for alert in found if kind is None or alert.kind is kind]

    def rejected(self) -> list[str]:
        found = [dict(i.headers)["reason"].decode() for i in self.state.outbox if i.topic == "rejected"]
        self.state.outbox[:] = [i for i in self.state.outbox if i.topic != "rejected"]
        return found


def _uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def price_list() -> Compiler:
    """cpu: 0.1 a unit, and 7 more for flavor `huge`; disk: a threshold on label `size`, which text cannot pass."""
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
    event = RuleEvent(expected_version=0, author="test", reason="", created_at=0, changes=list(changes))
    book, outcome = RuleBook.empty().apply(event)
    assert book.version == 1, outcome
    return Compiler(book)
