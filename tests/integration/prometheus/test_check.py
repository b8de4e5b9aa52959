"""The check on a real Prometheus: the right set-up passes, and each wrong one gets the verdict that fits it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from collectors.check_run import check_parts
from collectors.checking import CheckReport
from collectors.metrics_yml import read
from collectors.prometheus import Factory, PrometheusSource
from collectors.settings import (
    CollectorSettings,
    PrometheusSettings,
    StaticFetcherSettings,
)
from collectors.source import SourceContext, fetcher_factory
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, Shown, Span, T, Target, openmetrics

DAY = Span(0, 12 * HOUR)
NOW = T + 12 * HOUR
REACH = 4 * HOUR
GOOD = "metrics: {vm: {unit: instance, alt_name: instance, groupby: [id, project_id], metadata: [flavor]}}"


def _lines() -> list[str]:
    node = Target("libvirt", "node-1", DAY, 5)
    cron = Target("batch", "cron", DAY, 0)
    labels = (("project_id", "p1"), ("id", "a"), ("flavor", "m1"))
    lines = openmetrics(
        [node, cron],
        [Shown("vm", node, DAY, labels), Shown("vm", node, DAY, (("project_id", "p2"), ("id", "b"), ("flavor", "m1")))],
    )
    slow = ",".join(f'{key}="{value}"' for key, value in (("job", "batch"), ("instance", "cron"), *labels))
    for metric, step, value in (("slow", 1800, "7"), ("load", 60, ""), ("traffic", 60, "+")):
        lines.append(f"# TYPE {metric} gauge")
        for number, at in enumerate(range(0, DAY.end, step)):
            shown = value if value.isdigit() else number * 100 if value else 5 + number % 3
            lines.append(f"{metric}{{{slow}}} {shown} {T + at}")
    lines.append("# TYPE sent counter")
    lines += [f"sent_total{{{slow}}} {number * 100} {T + at}" for number, at in enumerate(range(0, DAY.end, 60))]
    return lines


@pytest.fixture(scope="module")
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    return start_prometheus(_lines())


@pytest.fixture(scope="module")
def empty(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    return start_prometheus(["# TYPE other gauge", f"other 1 {T}"])


def _context(server: LaptopPrometheus, metrics: str, **more: object) -> SourceContext:
    fields = {"prometheus": PrometheusSettings(url=server.url), "static": StaticFetcherSettings(["p1", "p2"]), **more}
    found = read(metrics, "metrics.yml", Factory.read_extra_args).metrics
    return SourceContext(CollectorSettings(**fields), HOUR, found)


async def _check(context: SourceContext, now: int = NOW, reach: int = REACH) -> CheckReport:
    source, fetcher = PrometheusSource(context), fetcher_factory("static")(context)
    try:
        return await check_parts(context, source, fetcher, now, reach, lambda _done, _total: None)
    finally:
        await source.close()
        await fetcher.close()


def _found(report: CheckReport) -> list[tuple[str, str, str]]:
    findings = [*report.findings, *(finding for row in report.metrics for finding in row.findings)]
    return [(finding.code.value, finding.level, finding.text) for finding in findings]


async def test_a_right_set_up_passes(server: LaptopPrometheus) -> None:
    report = await _check(_context(server, GOOD))
    print(report)
    assert _found(report) == []
