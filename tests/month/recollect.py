"""The outages are over: our own collector asks the source for all that is missing, found by reading back `usage`.

The source is a plugin over the made-up month, and answers whatever it is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from collectors.history import read_history
from collectors.metrics_yml import Metric, read
from collectors.publisher import Publisher
from collectors.runner import Collector
from collectors.settings import CollectorSettings
from collectors.source import Answer
from rater.kafka import KafkaSettings
from rater.model.interval import Interval
from tests.month.content import BEGIN, CLOUD, END, HOUR, METRICS, Month
from tests.month.publish import as_samples

METRICS_YML = "metrics:\n" + "".join(
    f"  {metric.name.replace('.', '_')}:\n    alt_name: {metric.name}\n    unit: {metric.unit}\n"
    "    groupby: [project_id, resource_id]\n    metadata: [flavor, zone]\n"
    for metric in METRICS
    if metric.source == CLOUD
)
"""What is collected. How samples become a quantity stands in rater.yaml."""


class MonthSource:
    """A `collectors.source.Source` that has the whole month."""

    def __init__(self, month: Month) -> None:
        self._month = month

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        return []

    async def oldest(self, now: int) -> int:
        return BEGIN

    def session(self, period: Interval, now: int) -> MonthSession:
        return MonthSession(self._month, period)

    async def close(self) -> None:
        pass


class MonthSession:
    """One period of it."""

    def __init__(self, month: Month, period: Interval) -> None:
        self._month = month
        self._period = period

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        readings = self._month.readings(scope_id, metric.name, (self._period.begin - BEGIN) // HOUR)
        series, samples = as_samples(scope_id, readings)
        return Answer([self._period], series=series, samples=samples)


class NobodyNow:
    """A fetcher for scopes that ended with the month: none is named any more, so no plan is made for later time."""

    async def fetch(self, now: int, since: int) -> set[str]:
        return set()

    async def close(self) -> None:
        pass


class Recollected(msgspec.Struct, frozen=True):
    """What the collector found missing, by its own account, and what it published."""

    missing: int
    published: int


async def recollect(month: Month, kafka: KafkaSettings, advance: Callable[[int, int], None]) -> Recollected:
    """Rounds of the production collector until no period is open."""
    history = await read_history(kafka, CLOUD, HOUR)
    settings = CollectorSettings(source=CLOUD)
    metrics = read(METRICS_YML, "metrics.yml").metrics
    async with Publisher(kafka) as publisher:
        collector = Collector(settings, metrics, HOUR, MonthSource(month), NobodyNow(), publisher, history)
        found = [
            (scope, metric.name, period)
            for scope in month.scopes
            for metric in metrics
            for period in history.progress.missing(scope, metric.name, Interval(BEGIN, END))
        ]
        for _ in range(3):
            await collector.round()
            advance(collector.status.published, len(found))
            if not collector.status.open_periods:
                break
        status = collector.status
    assert status.fault == "", status.fault
    assert status.open_periods == 0, f"{status.open_periods} periods are still open"
    return Recollected(len(found), status.published)
