"""The worker and the sink as processes of their own, for benchmarks/stream.py: one command a line, one answer a line.

`cpu` answers user + system seconds, `rss` bytes, `red` why it is not ready, `frames` (sink only) how many frames the
store holds, `seen` since when (list of [seconds, frames], one for each change), `quit` ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog, MetricSpec
from rater.store import Store, StoreSettings
from rater.stream.settings import WorkerSettings
from rater.stream.sink import Sink, SinkSettings
from rater.stream.worker import Parts, Worker
from rater.tracing import Tracing, TracingSettings, open_tracing


def rss() -> int:
    """Resident bytes of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


async def answer(service: Worker | Sink, store: Store | None, stop: asyncio.Event) -> None:
    """Reads commands until `quit`."""
    seen: list[tuple[float, int]] = []
    while True:
        command = (await asyncio.to_thread(sys.stdin.readline)).strip()
        reply: Any
        match command:
            case "cpu":
                reply = time.process_time()
            case "rss":
                reply = rss()
            case "red":
                reply = service.red()
            case "frames" if store is not None:
                reply = await asyncio.to_thread(frames, store)
            case "watch" if store is not None:
                threading.Thread(target=watch, args=(store, seen), daemon=True).start()
                reply = "watching"
            case "seen":
                reply = seen
            case _:
                stop.set()
                return
        print(json.dumps(reply), flush=True)


def frames(store: Store) -> int:
    """How many frames the store holds."""
    return int(store.rows("SELECT count() FROM frames")[0][0])


def watch(store: Store, seen: list[tuple[float, int]]) -> None:
    """Notes each change of the number of frames, every 20 ms."""
    while True:
        count = frames(store)
        if not seen or seen[-1][1] != count:
            seen.append((time.time(), count))
        time.sleep(0.02)


async def main(role: str, options: dict[str, Any]) -> None:
    """Runs one service until it is told to quit. Option `tracing` is the URL that its traces go to."""
    endpoint = options.get("tracing", "")
    with open_tracing(TracingSettings(endpoint) if endpoint else None, role) as tracing:
        await serve(role, options, tracing)


async def serve(role: str, options: dict[str, Any], tracing: Tracing) -> None:
    """The same, with its tracing."""
    kafka = KafkaSettings(bootstrap=options["bootstrap"], prefix=options["prefix"], partitions=options["partitions"])
    stop = asyncio.Event()
    store: Store | None = None
    service: Worker | Sink
    if role == "worker":
        context = EngineContext(EngineSettings(settle=300), Catalog([MetricSpec("cpu")]))
        parts = Parts(kafka, tracing=tracing)
        service = Worker(kafka, context, WorkerSettings(checkpoint_interval=options["interval"]), parts=parts)
    else:
        store = Store(StoreSettings(dsn=f"chdb://{options['directory']}"))
        service = Sink(kafka, store, SinkSettings(usage=options["usage"]), tracing=tracing)
    running = asyncio.create_task(service.run(stop))
    await answer(service, store, stop)
    await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
