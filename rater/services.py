"""The long-running parts of rater, made from the settings, and how several of them run in one process.

They start together, end together and share the health pages. Whoever runs the sink on an embedded ClickHouse also
answers its readers, since the engine belongs to one process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from collectors.collector_metrics import CollectorMetrics
from collectors.service import open_source, run_collector
from collectors.settings import CollectorSettings
from collectors.status import CollectorStatus
from deploy.local.kafka import LaptopKafka
from rater.api.access import Access
from rater.api.app import Api, serve
from rater.api.cloudkitty.service import CloudKittyService
from rater.api.intake import Intake, Limits
from rater.api.settings import ApiSettings
from rater.api.store_probe import StoreProbe
from rater.api.v3.service import V3Service
from rater.api_backend import ApiBackend, NoStoreError
from rater.audit import Setup
from rater.audit.timer import AuditTimer
from rater.cloudkitty_api import cloudkitty_service
from rater.config import Config, ObserveSettings
from rater.kafka import KafkaSettings, KafkaUnavailableError, Topic, create_topics
from rater.metrics import register_optional
from rater.model.errors import RaterError
from rater.modules import installed_modules
from rater.observe import ListenError, endpoint, is_loopback, serve_health
from rater.reports.desk import serve_desk
from rater.reports.view import StoreView, socket_of
from rater.rework import Asking, LateFollower, Make, TaskFollower, Wanted
from rater.sandbox import BackgroundSandbox
from rater.store import EmbeddedTarget, Store
from rater.store.health import write_audit
from rater.store_watch import StoreWatch
from rater.stream.late_alerts import open_late_alerts
from rater.stream.requests_log import open_tasks
from rater.stream.rework_log import open_rework_log
from rater.stream.sink import Sink
from rater.stream.usage_log import UsageWriter
from rater.stream.worker import Parts, Worker
from rater.tracing import OFF, Tracing
from rater.v3_api import v3_service

__all__ = [
    "LAPTOP_KAFKA_DIRECTORY",
    "LaptopAddressError",
    "NoCollectorError",
    "Service",
    "api_service",
    "collect_settings",
    "collector_service",
    "laptop_kafka",
    "reach_seconds",
    "run_all",
    "run_together",
    "serve_sink",
    "sink_service",
    "with_topics",
    "worker_service",
]

LAPTOP_KAFKA_DIRECTORY = Path("var") / "kafka"
"""Data of the laptop Kafka, relative to the directory of rater.yaml."""

log = logging.getLogger(__name__)

_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between attempts to reach Kafka


class LaptopAddressError(RaterError):
    """A laptop Kafka is wanted at an address that is not one of this machine."""


class Service(NamedTuple):
    """A part of the system: `run` works until the event is set, `red` says why it is not ready.

    `warning` says what will make it red if nobody does anything.
    """

    name: str
    run: Callable[[asyncio.Event], Awaitable[None]]
    red: Callable[[], str]
    warning: Callable[[], str] = str


def worker_service(config: Config, registry: CollectorRegistry, tracing: Tracing = OFF) -> Service:
    """The worker, not started, with the process that its rating scripts run in, which is there once one has to run."""
    scripts = BackgroundSandbox(config.settings.scripts, ran=_script_metrics(registry))
    context = msgspec.structs.replace(config.engine_context(), scripts=scripts)
    kafka = config.settings.kafka
    found = Worker(
        kafka,
        context,
        config.settings.worker,
        parts=Parts(kafka, tracing=tracing),
        registry=registry,
        modules=installed_modules(),
    )

    Gauge("rater_worker_waiting_scripts", "Frames whose rating scripts wait or run", registry=registry).set_function(
        lambda: scripts.waiting
    )
    Gauge("rater_worker_period_seconds", "Length of a period", registry=registry).set(config.settings.engine.period)

    async def run(stop: asyncio.Event) -> None:
        try:
            await found.run(stop)
        finally:
            await asyncio.to_thread(scripts.close)

    return Service("worker", run, found.red)


def _script_metrics(registry: CollectorRegistry) -> Callable[[float, bool], None]:
    """What counts the frames that rating scripts ran for."""
    seconds = Histogram("rater_worker_script_seconds", "Rating scripts on one frame", registry=registry)
    failures = Counter("rater_worker_script_failures", "Frames that rating scripts failed on", registry=registry)

    def ran(took: float, failed: bool) -> None:
        seconds.observe(took)
        failures.inc(failed)

    return ran


@asynccontextmanager
async def sink_service(config: Config, registry: CollectorRegistry, tracing: Tracing = OFF) -> AsyncIterator[Service]:
    """The sink, not started, with the store of the settings open. Otherwise as `serve_sink`."""
    with Store(config.settings.store) as store:
        async with serve_sink(config, store, registry, tracing) as service:
            yield service


@asynccontextmanager
async def serve_sink(
    config: Config, store: Store, registry: CollectorRegistry, tracing: Tracing = OFF
) -> AsyncIterator[Service]:
    """The sink, not started; readers of an embedded store are answered while the block runs.

    Raises StoreError if an embedded store cannot be opened; a server that is away is waited for.
    """
    found = Sink(config.settings.kafka, store, config.settings.sink, registry=registry, tracing=tracing)
    service = _with_late_usage(config, store, Service("sink", found.run, found.red), registry)
    service = _with_requests(config, store, service, registry)
    service = _with_audit(config, store, service, registry)
    service = _with_watch(store, service, registry)
    directory = store.target.directory if isinstance(store.target, EmbeddedTarget) else None
    if directory is None:
        yield service
        return
    await asyncio.to_thread(store.ping)  # claims the directory, in which the socket then is ours
    async with serve_desk(StoreView(store), socket_of(directory)):
        log.info("readers of the store are answered at %s", socket_of(directory))
        yield service


def _with_late_usage(config: Config, store: Store, sink: Service, registry: CollectorRegistry) -> Service:
    """The sink with the follower of late usage beside it, which needs the store that the sink has open."""
    if not config.settings.rework.late_usage:
        return sink
    kafka = config.settings.kafka
    follower = LateFollower(
        StoreView(store),
        config.catalog,
        config.settings.engine.period,
        lambda: open_late_alerts(kafka),
        lambda: open_rework_log(kafka),
    )
    waiting = Gauge("rater_rework_late_frames", "Frames to be rated again for late usage", registry=registry)
    waiting.set_function(lambda: follower.waiting)
    what = "Frames of late usage left as they are after many tries"
    given_up = Gauge("rater_rework_late_given_up", what, registry=registry)
    given_up.set_function(lambda: follower.given_up)

    async def run(stop: asyncio.Event) -> None:
        await run_all([sink, Service("late usage", follower.run, follower.red)], stop)

    return Service(sink.name, run, lambda: "; ".join(filter(None, (sink.red(), follower.red()))))


def _with_requests(config: Config, store: Store, sink: Service, registry: CollectorRegistry) -> Service:
    """The sink with the follower of requests beside it, if CloudKitty's API, which takes them, is in the settings."""
    settings = config.settings
    if settings.api is None or settings.api.cloudkitty is None:
        return sink
    follower = TaskFollower(
        StoreView(store),
        config.catalog,
        settings.engine.period,
        lambda: open_tasks(settings.kafka),
        lambda: open_rework_log(settings.kafka),
        lambda wanted: _asking(config, wanted),
    )
    waiting = Gauge("rater_requests_waiting", "Scopes to be reset or reprocessed that are not done", registry=registry)
    waiting.set_function(lambda: follower.waiting)

    async def run(stop: asyncio.Event) -> None:
        await run_all([sink, Service("requests", follower.run, follower.red)], stop)

    return Service(sink.name, run, lambda: "; ".join(filter(None, (sink.red(), follower.red()))))


