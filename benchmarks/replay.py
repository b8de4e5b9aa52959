"""Replay of usage files of two sizes, one four times the other, as JSON lines and Parquet: speed, and memory.

The files are in the worst order: resource by resource, so that each hour is spread over the whole file. Each replay
runs in a process of its own, against a broker that is started for it; its peak is that of the whole process.

    python -m benchmarks.replay --samples 2000000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from collectors.replay.run import replay_files
from collectors.replay.words import ReplayOptions
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, create_topics
from rater.model.interval import Interval

BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z
HOUR = 3600
SCOPES = 100
METRICS = 5
ROWS_AT_ONCE = 50_000


def shape(samples: int, hours: int) -> int:
    """How many resources of each scope and metric make so many samples in so many hours."""
    return max(1, samples // (hours * SCOPES * METRICS))


def rows(samples: int, hours: int) -> Iterator[tuple[str, str, int, str]]:
    """Scope, metric, begin, resource."""
    for number in range(shape(samples, hours)):
        for scope in range(SCOPES):
            for metric in range(METRICS):
                name = f"{scope:03}-{metric}-{number}"
                for hour in range(hours):
                    yield f"project-{scope:03}", f"metric-{metric}", BEGIN + hour * HOUR, name


def write_jsonl(path: Path, samples: int, hours: int) -> None:
    """Writes a file of JSON lines."""
    times = {BEGIN + hour * HOUR: _iso(BEGIN + hour * HOUR) for hour in range(hours + 1)}
    with path.open("w") as file:
        for scope_id, metric, begin, name in rows(samples, hours):
            file.write(
                f'{{"scope_id":"{scope_id}","metric":"{metric}","begin":"{times[begin]}","end":"{times[begin + HOUR]}",'
                f'"qty":"1.25","unit":"h","groupby":{{"resource_id":"{name}"}},"metadata":{{"flavor":"m1.tiny"}}}}\n'
            )


def write_parquet(path: Path, samples: int, hours: int) -> None:
    """Writes the same as Parquet."""
    instant = pa.timestamp("s", tz="UTC")
    schema = pa.schema(
        [("scope_id", pa.string()), ("metric", pa.string()), ("begin", instant), ("end", instant),
         ("qty", pa.string()), ("unit", pa.string()), ("groupby.resource_id", pa.string()),
         ("metadata.flavor", pa.string())]
    )  # fmt: skip
    with pq.ParquetWriter(path, schema) as writer:
        held: list[tuple[str, str, int, str]] = []
        for row in rows(samples, hours):
            held.append(row)
            if len(held) == ROWS_AT_ONCE:
                writer.write_table(_table(held, schema))
                held = []
        if held:
            writer.write_table(_table(held, schema))


def _table(held: list[tuple[str, str, int, str]], schema: pa.Schema) -> pa.Table:
    scopes, metrics, begins, names = (list(column) for column in zip(*held, strict=True))
    count = len(held)
    return pa.table(
        [scopes, metrics, begins, [begin + HOUR for begin in begins], ["1.25"] * count, ["h"] * count, names,
         ["m1.tiny"] * count],
        schema=schema,
    )  # fmt: skip


def _iso(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def as_child(path: str, bootstrap: str, prefix: str, hours: int) -> None:
    """Replays a file and prints what it cost."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    await create_topics(kafka)
    options = ReplayOptions(covers=(Interval(BEGIN, BEGIN + hours * HOUR),))
    stages: dict[str, float] = {}
    began = time.monotonic()
    found = await replay_files(
        [path], kafka, options, watcher=lambda seen: stages.__setitem__(seen.stage, time.monotonic() - began)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cost = {"samples": found.samples, "collections": found.collections, "reading": stages["reading"],
            "seconds": time.monotonic() - began, "cpu": time.process_time(), "peak": peak}  # fmt: skip
    print(json.dumps(cost))


def child(path: Path, kafka: KafkaSettings, hours: int) -> dict[str, float]:
    """Replays a file in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.replay", "--child", str(path), kafka.bootstrap, kafka.prefix]
    command += ["--hours", str(hours)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2_000_000, help="of the larger files; default: 2 million")
    parser.add_argument("--hours", type=int, default=240, help="that the larger files hold; default: 240")
    parser.add_argument("--forms", nargs="+", default=["jsonl", "parquet"], choices=["jsonl", "parquet"])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(as_child(*options.child, options.hours))
        return
    table = Table(title="one replay each, in a process of its own")
    for title in (
        "file",
        "MiB",
        "samples",
        "collections",
        "reading s",
        "in all s",
        "CPU s",
        "samples/CPU s",
        "peak MiB",
    ):
        table.add_column(title, justify="left" if title == "file" else "right")
    with tempfile.TemporaryDirectory() as directory, LaptopKafka(Path(directory) / "kafka") as broker:
        for form in options.forms:
            for part in (4, 1):
                path = Path(directory) / f"usage.{form}"
                hours = options.hours // part
                (write_jsonl if form == "jsonl" else write_parquet)(path, options.samples // part, hours)
                size = path.stat().st_size
                row = child(path, KafkaSettings(bootstrap=broker.bootstrap, prefix=f"{form}{part}."), hours)
                path.unlink()
                table.add_row(
                    form, f"{size / 2**20:.0f}", f"{row['samples']:,}", f"{row['collections']:,}",
                    f"{row['reading']:.1f}", f"{row['seconds']:.1f}", f"{row['cpu']:.1f}",
                    f"{row['samples'] / row['cpu']:,.0f}", f"{row['peak'] / 2**20:.0f}",
                )  # fmt: skip
    console = Console(width=140)
    console.print(table)
    console.print(f"{platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
