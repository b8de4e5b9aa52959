"""What the HTTP service tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["ApiMetrics"]


class ApiMetrics:
    """Counters that the service raises with each request."""

    def __init__(self, registry: CollectorRegistry, in_flight: Callable[[], int]) -> None:
        self.requests = Counter("rater_api_requests", "Requests answered", ["status"], registry=registry)
        self.samples = Counter("rater_api_samples", "Samples that Kafka confirmed", registry=registry)
        self.bytes = Counter("rater_api_bytes", "Bytes of bodies read, after decompression", registry=registry)
        self.throttled = Counter("rater_api_throttled", "Requests answered 429: too much at once", registry=registry)
        self.acknowledge_seconds = Histogram(
            "rater_api_acknowledge_seconds", "From a request's records to Kafka's confirmation", registry=registry
        )
        Gauge("rater_api_in_flight", "Requests worked on or waiting for Kafka", registry=registry).set_function(
            in_flight
        )
