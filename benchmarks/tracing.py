"""What traces cost worker and sink: off, on with nothing traced, with one collection in a hundred, with all of them.

The same load and processes as `benchmarks.stream`, with a receiver that takes whatever comes. `make bench-tracing`.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from rich.console import Console
from rich.table import Table

from benchmarks.stream import HEADERS, Cost, Load, throughput
from deploy.local.kafka import LaptopKafka

MODES = {"off": None, "on, nothing traced": 0.0, "1 in 100": 0.01, "all": 1.0}


class Headers:
    """Of each collection: with a traceparent by chance."""

    def __init__(self, ratio: float) -> None:
        self._chance = random.Random(1)
        self._ratio = ratio

    def __call__(self) -> list[tuple[str, bytes]]:
        """As `benchmarks.stream.produce` asks for them."""
        if self._chance.random() >= self._ratio:
            return HEADERS
        trace, span = self._chance.randrange(1, 2**128), self._chance.randrange(1, 2**64)
        return [*HEADERS, ("traceparent", f"00-{trace:032x}-{span:016x}-01".encode())]


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, list[int]]]:
    """A URL that takes traces, and the sizes of what it took."""
    sizes: list[int] = []

    async def take(request: web.Request) -> web.Response:
        sizes.append(len(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes([web.post("/v1/traces", take)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces", sizes
    finally:
        await runner.cleanup()


async def main() -> None:
    """Runs all modes in turn, several times, and prints what was least."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=4, help="hours of 16 scopes with 400 lines each")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    load = Load(12, chosen.hours)
    console = Console(width=110)
    console.print(f"$ python -m benchmarks.tracing {' '.join(sys.argv[1:])}")
    console.print(f"Python {platform.python_version()}, {platform.machine()}, {load.samples:,} samples, audit on")
    costs: dict[str, list[Cost]] = {mode: [] for mode in MODES}
    sent = dict.fromkeys(MODES, 0)
    with tempfile.TemporaryDirectory(prefix="rater-bench-") as folder:
        directory = Path(folder)
        with LaptopKafka(directory / "kafka", heap_mb=512) as broker:
            for run in range(chosen.runs):
                for number, (mode, ratio) in enumerate(MODES.items()):
                    async with receiver() as (url, sizes):
                        tracing = "" if ratio is None else url
                        headers, name = Headers(ratio or 0.0), f"trace{number}-{run}"
                        costs[mode].append(
                            await asyncio.to_thread(_run, broker, load, directory, name, tracing, headers)
                        )
                        sent[mode] = sum(sizes)
    table = Table("traced", "worker", "sink", "bytes sent")
    for mode, found in costs.items():
        worker, sink = (min(getattr(cost, part) for cost in found) for part in ("worker", "sink"))
        table.add_row(mode, f"{worker:.2f}", f"{sink:.2f}", f"{sent[mode]:,}")
    console.print(table)
    console.print(
        "worker, sink: CPU-seconds per million samples, the least of", chosen.runs, "runs: load of others only adds"
    )


def _run(broker: LaptopKafka, load: Load, directory: Path, name: str, tracing: str, headers: Headers) -> Cost:
    """In a loop of its own: what waits in between must not keep the receiver from answering."""
    return asyncio.run(throughput(broker, load, directory, name, usage=True, tracing=tracing, headers=headers))


if __name__ == "__main__":
    asyncio.run(main())
