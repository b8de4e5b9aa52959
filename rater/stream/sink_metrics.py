"""What a sink tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rater.metrics import register_optional

__all__ = ["Progress", "SinkMetrics"]

READERS = ("sink", "sink-usage")
TOPICS = ("rated", "alerts", "usage")
_QUERYABLE = (0.5, 1, 2, 3, 5, 8, 13, 30, 60, 300, 1800, 7200, 86400)


class Progress(NamedTuple):
    """How far a reader is with one partition that it has."""

    topic: str
    partition: int
    lag: int
    """Records that are not committed yet."""
    unfinished: int
    """Revisions of which parts are missing."""


class SinkMetrics:
    """Counters that the readers raise, and gauges that are read off them when asked."""

    def __init__(
        self,
        registry: CollectorRegistry,
        progress: Callable[[], Iterable[Progress]],
        succeeded_at: Callable[[], Iterable[tuple[str, float]]],
        rule_version: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.rows = Counter("rater_sink_rows", "Rows inserted", ["table"], registry=registry)
        self.batches = Counter("rater_sink_batches", "Batches inserted", ["reader"], registry=registry)
        self.errors = Counter("rater_sink_errors", "Refusals of the store; repeated", ["reader"], registry=registry)
        self.restarts = Counter("rater_sink_restarts", "Memberships ended by trouble", ["reader"], registry=registry)
        self.rejected = Counter("rater_sink_rejected", "Records that cannot be kept", ["topic"], registry=registry)
        self.lost = Counter("rater_sink_lost", "Records that the topic had no more", ["topic"], registry=registry)
        self.queryable = Histogram(
            "rater_sink_queryable_seconds",
            "From closing a frame to finding it in the store",
            buckets=_QUERYABLE,
            registry=registry,
        )
        started = [(self.errors, READERS), (self.restarts, READERS), (self.lost, TOPICS), (self.rejected, TOPICS)]
        for counter, values in started:
            for value in values:
                counter.labels(value)  # there before anything happens: what first appears as 1 grows by nothing
        what = "Version of the rules in table rule_events"
        register_optional(registry, "rater_sink_rule_version", what, rule_version)
        registry.register(_Gauges(progress, succeeded_at))


class _Gauges(Collector):
    """Read when Prometheus asks, so that a partition that went elsewhere leaves nothing behind."""

    def __init__(
        self,
        progress: Callable[[], Iterable[Progress]],
        succeeded_at: Callable[[], Iterable[tuple[str, float]]],
    ) -> None:
        self._progress = progress
        self._succeeded_at = succeeded_at

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[GaugeMetricFamily]:
        lag = GaugeMetricFamily("rater_sink_lag_records", "Records not committed yet", labels=["topic", "partition"])
        unfinished = GaugeMetricFamily(
            "rater_sink_unfinished_frames", "Revisions of which parts are missing", labels=["topic", "partition"]
        )
        for one in self._progress():
            lag.add_metric([one.topic, str(one.partition)], one.lag)
            unfinished.add_metric([one.topic, str(one.partition)], one.unfinished)
        success = GaugeMetricFamily(
            "rater_sink_success_timestamp_seconds",
            "When something was last stored, or nothing was left to store",
            labels=["reader"],
        )
        for reader, instant in self._succeeded_at():
            success.add_metric([reader], instant)
        return [lag, unfinished, success]