@asynccontextmanager
async def _asking(config: Config, wanted: Wanted) -> AsyncIterator[Make | None]:
    """What asks the source of section collect again, None without that section."""
    collect, settings = config.settings.collect, config.settings
    if collect is None:
        yield None
        return
    async with open_source(collect, settings.metrics_conf, settings.engine.period) as (source, metrics):
        yield Asking(source, collect.source_name, metrics, wanted, config.catalog, time.time).make


def _with_audit(config: Config, store: Store, sink: Service, registry: CollectorRegistry) -> Service:
    """The sink with the audit's timer beside it. What is wrong with an audit never makes the sink red."""
    settings = config.settings
    if not settings.audit.interval:
        return sink
    setup = Setup(settings.engine.period, config.catalog)
    timer = AuditTimer(
        StoreView(store),
        setup,
        settings.audit,
        registry,
        usage_stored=settings.sink.usage,
        keep=lambda row: write_audit(store, row),
    )

    async def run(stop: asyncio.Event) -> None:
        await run_all([sink, Service("audit", timer.run, lambda: "")], stop)

    return Service(sink.name, run, sink.red)


def _with_watch(store: Store, sink: Service, registry: CollectorRegistry) -> Service:
    """The sink with the watch over its store beside it, which never makes it red."""
    watch = StoreWatch(store, registry, tables=lambda: not sink.red())

    async def run(stop: asyncio.Event) -> None:
        await run_all([sink, Service("watch", watch.run, lambda: "")], stop)

    return Service(sink.name, run, sink.red)


