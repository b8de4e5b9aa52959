"""What a sink tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Progress", "SinkMetrics"]

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
        since_success: Callable[[], Iterable[tuple[str, float]]],
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
        registry.register(_Gauges(progress, since_success))


class _Gauges(Collector):
    """Read when Prometheus asks, so that a partition that went elsewhere leaves nothing behind."""

    def __init__(
        self,
        progress: Callable[[], Iterable[Progress]],
        since_success: Callable[[], Iterable[tuple[str, float]]],
    ) -> None:
        self._progress = progress
        self._since_success = since_success

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[GaugeMetricFamily]:
        lag = GaugeMetricFamily("rater_sink_lag", "Records not committed yet", labels=["topic", "partition"])
        unfinished = GaugeMetricFamily(
            "rater_sink_unfinished_frames", "Revisions of which parts are missing", labels=["topic", "partition"]
        )
        for one in self._progress():
            lag.add_metric([one.topic, str(one.partition)], one.lag)
            unfinished.add_metric([one.topic, str(one.partition)], one.unfinished)
        success = GaugeMetricFamily(
            "rater_sink_seconds_since_success",
            "Since something was stored, or nothing was left to store",
            labels=["reader"],
        )
        for reader, seconds in self._since_success():
            success.add_metric([reader], seconds)
        return [lag, unfinished, success]
