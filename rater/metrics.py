"""What every process of rater tells Prometheus: which release it is, whether it is ready, and what it takes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["process_registry", "register_optional", "register_readiness"]


def process_registry() -> CollectorRegistry:
    """A registry for the metrics of this process, with those that are everybody's already in it."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    info = Gauge("rater_build_info", "1; the labels say what runs", ["version", "python"], registry=registry)
    info.labels(version("rater"), platform.python_version()).set(1)
    return registry


def register_readiness(registry: CollectorRegistry, checks: Mapping[str, Callable[[], str]]) -> None:
    """Adds `rater_ready`, which is asked when it is read: what `/readyz` says, by service."""
    registry.register(_Readiness(checks))


def register_optional(registry: CollectorRegistry, name: str, what: str, read: Callable[[], float | None]) -> None:
    """Adds a gauge that is not there while `read` gives None."""
    registry.register(_Optional(name, what, read))


class _Optional(Collector):
    def __init__(self, name: str, what: str, read: Callable[[], float | None]) -> None:
        self._name = name
        self._what = what
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._what)
        value = self._read()
        if value is not None:
            family.add_metric([], value)
        yield family


class _Readiness(Collector):
    def __init__(self, checks: Mapping[str, Callable[[], str]]) -> None:
        self._checks = checks

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering asks nothing yet

    def collect(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily("rater_ready", "1 if the service is ready, 0 if not", labels=["service"])
        for service, check in self._checks.items():
            ready.add_metric([service], not check())
        yield ready
