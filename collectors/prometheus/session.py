"""One period as one Prometheus shows it now: usage by CloudKitty's questions, and what of the period that proves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from collectors.evidence import MetricEvidence
from collectors.metrics_yml import Metric
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.batch import Batches
from collectors.prometheus.evidence import PrometheusEvidence
from collectors.quantity import PROMETHEUS, QuantityError, quantity
from collectors.settings import CollectorSettings
from collectors.source import Answer
from rater.model.interval import Interval
from rater.model.labels import Labels
from rater.model.usage import QuarantinedItem, Sample, Series

__all__ = ["PrometheusSession"]


class PrometheusSession:
    """The evidence is asked for once per metric, usage once for many scopes. A `SharingSession`."""

    def __init__(
        self,
        api: PrometheusApi,
        settings: CollectorSettings,
        period: Interval,
        now: int,
        version: Callable[[], Awaitable[str]],
    ) -> None:
        """`version`: what the server says it is, for the notes."""
        self.url = api.url
        self._api = api
        self._settings = settings
        self._evidence = PrometheusEvidence(api, settings.completeness, settings.scope_key, period, now)
        self._period = period
        self._version = version
        self._batches = Batches(api, settings.scope_key, period, {})

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        """Which scopes will be asked for."""
        self._batches = Batches(self._api, self._settings.scope_key, self._period, asked)

    async def close(self) -> None:
        """Nothing more is asked."""
        await self._batches.close()

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        """CloudKitty's query, and what of the period it proves. Raises SourceError."""
        return await self.answer(scope_id, metric, await self.evidence(metric))

    async def evidence(self, metric: Metric) -> MetricEvidence:
        """What is known of a metric, for all scopes. Raises SourceError, NotSettledError."""
        return await self._evidence.of(metric)

    async def shows_nothing(self, scope_id: str, metric: Metric) -> bool:
        """Whether the metric's query has no result for the scope. Raises SourceError."""
        return not await self._batches.items(scope_id, metric)

    async def answer(self, scope_id: str, metric: Metric, evidence: MetricEvidence) -> Answer:
        """The usage of a scope, with what the evidence says of it. Raises SourceError."""
        verdict = evidence.of(scope_id)
        series: list[Series] = []
        samples: list[Sample] = []
        quarantined: list[QuarantinedItem] = []
        for item in await self._batches.items(scope_id, metric):
            groupby, metadata = self._labels(item, metric, scope_id)
            raw = item.value[1] if item.value is not None else "a histogram"
            try:
                qty = quantity(raw, metric, self._settings.numbers, PROMETHEUS)
            except QuantityError as fault:
                quarantined.append(QuarantinedItem(raw[:2000], f"its value {fault}", groupby, metadata))
                continue
            samples.append(Sample(len(series), self._period.begin, self._period.end, qty))
            series.append(Series(groupby, metadata))
        note = "; ".join(filter(None, [await self._version(), verdict.note]))[:2000]
        return Answer(verdict.covers, verdict.proof, series, samples, quarantined, note)

    def _labels(self, item: Item, metric: Metric, scope_id: str) -> tuple[Labels, Labels]:
        """The labels that metrics.yml names, '' where the answer lacks one; the scope is never lost."""
        scope_key = self._settings.scope_key
        groupby: Labels = {label: item.metric.get(label, "") for label in metric.grouped_by(scope_key)}
        if not groupby[scope_key]:
            groupby[scope_key] = scope_id
        return groupby, {label: item.metric.get(label, "") for label in metric.metadata}
