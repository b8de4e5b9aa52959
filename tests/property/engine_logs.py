"""Strategies for logs of one partition, and a model of the shell that reads, checkpoints, publishes and crashes.

Everything happens on a grid of ten minutes in a few hours, so that collections meet, overlap, repeat and contradict.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from hypothesis import strategies as st

from rater.engine import (
    EngineContext,
    OutboxItem,
    PartitionState,
    Record,
    apply,
    decide,
    decode_snapshot,
    encode_snapshot,
)
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, encode_json, encode_msgpack
from rater.model.interval import Interval, clip
from rater.model.usage import (
    Collection,
    CollectionFailed,
    FrameBase,
    FrameForced,
    ReworkBegun,
    ReworkEnded,
    ReworkLines,
    Sample,
    ScopePlan,
    ScopeSwitch,
    UsageRecord,
)
from tests.unit.engine.builders import HOUR, VM1, VM2, T, context, not_a_number, price_list, sample

SLOT = 600
SLOTS = 18  # three hours
RULES = price_list()
CONTEXT = context(wait_periods=1, late_horizon_periods=2, gap_horizon_periods=4, expect={"twin": "planned"})

_scopes = st.sampled_from(["A", "A", "A", "B"])
_sources = st.sampled_from(["prom", "prom", "prom", "twin"])
_metrics = st.sampled_from(["cpu", "cpu", "cpu", "m_delta", "net"])
_slots = st.integers(0, SLOTS - 1)


def _at(slot: int) -> int:
    return T + slot * SLOT


def _samples(begin: int, end: int, shape: int) -> list[Sample]:
    """A few samples in the slots of a range: `shape` says where, how long, how much and of whom."""
    found = []
    for number, at in enumerate(range(begin, end, SLOT)):
        if (shape >> number % 4) & 1:
            found.append(sample(at, f"{shape}.{number}", at + SLOT * (shape % 2), series=(shape + number) % 2))
    return found


def _collection(
    scope_id: str,
    source: str,
    metric: str,
    first: int,
    length: int,
    attempt: int,
    name: int,
    part: int,
    parts: int,
    covers: int,
    shape: int,
    sequence: int,
) -> Collection:
    begin, end = _at(first), _at(min(first + length, SLOTS))
    proven = [[Interval(begin, end)], [Interval(begin, end - SLOT // 2)], [Interval(begin + SLOT // 2, end)], []][
        covers
    ]
    return Collection(
        source=source,
        scope_id=scope_id,
        metric=metric,
        begin=begin,
        end=end,
        attempt=attempt,
        collection_id=f"c{name}",
        producer_id=f"p{sequence % 2}",
        sequence=sequence,
        part=part % parts,
        parts=parts,
        covers=clip(proven, Interval(begin, end)),
        proof="weak" if shape == 15 else "proven",
        series=[VM1, VM2],
        samples=_samples(begin, end, shape),
        quarantined=[not_a_number(id="vm9")] if shape == 14 else [],
    )


collections = st.builds(
    _collection,
    scope_id=_scopes,
    source=_sources,
    metric=_metrics,
    first=_slots,
    length=st.sampled_from([1, 3, 6, 6, 6, 12]),
    attempt=st.integers(0, 2),
    name=st.integers(0, 5),
    part=st.integers(0, 1),
    parts=st.sampled_from([1, 1, 1, 2]),
    covers=st.sampled_from([0, 0, 0, 1, 2, 3]),
    shape=st.integers(0, 15),
    sequence=st.integers(0, 99),
)
plans = st.builds(
    lambda scope, source, first, length, metrics: ScopePlan(
        source, scope, _at(first), None if length > 12 else _at(first + length), sorted(metrics)
    ),
    _scopes,
    _sources,
    _slots,
    st.integers(1, 18),
    st.sets(_metrics, max_size=2),
)
failures = st.builds(
    lambda scope, source, metric, first, length: CollectionFailed(
        source, scope, metric, _at(first), _at(first + length), f"failure {first}"
    ),
    _scopes,
    _sources,
    _metrics,
    _slots,
    st.integers(1, 9),
)
forces = st.builds(lambda scope, hour: FrameForced(scope, T + hour * HOUR, "kim", ""), _scopes, st.integers(0, 3))
switches = st.builds(
    lambda scope, number, active, slot, inactive_time: ScopeSwitch(
        scope, number, active, _at(slot), "kim", inactive_time
    ),
    _scopes,
    st.integers(1, 4),
    st.booleans(),
    _slots,
    st.sampled_from(["bill", "skip"]),
)
_reworks = st.sampled_from(["r1", "r2"])
_hours = st.integers(0, 2).map(lambda hour: T + hour * HOUR)
brackets: st.SearchStrategy[UsageRecord] = st.one_of(
    st.builds(
        lambda rework, scope, period_begin, revision: ReworkBegun(
            rework, "rerate", scope, period_begin, "kim", "", FrameBase(revision, "", 1, period_begin + HOUR)
        ),
        _reworks,
        _scopes,
        _hours,
        st.integers(0, 1),
    ),
    st.builds(ReworkLines, _reworks, _scopes, _hours, _metrics, st.just([VM1, VM2])),
    st.builds(
        lambda part, rework: msgspec.structs.replace(part, rework_id=rework, producer_id=f"{rework}{part.sequence}"),
        collections,
        _reworks,
    ),
    st.builds(ReworkEnded, _reworks, _scopes, _hours, st.integers(0, 1)),
)
usage: st.SearchStrategy[UsageRecord] = st.one_of(collections, plans, plans, failures, forces, switches, brackets)
payloads = st.one_of(collections, collections, collections, usage, usage, st.sampled_from([b"nonsense", b"{}", b""]))


class Cut(NamedTuple):
    """A checkpoint that is committed: after the record before `offset`, at `now`."""

    offset: int
    now: int


class Fault(NamedTuple):
    """What goes wrong before the cut of that number is through."""

    cut: int
    point: Literal["reading", "deciding", "committed", "publishing"]
    number: int
    """Of records read, or of messages published, before the crash."""
    now: int


class History(NamedTuple):
    """A log and what was committed of it."""

    log: list[Record]
    cuts: list[Cut]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """The broker's clock goes on by up to half an hour a record; the worker's runs ahead of it, or falls behind."""
    length = draw(st.integers(1, 30))
    log: list[Record] = []
    cuts: list[Cut] = []
    clock = T
    for payload, step, ahead in draw(
        st.lists(st.tuples(payloads, st.integers(0, 3), st.integers(-20, 20)), min_size=length, max_size=length)
    ):
        clock += step * SLOT
        log.append(_record(len(log), clock, payload))
        if ahead > 8:
            cuts.append(Cut(len(log), clock + (ahead - 10) * SLOT))
    cuts.append(Cut(len(log), clock + draw(st.integers(0, 12)) * HOUR))
    return History(log, cuts)


def _record(offset: int, clock: int, payload: UsageRecord | bytes) -> Record:
    if isinstance(payload, bytes):
        return Record(offset, clock * 1000, b"A", payload)
    form, encode = [(JSON, encode_json), (MSGPACK, encode_msgpack)][offset % 2]
    headers = ((CONTENT_TYPE, form.encode()),)
    return Record(offset, clock * 1000, payload.scope_id.encode(), encode(payload), headers)


def faults(history: History) -> st.SearchStrategy[list[Fault]]:
    """Crashes at any point of any checkpoint, in order, with a clock that may be off by hours while it is lost."""
    one = st.builds(
        Fault,
        cut=st.integers(0, len(history.cuts) - 1),
        point=st.sampled_from(["reading", "deciding", "committed", "publishing"]),
        number=st.integers(0, len(history.log)),
        now=st.integers(0, 40).map(lambda hours: T + hours * HOUR),
    )
    return st.lists(one, min_size=1, max_size=6).map(sorted)


class Shell:
    """Reads, decides, commits, publishes, as the worker does; a crash takes all that was not committed."""

    def __init__(self, log: list[Record], terms: EngineContext = CONTEXT) -> None:
        self.log = log
        self.terms = terms
        self.state = PartitionState(0, 1, HOUR, next_offset=0)
        self.published: list[OutboxItem] = []
        self._committed = encode_snapshot(self.state)

    def read(self, offset: int, *, again: int = 0) -> None:
        """Applies the log up to `offset`; the broker gives `again` records a second time before it."""
        for record in self.log[max(0, self.state.next_offset - again) : offset]:
            known = record.offset < self.state.next_offset
            assert apply(self.state, record, self.terms) is not known

    def decide(self, now: int) -> None:
        decide(self.state, now, RULES, self.terms)

    def commit(self) -> None:
        """What is committed comes back as it was, output and all."""
        self._committed = encode_snapshot(self.state)
        back = decode_snapshot(self._committed, 0, 1, self.terms.settings)
        assert back == self.state
        assert encode_snapshot(back) == self._committed

    def publish(self, number: int | None = None) -> None:
        """Publishes the outbox, or its first messages only, as in a crash that comes between."""
        self.published += self.state.outbox[:number]
        if number is None:
            self.state.outbox.clear()

    def crash(self) -> None:
        """Restores what was committed and publishes its outbox, again perhaps."""
        self.state = decode_snapshot(self._committed, 0, 1, self.terms.settings)
        self.publish()

    def checkpoint(self, cut: Cut, *, again: int = 0) -> None:
        self.read(cut.offset, again=again)
        self.decide(cut.now)
        self.commit()
        self.publish()

    def checkpoint_with(self, cut: Cut, some: list[Fault]) -> None:
        """The same with crashes on the way; a fault after the commit is the last one."""
        for fault in some:
            if fault.point == "reading":
                self.read(max(self.state.next_offset, fault.number), again=1)
            elif fault.point == "deciding":
                self.read(max(self.state.next_offset, fault.number))
                self.decide(fault.now)
            else:
                self.read(cut.offset)
                self.decide(cut.now)
                self.commit()
                self.publish(fault.number if fault.point == "publishing" else 0)
                self.crash()
                return
            self.crash()
        self.checkpoint(cut, again=2)


def run(history: History) -> Shell:
    """The whole history without a fault."""
    shell = Shell(history.log)
    for cut in history.cuts:
        shell.checkpoint(cut)
    return shell
