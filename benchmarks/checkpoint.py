"""What a checkpoint costs as the state grows: how long it holds up the event loop, bytes written, time to start again.

The production keeper over a real Kafka, all points in one partition; records go on being applied meanwhile, and a task
that wakes up every millisecond sees for how long it could not. Beside it, writing everything in one piece, as versions
before did. Run it by `make bench-checkpoint`.
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
from collections.abc import Awaitable
from decimal import Decimal
from pathlib import Path
from typing import Any

import cramjam
from rich.console import Console
from rich.table import Table

from benchmarks.stream import price_event
from deploy.local.kafka import LaptopKafka
from rater.engine import EngineContext, EngineSettings, Record, decode_snapshot, encode_snapshot
from rater.kafka import KafkaSettings, create_topics
from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.model.usage import Collection, Sample, Series
from rater.rating import Chain, RuleBook
from rater.stream.garbage import keep_aside, look_at_all
from rater.stream.interfaces import Committed, Pin
from rater.stream.kafka_log import KafkaLog
from rater.stream.keeper import Keeper

HOUR = 3600
START = 1_767_225_600  # 2026-01-01T00:00:00Z
RESOURCES = 400  # of a scope, unless told otherwise, and of a record
ROOT = Path(__file__).resolve().parents[1]
HEADERS = ((CONTENT_TYPE, MSGPACK.encode()),)
CONTEXT = EngineContext(EngineSettings(), Catalog([MetricSpec("cpu", proof=Coverage.SAMPLES)]))
PIN = Pin(1, "benchmark")


class Register:
    """One value, in memory."""

    def __init__(self) -> None:
        self.committed: Committed | None = None

    def pin(self) -> Pin:
        """The only one."""
        return PIN

    def log_end(self, partition: int) -> int | None:
        """All that there is was applied."""
        return None if self.committed is None else 0

    async def fetch(self, partition: int) -> Committed | None:
        """What was committed last."""
        return self.committed

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        """Nobody else is there."""
        self.committed = committed


class Ticker:
    """Wakes up every millisecond; remembers the longest time between, by the clock and of this thread's CPU."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._task: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.wall = max(self.wall, time.perf_counter() - wall)
            self.cpu = max(self.cpu, time.thread_time() - cpu)

    async def watch(self, work: Awaitable[object]) -> dict[str, float]:
        """Seconds that the work took, and the longest it let nobody else go on."""
        self.wall = self.cpu = 0.0
        task = asyncio.create_task(self._run())
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        await work
        took = time.perf_counter() - began
        await asyncio.sleep(0.002)
        task.cancel()
        return {"took": took, "wall": self.wall, "cpu": self.cpu}


class Source:
    """Pushes of one sample for each resource of a scope, as records of the log."""

    def __init__(self) -> None:
        self.offset = 0
        self._sequences: dict[int, int] = {}

    def push(self, scope: int, begin: int, run: int = 0) -> Record:
        """The next one of that scope, with the n-th run of its resources."""
        sequence = self._sequences[scope] = self._sequences.get(scope, -1) + 1
        series = [
            Series(
                {"id": f"7c9e6679-7425-40de-944b-{scope:04d}{number:08d}", "project_id": f"project-{scope}"},
                {"flavor": f"m1.{number % 5}"},
            )
            for number in range(run * RESOURCES, (run + 1) * RESOURCES)
        ]
        value = encode_msgpack(
            Collection(
                source="bench",
                scope_id=f"project-{scope}",
                metric="cpu",
                begin=begin,
                end=begin + HOUR,
                attempt=1,
                collection_id=f"{scope}-{sequence}",
                producer_id=f"p{scope}",
                sequence=sequence,
                covers=[],
                series=series,
                samples=[
                    Sample(n, begin, begin + HOUR, Decimal(n * 7 + sequence).scaleb(-2)) for n in range(RESOURCES)
                ],
            )
        )
        offset, self.offset = self.offset, self.offset + 1
        return Record(offset, (begin + 600) * 1000, f"project-{scope}".encode(), value, HEADERS)


def rules() -> Chain:
    """Five flavors, a price each."""
    book, _ = RuleBook.empty().apply(price_event())
    return Chain(book)


