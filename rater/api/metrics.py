"""What the HTTP service tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["ApiMetrics"]

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_TOO_MANY = 429
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ApiMetrics:
    """Counters that the service raises with each request. Labels take few values, whatever is asked for."""

    def __init__(self, registry: CollectorRegistry, in_flight: Callable[[], int]) -> None:
        self._requests = Counter(
            "rater_api_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "rater_api_request_duration_seconds",
            "From a request's head to its answer, of a stream to its end",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._sent = Counter("rater_api_sent_bytes", "Bytes of answers, without their heads", registry=registry)
        self._cut = Counter(
            "rater_api_connections_cut",
            "Connections broken off: too slow a head or reader, too many of an address or in all",
            ["reason"],
            registry=registry,
        )
        self._registry = registry
        self.samples = Counter("rater_api_samples", "Samples that Kafka confirmed", registry=registry)
        self.bytes = Counter("rater_api_bytes", "Bytes of bodies read, after decompression", registry=registry)
        self.throttled = Counter("rater_api_throttled", "Requests answered 429: too much at once", registry=registry)
        self.acknowledge_seconds = Histogram(
            "rater_api_acknowledge_seconds", "From a request's records to Kafka's confirmation", registry=registry
        )
        self.gauge("rater_api_in_flight", "Requests worked on or waiting for Kafka", in_flight)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A value that is asked for when it is read."""
        Gauge(name, what, registry=self._registry).set_function(value)

    def cut(self, reason: str) -> None:
        """Counts a connection that was broken off."""
        self._cut.labels(reason).inc()

    def answered(self, method: str, route: str, status: int, seconds: float | None, sent: int) -> None:
        """Counts a request. `seconds` None: it was to take as long as the client likes; `sent` in bytes."""
        labels = (method if method in _METHODS else "other", route or "none")
        self._requests.labels(*labels, str(status)).inc()
        self._sent.inc(sent)
        if seconds is not None:
            self._seconds.labels(*labels).observe(seconds)
        if status == _TOO_MANY:
            self.throttled.inc()
