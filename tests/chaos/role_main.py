"""One process of the production code for a chaos run: a worker, a sink or a collector, with a hook at named points.

Usage: python -m tests.chaos.role_main FILE, a JSON document as `tests/chaos/roles.py` writes it.
The hook takes orders out of the directory `orders`: files named as a point that say `kill`, `freeze=SECONDS` or
`kill=PID`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

import rater.stream.sink
from collectors.service import run_collector
from collectors.settings import CollectorSettings
from collectors.status import CollectorStatus
from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog, MetricSpec
from rater.store import Store, StoreSettings
from rater.stream.settings import WorkerSettings
from rater.stream.sink import Sink, SinkSettings
from rater.stream.worker import Parts, Worker


class Orders:
    """Whoever comes to a named point first carries out the order that lies there, once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, point: str, partition: int) -> None:
        order = self._directory / point
        taken = self._directory / f"{point}.{os.getpid()}"
        try:
            order.rename(taken)
        except FileNotFoundError:
            return
        action = taken.read_text()
        taken.rename(taken.with_name(f"done.{taken.name}"))
        self._carry_out(action)

    def _carry_out(self, action: str) -> None:
        what, _, amount = action.partition("=")
        if what == "freeze":  # all threads, the one with the heartbeats too; a child wakes the process again
            subprocess.Popen(["/bin/sh", "-c", f"sleep {float(amount)}; kill -CONT {os.getpid()}"])
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.kill(int(amount) if amount else os.getpid(), signal.SIGKILL)


async def work(options: dict[str, Any], kafka: KafkaSettings, orders: Orders, stop: asyncio.Event) -> None:
    """A worker."""
    engine = msgspec.convert(options["engine"], EngineSettings)
    catalog = Catalog([MetricSpec(name, unit) for name, unit in options["metrics"].items()])
    settings = msgspec.convert(options["worker"], WorkerSettings)
    await Worker(kafka, EngineContext(engine, catalog), settings, parts=Parts(kafka, orders)).run(stop)


async def sink(options: dict[str, Any], kafka: KafkaSettings, orders: Orders, stop: asyncio.Event) -> None:
    """A sink."""
    rater.stream.sink.SESSION_MS = 6_000  # successors wait that long for the dead
    with Store(msgspec.convert(options["store"], StoreSettings)) as store:
        await Sink(kafka, store, SinkSettings(max_delay=0.3), at=orders).run(stop)


async def collect(options: dict[str, Any], kafka: KafkaSettings, stop: asyncio.Event) -> None:
    """A collector."""
    settings = msgspec.convert(options["collect"], CollectorSettings)
    period, reach = options["engine"]["period"], 3600

    def tell(status: CollectorStatus) -> None:
        logging.getLogger("collector").info("%s", status)

    await run_collector(settings, kafka, Path(options["metrics_conf"]), period, reach, stop, tell, poll_seconds=1)


async def main(options: dict[str, Any]) -> None:
    """Runs the role until SIGTERM."""
    kafka = msgspec.convert(options["kafka"], KafkaSettings)
    orders = Orders(Path(options["orders"]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    match options["role"]:
        case "worker":
            await work(options, kafka, orders, stop)
        case "sink":
            await sink(options, kafka, orders, stop)
        case _:
            await collect(options, kafka, stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    for noisy in ("faust", "mode", "aiokafka.consumer.group_coordinator"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes())))
