"""Publishes the month as our collectors and a pusher would, hour after hour of the month, a day of it in minutes.

Its clock is the month's own: what is late is held back until the month's clock has come to its hour and until a
revision of its frame stands in topic `rated`, so that it is late for the engine too, whatever pace this machine has.
With `in_step` the month's clock itself waits: it never passes the hour at which a frame could close before that frame
has closed, so that what is 1 s to 3 periods late by the month's clock comes exactly so long after the close could be.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from collectors.bounded import run_all
from collectors.parts import CollectionDraft
from collectors.publisher import Publisher
from rater.kafka import KafkaSettings, Topic, client_options
from rater.model.interval import Interval, clip, subtract
from rater.model.usage import CollectionFailed, Sample, ScopePlan, Series
from tests.month.content import BEGIN, CLOUD, HOUR, HOURS, METRICS, PUSHER, WAIT_PERIODS, Fate, Month, Reading, labels

AT_ONCE = 64  # collections that wait for the broker at the same time
ASKED_AFTER = 120  # seconds after the end of a period, as the collector
Watcher = Callable[[int], None]


class Late(msgspec.Struct, frozen=True):
    """An answer that came late. `attempt` is that of the last collection; `gap` what was missing until it came."""

    scope_id: str
    metric: str
    period_begin: int
    form: str
    delay: int
    """Seconds of the month's clock after its frame could have closed."""
    came: int
    """Seconds of the month's clock after its frame could have closed, as it was published; `delay` at least."""
    held: float
    """Seconds of this machine's clock after its frame was seen in topic `rated`."""
    samples: int
    attempt: int
    gap: Interval | None


class Repeated(msgspec.Struct, frozen=True):
    """An answer that came twice."""

    scope_id: str
    metric: str
    period_begin: int
    form: str
    samples: int


class Manifest(msgspec.Struct):
    """What is true of the month that was published. `samples` counts each once, those that outages took apart."""

    seed: int
    samples: int = 0
    lost_samples: int = 0
    collections: int = 0
    late: list[Late] = []
    repeated: list[Repeated] = []
    gaps: list[tuple[str, str, str, int, int]] = []
    """(scope, metric, source, begin, end) of the outages, one for each hour that they touch."""


class KeepingPublisher(Publisher):
    """The production publisher; what it sends can be had, to be sent again byte for byte."""

    async def publish_keeping(self, draft: CollectionDraft) -> list[Any]:
        """Publishes, and returns the records."""
        token = _KEPT.set([])
        try:
            await self.publish(draft)
            return _KEPT.get() or []
        finally:
            _KEPT.reset(token)

    async def repeat(self, records: list[Any]) -> None:
        """Sends records again, as a client does that never saw the acknowledgement."""
        await super()._deliver(records)

    async def _deliver(self, records: list[Any]) -> None:
        kept = _KEPT.get()
        if kept is not None:
            kept += records
        await super()._deliver(records)


_KEPT: ContextVar[list[Any] | None] = ContextVar("kept", default=None)


class _Head(msgspec.Struct, tag_field="type", tag="rated_frame"):
    scope_id: str
    period_begin: int


