"""Odd installations on a real Prometheus: slow scrapes, one exporter for all, lost scrapes, mixed and lone metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from collectors.metrics_yml import read
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, CompletenessSettings, EvidenceSettings, PrometheusSettings
from collectors.source import Answer, SourceContext
from rater.model.interval import Interval, subtract
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, Shown, Span, T, Target, openmetrics

DAY = Span(0, 8 * HOUR)
METRICS = {
    metric.name: metric
    for metric in read(
        """
metrics:
  slow: {unit: u, groupby: [id]}
  lone: {unit: u, groupby: [id], extra_args: {aggregation_method: count}}
  mixed: {unit: u, groupby: [id]}
""",
        "metrics.yml",
        Factory.read_extra_args,
    ).metrics
}

LONE = Target(
    "lone", "exporter", DAY, 5,
    down=(
        Span(2 * HOUR + 600, 2 * HOUR + 660),  # two single scrapes of one hour are lost
        Span(2 * HOUR + 1200, 2 * HOUR + 1260),
        Span(3 * HOUR + 600, 4 * HOUR),  # and fifty minutes in a row
    ),
)  # fmt: skip


def _slow() -> list[str]:
    """Scraped every five minutes, and not at all from 02:00 to 02:50."""
    times = [at for at in range(100, DAY.end, 300) if not 2 * HOUR <= at < 2 * HOUR + 3000]
    return [
        *(f'up{{job="slow",instance="x"}} 1 {T + at}' for at in times),
        "# TYPE slow gauge",
        *(f'slow{{job="slow",instance="x",project_id="p1",id="s"}} 1 {T + at}' for at in times),
    ]


def _mixed() -> list[str]:
    """Shown by a target, and by a recording rule that keeps no target."""
    return [f'mixed{{project_id="p2",id="rule"}} 1 {T + at}' for at in range(0, DAY.end, 60)]


@pytest.fixture(scope="module")
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    silent = Span(5 * HOUR, 6 * HOUR)
    series = [
        Shown("lone", LONE, DAY, (("project_id", "p1"), ("id", "l")), "1", (silent,)),
        Shown("mixed", LONE, DAY, (("project_id", "p1"), ("id", "m"))),
    ]
    lines = openmetrics([LONE], series)
    ups = [line for line in lines if line.startswith("up{")]
    rest = [line for line in lines if not line.startswith(("up{", "# TYPE up"))]
    slow = _slow()
    slow_ups = [line for line in slow if line.startswith("up{")]
    return start_prometheus(
        ["# TYPE up gauge", *ups, *slow_ups, *rest, *_mixed(), *(line for line in slow if line not in slow_ups)]
    )


class Asked:
    def __init__(self, url: str, **completeness: object) -> None:
        settings = CollectorSettings(
            prometheus=PrometheusSettings(url=url), completeness=CompletenessSettings(**completeness)
        )
        self.source = PrometheusSource(SourceContext(settings, HOUR, tuple(METRICS.values())))

    async def answer(self, scope_id: str, metric: str, hour: int) -> Answer:
        period = Interval(T + hour * HOUR, T + (hour + 1) * HOUR)
        return await self.source.session(period, T + 20 * HOUR).collect(scope_id, METRICS[metric])


@pytest.fixture
async def asked(server: LaptopPrometheus) -> AsyncIterator[Asked]:
    found = Asked(server.url)
    yield found
    await found.source.close()


def _missing(answer: Answer, hour: int) -> list[Interval]:
    return subtract([Interval(T + hour * HOUR, T + (hour + 1) * HOUR)], answer.covers)


async def test_scrapes_every_five_minutes_are_judged_by_their_own_interval(asked: Asked) -> None:
    """Given scrapes at 01:56:40 and then at 02:51:40; then the hole is what lies between, less one interval."""
    assert _missing(await asked.answer("p1", "slow", 1), 1) == []
    assert _missing(await asked.answer("p1", "slow", 2), 2) == [Interval(T + 2 * HOUR + 100, T + 2 * HOUR + 3100)]
    assert _missing(await asked.answer("p1", "slow", 3), 3) == []


async def test_one_exporter_for_all_is_missing_where_it_was_down(asked: Asked) -> None:
    """Given `up` 0 from 03:10:05; then that is a hole of who used something, and nobody's proof of a zero."""
    used, unused = await asked.answer("p1", "lone", 3), await asked.answer("p9", "lone", 3)

    assert _missing(used, 3) == [Interval(T + 3 * HOUR + 605, T + 4 * HOUR)]
    assert (_missing(unused, 3), unused.proof) == ([], "weak")


async def test_lost_scrapes_weaken_what_is_counted_and_nothing_else(server: LaptopPrometheus) -> None:
    strict, patient = Asked(server.url), Asked(server.url, max_lost_scrapes=2)
    try:
        counted = await strict.answer("p1", "lone", 2)
        allowed = await patient.answer("p1", "lone", 2)
        highest = await strict.answer("p1", "mixed", 2)
    finally:
        await strict.source.close()
        await patient.source.close()

    assert (_missing(counted, 2), counted.proof) == ([], "weak")
    assert "up to 2 single scrapes lost of one target" in counted.note
    assert allowed.proof == "proven"
    assert "lost" in highest.note


async def test_the_silence_of_a_metric_that_one_scope_has_is_only_remarked_on(asked: Asked) -> None:
    answer = await asked.answer("p1", "lone", 5)

    assert _missing(answer, 5) == []
    assert answer.samples == []
    assert "suspicion: lone has no sample 2026-01-05T05:00:05Z to 2026-01-05T06:00:00Z" in answer.note


async def test_a_metric_that_a_rule_shows_besides_a_target_is_weak(asked: Asked) -> None:
    answer = await asked.answer("p2", "mixed", 1)

    assert (_missing(answer, 1), answer.proof, len(answer.samples)) == ([], "weak", 1)
    assert "some show the metric without `up` of their own" in answer.note


async def test_joins_can_be_told_by_the_configuration(server: LaptopPrometheus) -> None:
    asked = Asked(server.url, metrics={"lone": EvidenceSettings(also=["slow", "mixed"])})
    try:
        there, lacking = await asked.answer("p1", "lone", 1), await asked.answer("p1", "lone", 6)
    finally:
        await asked.source.close()

    assert _missing(there, 1) == _missing(lacking, 6) == []
