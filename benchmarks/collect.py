"""One period of many scopes from one Prometheus to Kafka; CloudKitty's collector on the same server beside it.

Both are asked in turn, each in a process of its own, and medians are printed. CloudKitty asks each scope and metric by
itself, so some of the scopes are enough to tell its speed; it only makes points, ours also proves what they cover and
has them acknowledged by the broker. Run it by `make bench-collect`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from collectors.history import History
from collectors.metrics_yml import load
from collectors.prometheus.source import Factory
from collectors.publisher import Publisher
from collectors.runner import Collector
from collectors.scopes.plain import StaticFetcher
from collectors.settings import CollectorSettings, CompletenessSettings, PrometheusSettings, StaticFetcherSettings
from collectors.source import SourceContext
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, create_topics
from tests.conformance.side import PYTHON as CLOUDKITTY
from tests.integration.prometheus.server import LaptopPrometheus

ROOT = Path(__file__).resolve().parents[1]
T, HOUR = 1_767_225_600, 3600  # 2026-01-01T00:00:00Z
INTERVAL = 300  # of the scrapes
TARGETS = 10
RESOURCES = 2  # of a scope and metric


def scope_names(count: int) -> list[str]:
    """Ids as OpenStack's."""
    return [f"9f2c6e1ab0d14c3f8e7a{n:012x}" for n in range(count)]


def metric_names(count: int) -> list[str]:
    """Their public names."""
    return [f"metric_{n:02d}" for n in range(count)]


def lines(scopes: int, metrics: int) -> Iterator[str]:
    """Two hours of samples, so that each target is known; a scope's resources are on one target."""
    times = range(T - HOUR, T + HOUR + 2 * INTERVAL + 1, INTERVAL)
    yield "# TYPE up gauge"
    for target in range(TARGETS):
        yield from (f'up{{job="cloud",instance="node-{target}"}} 1 {at}' for at in times)
    for metric in metric_names(metrics):
        yield f"# TYPE {metric} gauge"
        for number, scope in enumerate(scope_names(scopes)):
            for which in range(RESOURCES):
                labels = f'project_id="{scope}",id="{scope[-6:]}-{which}",flavor="m1.{which}"'
                place = f'job="cloud",instance="node-{number % TARGETS}"'
                yield from (f"{metric}{{{labels},{place}}} {number % 97 + which}.25 {at}" for at in times)


def metrics_yml(metrics: int) -> str:
    """JSON is YAML."""
    return json.dumps({"metrics": {name: {"unit": "u", "groupby": ["id"], "metadata": ["flavor"]} for name in
                                   metric_names(metrics)}})  # fmt: skip


async def collect(url: str, bootstrap: str, scopes: int, metrics_conf: str) -> dict[str, float]:
    """One round of the production collector: questions, evidence, and acknowledged records."""
    settings = CollectorSettings(
        since="2026-01-01T00:00:00Z",
        concurrency=8,
        prometheus=PrometheusSettings(url=url),
        static=StaticFetcherSettings(scope_names(scopes)),
        completeness=CompletenessSettings(settle=120),
    )
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"collect-{uuid4().hex[:8]}.", partitions=4)
    await create_topics(kafka)
    context = SourceContext(settings, HOUR, load(metrics_conf, Factory.read_extra_args).metrics)
    source = Factory.build(context)
    publisher = Publisher(kafka)
    await publisher.start()
    now = float(T + HOUR + 2 * INTERVAL)
    history = History(settings.source_name, HOUR)
    collector = Collector(
        settings, context.metrics, HOUR, source, StaticFetcher(settings.static.scopes), publisher, history, lambda: now
    )
    began, cpu = time.perf_counter(), time.process_time()
    await collector.round()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    await publisher.stop()
    await source.close()
    assert collector.status.open_periods == 0, collector.status
    samples = scopes * len(context.metrics) * RESOURCES
    assert collector.status.published == scopes * len(context.metrics), collector.status
    memory = peak_memory()
    return {"samples": samples, "took": took, "cpu": used, "memory": memory, "queries": collector.status.queries}


def peak_memory() -> int:
    """Bytes. Of this program alone: what getrusage says begins with the size of whoever started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def child(command: list[str]) -> dict[str, Any]:
    """What a process of its own prints."""
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sides(options: argparse.Namespace, url: str, bootstrap: str, metrics_conf: Path) -> dict[str, list[dict[str, Any]]]:
    """Both in turn."""
    ours = [
        sys.executable,
        "-m",
        "benchmarks.collect",
        "--child",
        url,
        bootstrap,
        str(options.scopes),
        str(metrics_conf),
    ]
    metrics = json.dumps(json.loads(metrics_conf.read_text())["metrics"])
    asked = json.dumps(scope_names(options.scopes)[: options.their_scopes])
    program = str(ROOT / "benchmarks" / "collect_cloudkitty.py")
    theirs = [str(CLOUDKITTY), "-W", "ignore", program, url, str(T + HOUR), str(HOUR), metrics, asked]
    found: dict[str, list[dict[str, Any]]] = {"rater": [], "CloudKitty": []}
    for _ in range(options.runs):
        found["rater"].append(child(ours))
        found["CloudKitty"].append(child(theirs))
    return found


def show(console: Console, found: dict[str, list[dict[str, Any]]]) -> None:
    """Medians of both, and how they compare."""
    table = Table("", "samples", "questions", "seconds", "samples/s", "samples per CPU-second", "peak memory, MiB")
    speeds: dict[str, float] = {}
    for name, runs in found.items():
        speeds[name] = statistics.median(run["samples"] / run["took"] for run in runs)
        per_cpu = statistics.median(run["samples"] / run["cpu"] for run in runs)
        took = statistics.median(run["took"] for run in runs)
        memory = max(run["memory"] for run in runs) / 2**20
        first = runs[0]
        table.add_row(
            name, f"{first['samples']:,}", f"{first['queries']:,}", f"{took:.1f}", f"{speeds[name]:,.0f}",
            f"{per_cpu:,.0f}", f"{memory:.0f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"{speeds['rater'] / speeds['CloudKitty']:.1f} times the samples per second of CloudKitty")


def main() -> None:
    """Fills a Prometheus, then asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scopes", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--their-scopes", type=int, default=50, help="that CloudKitty is asked for (default: 50)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        url, bootstrap, scopes, metrics_conf = options.child
        print(json.dumps(asyncio.run(collect(url, bootstrap, int(scopes), metrics_conf))))
        return
    console = Console(width=140)
    console.print(
        f"{platform.machine()}, Python {platform.python_version()}: {options.scopes} scopes, {options.metrics} metrics"
    )
    with tempfile.TemporaryDirectory() as directory, LaptopKafka(Path(directory) / "kafka") as broker:
        metrics_conf = Path(directory) / "metrics.yml"
        metrics_conf.write_text(metrics_yml(options.metrics))
        server = LaptopPrometheus(Path(directory) / "prometheus")
        server.backfill(lines(options.scopes, options.metrics))
        with server:
            show(console, sides(options, server.url, broker.bootstrap, metrics_conf))


if __name__ == "__main__":
    main()