async def measure(kafka: KafkaSettings, points: int, resources: int) -> dict[str, Any]:
    """All figures of one size of state."""
    log, register, ticker, source, chain = KafkaLog(kafka), Register(), Ticker(), Source(), rules()
    now, begin = [START + 600.0], [START]

    def keeper() -> Keeper:
        return Keeper(0, CONTEXT, log, register, lambda: now[0])

    scopes = points // resources
    kept = keeper()
    await kept.restore(1, PIN)
    for scope in range(scopes):
        for run in range(resources // RESOURCES):
            kept.apply(source.push(scope, START, run))
    look_at_all()
    found: dict[str, Any] = {"points": points, "old": old_way(kept)}
    garbage = asyncio.create_task(keep_aside())  # as in a worker

    async def checkpoint(name: str, touched: int, *, busy: bool = True) -> None:
        """After pushes of so many scopes; others come while it is made, if it is `busy`."""
        for scope in range(touched):
            kept.apply(source.push(scope, begin[0]))

        async def others() -> None:
            scope = 0
            while busy:
                kept.apply(source.push(scope % scopes, begin[0]))
                scope += 7
                await asyncio.sleep(0.02)

        coming = asyncio.create_task(others())
        kept.pace.longest = 0.0
        found[name] = await ticker.watch(kept.checkpoint(chain))
        coming.cancel()
        found[name] |= {"bytes": kept.snapshots.written_bytes, "segments": kept.snapshots.segments}

    await checkpoint("first", 0)
    await checkpoint("few", max(1, scopes // 100))
    await checkpoint("all", scopes)
    now[0] += HOUR
    begin[0] += HOUR
    await checkpoint("close", 0)
    while kept.is_due():
        await checkpoint("quiet", 0, busy=False)
    kept.apply(source.push(0, begin[0]))
    await checkpoint("quiet", 0, busy=False)
    before = kept.state.scopes
    again = keeper()
    found["restart"] = await ticker.watch(again.restore(1, PIN))
    assert again.state.scopes.keys() == before.keys()
    garbage.cancel()
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    await log.close()
    return found


def old_way(kept: Keeper) -> dict[str, float]:
    """Everything in one piece: the time that encoding and decoding block, and the bytes."""
    began = time.thread_time()
    raw = encode_snapshot(kept.state)
    encoded = time.thread_time()
    payload = cramjam.zstd.compress(raw, level=3)
    compressed = time.thread_time()
    decode_snapshot(bytes(cramjam.zstd.decompress(payload)), 0, 1, CONTEXT.settings)
    return {
        "block": encoded - began,
        "took": compressed - began,
        "bytes": len(raw),
        "restart": time.thread_time() - compressed,
    }


async def one(bootstrap: str, points: int, resources: int) -> None:
    """Prints the figures of one size; a process of its own, so that sizes do not disturb each other."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"points-{points}.", partitions=1)
    await create_topics(kafka)
    print(json.dumps(await measure(kafka, points, resources)))


def show(console: Console, found: list[dict[str, Any]]) -> None:
    """The tables that docs/performance.md has."""
    blocks = Table(title="longest time the event loop was held up, ms by the clock (CPU of the thread)")
    written = Table(title="MB written (before compression), seconds from begin to end")
    for table in (blocks, written):
        table.add_column("live points", justify="right")
        table.add_column("in one piece", justify="right")
        for name in ("first", "1 % of scopes", "all scopes", "hour closes", "one scope", "restart"):
            table.add_column(name, justify="right")
    for row in found:
        names = ["first", "few", "all", "close", "quiet"]
        blocks.add_row(
            f"{row['points']:,}",
            f"{row['old']['block'] * 1000:.0f}",
            *(f"{row[name]['wall'] * 1000:.0f} ({row[name]['cpu'] * 1000:.0f})" for name in [*names, "restart"]),
        )
        written.add_row(
            f"{row['points']:,}",
            f"{row['old']['bytes'] / 1e6:.1f} / {row['old']['took']:.2f} / {row['old']['restart']:.1f}",
            *(f"{row[name]['bytes'] / 1e6:.1f} / {row[name]['took']:.2f}" for name in names),
            f"{row['restart']['took']:.1f} s, {row['memory'] / 2**30:.1f} GiB",
        )
    console.print(blocks, written)


async def main() -> None:
    """Each size in a process of its own, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 2_000_000])
    parser.add_argument("--resources", type=int, default=RESOURCES, help=f"of a scope, {RESOURCES} times a number")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        await one(arguments.child, arguments.points[0], arguments.resources)
        return
    console = Console(width=150)
    console.print(f"{platform.machine()}, Python {platform.python_version()}")
    found = []
    with tempfile.TemporaryDirectory() as directory, LaptopKafka(Path(directory)) as broker:
        for points in arguments.points:
            command = [sys.executable, "-m", "benchmarks.checkpoint", "--child", broker.bootstrap]
            command += ["--points", str(points), "--resources", str(arguments.resources)]
            done = await asyncio.to_thread(
                subprocess.run, command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
            )
            found.append(json.loads(done.stdout))
            console.print(f"{points:,} points done")
    show(console, found)


if __name__ == "__main__":
    asyncio.run(main())
