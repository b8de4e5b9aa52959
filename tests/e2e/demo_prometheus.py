"""The demonstration's cloud as a real Prometheus would hold it: its last hours, moved to the present."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import yaml

from tests.integration.prometheus.server import LaptopPrometheus

HOURS = 6
STEP = 300
TARGET = 'job="openstack",instance="exporter:9180"'


@contextmanager
def prometheus_of(demo: Path, directory: Path) -> Iterator[Path]:
    """The demonstration's settings with a collector, on a server that runs as long as the block; `demo`: its files."""
    with LaptopPrometheus(directory / "prometheus") as server:
        server.backfill(_lines(demo))
        settings = demo / "rater-prometheus.yaml"
        scopes = sorted({sample["scope_id"] for sample in _samples(demo)})
        collect = {"prometheus": {"url": server.url}, "static": {"scopes": scopes}}
        text = (demo / "rater.yaml").read_text()
        settings.write_text(f"{text}collect: {json.dumps(collect)}\n")
        yield settings


def _lines(demo: Path) -> Iterator[str]:
    """OpenMetrics, family by family. An hour of it lies ahead, so that the newest sample is new for a while."""
    metrics = yaml.safe_load((demo / "metrics.yml").read_text())["metrics"]
    source_names = {metric["alt_name"]: name for name, metric in metrics.items()}
    found = [(_instant(sample["begin"]), sample) for sample in _samples(demo)]
    last = max(at for at, _ in found)
    shift = int(time.time()) + 3600 - last
    recent = [(at + shift, sample) for at, sample in found if at > last - (HOURS + 1) * 3600]
    yield "# TYPE up gauge"
    for at in sorted({at for at, _ in recent}):
        yield f"up{{{TARGET}}} 1 {at}"
    for name, source_name in sorted(source_names.items()):
        yield f"# TYPE {source_name} gauge"
        for at, sample in sorted(
            ((at, one) for at, one in recent if one["metric"] == name), key=lambda pair: str(pair[1]["groupby"])
        ):
            labels = {**sample["groupby"], **sample["metadata"]}
            matchers = ",".join(f'{key}="{text}"' for key, text in labels.items())
            yield f"{source_name}{{{TARGET},{matchers}}} {sample['qty']} {at}"


def _samples(demo: Path) -> Iterator[dict[str, str]]:
    for line in (demo / "usage.jsonl").read_text().splitlines():
        sample = json.loads(line)
        if "covers" not in sample:
            yield sample


def _instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
