"""Each metric of an audit, of the HTTP service and of collectors stands in the page that an operator reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from collectors.collector_metrics import CollectorMetrics
from rater.api.settings import ApiSettings
from rater.api.transport import Transport
from rater.audit.timer import _Metrics

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "make"),
    [
        ("audit.md", _Metrics),
        ("api-service.md", lambda registry: Transport(ApiSettings(), registry, None)),
        ("collectors.md", lambda registry: CollectorMetrics(registry, "cloud")),
    ],
    ids=["audit", "api", "collectors"],
)
def test_every_metric_is_in_the_page_and_explains_itself(page: str, make: object) -> None:
    registry = CollectorRegistry()
    assert callable(make)
    made = make(registry)
    named = set(re.findall(r"rater_\w+", (DOCS / page).read_text(encoding="utf-8")))

    found = list(registry.collect())
    assert made
    assert found
    for metric in found:
        assert {metric.name, f"{metric.name}_total"} & named, metric.name
        assert len(metric.documentation.split()) >= 2, metric.name
