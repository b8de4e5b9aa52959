"""The collector as a service between a real Prometheus and a real Kafka: what it publishes, ended and started anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from collectors.errors import PublishError, SettingsError, SourceAwayError, UnfitSourceError
from collectors.publisher import Publisher
from collectors.service import check_source, run_collector
from collectors.settings import (
    CollectorSettings,
    CompletenessSettings,
    EvidenceSettings,
    PrometheusFetcherSettings,
    PrometheusSettings,
    StaticFetcherSettings,
)
from collectors.source import SourceContext, fetcher_factory
from collectors.status import CollectorStatus
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.document import DocumentError
from rater.model.interval import Interval, subtract, union
from rater.model.metric import Catalog, MetricSpec
from rater.model.rated import AlertKind, FrameStatus
from rater.model.usage import Collection, CollectionFailed, ScopePlan, UsageRecord
from tests.integration.judged import Judgement, records, usage
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, Shown, Span, T, Target, openmetrics

DAY = Span(0, 15 * HOUR)
HOLE = Span(10 * HOUR, 12 * HOUR)
CATALOG = Catalog([MetricSpec("instance", "instance"), MetricSpec("volume", "GiB")])
METRICS = """
metrics:
  vm: {unit: instance, alt_name: instance, groupby: [id, project_id], mutate: NUMBOOL}
  volume: {unit: GiB, groupby: [id, project_id]}