class Closed:
    """Which frames have a revision in topic `rated`, and since when on this machine's clock."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.since: dict[tuple[str, int], float] = {}
        self._changed = asyncio.Event()
        self._read = msgspec.json.Decoder(_Head).decode
        self._consumer = AIOKafkaConsumer(
            kafka.topic(Topic.RATED), **client_options(kafka), auto_offset_reset="earliest", enable_auto_commit=False
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Closed:
        await self._consumer.start()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._consumer.stop()

    async def _follow(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    head = self._read(record.value)
                    self.since.setdefault((head.scope_id, head.period_begin), time.monotonic())
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait(self, frames: Iterable[tuple[str, int]], check: Callable[[], None], patience: float = 600) -> None:
        """Until all of these frames are there. `check` raises if they cannot come any more."""
        deadline = time.monotonic() + patience
        for frame in frames:
            while frame not in self.since:
                check()
                assert time.monotonic() < deadline, f"the frame {frame} did not close within {patience:.0f} s"
                await self._changed.wait()


@dataclass(order=True)
class _Later:
    due_at: int
    number: int
    frame: tuple[str, int] = field(compare=False)
    """Must be closed before; of a repetition nothing must."""
    send: Callable[[], Any] = field(compare=False)
    waits: bool = field(compare=False)


class Telling:
    """Publishes a month, as fast as Kafka takes it unless `in_step`; `check` raises if the services have ended.

    Whatever backlog the workers have by that, they must not tell of gaps in frames that they have read half of.
    """

    def __init__(
        self,
        month: Month,
        kafka: KafkaSettings,
        closed: Closed,
        check: Callable[[], None],
        *,
        in_step: bool,
    ) -> None:
        self.manifest = Manifest(month.seed)
        self._month = month
        self._closed = closed
        self._check = check
        self._publisher = KeepingPublisher(kafka)
        self._second = Publisher(kafka)
        self._pusher = KeepingPublisher(kafka)
        self._later: list[_Later] = []
        self._numbers = count()
        self._in_step = in_step
        self._now = BEGIN

    async def run(self, advance: Watcher) -> Manifest:
        """The whole month; returns when all of it, what is late included, is acknowledged."""
        async with self._publisher, self._second, self._pusher:
            for hour in range(HOURS):
                await self._hour(hour)
                if self._in_step and hour >= WAIT_PERIODS:
                    could_close = BEGIN + (hour - WAIT_PERIODS) * HOUR
                    await self._closed.wait([(scope, could_close) for scope in self._month.scopes], self._check)
                await self._send_due(BEGIN + (hour + 1) * HOUR + ASKED_AFTER)
                advance(self.manifest.samples)
            while self._later:
                await self._closed.wait([self._later[0].frame] if self._later[0].waits else [], self._check)
                await self._send_due(self._later[0].due_at)
                advance(self.manifest.samples)
        return self.manifest

    async def _hour(self, hour: int) -> None:
        begin = BEGIN + hour * HOUR
        expected = {source: [m.name for m in METRICS if m.source == source] for source in (CLOUD, PUSHER)}
        plans = [
            ScopePlan(source, scope, begin, begin + HOUR, names)
            for scope in self._month.scopes
            for source, names in expected.items()
        ]
        saying = [partial(self._publisher.plan, plan) for plan in plans]
        saying += [partial(self._answer, *answer, hour) for answer in self._month.answers(hour)]
        await run_all(saying, AT_ONCE)

    async def _answer(self, scope: str, metric: str, hour: int) -> None:
        """What comes in time, and what is left for later."""
        period = Interval(BEGIN + hour * HOUR, BEGIN + (hour + 1) * HOUR)
        readings = self._month.readings(scope, metric, hour)
        lost = self._month.lost(scope, metric, hour)
        fate = self._month.fate(scope, metric, hour)
        self.manifest.collections += 1
        self.manifest.samples += len(readings)
        if lost:
            await self._answer_partly(scope, metric, period, readings, Interval(*lost), is_told=self._is_told(lost))
            self.manifest.lost_samples += sum(lost[0] <= reading.begin < lost[1] for reading in readings)
            self.manifest.gaps.append((scope, metric, CLOUD, *lost))
        elif fate.late:
            await self._answer_late(scope, metric, period, readings, fate)
        else:
            await self._answer_in_time(scope, metric, period, readings, fate)

    def _is_told(self, lost: tuple[int, int]) -> bool:
        return any(o.is_told for o in self._month.outages if o.begin <= lost[0] and lost[1] <= o.end)

    async def _answer_in_time(
        self, scope: str, metric: str, period: Interval, readings: list[Reading], fate: Fate
    ) -> None:
        draft = self._draft(scope, metric, period, readings)
        publisher = self._pusher if draft.source == PUSHER else self._publisher
        if not fate.repeated:
            await publisher.publish(draft)
            return
        kept = await publisher.publish_keeping(draft)
        due_at = period.end + ASKED_AFTER + fate.delay

        async def again() -> None:
            if fate.repeated == "same":
                await publisher.repeat(kept)
            else:
                await self._second.publish(msgspec.structs.replace(draft, attempt=draft.attempt + 1))
            self.manifest.repeated.append(Repeated(scope, metric, period.begin, fate.repeated, len(readings)))

        self._put(due_at, (scope, period.begin), again, waits=False)

    async def _answer_late(
        self, scope: str, metric: str, period: Interval, readings: list[Reading], fate: Fate
    ) -> None:
        is_pushed = self._month.metrics[metric].source == PUSHER
        publisher = self._pusher if is_pushed else self._publisher
        missing: Interval | None = period
        rest = readings
        if fate.late == "part":
            missing = Interval(fate.cut, period.end)
            first = [reading for reading in readings if reading.begin < fate.cut]
            if is_pushed:  # samples prove their own time, and are not sent a second time
                missing = Interval(max((reading.end for reading in first), default=period.begin), period.end)
                rest = [reading for reading in readings if reading.begin >= fate.cut]
                await publisher.publish(self._draft(scope, metric, period, first))
                if not rest:
                    return  # all of it began before the cut
            else:
                await self._answer_partly(scope, metric, period, readings, missing, is_told=True)
        elif fate.late == "wrong":
            missing = None
            await publisher.publish(self._draft(scope, metric, period, _falsified(readings, period)))
        could_close = period.end + WAIT_PERIODS * HOUR
        due_at = could_close + fate.delay
        draft = self._draft(scope, metric, period, rest, asked_at=due_at)

        async def come() -> None:
            held = time.monotonic() - self._closed.since[scope, period.begin]
            await publisher.publish(draft)
            is_overdue = (
                due_at <= self._now - HOUR
            )  # what is due within the hour that has just passed came on its second
            came = (self._now if is_overdue else due_at) - could_close
            told = (scope, metric, period.begin, fate.late, fate.delay, came, round(held, 3), len(rest))
            self.manifest.late.append(Late(*told, attempt=0 if is_pushed else draft.attempt, gap=missing))

        self._put(due_at, (scope, period.begin), come, waits=True)

    async def _answer_partly(
        self, scope: str, metric: str, period: Interval, readings: list[Reading], dark: Interval, *, is_told: bool
    ) -> None:
        """As the collector does whose source was dark for a part of the period, or for all of it."""
        covers = subtract([period], [dark])
        if is_told:
            reason = "the source did not answer"
            await self._publisher.failed(CollectionFailed(CLOUD, scope, metric, *dark, reason))
        if covers:
            seen = [reading for reading in readings if clip([dark], Interval(reading.begin, reading.begin + 1)) == []]
            await self._publisher.publish(self._draft(scope, metric, period, seen, covers=covers))

    def _draft(
        self,
        scope: str,
        metric: str,
        period: Interval,
        readings: list[Reading],
        *,
        covers: list[Interval] | None = None,
        asked_at: int = 0,
    ) -> CollectionDraft:
        kind = self._month.metrics[metric]
        series, samples = as_samples(scope, readings)
        return CollectionDraft(
            source=kind.source,
            scope_id=scope,
            metric=metric,
            begin=period.begin,
            end=period.end,
            attempt=(asked_at or period.end + ASKED_AFTER) * 1000,
            unit=kind.unit,
            covers=[] if kind.source == PUSHER else [period] if covers is None else covers,
            series=series,
            samples=samples,
        )

    def _put(self, due_at: int, frame: tuple[str, int], send: Callable[[], Any], *, waits: bool) -> None:
        heapq.heappush(self._later, _Later(due_at, next(self._numbers), frame, send, waits))

    async def _send_due(self, now: int) -> None:
        """Of what is due by the month's clock, what need not wait for its frame any more."""
        self._now = max(self._now, now)
        await run_all(self._due(now), AT_ONCE)

    def _due(self, now: int) -> Iterator[Callable[[], Any]]:
        held = []
        while self._later and self._later[0].due_at <= now:
            first = heapq.heappop(self._later)
            if first.waits and first.frame not in self._closed.since:
                held.append(first)
            else:
                yield first.send
        for later in held:
            heapq.heappush(self._later, later)


def as_samples(scope: str, readings: list[Reading]) -> tuple[list[Series], list[Sample]]:
    """Readings on the wire."""
    numbers: dict[tuple[int, str], int] = {}
    series: list[Series] = []
    samples = []
    for reading in readings:
        key = reading[:2]
        if key not in numbers:
            numbers[key] = len(series)
            series.append(Series(*labels(scope, reading)))
        samples.append(Sample(numbers[key], reading.begin, reading.end, reading.qty))
    return series, samples


def _falsified(readings: list[Reading], period: Interval) -> list[Reading]:
    """Other quantities, and a resource that does not exist: its line has to vanish."""
    wrong = [reading._replace(qty=reading.qty + Decimal("17.5")) for reading in readings]
    return [*wrong, Reading(999, "c1", period.begin, period.end, Decimal("123456.789"))]
