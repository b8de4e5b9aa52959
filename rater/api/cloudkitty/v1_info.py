"""Version 1: what is collected."""

from __future__ import annotations

from typing import Any

from rater.api.cloudkitty.arguments import arguments_v1, text
from rater.api.cloudkitty.calls import Answer, Backend, Call, MetricInfo, Route
from rater.api.cloudkitty.faults import ApiFaultError

__all__ = ["ROUTES"]


async def list_metrics(backend: Backend, call: Call) -> Answer:
    """GET info/metrics, info/services."""
    backend.policy.authorize(call.identity, "info:list_metrics_info")
    arguments_v1(call)
    if not backend.metrics:
        raise _no_metrics()
    return Answer({"metrics": [_metric(metric) for metric in backend.metrics]})


async def get_metric(backend: Backend, call: Call) -> Answer:
    """GET info/metrics/NAME, info/services/NAME."""
    backend.policy.authorize(call.identity, "info:get_metric_info")
    name = arguments_v1(call, {"metric_name": text})["metric_name"]
    if not backend.metrics:
        raise _no_metrics()
    for metric in backend.metrics:
        if metric.metric_id == name:
            return Answer(_metric(metric))
    raise ApiFaultError(404, name)


async def config(backend: Backend, call: Call) -> Answer:
    """GET info/config."""
    backend.policy.authorize(call.identity, "info:get_config")
    arguments_v1(call)
    return Answer(backend.metrics_conf)


def _metric(metric: MetricInfo) -> dict[str, Any]:
    return {"metadata": list(metric.metadata), "metric_id": metric.metric_id, "unit": metric.unit}


def _no_metrics() -> ApiFaultError:
    return ApiFaultError(405, "Invalid endpoint: no metrics in current configuration.", of_route=True)


ROUTES = (
    Route("info/metrics", list_metrics),
    Route("info/services", list_metrics),
    Route("info/metrics/{metric_name}", get_metric),
    Route("info/services/{metric_name}", get_metric),
    Route("info/config", config),
)
