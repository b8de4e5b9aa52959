"""The sink and the API over one embedded store, as `rater up` runs them, for benchmarks/api.py.

One command a line, one answer a line: `cpu` answers user + system seconds, `rss` bytes, `lines` how many lines the
frames from a given second on have, `quit` ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.processes import rss
from rater.config import load_config
from rater.services import api_service, run_all, serve_sink
from rater.store import Store


async def answer(store: Store, since: int, stop: asyncio.Event) -> None:
    """Reads commands until `quit`."""
    stored = f"SELECT sum(line_count) FROM frames WHERE period_begin >= {since:d}"
    while True:
        command = (await asyncio.to_thread(sys.stdin.readline)).strip()
        reply: Any
        match command:
            case "cpu":
                reply = time.process_time()
            case "rss":
                reply = rss()
            case "lines":
                reply = int((await asyncio.to_thread(store.rows, stored))[0][0])
            case _:
                stop.set()
                return
        print(json.dumps(reply), flush=True)


async def main(settings: Path, since: int) -> None:
    """Serves until it is told to quit."""
    config, registry, stop = load_config(settings), CollectorRegistry(), asyncio.Event()
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store(config.settings.store))
        sink = await stack.enter_async_context(serve_sink(config, store, registry))
        api = api_service(config, registry, holds_store=True)
        running = asyncio.create_task(run_all([sink, api], stop))
        await answer(store, since, stop)
        await running


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