class NoCollectorError(RaterError):
    """A collector is wanted and the settings have none."""


def collect_settings(config: Config) -> CollectorSettings:
    """Section `collect`. Raises NoCollectorError."""
    if config.settings.collect is None:
        raise NoCollectorError(
            "section collect is not set: say there what to ask, such as collect: {prometheus: {url: …}, static: "
            "{scopes: […]}}"
        )
    return config.settings.collect


def reach_seconds(config: Config) -> int:
    """How long after its end a period may still be collected without rework."""
    engine = config.settings.engine
    return (engine.wait_periods + engine.late_horizon_periods) * engine.period


def collector_service(config: Config, registry: CollectorRegistry, tracing: Tracing = OFF) -> Service:
    """The collector, not started. Raises NoCollectorError."""
    collect, settings = collect_settings(config), config.settings
    status = [CollectorStatus(fault="no round has been finished yet")]
    counts = CollectorMetrics(registry, collect.source_name)

    async def run(stop: asyncio.Event) -> None:
        await run_collector(
            collect,
            settings.kafka,
            settings.metrics_conf,
            settings.engine.period,
            reach_seconds(config),
            stop,
            lambda found: status.__setitem__(0, found),
            counts=counts,
            tracing=tracing,
        )

    return Service("collector", run, lambda: status[0].fault)


WAITING_BYTES = 32 * 1024 * 1024  # of records that wait for Kafka: some hundred thousand samples


def api_service(
    config: Config, registry: CollectorRegistry, tracing: Tracing = OFF, *, holds_store: bool = False
) -> Service:
    """The HTTP service, not started. `holds_store`: the sink runs in this process.

    /v3 is answered wherever the store can be read. Raises TokenFileError, and NoStoreError for CloudKitty's API
    without a store to read.
    """
    settings, kafka = config.settings.api or ApiSettings(), config.settings.kafka
    writer = UsageWriter(
        kafka, confirm_seconds=settings.confirm_seconds, max_waiting_bytes=WAITING_BYTES, tracing=tracing
    )
    limits = Limits(settings.max_samples, config.settings.engine.period)
    intake = Intake(config.catalog, limits, kafka.topic(Topic.USAGE), kafka.partitions)
    behind = _api_backend(config, settings, writer, holds_store=holds_store)
    api = Api(settings, intake, writer, registry, *_versions(config, settings, behind), tracing=tracing)
    if behind is not None:
        what = "Version of the rules, as last read for a request"
        register_optional(registry, "rater_api_rule_version", what, lambda: behind.books.version)
    probe = StoreProbe.of(behind.view, behind.threads) if behind is not None else None

    async def run(stop: asyncio.Event) -> None:
        probing = asyncio.create_task(probe.run()) if probe is not None else None
        try:
            async with serve(api, settings):
                await writer.run(stop)
        finally:
            if probing is not None:
                probing.cancel()
            await writer.close()  # after everybody was answered
            if behind is not None:
                await behind.close()

    def store() -> str:
        return probe.red() if probe is not None else ""

    # A service that takes usage only may be far from the store: /v3 is on by default there, and answers 503.
    if settings.cloudkitty is None:
        return Service("api", run, api.red, lambda: "; ".join(filter(None, (api.warning(), store()))))
    return Service("api", run, lambda: "; ".join(filter(None, (api.red(), store()))), api.warning)


