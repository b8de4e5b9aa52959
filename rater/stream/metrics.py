"""What a worker tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rater.engine import Tally
from rater.engine.tally import OPEN, UNKNOWN
from rater.metrics import register_optional
from rater.model.errors import RejectedKind
from rater.model.rated import AlertKind, FrameStatus
from rater.stream.keeper import Keeper, News

__all__ = ["WorkerMetrics"]

OF_COLLECTORS = (AlertKind.SOURCE_SILENT, AlertKind.SOURCE_BACK)
TOPICS = ("rated", "alerts", "rejected")

Row: TypeAlias = tuple[str, str, Callable[[Keeper], float | None]]


class WorkerMetrics:
    """Counters that the worker raises, and gauges that are read off its keepers when asked."""

    def __init__(
        self,
        registry: CollectorRegistry,
        keepers: Callable[[], Mapping[int, Keeper]],
        rule_version: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`rule_version` is that of the rules in use, None before there are any."""
        self.restores = Counter("rater_worker_restores", "Partitions restored", registry=registry)
        self.restarts = Counter("rater_worker_restarts", "Memberships ended by trouble", registry=registry)
        self.fenced = Counter("rater_worker_fenced", "Commits refused: another owns the partition", registry=registry)
        self.failed_checkpoints = Counter(
            "rater_worker_failed_checkpoints", "Checkpoints that Kafka did not take; repeated", registry=registry
        )
        self.checkpoint_seconds = Histogram(
            "rater_worker_checkpoint_seconds", "Decide, snapshot, commit and publish", registry=registry
        )
        self._checkpoint_bytes = Counter(
            "rater_worker_checkpoint_bytes", "Bytes of snapshots written, before compression", registry=registry
        )
        self._revisions = Counter(
            "rater_worker_revisions", "Revisions of frames decided, by their status", ["status"], registry=registry
        )
        self._alerts = Counter("rater_worker_alerts", "Alerts published, by kind", ["kind"], registry=registry)
        self._published = Counter(
            "rater_worker_published_records", "Records published, by topic", ["topic"], registry=registry
        )
        for status in FrameStatus:
            self._revisions.labels(status.value)
        for kind in AlertKind:
            if kind not in OF_COLLECTORS:
                self._alerts.labels(kind.value)
        for topic in TOPICS:
            self._published.labels(topic)
        register_optional(registry, "rater_worker_rule_version", "Version of the rules in use", rule_version)
        registry.register(_States(keepers))

    def count(self, news: News) -> None:
        """Adds what a keeper did."""
        self._checkpoint_bytes.inc(news.checkpoint_bytes)
        for status, revisions in news.revisions.items():
            self._revisions.labels(status).inc(revisions)
        for kind, alerts in news.alerts.items():
            self._alerts.labels(kind).inc(alerts)
        for topic, records in news.records.items():
            self._published.labels(topic).inc(records)


_READ: tuple[Row, ...] = (
    ("rater_worker_next_offset", "Offset after the last applied record", lambda k: k.state.next_offset),
    ("rater_worker_lag_records", "Records of topic usage that are not applied yet", lambda k: k.lag),
    (
        "rater_worker_watermark_timestamp_seconds",
        "Broker's time of the newest record applied: up to it the partition is read",
        lambda k: k.state.last_ms / 1000 if k.state.last_ms else None,
    ),
    ("rater_worker_scopes", "Scopes in the state", lambda k: len(k.state.scopes)),
    ("rater_worker_outbox_records", "Records decided and not yet published", lambda k: len(k.state.outbox)),
    ("rater_worker_snapshot_bytes", "Bytes that the last checkpoint wrote", lambda k: k.snapshots.written_bytes),
    (
        "rater_worker_checkpoint_timestamp_seconds",
        "When a checkpoint last came to its end, or there was nothing to write",
        lambda k: k.settled_at,
    ),
)
_COUNTED: tuple[tuple[str, str, Callable[[Keeper], int]], ...] = (
    ("rater_worker_parts", "Parts of collections taken", lambda k: k.state.counts.parts),
    ("rater_worker_samples", "Samples taken", lambda k: k.state.counts.samples),
    ("rater_worker_repeated_parts", "Parts that had come before: left out", lambda k: k.state.counts.repeated),
)
_TALLIED: tuple[tuple[str, str, Callable[[Tally], int]], ...] = (
    (
        "rater_worker_overdue_frames",
        "Frames still open though everybody had the time to complete them",
        lambda found: found.overdue,
    ),
    (
        "rater_worker_unpriced_frames",
        "Frames of which something has no price: a script failed, or no rule can read a point",
        lambda found: found.unpriced,
    ),
    (
        "rater_worker_open_gaps",
        "Gaps of the frames in the state, accepted ones too; rater_store_open_gaps is what a bill waits for",
        lambda found: found.open_gaps,
    ),
)


class _States(Collector):
    """Read off the states, per partition. What is counted in a state goes on counting wherever the partition goes."""

    def __init__(self, keepers: Callable[[], Mapping[int, Keeper]]) -> None:
        self._keepers = keepers

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[Metric]:
        keepers = {str(partition): keeper for partition, keeper in self._keepers().items() if keeper.is_restored}
        for name, text, read in _READ:
            family = GaugeMetricFamily(name, text, labels=["partition"])
            for partition, keeper in keepers.items():
                value = read(keeper)
                if value is not None:
                    family.add_metric([partition], value)
            yield family
        for name, text, count in _COUNTED:
            counted = CounterMetricFamily(name, text, labels=["partition"])
            for partition, keeper in keepers.items():
                counted.add_metric([partition], count(keeper))
            yield counted
        yield _rejected(keepers)
        yield from _tallied({partition: keeper.tally() for partition, keeper in keepers.items()})


def _rejected(keepers: Mapping[str, Keeper]) -> Metric:
    family = CounterMetricFamily(
        "rater_worker_rejected_records", "Records refused, by why", labels=["partition", "reason"]
    )
    for partition, keeper in keepers.items():
        rejected = keeper.state.counts.rejected
        for reason in get_args(RejectedKind):  # those that never came too: what first appears as 1 grows by nothing
            family.add_metric([partition, reason], rejected.get(reason, 0))
    return family


def _tallied(tallies: Mapping[str, Tally]) -> Iterable[Metric]:
    frames = GaugeMetricFamily("rater_worker_frames", "Frames in the state, by status", labels=["partition", "status"])
    for partition, found in tallies.items():
        for status in (OPEN, *(status.value for status in FrameStatus), UNKNOWN):
            frames.add_metric([partition, status], found.frames.get(status, 0))
    yield frames
    for name, text, read in _TALLIED:
        family = GaugeMetricFamily(name, text, labels=["partition"])
        for partition, found in tallies.items():
            family.add_metric([partition], read(found))
        yield family
    heard = GaugeMetricFamily(
        "rater_worker_source_heard_timestamp_seconds",
        "Broker's time of what was last taken of a source that owes something",
        labels=["source"],
    )
    for source in sorted({source for found in tallies.values() for source in found.heard}):
        heard.add_metric([source], max(found.heard.get(source, 0) for found in tallies.values()))
    yield heard
