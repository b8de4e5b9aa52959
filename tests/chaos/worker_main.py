"""A worker process for the chaos runs: the production worker, with faults at named points, or a deliberate defect.

Usage: python -m tests.chaos.worker_main JSON, with the keys that tests/chaos/fleet.py gives.
A fault is POINT:HIT:kill or POINT:HIT:freeze=SECONDS; the hit counts over all partitions from 1.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import faust

from rater.engine import EngineContext, EngineSettings, OutboxItem
from rater.kafka import KafkaSettings, Topic
from rater.model.metric import Catalog, MetricSpec
from rater.sandbox import BackgroundSandbox, SandboxSettings
from rater.stream.interfaces import Committed, FencedError, Log, Pin, Register
from rater.stream.keeper import Keeper
from rater.stream.register import FaustRegister
from rater.stream.settings import WorkerSettings
from rater.stream.worker import Parts, Worker


class Fault:
    """Kills or freezes this process at the n-th hit of one named point."""

    def __init__(self, text: str) -> None:
        self._point, hit, self._action = text.split(":") if text else ("", "0", "")
        self._left = int(hit)

    def __call__(self, point: str, partition: int) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            print(f"FAULT {point} {self._action} partition {partition}", flush=True)
            if self._action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            self._freeze(float(self._action.removeprefix("freeze=")))

    def _freeze(self, seconds: float) -> None:
        """Stops all threads, the one with the heartbeats too; a child wakes the process again."""
        subprocess.Popen(["/bin/sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)


class UnpinnedRegister(FaustRegister):
    """The defect `no_fence`: commits under whatever membership is current, as often as it takes."""

    async def commit(self, partition: int, committed: Committed, pin: Pin) -> None:
        while True:
            coordinator = self._coordinator()
            current = Pin(int(coordinator.generation), str(coordinator.member_id))
            if current.generation > 0 and current.member_id:
                with suppress(FencedError):
                    await super().commit(partition, committed, current)
                    return
            await asyncio.sleep(0.1)


class MarkedKeeper(Keeper):
    """The production keeper with one more named point: before a commit that makes rated frames true."""

    async def _commit(self, committed: Committed) -> None:
        if any(item.topic == "rated" for item in self.state.outbox):
            self._at("before_rated_commit", self.partition)
        await super()._commit(committed)


class EagerKeeper(MarkedKeeper):
    """The defect `publish_first`: the outbox goes out before the commit that makes it true."""

    async def _commit(self, committed: Committed) -> None:
        items: list[OutboxItem] = list(self.state.outbox)
        await self._log.publish(self.partition, items)
        self._at("published_early", self.partition)
        await super()._commit(committed)


class Defective(Parts):
    """The production parts with one of them replaced."""

    def __init__(self, kafka: KafkaSettings, at: Callable[[str, int], None], mutation: str) -> None:
        super().__init__(kafka, at)
        self._mutation = mutation

    def register(self, app: faust.App) -> Register:
        kind = UnpinnedRegister if self._mutation == "no_fence" else FaustRegister
        return kind(app, self.kafka.topic(Topic.USAGE))

    def keeper(self, partition: int, context: EngineContext, log: Log, register: Register) -> Keeper:
        kind = EagerKeeper if self._mutation == "publish_first" else MarkedKeeper
        return kind(partition, context, log, register, self.clock, self.at)


async def main(options: dict[str, Any]) -> None:
    kafka = KafkaSettings(bootstrap=options["bootstrap"], prefix=options["prefix"], partitions=options["partitions"])
    scripts = BackgroundSandbox(SandboxSettings())
    context = EngineContext(EngineSettings(settle=1), Catalog([MetricSpec("cpu"), MetricSpec("disk")]), scripts)
    settings = WorkerSettings(checkpoint_interval=0.5, session_timeout=options["session_timeout"])
    worker = Worker(kafka, context, settings, parts=Defective(kafka, Fault(options["fault"]), options["mutation"]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await worker.run(stop)
    finally:
        scripts.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    for noisy in ("faust", "mode", "aiokafka.consumer.group_coordinator"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    asyncio.run(main(json.loads(sys.argv[1])))
