"""Three days of a cloud that two Prometheus servers scrape, collected hour by hour into a real Kafka.

What is dark, silent, absent, reset or no number is planted here, so that each hole is known: it has to be named to the
scrape, nothing else may be, and it has to go when the data comes, from the other replica or by back-filling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import pytest

from collectors import CollectorStatus
from collectors.service import run_collector
from collectors.settings import CollectorSettings, PrometheusSettings, StaticFetcherSettings
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.interval import Interval, clip, subtract, union
from rater.model.metric import Catalog, MetricSpec
from rater.model.rated import FrameStatus
from rater.model.usage import Collection, CollectionFailed, UsageRecord
from tests.integration.judged import Judgement, records, usage
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, STEP, Shown, Span, T, Target, missing, openmetrics

HOURS = 72
LIFE = Span(-2 * HOUR, (HOURS + 1) * HOUR)
NOW = T + HOURS * HOUR + 900
Holes: TypeAlias = dict[tuple[str, str, int], list[Interval]]
"""What is missing, by scope, metric and hour."""
SCOPES = ("p1", "p2", "p3", "p9")

# day 1: a node is not scraped, an exporter is down
NODE_LOST = Span(10 * HOUR + 1200, 12 * HOUR + 2400)
SWIFT_DOWN = Span(14 * HOUR + 600, 14 * HOUR + 3000)
# day 2: the first Prometheus is down, for a time the second one, too; a machine starts anew; a join lacks its partner
FIRST_DOWN = Span(29 * HOUR, 32 * HOUR + 1800)
BOTH_DOWN = Span(31 * HOUR + 1800, 31 * HOUR + 3000)
P3_DELETED = 34 * HOUR
RESET = 36 * HOUR + 1800
NO_JOIN = Span(40 * HOUR + 1800, 41 * HOUR + 600)
# day 3: the second Prometheus is down, an exporter shows nothing, a number is none
SECOND_DOWN = Span(51 * HOUR, 52 * HOUR)
SILENT = Span(57 * HOUR, 58 * HOUR + 1800)
NAN = Span(60 * HOUR + 600, 60 * HOUR + 1200)

METRICS = """
metrics:
  vm: {unit: instance, alt_name: instance, groupby: [id, project_id], mutate: NUMBOOL}
  volume: {unit: GiB, groupby: [id, project_id]}
  object: {unit: GiB, groupby: [id, project_id], extra_args: {aggregation_method: sum}}
  traffic_total:
    unit: B/s
    alt_name: traffic
    groupby: [id, project_id]
    extra_args: {range_function: rate, query_suffix: '* on (id, project_id) group_left () vm_info'}
