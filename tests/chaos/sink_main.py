"""A sink process for the chaos runs, with a fault at a named point. Usage: as tests/chaos/worker_main.py."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from rater.kafka import KafkaSettings
from rater.store import Store, StoreSettings
from rater.stream.sink import Sink, SinkSettings
from tests.chaos.worker_main import Fault


async def main(options: dict[str, Any]) -> None:
    kafka = KafkaSettings(bootstrap=options["bootstrap"], prefix=options["prefix"], partitions=options["partitions"])
    store = Store(StoreSettings(dsn=f"chdb://{options['directory']}"))
    sink = Sink(kafka, store, SinkSettings(max_delay=0.3), at=Fault(options["fault"]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await sink.run(stop)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
