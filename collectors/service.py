"""Puts the collector together and keeps it running: from settings to rounds, through outages of source and Kafka."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from collectors.check_run import check_parts
from collectors.checking import Advance, CheckReport
from collectors.collector_metrics import CollectorMetrics
from collectors.errors import PublishError, SeatLostError, SettingsError, SourceError, UnfitSourceError
from collectors.history import History, read_history
from collectors.metrics_yml import Metric, load
from collectors.publisher import Publisher
from collectors.runner import Collector
from collectors.seat import KafkaSeat
from collectors.settings import CollectorSettings, EvidenceSettings
from collectors.source import ScopeFetcher, Source, SourceContext, SourceFactory, fetcher_factory, source_factory
from collectors.status import CollectorStatus
from collectors.switches import Switches
from rater.kafka import KafkaSettings
from rater.log_fields import of
from rater.tracing import OFF, Tracing

__all__ = ["check_source", "open_source", "run_collector"]

log = logging.getLogger(__name__)

_POLL_SECONDS = 10.0
_PAUSES = (1, 2, 5, 10, 30, 60)

T = TypeVar("T")


async def check_source(
    settings: CollectorSettings,
    metrics_conf: Path | str,
    period_seconds: int,
    reach_seconds: int,
    now: int,
    advance: Advance = lambda _done, _total: None,
) -> CheckReport:
    """Whether source and scope fetcher can be asked what they will be asked, with what is wrong in the report.

    `reach_seconds`: how long after its end a period may still be collected, wait and late horizon together. Raises
    DocumentError for metrics.yml, SettingsError, and SourceError for a source that is away.
    """
    async with AsyncExitStack() as stack:
        context, source, fetcher = await _parts(settings, metrics_conf, period_seconds, stack)
        return await check_parts(context, source, fetcher, now, reach_seconds, advance)


@asynccontextmanager
async def open_source(
    settings: CollectorSettings, metrics_conf: Path | str, period_seconds: int
) -> AsyncIterator[tuple[Source, tuple[Metric, ...]]]:
    """The source of the settings and what it can be asked for, to ask it by hand.

    Raises DocumentError for metrics.yml, SettingsError.
    """
    context, factory = _context(settings, metrics_conf, period_seconds)
    source = factory.build(context)
    try:
        yield source, context.metrics
    finally:
        await source.close()


async def run_collector(
    settings: CollectorSettings,
    kafka: KafkaSettings,
    metrics_conf: Path | str,
    period_seconds: int,
    reach_seconds: int,
    stop: asyncio.Event,
    on_status: Callable[[CollectorStatus], None] | None = None,
    *,
    counts: CollectorMetrics | None = None,
    clock: Callable[[], float] = time.time,
    poll_seconds: float = _POLL_SECONDS,
    tracing: Tracing = OFF,
) -> None:
    """Collects until `stop` is set. `on_status` is told after every round, and while the start is held up.

    Replicas of the same source share its scopes (`collectors.seat`). A source or broker that is away is waited for.
    Raises what no waiting can mend: DocumentError for metrics.yml, SettingsError, UnfitSourceError.
    """
    work = asyncio.create_task(
        _run(
            settings,
            kafka,
            metrics_conf,
            period_seconds,
            reach_seconds,
            on_status or _ignore,
            counts,
            clock,
            poll_seconds,
            tracing,
        )
    )
    halt = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, halt}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        halt.cancel()
        work.cancel()
        await asyncio.wait({work})
    if not work.cancelled():
        work.result()


def _ignore(status: CollectorStatus) -> None:
    """Nobody wants to know."""


async def _run(
    settings: CollectorSettings,
    kafka: KafkaSettings,
    metrics_conf: Path | str,
    period_seconds: int,
    reach_seconds: int,
    on_status: Callable[[CollectorStatus], None],
    counts: CollectorMetrics | None,
    clock: Callable[[], float],
    poll_seconds: float,
    tracing: Tracing,
) -> None:
    async with AsyncExitStack() as stack:
        context, source, fetcher = await _parts(settings, metrics_conf, period_seconds, stack)
        for remark in await _until_there(lambda: source.check(int(clock()), reach_seconds), on_status):
            log.warning("%s", remark, extra=of(source=settings.source_name))
        publisher = Publisher(kafka, tracing=tracing)
        stack.push_async_callback(publisher.stop)
        await _until_there(publisher.start, on_status)
        seat = KafkaSeat(kafka, settings.source_name)
        stack.push_async_callback(seat.stop)
        known = await _until_there(lambda: _first_known(kafka, settings.source_name, period_seconds, seat), on_status)
        switches = Switches(kafka, period_seconds)
        stack.push_async_callback(switches.stop)
        collector = Collector(
            settings, context.metrics, period_seconds, source, fetcher, publisher, known.history, clock,
            seat=seat, alerts=publisher, switches=switches, counts=counts, tracing=tracing,
        )  # fmt: skip
        while True:
            try:
                known = await _moved(kafka, settings.source_name, period_seconds, seat, known, collector)
                await switches.follow()
                await collector.round()
                on_status(collector.status)
            except PublishError as fault:
                log.warning("%s", fault)
                on_status(msgspec.structs.replace(collector.status, fault=str(fault)))
                if isinstance(fault, SeatLostError):
                    known = known._replace(partitions=frozenset())  # others may have had them meanwhile
                    await _until_there(seat.restart, on_status)
                else:
                    await _until_there(publisher.restart, on_status)
                continue
            await seat.moves(poll_seconds)


class _Known(NamedTuple):
    """Which partitions a collector knows all of, and since which turn of its seat."""

    turn: int
    partitions: frozenset[int]
    history: History


async def _first_known(kafka: KafkaSettings, source: str, period_seconds: int, seat: KafkaSeat) -> _Known:
    """Joins, and reads all of the topic: when any replica was last up stands in partitions of others, too.

    Raises PublishError; asked again, it joins anew.
    """
    await seat.restart()
    while True:
        held, turn = await seat.held(), seat.turn
        history = await read_history(kafka, source, period_seconds)
        if seat.turn == turn:
            return _Known(-1, held, history)


async def _moved(
    kafka: KafkaSettings, source: str, period_seconds: int, seat: KafkaSeat, known: _Known, collector: Collector
) -> _Known:
    """The collector knows what its seat holds, whatever has moved meanwhile. Raises PublishError."""
    while True:
        held, turn = await seat.held(), seat.turn
        if turn == known.turn:
            return known
        gained = held - known.partitions
        history = History(source, period_seconds)
        if gained:
            history = await read_history(kafka, source, period_seconds, gained)
        if seat.turn == turn:
            collector.take_over(history)
            return _Known(turn, held, history)


async def _until_there(ask: Callable[[], Awaitable[T]], on_status: Callable[[CollectorStatus], None]) -> T:
    """What `ask` gives, asked again with pauses while the source or Kafka is away."""
    tries = 0
    while True:
        try:
            return await ask()
        except UnfitSourceError:
            raise
        except (SourceError, PublishError) as fault:
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            tries += 1
            log.warning("tried again in %s s: %s", pause, fault)
            on_status(CollectorStatus(fault=str(fault)))
            await asyncio.sleep(pause)


async def _parts(
    settings: CollectorSettings, metrics_conf: Path | str, period_seconds: int, stack: AsyncExitStack
) -> tuple[SourceContext, Source, ScopeFetcher]:
    """Source and fetcher; the stack closes them. Raises DocumentError, SettingsError."""
    context, factory = _context(settings, metrics_conf, period_seconds)
    source = factory.build(context)
    stack.push_async_callback(source.close)
    fetcher = fetcher_factory(settings.fetcher)(context)
    stack.push_async_callback(fetcher.close)
    return context, source, fetcher


def _context(
    settings: CollectorSettings, metrics_conf: Path | str, period_seconds: int
) -> tuple[SourceContext, SourceFactory]:
    """What the source is built from, and who builds it. Raises DocumentError, SettingsError."""
    if not str(metrics_conf):
        raise SettingsError("metrics_conf is missing: name the metrics.yml that says what to collect")
    factory = source_factory(settings.source)
    metrics = load(metrics_conf, factory.read_extra_args, settings.skip_datapoints_expression).metrics
    _check_names(settings, metrics, metrics_conf)
    return SourceContext(settings, period_seconds, metrics), factory


def _check_names(settings: CollectorSettings, metrics: tuple[Metric, ...], metrics_conf: Path | str) -> None:
    """A misspelt name would silently leave a metric without its evidence."""
    known = {metric.name for metric in metrics}
    chosen = settings.completeness.metrics
    unknown = sorted(chosen.keys() - known)
    if unknown:
        raise SettingsError(
            f"collect.completeness.metrics names {', '.join(map(repr, unknown))}, which {metrics_conf} does not: it "
            f"has {', '.join(sorted(known))}"
        )
    if not any(chosen.get(name, EvidenceSettings()).expected for name in known):
        raise SettingsError("collect.completeness.metrics expects no metric at all, so no gap could ever be seen")
