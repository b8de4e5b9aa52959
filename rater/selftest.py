"""Proves on a running installation that usage is rated and that a hole in it is found, from Kafka to the store.

Usage of a scope and a source of its own, of the last period that is over; half of it is left out at first. The scope is
expected in that period only, and what was left out is sent in the end: nothing stays open, unless we are killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import TypeVar

import msgspec

from rater.config import Config
from rater.model.codec import encode_msgpack
from rater.model.errors import RaterError
from rater.model.interval import Interval
from rater.model.rated import AlertKind, FrameStatus
from rater.model.usage import Collection, FrameForced, Sample, ScopePlan, Series, UsageRecord
from rater.reports import Selection, open_view
from rater.store import FrameRow, StoreError
from rater.stream.alert_feed import AlertFeed, Listening
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.usage_log import UsageWriter

__all__ = ["METRIC", "SOURCE", "SelftestError", "run_selftest"]

METRIC = "rater.selftest"
"""Has to be declared, and no rule may price it."""
SOURCE = "selftest"
POLL_SECONDS = 0.5
CONFIRM_SECONDS = 10.0
WAITING_BYTES = 1024 * 1024
FILL_TRIES, FILL_PAUSE_SECONDS = 15, 1.0
QUANTITY = Decimal(1)
"""Of each half of the period."""

T = TypeVar("T")
Write = Callable[[list[UsageRecord]], Awaitable[None]]
Tell = Callable[[str], None]


class SelftestError(RaterError):
    """The installation did not do what it has to; the message says what, and where to look."""


class _Usage(msgspec.Struct, frozen=True):
    """What is sent of one period of one scope."""

    scope_id: str
    metric: str
    begin: int
    end: int
    attempt: int

    @property
    def middle(self) -> int:
        """Where the hole begins."""
        return (self.begin + self.end) // 2

    def plans(self) -> list[UsageRecord]:
        """Expected in the period, and gone after it."""
        expected = ScopePlan(SOURCE, self.scope_id, self.begin, self.end, [self.metric])
        return [expected, ScopePlan(SOURCE, self.scope_id, self.end)]

    def half(self, number: int) -> Collection:
        """The first half of the period (0), or the second one (1)."""
        begin, end = [(self.begin, self.middle), (self.middle, self.end)][number]
        return Collection(
            source=SOURCE,
            scope_id=self.scope_id,
            metric=self.metric,
            begin=begin,
            end=end,
            attempt=self.attempt,
            collection_id=f"{self.scope_id}/{number}",
            producer_id=self.scope_id,
            sequence=number,
            unit="unit",
            covers=[Interval(begin, end)],
            series=[Series({"id": SOURCE})],
            samples=[Sample(0, begin, end, QUANTITY)],
        )

    def forced(self) -> FrameForced:
        """Closes the frame as it is, so that nobody has to wait for what is missing."""
        return FrameForced(self.scope_id, self.begin, "rater selftest", "half of it is missing on purpose")


async def run_selftest(
    config: Config, scope_prefix: str, seconds: float, tell: Tell, metric: str = METRIC, now: float | None = None
) -> None:
    """Raises SelftestError after `seconds` at most, and what Kafka or the store is not well with.

    The scope is `scope_prefix` and the present second. `tell` is told of every step that was done.
    """
    if config.catalog.get(metric) is None:
        raise SelftestError(f"metric {metric} is not declared, so its usage would be rejected: add it to `metrics`")
    instant = time.time() if now is None else now
    period = config.settings.engine.period
    end = int(instant) // period * period
    usage = _Usage(f"{scope_prefix}{int(instant)}", metric, end - period, end, int(instant * 1000))
    async with _writing(config) as write, _listening(config, usage) as alerts:
        steps = _Steps(config, usage, write, alerts, tell, time.monotonic() + seconds)
        await steps.run()


class _Steps:
    """One run. Everything waits until `deadline`, on the monotonic clock, at most."""

    def __init__(
        self, config: Config, usage: _Usage, write: Write, alerts: Listening, tell: Tell, deadline: float
    ) -> None:
        self._config = config
        self._usage = usage
        self._write = write
        self._alerts = alerts
        self._tell = tell
        self._deadline = deadline

    async def run(self) -> None:
        usage = self._usage
        filled = False
        try:
            await self._write([*usage.plans(), usage.half(0), usage.forced()])
            self._tell(f"usage of scope {usage.scope_id} is published, half of it left out")
            await self._alerted(AlertKind.GAP_OPENED, "the gap is not alerted: are workers ready?")
            self._tell("the gap is alerted")
            frame = await self._stored("what was rated is not stored: are sinks ready?", FrameStatus.PARTIAL)
            self._check(frame, QUANTITY)
            self._tell("what is there is rated, free, and stored as partial")
            await self._write([usage.half(1)])
            filled = True
        finally:
            if not filled:
                await self._fill()
        await self._alerted(AlertKind.GAP_RESOLVED, "the gap was filled, and is not resolved: are workers ready?")
        self._tell("the gap is filled and resolved")
        frame = await self._stored("the next revision is not stored: are sinks ready?", FrameStatus.RATED)
        self._check(frame, 2 * QUANTITY)
        self._tell(f"the whole is rated as revision {frame.revision}, free, and stored without a gap")

    async def _fill(self) -> None:
        """Sends what was left out after a failure, in which Kafka may not answer for a moment: else the gap stays."""
        for _ in range(FILL_TRIES - 1):
            with suppress(StreamUnavailableError):
                return await self._write([self._usage.half(1)])
            await asyncio.sleep(FILL_PAUSE_SECONDS)
        return await self._write([self._usage.half(1)])

    async def _alerted(self, kind: AlertKind, otherwise: str) -> None:
        async def heard() -> None:
            async for alert in self._alerts:
                if alert.kind == kind.value:
                    return

        await self._within(heard(), otherwise)

    async def _stored(self, otherwise: str, status: FrameStatus) -> FrameRow:
        async def found() -> FrameRow:
            while True:
                frame = await asyncio.to_thread(self._look)
                if frame is not None and frame.status is status:
                    return frame
                await asyncio.sleep(POLL_SECONDS)

        return await self._within(found(), otherwise)

    def _look(self) -> FrameRow | None:
        """The frame, once the store says of its gap what the frame says; None if it is not there yet."""
        selection = Selection(self._usage.scope_id, self._usage.begin, self._usage.end)
        try:
            with open_view(self._config.settings.store) as view:
                frame = next(iter(view.frames(selection)), None)
                gaps = list(view.gaps(selection))
        except StoreError as fault:
            raise SelftestError(f"the store cannot be read: {fault}") from fault
        open_gaps = sum(gap.is_open for gap in gaps)
        return frame if frame is not None and gaps and open_gaps == len(frame.gaps) else None

    def _check(self, frame: FrameRow, quantity: Decimal) -> None:
        totals = {total.metric: total for total in frame.totals}
        total = totals.get(self._usage.metric)
        found = Decimal(0) if total is None else total.qty
        if found != quantity or len(totals) != 1:
            raise SelftestError(
                f"{quantity} was sent of {self._usage.metric}, and {found} is stored: run `rater audit`"
            )
        if total is not None and total.price:
            raise SelftestError(
                f"{self._usage.metric} costs {total.price}, where it has to be free: a rating script or module prices "
                "metrics that it does not know; leave this one out there"
            )

    async def _within(self, work: Awaitable[T], otherwise: str) -> T:
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                return await work
        except TimeoutError:
            raise SelftestError(
                f"scope {self._usage.scope_id}: {otherwise} /readyz of each says why not; what is refused lies in "
                f"topic {self._config.settings.kafka.prefix}rejected"
            ) from None


@asynccontextmanager
async def _listening(config: Config, usage: _Usage) -> AsyncIterator[Listening]:
    """The alerts of the scope from now on."""
    listening = await AlertFeed(config.settings.kafka, 1).listen({usage.scope_id}, "")
    try:
        yield listening
    finally:
        await listening.aclose()


@asynccontextmanager
async def _writing(config: Config) -> AsyncIterator[Write]:
    """Writes records to topic usage. Raises SelftestError if that cannot be reached."""
    writer = UsageWriter(config.settings.kafka, confirm_seconds=CONFIRM_SECONDS, max_waiting_bytes=WAITING_BYTES)
    stop = asyncio.Event()
    running = asyncio.create_task(writer.run(stop))

    async def write(records: list[UsageRecord]) -> None:
        await writer.write([(record.scope_id.encode(), encode_msgpack(record)) for record in records])

    try:
        for _ in range(int(CONFIRM_SECONDS / POLL_SECONDS)):
            if running.done() or not writer.red():
                break
            await asyncio.sleep(POLL_SECONDS)
        if running.done():
            await running
        if writer.red():
            raise SelftestError(f"nothing can be published: {writer.red()}")
        yield write
    finally:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
        await writer.close()
