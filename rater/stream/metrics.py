"""What a worker tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rater.stream.keeper import Keeper

__all__ = ["WorkerMetrics"]


class WorkerMetrics:
    """Counters that the worker raises, and gauges that are read off its keepers when asked."""

    def __init__(self, registry: CollectorRegistry, keepers: Callable[[], Mapping[int, Keeper]]) -> None:
        self.restores = Counter("rater_worker_restores", "Partitions restored", registry=registry)
        self.restarts = Counter("rater_worker_restarts", "Memberships ended by trouble", registry=registry)
        self.fenced = Counter("rater_worker_fenced", "Commits refused: another owns the partition", registry=registry)
        self.failed_checkpoints = Counter(
            "rater_worker_failed_checkpoints", "Checkpoints that Kafka did not take; repeated", registry=registry
        )
        self.checkpoint_seconds = Histogram(
            "rater_worker_checkpoint_seconds", "Decide, snapshot, commit and publish", registry=registry
        )
        registry.register(_States(keepers))


class _States(Collector):
    """Gauges per partition."""

    def __init__(self, keepers: Callable[[], Mapping[int, Keeper]]) -> None:
        self._keepers = keepers

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[GaugeMetricFamily]:
        rows: list[tuple[str, str, Callable[[Keeper], float]]] = [
            ("rater_worker_next_offset", "Offset after the last applied record", lambda k: k.state.next_offset),
            ("rater_worker_scopes", "Scopes in the state", lambda k: len(k.state.scopes)),
            (
                "rater_worker_frames",
                "Frames in the state",
                lambda k: sum(len(s.frames) for s in list(k.state.scopes.values())),
            ),
            (
                "rater_worker_unpriced_frames",
                "Frames of which something has no price: a script failed, or no rule can read a point",
                lambda k: sum(
                    frame.unpriced for s in list(k.state.scopes.values()) for frame in list(s.frames.values())
                ),
            ),
            ("rater_worker_outbox", "Records decided and not yet published", lambda k: len(k.state.outbox)),
            ("rater_worker_snapshot_bytes", "Size of the last snapshot", lambda k: k.snapshots.written_bytes),
            (
                "rater_worker_checkpoint_timestamp",
                "When the last checkpoint was committed",
                lambda k: k.checkpointed_at,
            ),
        ]
        keepers = [(partition, keeper) for partition, keeper in self._keepers().items() if keeper.is_restored]
        for name, text, read in rows:
            family = GaugeMetricFamily(name, text, labels=["partition"])
            for partition, keeper in keepers:
                family.add_metric([str(partition)], read(keeper))
            yield family
