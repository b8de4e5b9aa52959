"""What a collector tells Prometheus about itself: per source and metric, so that one that falls behind has a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collectors.status import CollectorStatus

__all__ = ["CollectorMetrics"]

REASONS = ("failed", "away", "unsettled", "oversized", "incomplete")
_GAUGES: tuple[tuple[str, str, Callable[[CollectorStatus], float]], ...] = (
    ("scopes", "Scopes that are collected here", lambda status: status.scopes),
    ("open_periods", "Periods of a scope and metric not proven whole", lambda status: status.open_periods),
    (
        "oldest_open_timestamp_seconds",
        "Begin of the oldest period not proven whole, 0: none",
        lambda status: status.oldest_open,
    ),
    ("up", "1 if the last round came to its end, 0 if not", lambda status: not status.fault),
    ("silent", "1 if the source has proven nothing for longer than it may, and something waits", lambda s: s.silent),
    ("round_timestamp_seconds", "When the last round ended, 0 before the first", lambda status: status.ended_at),
)


class CollectorMetrics:
    """Counters that rounds raise, and gauges that are read off the last round's status when asked."""

    def __init__(self, registry: CollectorRegistry, source: str) -> None:
        labels = ["source", "metric"]
        self._source = source
        self._answers = Counter(
            "rater_collector_answers", "Whole answers to a question for one scope", labels, registry=registry
        )
        self._empty = Counter("rater_collector_empty_answers", "Answers without a sample", labels, registry=registry)
        self._samples = Counter("rater_collector_samples", "Samples published", labels, registry=registry)
        self._published = Counter("rater_collector_published", "Collections published", labels, registry=registry)
        self._skipped = Counter(
            "rater_collector_skipped", "Points left out by a skip_datapoints_expression", labels, registry=registry
        )
        self._failures = Counter(
            "rater_collector_failures", "Questions without a whole answer", [*labels, "reason"], registry=registry
        )
        self._retries = Counter("rater_collector_retries", "Questions asked again", labels, registry=registry)
        self._status = CollectorStatus(fault="no round has been finished yet")
        registry.register(_Gauges(source, lambda: self._status))

    def expect(self, metrics: Iterable[str]) -> None:
        """Metrics by their public names: each of their counters is there before anything happens."""
        for name in metrics:
            for counter in (self._answers, self._empty, self._samples, self._published, self._skipped, self._retries):
                counter.labels(self._source, name)
            for reason in REASONS:
                self._failures.labels(self._source, name, reason)

    def answered(self, metric: str, samples: int) -> None:
        """A question was answered."""
        self._answers.labels(self._source, metric).inc()
        if not samples:
            self._empty.labels(self._source, metric).inc()

    def published(self, metric: str, samples: int, skipped: int) -> None:
        """A collection was published."""
        self._published.labels(self._source, metric).inc()
        self._samples.labels(self._source, metric).inc(samples)
        self._skipped.labels(self._source, metric).inc(skipped)

    def failed(self, metric: str, reason: str) -> None:
        """A question was not answered, or not whole. `reason` is one of REASONS."""
        assert reason in REASONS, reason
        self._failures.labels(self._source, metric, reason).inc()

    def retried(self, metric: str) -> None:
        """A question is asked that was asked in vain before."""
        self._retries.labels(self._source, metric).inc()

    def told(self, status: CollectorStatus) -> None:
        """The status after a round."""
        self._status = status


class _Gauges(Collector):
    """Read when Prometheus asks."""

    def __init__(self, source: str, status: Callable[[], CollectorStatus]) -> None:
        self._source = source
        self._status = status

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        for name, text, read in _GAUGES:
            gauge = GaugeMetricFamily(f"rater_collector_{name}", text, labels=["source"])
            gauge.add_metric([self._source], read(status))
            yield gauge
        queries = CounterMetricFamily(
            "rater_collector_queries", "Requests sent to the source since the start", labels=["source"]
        )
        queries.add_metric([self._source], status.queries)
        yield queries
        yield self._by_metric(
            "complete_until_timestamp_seconds",
            "Up to here every period of the metric is proven for all scopes held here",
            status.complete_until,
        )
        yield self._by_metric("behind_seconds", "Since the end of the last complete period", status.behind)

    def _by_metric(self, name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(f"rater_collector_{name}", text, labels=["source", "metric"])
        for metric, value in values.items():
            gauge.add_metric([self._source, metric], value)
        return gauge