"""
BACKEND = {"instance": "vm", "volume": "volume", "object": "object", "traffic": "traffic_total"}
UNITS = {"instance": "instance", "volume": "GiB", "object": "GiB", "traffic": "B/s"}
CATALOG = Catalog([MetricSpec(name, unit) for name, unit in UNITS.items()])


def cloud(first: bool, *, whole: bool = False) -> tuple[list[Target], list[Shown]]:
    """What a replica sees: targets, and what they show. `whole`: as it would have been without any outage but swift's.

    The second replica scrapes half a minute later.
    """
    outages = (() if whole else (FIRST_DOWN,)) if first else (BOTH_DOWN, SECOND_DOWN)
    later = 0 if first else 30

    def target(job: str, instance: str, offset: int, *gone: Span, down: tuple[Span, ...] = ()) -> Target:
        dark = () if whole else gone
        return Target(job, instance, LIFE, (offset + later) % STEP, down, (*outages, *dark))

    one, two = target("libvirt", "node-1", 7), target("libvirt", "node-2", 11, NODE_LOST)
    a, b = target("openstack", "exp-a", 3), target("openstack", "exp-b", 23)  # a pair: both show every volume
    swift = target("swift", "swift", 17, down=(SWIFT_DOWN,))

    def shown(metric: str, by: Target, project: str, name: str, **more: object) -> Shown:
        return Shown(metric, by, **{"life": LIFE, "labels": (("project_id", project), ("id", name)), **more})

    silent = () if whole else (SILENT,)
    series = [
        shown("vm", one, "p1", "a"),
        shown("vm", two, "p1", "c"),
        shown("vm", two, "p2", "b"),
        shown("vm", one, "p3", "d", life=Span(LIFE.begin, P3_DELETED)),
        *(shown("volume", exporter, p, f"v-{p}", value="7") for p in ("p1", "p2") for exporter in (a, b)),
        shown("object", swift, "p1", "o1", value="2", silent=silent),
        shown("object", swift, "p2", "o2", value="2", silent=silent),
        shown("object", swift, "p2", "o3", value=lambda at: "NaN" if NAN.holds(at) else "2", silent=silent),
        *(shown("traffic_total", one, p, n, value=_counter) for p, n in (("p1", "a"), ("p2", "b"))),
        shown("vm_info", one, "p1", "a"),
        shown("vm_info", one, "p2", "b", silent=() if whole else (NO_JOIN,)),
    ]
    return [one, two, a, b, swift], series


def _counter(at: int) -> str:
    """Ten a second, from 0 again when the machine starts anew."""
    return str(10 * (at - (RESET if at >= RESET else LIFE.begin)))


def truth(first: bool, *, whole: bool = False) -> Holes:
    """What is missing of each scope, metric and hour at a replica, by what was planted; without what is whole."""
    _, series = cloud(first, whole=whole)
    found = {
        (scope, metric, hour): clip(holes, Interval(T + hour * HOUR, T + (hour + 1) * HOUR))
        for scope in SCOPES
        for metric, backend in BACKEND.items()
        for holes in [missing(series, backend, scope)]
        for hour in range(HOURS)
    }
    if not whole:  # at 41:00 the query finds no partner: of the hour before nothing is known
        found["p2", "traffic", 40] = [Interval(T + 40 * HOUR, T + 41 * HOUR)]
    return {place: holes for place, holes in found.items() if sum(end - begin for begin, end in holes) > STEP}


def differ(named: Holes, planted: Holes) -> str:
    """In words what is not as planted, by more than a scrape at each border; empty if nothing is."""
    texts = []
    for place in sorted(named.keys() | planted.keys()):
        here, there = named.get(place, []), planted.get(place, [])
        wrong = subtract(here, there) + subtract(there, here)
        if any(part.end - part.begin > STEP for part in wrong):
            texts.append(f"{place}: named {here}, planted {there}")
    return "\n".join(texts)


class Collected:
    """What lies on `usage`."""

    def __init__(self, found: list[UsageRecord]) -> None:
        self.latest: dict[tuple[str, str, int], Collection] = {}
        for record in found:
            if isinstance(record, Collection):
                hour, rest = divmod(record.begin - T, HOUR)
                assert (rest, record.end - record.begin, record.parts) == (0, HOUR, 1)
                place = record.scope_id, record.metric, hour
                if place not in self.latest or self.latest[place].attempt < record.attempt:
                    self.latest[place] = record
        self.failures = [record for record in found if isinstance(record, CollectionFailed)]

    def holes(self) -> Holes:
        """What is not covered of all that was to be collected."""
        found = {}
        for scope in SCOPES:
            for metric in BACKEND:
                covers = [part for hour in range(HOURS) for part in self._covers(scope, metric, hour)]
                for hole in subtract([Interval(T, T + HOURS * HOUR)], union(covers)):
                    for hour in range((hole.begin - T) // HOUR, (hole.end - 1 - T) // HOUR + 1):
                        period = Interval(T + hour * HOUR, T + (hour + 1) * HOUR)
                        found[scope, metric, hour] = clip([hole], period)
        return found

    def _covers(self, scope: str, metric: str, hour: int) -> list[Interval]:
        collection = self.latest.get((scope, metric, hour))
        return collection.covers if collection else []

    def quantities(self, scope: str, metric: str, hour: int) -> list[Decimal]:
        return [sample.qty for sample in self.latest[scope, metric, hour].samples]


async def collect(kafka: KafkaSettings, directory: Path, now: int, *servers: LaptopPrometheus) -> Collected:
    """Runs the service until a round was done; what it knows of earlier ones lies in Kafka."""
    settings = CollectorSettings(
        name="prom",
        since="2026-01-05T00:00:00Z",
        concurrency=8,
        prometheus=PrometheusSettings(urls=[server.url for server in servers]),
        static=StaticFetcherSettings(list(SCOPES)),
    )
    metrics_conf = directory / "metrics.yml"
    metrics_conf.write_text(METRICS)
    stop = asyncio.Event()

    def note(status: CollectorStatus) -> None:
        assert not status.fault, status.fault
        stop.set()

    async with asyncio.timeout(300):
        await run_collector(
            settings, kafka, metrics_conf, HOUR, 86400, stop, note, clock=lambda: float(now), poll_seconds=0.05
        )
    return Collected(await usage(kafka))


@pytest.fixture
async def kafka_settings(kafka: LaptopKafka) -> KafkaSettings:
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix="threedays.", partitions=3)
    await create_topics(found)
    return found


async def test_every_hole_of_three_days_is_named_and_healed(
    start_prometheus: Callable[[list[str]], LaptopPrometheus], kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    first, second = (start_prometheus(openmetrics(*cloud(is_first))) for is_first in (True, False))

    # when the first replica alone is asked, then what is missing is what was planted there, and nothing else
    alone = await collect(kafka_settings, tmp_path, NOW, first)
    planted = truth(first=True)
    assert differ(alone.holes(), planted) == ""
    assert {place[0] for place in planted} == {"p1", "p2", "p3"}
    assert len(planted) >= 40

    # when the pair is asked, then what is missing is what neither has
    pair = await collect(kafka_settings, tmp_path, NOW + 60, first, second)
    other = truth(first=False)
    neither = {place: min(planted[place], other[place], key=_seconds) for place in planted.keys() & other.keys()}
    assert differ(pair.holes(), neither) == ""
    assert {hour for _, _, hour in neither} == {10, 11, 12, 14, 31, 40, 57, 58}
    assert all(f"answered by {second.url}" in pair.latest["p1", "volume", hour].note for hour in range(29, 33))

    # when the first one gets what it lacked, then only the time is missing in which the exporter itself was down
    first.backfill(openmetrics(*cloud(first=True, whole=True), (FIRST_DOWN, NODE_LOST, NO_JOIN, SILENT)))
    healed = await collect(kafka_settings, tmp_path, NOW + 120, first, second)
    assert differ(healed.holes(), truth(first=True, whole=True)) == ""
    assert set(healed.holes()) == {("p1", "object", 14), ("p2", "object", 14)}
    assert any("dark: swift/swift" in failure.reason for failure in healed.failures)

    _check_quantities(healed)
    _check_frames(Judgement(kafka_settings, await records(kafka_settings, Topic.USAGE), CATALOG, NOW + 6 * HOUR))


def _seconds(holes: list[Interval]) -> int:
    return sum(end - begin for begin, end in holes)


def _check_quantities(found: Collected) -> None:
    """Nothing is doubled by two replicas or two exporters, lost by a counter's reset, or made of what is no number."""
    for hour in range(HOURS):
        assert found.quantities("p1", "instance", hour) == [1, 1]
        assert found.quantities("p3", "instance", hour) == [1] * (hour < P3_DELETED // HOUR)
        assert found.quantities("p1", "volume", hour) == found.quantities("p2", "volume", hour) == [7]
        (rate,) = found.quantities("p2", "traffic", hour)
        assert Decimal("9.5") < rate < Decimal("10.1"), hour
        assert not any(found.quantities("p9", metric, hour) for metric in BACKEND)
        if hour != 14:
            assert all(118 <= qty <= 122 for qty in found.quantities("p1", "object", hour)), hour
    quarantined = [(place, item.groupby["id"]) for place, c in found.latest.items() for item in c.quarantined]
    assert quarantined == [(("p2", "object", 60), "o3")]
    assert len(found.quantities("p2", "object", 60)) == 1


def _check_frames(judged: Judgement) -> None:
    """What the worker makes of it: a true zero raises no alarm, whoever used something is rated."""
    frames = {place: frame for place, frame in judged.frames().items() if T <= place[1] < T + HOURS * HOUR}
    assert len(frames) == HOURS * len(SCOPES)
    assert judged.rejected() == []
    in_order = sorted(frames.items())
    by_scope = {scope: [frame.status for place, frame in in_order if place[0] == scope] for scope in SCOPES}
    assert by_scope["p9"] == [FrameStatus.EMPTY] * HOURS
    deleted = P3_DELETED // HOUR
    assert by_scope["p3"] == [FrameStatus.RATED] * deleted + [FrameStatus.EMPTY] * (HOURS - deleted)
    partial = {
        scope: [hour for hour, status in enumerate(statuses) if status is FrameStatus.PARTIAL]
        for scope, statuses in by_scope.items()
    }
    assert partial == {"p1": [14], "p2": [14, 60], "p3": [], "p9": []}
    assert "p9" not in {alert.scope_id for alert in judged.alerts() if alert.end <= T + HOURS * HOUR}
