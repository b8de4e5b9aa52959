"""The source Prometheus: CloudKitty's questions, one sample per resource and period, and proof of what they saw."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from collectors.errors import UnfitSourceError
from collectors.metrics_yml import Metric
from collectors.prom_api import Item, PrometheusApi
from collectors.prom_batch import Batches
from collectors.prom_evidence import PrometheusEvidence
from collectors.promql import is_metric_name, read_extra_args
from collectors.quantity import PROMETHEUS, QuantityError, quantity
from collectors.settings import CollectorSettings
from collectors.source import Answer, PeriodSession, Source, SourceContext
from rater.model.document import Node, Problems
from rater.model.interval import Interval
from rater.model.labels import Labels
from rater.model.usage import QuarantinedItem, Sample, Series

__all__ = ["Factory", "PrometheusSource"]

_DURATION = re.compile(r"(\d+)(ms|y|w|d|h|m|s)")
_SECONDS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0}


class PrometheusSource:
    """One Prometheus, or what speaks its API."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if a setting is missing or a file of credentials cannot be read."""
        self._settings = context.settings
        self._metrics = context.metrics
        self._api = PrometheusApi(context.settings.prometheus, context.settings.concurrency)
        self._version: str | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        """Whether each expected metric exists and retention reaches back far enough, as far as the server can tell.

        Returns remarks. Raises UnfitSourceError with everything that is wrong, SourceError if it cannot be asked.
        """
        self._version = None  # it may have been updated since
        faults = [f"metric {m.metric!r} is no name of a metric" for m in self._metrics if not is_metric_name(m.metric)]
        remarks = []
        for name in sorted({m.metric for m in self._metrics if is_metric_name(m.metric)}):
            if await self._has(name):
                continue
            text = f"metric {name!r} does not exist on {self._api.url}"
            public = [m.name for m in self._metrics if m.metric == name]
            if all(self._is_expected(other) for other in public):
                faults.append(
                    f"{text}: check its name, or set collect.completeness.metrics.{public[0]}.expected to false if it "
                    "may be missing"
                )
            else:
                remarks.append(text)
        retention = await self._retention()
        if retention is not None and retention < reach_seconds:
            faults.append(
                f"{self._api.url} keeps {retention} s, but periods are collected and corrected up to {reach_seconds} s "
                "later: keep more there, or lower engine.wait or engine.late_horizon"
            )
        if faults:
            raise UnfitSourceError("\n".join(faults))
        return remarks

    async def oldest(self, now: int) -> int:
        """The instant from which on the server keeps samples; 0 if it cannot tell."""
        retention = await self._retention()
        return 0 if retention is None else max(0, now - retention)

    def session(self, period: Interval, now: int) -> PeriodSession:
        """A session for a period that is over."""
        evidence = PrometheusEvidence(self._api, self._settings.completeness, self._settings.scope_key, period, now)
        return _Session(self._api, self._settings, evidence, period, self.version)

    def _is_expected(self, name: str) -> bool:
        settings = self._settings.completeness.metrics.get(name)
        return settings is None or settings.expected

    async def version(self) -> str:
        """What the server says it is, for the note of each collection; empty if it does not say. Asked once."""
        if self._version is None:
            found = await self._api.look_up("status/buildinfo", {})
            self._version = f"Prometheus {found.get('version', '')}"[:100] if isinstance(found, dict) else ""
        return self._version

    async def _has(self, metric: str) -> bool:
        """Whether the server has any sample of the metric, however old; true where it cannot tell."""
        found = await self._api.look_up("label/__name__/values", {"match[]": metric})
        return found is None or metric in found

    async def _retention(self) -> int | None:
        found = await self._api.look_up("status/runtimeinfo", {})
        if not isinstance(found, dict):
            return None
        parts = _DURATION.findall(str(found.get("storageRetention", "")).split(" or ")[0])
        return sum(int(number) * _SECONDS[unit] for number, unit in parts) or None


class _Session:
    """One period; the evidence is asked for once per metric, usage once for many scopes. A `SharingSession`."""

    def __init__(
        self,
        api: PrometheusApi,
        settings: CollectorSettings,
        evidence: PrometheusEvidence,
        period: Interval,
        version: Callable[[], Awaitable[str]],
    ) -> None:
        self._api = api
        self._settings = settings
        self._evidence = evidence
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
        verdict = (await self._evidence.of(metric)).of(scope_id)
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


class Factory:
    """The entry point `prometheus` of group `rater.sources`."""

    @staticmethod
    def read_extra_args(problems: Problems, node: Node | None) -> object:
        """The `extra_args` of a metric."""
        return read_extra_args(problems, node)

    @staticmethod
    def build(context: SourceContext) -> Source:
        """The source. Raises SettingsError."""
        return PrometheusSource(context)
