"""Two real Prometheus servers that scrape the same targets: while one answers, everything is collected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from collectors.errors import SourceAwayError
from collectors.metrics_yml import read
from collectors.prometheus import replicas as prom_replicas
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.source import Factory, PrometheusSource
from collectors.settings import CollectorSettings, PrometheusSettings
from collectors.source import Answer, SharingSession, SourceContext
from rater.model.interval import Interval, subtract
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, Shown, Span, T, Target, openmetrics

LIFE = Span(0, 4 * HOUR)
PERIOD = Interval(T + HOUR, T + 2 * HOUR)
SCOPES = [f"p{number}" for number in range(12)]
(METRIC,) = read("metrics: {vm: {unit: u, groupby: [id]}}", "metrics.yml", Factory.read_extra_args).metrics


def _lines(offset: int, *gone: Span) -> list[str]:
    target = Target("libvirt", "node", LIFE, offset, gone=gone)
    return openmetrics([target], [Shown("vm", target, LIFE, (("project_id", p), ("id", f"vm-{p}"))) for p in SCOPES])


@pytest.fixture
def pair(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> tuple[LaptopPrometheus, LaptopPrometheus]:
    """The first has no sample for twenty minutes of the hour, the second none for five."""
    first = start_prometheus(_lines(5, Span(HOUR + 600, HOUR + 1800)))
    return first, start_prometheus(_lines(35, Span(HOUR + 3000, HOUR + 3300)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers that usage was asked of."""
    found: list[str] = []
    query = PrometheusApi.query

    async def noted(self: PrometheusApi, expression: str, at: float) -> list[Item]:
        if "max_over_time(vm{" in expression:
            found.append(self.url)
        return await query(self, expression, at)

    monkeypatch.setattr(PrometheusApi, "query", noted)
    return found


async def _collect(source: PrometheusSource) -> list[Answer]:
    session = source.session(PERIOD, T + 3 * HOUR)
    assert isinstance(session, SharingSession)
    session.expect({METRIC.internal_key: SCOPES})
    try:
        return list(await asyncio.gather(*(session.collect(scope, METRIC) for scope in SCOPES)))
    finally:
        await session.close()


async def test_all_scopes_are_answered_by_one_of_two_whichever_is_there(
    pair: tuple[LaptopPrometheus, LaptopPrometheus],
    asked: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pair
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(prom_replicas, "_AWAY_SECONDS", 0.0)  # so that one that is back is asked at once
    settings = CollectorSettings(prometheus=PrometheusSettings(urls=[first.url, second.url]))
    source = PrometheusSource(SourceContext(settings, HOUR, (METRIC,)))
    try:
        # given both, the one that saw more answers one question for all, and its own hole is named
        answers = await _collect(source)
        assert asked == [second.url]
        for answer in answers:
            assert [sample.qty for sample in answer.samples] == [1]
            assert subtract([PERIOD], answer.covers) == [Interval(T + HOUR + 3035, T + HOUR + 3335)]
            assert answer.note.startswith(f"answered by {second.url}; Prometheus ")

        # when that one is down, then the other, with its larger hole
        second.stop()
        for answer in await _collect(source):
            assert [sample.qty for sample in answer.samples] == [1]
            assert subtract([PERIOD], answer.covers) == [Interval(T + HOUR + 605, T + HOUR + 1805)]
            assert f"{second.url} passed over: Prometheus at {second.url} cannot be reached" in answer.note
        assert set(asked[1:]) == {first.url}
        told = [record for record in caplog.records if "is passed over" in record.message]
        assert [record.levelno for record in told] == [logging.WARNING]

        # when both are down, then nothing is said, and when one is back all is as before
        first.stop()
        with pytest.raises(SourceAwayError, match=f"{first.url} passed over: .*{second.url} passed over"):
            await _collect(source)
        await asyncio.to_thread(second.start)
        assert [answer.covers for answer in await _collect(source)] == [answer.covers for answer in answers]
        assert f"{second.url} answers again" in [record.message for record in caplog.records if record.levelno < 30]
    finally:
        await source.close()