"""
_numbers = count()


def _targets(*dark: Span) -> list[Target]:
    return [
        Target("libvirt", "node-1", DAY, 5),
        Target("libvirt", "node-2", DAY, 5, gone=dark),
        Target("openstack", "exp-a", DAY, 5, gone=dark),  # of a redundant pair
        Target("openstack", "exp-b", DAY, 25),
    ]


def _series(targets: list[Target]) -> list[Shown]:
    n1, n2, a, b = targets
    found = [
        Shown("vm", n1, DAY, (("project_id", "p1"), ("id", "a"))),
        Shown("vm", n2, DAY, (("project_id", "p2"), ("id", "b"))),
    ]
    return found + [
        Shown("volume", exporter, DAY, (("project_id", p), ("id", f"v-{p}")), "7")
        for p in ("p1", "p2")
        for exporter in (a, b)
    ]


@pytest.fixture
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    targets = _targets(HOLE)
    return start_prometheus(openmetrics(targets, _series(targets)))


@pytest.fixture
async def kafka_settings(kafka: LaptopKafka) -> KafkaSettings:
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"service{next(_numbers)}.", partitions=3)
    await create_topics(found)
    return found


@pytest.fixture
def metrics_conf(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.yml"
    path.write_text(METRICS)
    return path


def _settings(url: str, **more: object) -> CollectorSettings:
    fields: dict[str, object] = {
        "name": "prom",
        "since": "2026-01-05T01:00:00Z",
        "prometheus": PrometheusSettings(url=url),
        "static": StaticFetcherSettings(["p1", "p2", "p9"]),
    }
    return CollectorSettings(**{**fields, **more})


async def _collect(
    settings: CollectorSettings, kafka: KafkaSettings, metrics_conf: Path, now: int
) -> list[CollectorStatus]:
    """Runs the service at a fixed time until its second round is over."""
    stop = asyncio.Event()
    seen: list[CollectorStatus] = []

    def note(status: CollectorStatus) -> None:
        seen.append(status)
        if len([one for one in seen if not one.fault]) == 2:
            stop.set()

    async with asyncio.timeout(120):
        await run_collector(
            settings, kafka, metrics_conf, HOUR, 86400, stop, note, clock=lambda: float(now), poll_seconds=0.05
        )
    return seen


def _collections(found: list[UsageRecord], scope_id: str, metric: str) -> list[Collection]:
    return [
        record
        for record in found
        if isinstance(record, Collection) and (record.scope_id, record.metric) == (scope_id, metric)
    ]


def _covered(found: list[UsageRecord], scope_id: str, metric: str) -> list[Interval]:
    return union(part for collection in _collections(found, scope_id, metric) for part in collection.covers)


async def _judged(kafka: KafkaSettings) -> Judgement:
    return Judgement(kafka, await records(kafka, Topic.USAGE), CATALOG, T + 18 * HOUR)


async def test_a_hole_is_collected_when_prometheus_has_it_again(
    server: LaptopPrometheus, kafka_settings: KafkaSettings, metrics_conf: Path
) -> None:
    """Given node-2 dark for two hours; when collected, back-filled and collected anew; then the hole is gone.

    The second collector knows only what lies in Kafka, and asks only for what is missing and for the new hour.
    """
    asked = Interval(T + HOUR, T + 13 * HOUR)
    begin, end = T + HOLE.begin + 5, T + HOLE.end + 5

    (first, *_) = await _collect(_settings(server.url), kafka_settings, metrics_conf, asked.end + 900)
    found = await usage(kafka_settings)
    before = await _judged(kafka_settings)

    for scope_id in ("p1", "p2", "p9"):
        hole = [Interval(begin, end)] if scope_id == "p2" else []
        assert subtract([asked], _covered(found, scope_id, "instance")) == hole
        assert subtract([asked], _covered(found, scope_id, "volume")) == []
    plans = sorted((record for record in found if isinstance(record, ScopePlan)), key=lambda plan: plan.scope_id)
    assert plans == [ScopePlan("prom", s, asked.begin, None, ["instance", "volume"]) for s in ("p1", "p2", "p9")]
    failures = [record for record in found if isinstance(record, CollectionFailed)]
    assert {(failure.scope_id, failure.metric) for failure in failures} == {("p2", "instance")}
    assert (first.open_periods, first.oldest_open, first.published) == (3, T + 10 * HOUR, 71)
    opened = [alert for alert in before.alerts() if alert.kind is AlertKind.GAP_OPENED and alert.end <= asked.end]
    assert sorted((alert.scope_id, alert.begin, alert.end) for alert in opened) == [
        ("p2", begin, T + 11 * HOUR),
        ("p2", T + 11 * HOUR, T + 12 * HOUR),
        ("p2", T + 12 * HOUR, end),
    ]
    assert all("dark: libvirt/node-2" in alert.reason for alert in opened)

    whole = _targets()
    server.backfill(openmetrics(whole[1:2], [shown for shown in _series(whole) if shown.target == whole[1]], HOLE))
    (second, *_) = await _collect(_settings(server.url), kafka_settings, metrics_conf, asked.end + HOUR + 900)
    later = await usage(kafka_settings)
    after = await _judged(kafka_settings)

    anew = {
        (scope_id, metric): {
            (collection.begin - T) // HOUR
            for collection in _collections(later, scope_id, metric)
            if collection not in found
        }
        for scope_id in ("p1", "p2", "p9")
        for metric in ("instance", "volume")
    }
    assert anew.pop(("p2", "instance")) == {10, 11, 12, 13}
    assert set(map(frozenset, anew.values())) == {frozenset({13})}
    assert (second.open_periods, second.published) == (0, 9)
    frames = {key: frame for key, frame in after.frames().items() if asked.begin <= key[1] < asked.end}
    assert len(frames) == 36
    assert {frame.status for (scope_id, _), frame in frames.items() if scope_id != "p9"} == {FrameStatus.RATED}
    assert {frame.status for (scope_id, _), frame in frames.items() if scope_id == "p9"} == {FrameStatus.EMPTY}
    assert {(line.metric, line.qty) for frame in frames.values() for line in frame.lines} == {
        ("instance", Decimal(1)),
        ("volume", Decimal(7)),
    }
    assert before.rejected() == after.rejected() == []


async def test_scopes_are_those_that_prometheus_names(
    server: LaptopPrometheus, kafka_settings: KafkaSettings, metrics_conf: Path
) -> None:
    settings = _settings(server.url, fetcher="prometheus", prometheus_fetcher=PrometheusFetcherSettings("vm"))

    report = await check_source(settings, metrics_conf, HOUR, 86400, T + 2 * HOUR)
    await _collect(settings, kafka_settings, metrics_conf, T + 2 * HOUR + 900)

    assert (report.scopes, [row.service for row in report.metrics]) == (("p1", "p2"), ["instance", "volume"])
    assert report.verdict != "fail"
    found = await usage(kafka_settings)
    assert {plan.scope_id for plan in found if isinstance(plan, ScopePlan)} == {"p1", "p2"}


async def test_a_source_that_is_away_is_waited_for(
    server: LaptopPrometheus, kafka_settings: KafkaSettings, metrics_conf: Path
) -> None:
    """Given a Prometheus that is down at the start; then the service says so, and collects when it is there."""
    server.stop()
    stop = asyncio.Event()
    seen: list[CollectorStatus] = []

    def note(status: CollectorStatus) -> None:
        seen.append(status)
        if not status.fault:
            stop.set()

    running = asyncio.create_task(
        run_collector(
            _settings(server.url), kafka_settings, metrics_conf, HOUR, 86400, stop, note,
            clock=lambda: float(T + 3 * HOUR + 900), poll_seconds=0.05,
        )
    )  # fmt: skip
    async with asyncio.timeout(60):
        while not seen:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(server.start)
        await running

    assert "cannot be reached" in seen[0].fault
    assert seen[-1].published == 12


async def test_what_no_waiting_can_mend_ends_the_start(
    server: LaptopPrometheus, kafka_settings: KafkaSettings, metrics_conf: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    async def start(settings: CollectorSettings, path: Path = metrics_conf) -> None:
        async with asyncio.timeout(60):
            await run_collector(settings, kafka_settings, path, HOUR, 86400, asyncio.Event())

    (tmp_path / "other.yml").write_text("metrics: {vmm: {unit: u}}")
    with pytest.raises(UnfitSourceError, match="metric 'vmm' does not exist"):
        await start(_settings(server.url), tmp_path / "other.yml")
    with pytest.raises(DocumentError, match=r"none\.yml:1: cannot be read"):
        await start(_settings(server.url), tmp_path / "none.yml")
    with pytest.raises(SettingsError, match="metrics_conf is missing"):
        await run_collector(_settings(server.url), kafka_settings, "", HOUR, 86400, asyncio.Event())
    misspelt = CompletenessSettings(metrics={"vm": EvidenceSettings()})
    with pytest.raises(SettingsError, match=r"names 'vm', which .* does not: it has instance, volume"):
        await start(_settings(server.url, completeness=misspelt))
    nothing = CompletenessSettings(metrics={name: EvidenceSettings(expected=False) for name in ("instance", "volume")})
    with pytest.raises(SettingsError, match="expects no metric at all"):
        await start(_settings(server.url, completeness=nothing))
    with pytest.raises(SourceAwayError, match="cannot be reached"):
        await check_source(_settings(f"http://127.0.0.1:{unused_tcp_port}/api/v1"), metrics_conf, HOUR, 86400, T)


async def test_a_broker_that_refuses_once_is_tried_anew(
    server: LaptopPrometheus, kafka_settings: KafkaSettings, metrics_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given one publication that is not confirmed; then the service connects anew and publishes all of it."""
    publish = Publisher.publish
    faults = [PublishError("not confirmed")]

    async def once(self: Publisher, draft: object) -> None:
        if faults:
            raise faults.pop()
        await publish(self, draft)

    monkeypatch.setattr(Publisher, "publish", once)
    seen = await _collect(_settings(server.url), kafka_settings, metrics_conf, T + 3 * HOUR + 900)

    assert seen[0].fault == "not confirmed"
    assert seen[-1].published == 12
    assert (await _judged(kafka_settings)).rejected() == []


async def test_a_scope_that_came_and_went_between_two_looks_is_found(
    start_prometheus: Callable[[list[str]], LaptopPrometheus],
) -> None:
    # given one scope that is always there, and one that lived for ten minutes
    stays = [f'pods{{ns="stays"}} 1 {T + 60 * minute}' for minute in range(120)]
    brief = [f'pods{{ns="brief"}} 1 {T + 60 * minute}' for minute in range(20, 30)]
    server = start_prometheus(["# TYPE pods gauge", *stays, *brief])
    settings = _settings(server.url, prometheus_fetcher=PrometheusFetcherSettings("pods", "ns"))
    fetcher = fetcher_factory("prometheus")(SourceContext(settings, HOUR))

    # when, then
    try:
        assert await fetcher.fetch(T + HOUR, T) == {"stays", "brief"}
        assert await fetcher.fetch(T + HOUR, T + 1740) == {"stays", "brief"}  # its last sample
        assert await fetcher.fetch(T + HOUR, T + 1800) == {"stays"}
    finally:
        await fetcher.close()