def _api_backend(config: Config, settings: ApiSettings, writer: UsageWriter, *, holds_store: bool) -> ApiBackend | None:
    """None where only usage is taken. Raises NoStoreError."""
    if settings.cloudkitty is None and settings.v3 is None:
        return None
    try:
        return ApiBackend(config, writer, holds_store=holds_store)
    except NoStoreError:
        if settings.cloudkitty is not None:
            raise
        return None


def _versions(
    config: Config, settings: ApiSettings, behind: ApiBackend | None
) -> tuple[Callable[[Access], CloudKittyService] | None, Callable[[Access], V3Service] | None]:
    """What makes the services of /v1 and /v2, and of /v3."""
    if behind is None:
        return None, None
    old, new = settings.cloudkitty, settings.v3
    return (
        None if old is None else lambda access: cloudkitty_service(config, old, behind, access),
        None if new is None else lambda access: v3_service(config, new, behind, access),
    )


@asynccontextmanager
async def laptop_kafka(config: Config) -> AsyncIterator[None]:
    """A Kafka at `kafka.bootstrap` while the block runs. Raises LaptopAddressError, LaptopKafkaError."""
    bootstrap = config.settings.kafka.bootstrap
    try:
        host, port = endpoint(bootstrap)
    except ListenError:
        host, port = "", 0
    if not is_loopback(host):
        raise LaptopAddressError(f"kafka.bootstrap is {bootstrap}: a Kafka on this machine is at 127.0.0.1 and a port")
    base = config.path.parent if config.path is not None else Path()
    kafka = LaptopKafka(base / LAPTOP_KAFKA_DIRECTORY, port)
    log.info("starting Kafka on %s", bootstrap)
    await asyncio.to_thread(kafka.start)
    try:
        yield
    finally:
        await asyncio.to_thread(kafka.stop)


async def run_together(
    observe: ObserveSettings, services: Sequence[Service], registry: CollectorRegistry, stop: asyncio.Event
) -> None:
    """Runs all services until each has ended after `stop`. One that ends by itself or fails stops the others.

    Raises what the first one failed with, after all have ended; ListenError if the health pages cannot be served.
    """
    checks = {service.name: service.red for service in services}
    warnings = {service.name: service.warning for service in services}
    async with serve_health(observe, checks, registry, warnings):
        await run_all(services, stop)


async def run_all(services: Sequence[Service], stop: asyncio.Event) -> None:
    """As `run_together`, without health pages."""
    tasks: dict[asyncio.Future[None], str] = {
        asyncio.ensure_future(service.run(stop)): service.name for service in services
    }
    try:
        await _until_ended(tasks, stop)
    finally:
        for task in tasks:
            task.cancel()  # nothing, for those that have ended
        await asyncio.gather(*tasks, return_exceptions=True)


def with_topics(config: Config, services: Sequence[Service]) -> Service:
    """These services as one, which first creates the topics that are missing; a Kafka that is away is waited for."""
    trouble = ["the topics are not there yet"]

    async def run(stop: asyncio.Event) -> None:
        if await _topics_created(config.settings.kafka, stop, trouble):
            await run_all(services, stop)

    return Service("topics", run, lambda: trouble[0])


async def _topics_created(kafka: KafkaSettings, stop: asyncio.Event, trouble: list[str]) -> bool:
    """Whether the topics are there; False if `stop` came first. Raises TopicsError."""
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        try:
            created = await create_topics(kafka)
        except KafkaUnavailableError as fault:
            if trouble[0] != str(fault):
                log.warning("waiting for Kafka: %s", fault)
            trouble[0] = str(fault)
        else:
            for name in created:
                log.info("created topic %s", name)
            trouble[0] = ""
            return True
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
        if stop.is_set():
            break
    return False


async def _until_ended(tasks: dict[asyncio.Future[None], str], stop: asyncio.Event) -> None:
    failure: BaseException | None = None
    pending = set(tasks)
    while pending:
        ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            fault = task.exception()
            if fault is not None:
                log.error("%s failed: %s", tasks[task], fault)
                failure = failure or fault
            elif not stop.is_set():
                log.warning("%s ended", tasks[task])
        stop.set()
    if failure is not None:
        raise failure
