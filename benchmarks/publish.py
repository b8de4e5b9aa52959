"""How many samples a second of CPU publishes, from parsed samples to what Kafka acknowledged, by size of collection.

Only the collector's process is counted, not the broker's. Run it by `make bench-publish`.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from collectors.bounded import run_all
from collectors.parts import CollectionDraft
from collectors.publisher import Publisher
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, create_topics
from rater.model.interval import Interval
from rater.model.usage import Sample, Series

T, HOUR = 1_767_225_600, 3600  # 2026-01-01T00:00:00Z
SIZES = (2, 20, 200, 2000)
SCOPES = 500
UNDER_WAY = 256  # as the collector has


class Run(NamedTuple):
    """One run: wall and CPU seconds for so many samples."""

    samples: int
    took: float
    cpu: float


def draft(number: int, size: int) -> CollectionDraft:
    """A collection as Prometheus' source makes them: a series for each sample, labels as OpenStack's."""
    scope = f"9f2c6e1ab0d14c3f8e7a{number % SCOPES:012x}"
    span = Interval(T + number // SCOPES * HOUR, T + (number // SCOPES + 1) * HOUR)
    return CollectionDraft(
        source="prometheus",
        scope_id=scope,
        metric="cpu",
        begin=span.begin,
        end=span.end,
        attempt=1,
        unit="h",
        covers=[span],
        series=[
            Series({"project_id": scope, "id": f"{number:08x}-{n:08x}"}, {"flavor": f"m1.{n % 7}"}) for n in range(size)
        ],
        samples=[Sample(n, *span, Decimal(n) / 8) for n in range(size)],
        note="Prometheus 2.42.0; 2 targets",
    )


async def publish(bootstrap: str, samples: int, size: int) -> Run:
    """Collections of one size to topics of their own."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"publish-{uuid4().hex[:8]}.", partitions=4)
    await create_topics(kafka)
    drafts = [draft(number, size) for number in range(max(1, samples // size))]
    async with Publisher(kafka) as publisher:
        began, cpu = time.perf_counter(), time.process_time()
        await run_all((partial(publisher.publish, one) for one in drafts), UNDER_WAY)
        took, used = time.perf_counter() - began, time.process_time() - cpu
    return Run(size * len(drafts), took, used)


def main() -> None:
    """Prints medians by size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400_000, help="in each run (default: 400 000)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    console = Console(width=140)
    console.print(f"{platform.machine()}, Python {platform.python_version()}, {options.runs} runs")
    table = Table("samples per collection", "samples", "samples/s", "samples per CPU-second")
    with tempfile.TemporaryDirectory() as directory, LaptopKafka(Path(directory) / "kafka") as broker:
        asyncio.run(publish(broker.bootstrap, 20_000, 200))  # the broker warms up
        for size in SIZES:
            samples = min(options.samples, size * 50_000)
            runs = [asyncio.run(publish(broker.bootstrap, samples, size)) for _ in range(options.runs)]
            table.add_row(
                str(size),
                f"{runs[0].samples:,}",
                f"{statistics.median(run.samples / run.took for run in runs):,.0f}",
                f"{statistics.median(run.samples / run.cpu for run in runs):,.0f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
