"""What docs/prometheus.md shows works as it is written there: on a real Prometheus that has what a cluster shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collectors.prometheus.api import servers
from collectors.replay.usage_file import parse
from collectors.service import check_source, open_source
from collectors.skipping import without_skipped
from collectors.source import SourceContext, fetcher_factory
from collectors.times import iso
from rater.config import load_config
from rater.model.interval import Interval
from tests.integration.prometheus.server import LaptopPrometheus
from tests.integration.prometheus.world import HOUR, T

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "prometheus.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "yaml"}
(LINES,) = (text.splitlines() for kind, text in BLOCKS if kind == "jsonl")
PERIOD = Interval(T + HOUR, T + 2 * HOUR)
NOW = T + 2 * HOUR + 600

_KUBELET = 'job="kubelet",instance="10.0.0.1:10250",metrics_path="%s"'
_STATE = 'job="kube-state-metrics",instance="10.1.0.7:8080"'
_POD = 'namespace="shop",pod="web-1"'
_CADVISOR = _KUBELET % "/metrics/cadvisor"
_CLAIM = 'namespace="shop",persistentvolumeclaim="data"'


def cluster() -> list[str]:
    """Three hours of a node, a pod with one container and a claim; and of a namespace that is empty."""
    shown: dict[str, list[tuple[str, float, float]]] = {  # labels, value at T, growth per second
        "up": [(_KUBELET % "/metrics", 1, 0), (_CADVISOR, 1, 0), (_STATE, 1, 0)],
        "container_cpu_usage_seconds_total": [
            (f'{_CADVISOR},{_POD},container="app"', 0, 0.2),
            (f"{_CADVISOR},{_POD}", 0, 0.25),  # the pod itself: its containers and what is around them
        ],
        "kube_namespace_created": [(f'{_STATE},namespace="{name}"', 1, 0) for name in ("shop", "empty")],
        "kube_persistentvolumeclaim_info": [(f'{_STATE},{_CLAIM},storageclass="fast"', 1, 0)],
        "kube_persistentvolumeclaim_resource_requests_storage_bytes": [(f"{_STATE},{_CLAIM}", 10 * 2**30, 0)],
        "kube_pod_container_resource_requests": [
            (f'{_STATE},{_POD},container="app",resource="cpu",unit="core"', 0.5, 0),
            (f'{_STATE},{_POD},container="app",resource="memory",unit="byte"', 2 * 2**30, 0),
        ],
        "kube_pod_status_phase": [
            (f'{_STATE},{_POD},phase="Running"', 1, 0),
            (f'{_STATE},{_POD},phase="Pending"', 0, 0),
        ],
    }
    lines = []
    for metric, series in shown.items():
        lines.append(f"# TYPE {metric} gauge")
        for labels, value, growth in series:
            lines += [f"{metric}{{{labels}}} {value + growth * at} {T + at}" for at in range(5, 3 * HOUR, 30)]
    return lines


@pytest.fixture(scope="module")
def server(start_prometheus: Callable[[list[str]], LaptopPrometheus]) -> LaptopPrometheus:
    return start_prometheus(cluster())


async def test_an_hour_of_a_namespace_becomes_what_the_page_says(server: LaptopPrometheus, tmp_path: Path) -> None:
    for name in ("rater.yaml", "metrics.yml"):
        text = FILES[f"kubernetes/{name}"].replace("http://prometheus.monitoring:9090/api/v1", server.url)
        (tmp_path / name).write_text(text)
    (tmp_path / "token").write_text("s3cret")
    settings = load_config(tmp_path / "rater.yaml", {}).settings
    collect = settings.collect
    assert collect is not None

    found: list[dict[str, Any]] = []
    fetcher = fetcher_factory(collect.fetcher)(SourceContext(collect, HOUR))
    try:
        scopes = await fetcher.fetch(NOW, PERIOD.begin)
    finally:
        await fetcher.close()
    async with open_source(collect, settings.metrics_conf, HOUR) as (source, metrics):
        session = source.session(PERIOD, NOW)
        for scope_id in sorted(scopes):
            for metric in metrics:
                answer = without_skipped(await session.collect(scope_id, metric), metric, PERIOD.begin)
                assert (answer.covers, answer.proof, answer.quarantined) == ([PERIOD], "proven", []), answer.note
                assert "suspicion" not in answer.note
                for sample in answer.samples:
                    series = answer.series[sample.series]
                    times = {"begin": iso(sample.begin), "end": iso(sample.end)}
                    labels = {"groupby": series.groupby, **({"metadata": series.metadata} if series.metadata else {})}
                    found.append(
                        {"scope_id": scope_id, "metric": metric.name, **times, "qty": round(sample.qty, 9), **labels}
                    )

    assert scopes == {"shop", "empty"}
    shown = [json.loads(line) for line in LINES]
    assert all(parse(line.encode()) for line in LINES)
    found.sort(key=lambda line: str(line["metric"]))
    assert found == [{**line, "qty": Decimal(line["qty"])} for line in shown]


async def test_the_check_finds_nothing_wrong_with_the_example(server: LaptopPrometheus, tmp_path: Path) -> None:
    for name in ("rater.yaml", "metrics.yml"):
        text = FILES[f"kubernetes/{name}"].replace("http://prometheus.monitoring:9090/api/v1", server.url)
        (tmp_path / name).write_text(text)
    (tmp_path / "token").write_text("s3cret")
    settings = load_config(tmp_path / "rater.yaml", {}).settings
    assert settings.collect is not None

    report = await check_source(settings.collect, settings.metrics_conf, HOUR, 86400, NOW)

    findings = [(row.service, finding) for row in report.metrics for finding in row.findings]
    assert [finding for finding in findings if finding[1].level == "fail"] == []
    assert {row.service for row in report.metrics} == {json.loads(line)["metric"] for line in LINES}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("kubernetes/")])
async def test_every_other_file_of_the_page_is_taken(name: str, tmp_path: Path) -> None:
    for secret in ("password", "token"):
        (tmp_path / secret).write_text("s3cret")
    text = "".join(line for line in FILES[name].splitlines(keepends=True) if "ca_file" not in line)
    (tmp_path / "rater.yaml").write_text(text)

    collect = load_config(tmp_path / "rater.yaml", {}).settings.collect
    assert collect is not None
    made = servers(collect.prometheus, 1)
    for api in made:
        await api.close()
    assert len(made) == (2 if name == "pair/rater.yaml" else 1)


def test_every_block_of_the_page_is_used() -> None:
    assert {kind for kind, _ in BLOCKS} == {"yaml", "jsonl"}
    assert len(FILES) == 8
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
