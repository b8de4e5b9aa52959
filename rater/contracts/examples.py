"""Records as they stand in the topics, made by the code that makes the real ones: a morning of one scope.

The engine takes usage, decides at given hours, and what it was given and what it said are the examples. No clock and
no chance: the same code always makes the same files, `schemas/examples/TOPIC/NAME.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from rater.engine import EngineContext, EngineSettings, OutboxItem, PartitionState, Record, apply, decide
from rater.kafka import Topic
from rater.model.codec import CONTENT_TYPE, JSON, Headers, decode_alert, decode_rated, encode_json
from rater.model.events import with_source
from rater.model.interval import Interval
from rater.model.metric import Catalog, MetricSpec
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import AlertKind, RatedFrame
from rater.model.requests import FramesAsked, FramesOver, ScopeAdded, ScopeOutcome, ScopeSwitched, SwitchesSent
from rater.model.rules import MappingCreated, MappingRule, ModuleSet, RuleEvent, Service, ServiceCreated
from rater.model.usage import (
    Collection,
    CollectionFailed,
    FrameBase,
    FrameForced,
    GapAccepted,
    QuarantinedItem,
    ReworkBegun,
    ReworkEnded,
    ReworkLines,
    Sample,
    ScopePlan,
    ScopeSwitch,
    Series,
    UsageRecord,
)
from rater.rating import Chain, RuleBook

__all__ = ["PREFIX", "Example", "examples"]

PREFIX = "rater."
"""Of the topics in which the examples would stand."""

_HOUR = 3600
_T = 1_767_225_600  # 2026-01-01T00:00:00Z
_SERVICE_ID, _MAPPING_ID = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2))
_REWORK_ID = "6f1d4c52a3b0"
_UNITS = {"cpu": "vCPU", "volume.size": "GiB"}
_JSON_HEADERS: Headers = ((CONTENT_TYPE, JSON.encode()),)
_VM = Series({"id": "vm-1", "project_id": "projA"}, {"flavor": "m1.small"})
_DISK = Series({"id": "disk-7", "project_id": "projA"}, {"volume_type": "ssd"})


class Example(NamedTuple):
    """One record; `value` is JSON, or any text in `rejected`."""

    topic: Topic
    name: str
    key: str
    headers: Mapping[str, str]
    value: bytes

    @property
    def shown(self) -> Any:
        """What its file shows: the value; of a refused record its headers, since its value may be anything."""
        return dict(self.headers) if self.topic is Topic.REJECTED else msgspec.json.decode(self.value)


def examples() -> list[Example]:
    """All of them, by topic and in the order of the morning; names are unique within a topic."""
    found: dict[tuple[Topic, str], Example] = {}
    for example in _made():
        found.setdefault((example.topic, example.name), example)
    return sorted(found.values(), key=lambda example: list(Topic).index(example.topic))


def _made() -> Iterator[Example]:
    for event in (_RULES,):
        yield _example(Topic.RULES, "", encode_json(event), _JSON_HEADERS)
    for request in _requests():
        yield _example(Topic.REQUESTS, "", encode_json(request), _JSON_HEADERS)
    morning = _Morning()
    morning.run()
    for record in morning.taken:
        if record.value != b"cpu=4":
            yield _example(Topic.USAGE, (record.key or b"").decode(), record.value, record.headers)
    for item in morning.said:
        topic = Topic(item.topic)
        headers = with_source(item.headers, PREFIX + topic.value)
        yield _example(topic, (item.key or b"").decode(), item.value, headers)


def _example(topic: Topic, key: str, value: bytes, headers: Headers) -> Example:
    texts = {name: text.decode() for name, text in headers}
    return Example(topic, _name(topic, value, texts), key, texts, value)


def _name(topic: Topic, value: bytes, headers: Mapping[str, str]) -> str:
    """Of what the record is an example."""
    if topic is Topic.REJECTED:
        return "late" if "late" in headers["reason"] else "unreadable"
    record = msgspec.json.decode(value)
    if record["type"] == "alert":
        words = [str(record["kind"])]
    elif record["type"] == "rated_frame":
        words = ["frame", record["status"], "revised"] if record["revision"] else ["frame", record["status"]]
    elif record["type"] == "collection" and not record.get("samples"):
        words = ["collection", "empty"]
    else:
        words = [str(record["type"])]
    return "-".join(words).replace("_", "-")


_RULES = RuleEvent(
    expected_version=0,
    author="kim",
    reason="first prices",
    created_at=_T,
    changes=(
        ModuleSet("hashmap", True),
        ServiceCreated(Service(_SERVICE_ID, "cpu")),
        MappingCreated(MappingRule(_MAPPING_ID, Decimal("0.015"), service_id=_SERVICE_ID)),
    ),
)


def _requests() -> Iterator[FramesAsked | FramesOver | ScopeAdded | ScopeSwitched | SwitchesSent]:
    asked_at = _T + 6 * _HOUR
    yield ScopeAdded("projC", _T, "kim", asked_at)
    yield FramesAsked("reset-1", "reset", ("projA",), _T, _T + _HOUR, "kim", "wrong price", asked_at)
    yield FramesOver("reset-1", (ScopeOutcome("projA", done=1),), asked_at + 30)
    yield ScopeSwitched("projA", False, _T + 7 * _HOUR, "kim", asked_at)
    yield SwitchesSent(1)


class _Morning:
    """A partition of `usage` from its first record on: what was `taken`, and what was `said` in answer."""

    def __init__(self) -> None:
        book, _ = RuleBook.empty().apply(_RULES)
        catalog = Catalog(MetricSpec(metric, unit) for metric, unit in _UNITS.items())
        self.context = EngineContext(EngineSettings(late_horizon_periods=4, gap_horizon_periods=4), catalog)
        self.rules = Chain(book)
        self.state = PartitionState(0, 1, _HOUR)
        self.taken: list[Record] = []
        self.said: list[OutboxItem] = []
        self._sent: dict[str, int] = {}

    def run(self) -> None:
        """Takes it all in and decides."""
        self._collect()
        self._repair()
        self._rate_again()
        self._come_late()

    def _collect(self) -> None:
        """An hour in which all is there; one with holes, and a failure that explains one; one with a value that is no
        number; one in which nothing was used.
        """
        plan = ScopePlan("prometheus", "projA", _T, _T + 5 * _HOUR, ["cpu", "volume.size"])
        self._take(_T + _HOUR, plan, _cpu(0), _volume(0))
        self._decide(_T + _HOUR + 60)
        nothing: dict[str, Any] = {"series": [], "samples": [], "note": "no series, and every target was up"}
        broken = QuarantinedItem("NaN", "is no finite number", dict(_VM.groupby), dict(_VM.metadata))
        self._take(
            _T + 4 * _HOUR,
            _cpu(1, covers=[Interval(_T + _HOUR, _T + _HOUR + 1800)]),
            CollectionFailed(
                "prometheus", "projA", "volume.size", _T + _HOUR, _T + 2 * _HOUR, "503 Service Unavailable"
            ),
            _cpu(2, quarantined=[broken]),
            _volume(2, **nothing),
            _cpu(3, **nothing),
            _volume(3, **nothing),
        )
        self._decide(_T + 5 * _HOUR)

    def _repair(self) -> None:
        """One hole is lived with, the other filled; an hour is closed by force."""
        opened = [decode_alert(item.value, JSON) for item in self.said if item.topic == "alerts"]
        gap = next(alert for alert in opened if alert.kind is AlertKind.GAP_OPENED and alert.metric == "volume.size")
        accepted = GapAccepted(
            gap.alert_id,
            gap.scope_id,
            gap.metric,
            gap.source,
            gap.period_begin,
            gap.begin,
            gap.end,
            "kim",
            "the volume service was down, nothing could be used",
        )
        forced = FrameForced("projA", _T + 4 * _HOUR, "kim", "month end")
        self._take(_T + 5 * _HOUR, accepted, _cpu(1, attempt=2), forced)
        self._decide(_T + 5 * _HOUR + 60)

    def _rate_again(self) -> None:
        """A rework of the first hour, whose machine had twice as many processors."""
        frames = [decode_rated(item.value, JSON) for item in self.said if item.topic == "rated"]
        frame = frames[0]
        better = _cpu(0, qty="4", attempt=2, rework_id=_REWORK_ID, producer_id=f"rework-{_REWORK_ID}")
        stored = _volume(0, rework_id=_REWORK_ID, producer_id=f"rework-{_REWORK_ID}", stored=True)
        lines = [
            ReworkLines(_REWORK_ID, "projA", _T, "cpu", [_VM]),
            ReworkLines(_REWORK_ID, "projA", _T, "volume.size", [_DISK]),
        ]
        records: list[UsageRecord] = [*lines, better, stored]
        begun = ReworkBegun(_REWORK_ID, "reprocess", "projA", _T, "kim", "the flavor was wrong", _base(frame))
        self._take(_T + 5 * _HOUR + 120, begun, *records, ReworkEnded(_REWORK_ID, "projA", _T, len(records)))
        self._decide(_T + 5 * _HOUR + 180)

    def _come_late(self) -> None:
        """Posted lines; a scope is switched off; usage of an hour that has left the state; a record that is none."""
        line = PostedLine(0, "licence", _T, _T + _HOUR, Decimal(1), Decimal("12.50"), "seat", {"id": "db-1"})
        self._take(_T + 9 * _HOUR, PostedLines("projA", "5f" * 16, [line], author="shop"))
        self._decide(_T + 9 * _HOUR)
        self._take(_T + 9 * _HOUR + 60, _cpu(0, attempt=3))
        self._take(_T + 9 * _HOUR + 60, ScopeSwitch("projA", 1, False, _T + 10 * _HOUR, "kim"))
        self._take_raw(_T + 9 * _HOUR + 60, b"projA", b"cpu=4")
        self._decide(_T + 9 * _HOUR + 120)

    def _take(self, recorded_at: int, *records: UsageRecord) -> None:
        for record in records:
            numbered = self._numbered(record) if isinstance(record, Collection) else record
            self._take_raw(recorded_at, record.scope_id.encode(), encode_json(numbered))

    def _numbered(self, part: Collection) -> Collection:
        number = self._sent[part.producer_id] = self._sent.get(part.producer_id, -1) + 1
        return msgspec.structs.replace(part, sequence=number)

    def _take_raw(self, recorded_at: int, key: bytes, value: bytes) -> None:
        record = Record(len(self.taken), recorded_at * 1000, key, value, _JSON_HEADERS)
        self.taken.append(record)
        apply(self.state, record, self.context)

    def _decide(self, now: int) -> None:
        decide(self.state, now, self.rules, self.context)
        self.said += self.state.outbox
        self.state.outbox.clear()


def _cpu(hour: int, qty: str = "2", **changes: Any) -> Collection:
    return _collection("cpu", hour, _VM, qty, changes)


def _volume(hour: int, **changes: Any) -> Collection:
    return _collection("volume.size", hour, _DISK, "100", changes)


def _collection(metric: str, hour: int, series: Series, qty: str, changes: Mapping[str, Any]) -> Collection:
    begin, end = _T + hour * _HOUR, _T + (hour + 1) * _HOUR
    made = Collection(
        source="prometheus",
        scope_id="projA",
        metric=metric,
        begin=begin,
        end=end,
        attempt=1,
        collection_id=f"{metric}-{hour}",
        producer_id="collector-0",
        sequence=0,
        unit=_UNITS[metric],
        covers=[Interval(begin, end)],
        series=[series],
        samples=[Sample(0, begin, end, Decimal(qty))],
    )
    return msgspec.structs.replace(made, **changes)


def _base(frame: RatedFrame) -> FrameBase:
    return FrameBase(
        frame.revision, frame.digest, frame.rule_version, frame.closed_at, frame.expected_until, totals=frame.totals
    )
