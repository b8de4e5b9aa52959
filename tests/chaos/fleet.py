"""Worker processes as a supervisor would keep them: started again when they die, killed and stopped by the test."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rater.kafka import KafkaSettings
from rater.model.rules import (
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
)
from rater.stream.rules_log import append_event
from tests.chaos.content import PRICES


@dataclass
class Fleet:
    """`size` workers. `faults` are handed out one per (re)start of worker 0, until none is left."""

    kafka: KafkaSettings
    directory: Path
    size: int
    faults: list[str] = field(default_factory=list)
    mutation: str = ""
    session_timeout: float = 4.0
    kills: int = 0
    stops: int = 0
    hit: list[str] = field(default_factory=list)
    _workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Fleet:
        for number in range(self.size):
            self._start(number)
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._keeping is not None
        self._keeping.cancel()
        for worker in self._workers.values():
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
        self.hit = [line for path in self._outputs() for line in path.read_text().splitlines() if "FAULT" in line]

    def _outputs(self) -> Iterator[Path]:
        return iter(sorted(self.directory.glob("worker-*.out")))

    def logs(self) -> str:
        """The ends of all workers' logs, for a failure's message."""
        return "\n".join(
            f"--- {p.name}\n" + "\n".join(p.read_text().splitlines()[-15:]) for p in self.directory.glob("*.err")
        )

    def _start(self, number: int) -> None:
        fault = self.faults.pop(0) if number == 0 and self.faults else ""
        options = {
            "bootstrap": self.kafka.bootstrap,
            "prefix": self.kafka.prefix,
            "partitions": self.kafka.partitions,
            "fault": fault,
            "mutation": self.mutation,
            "session_timeout": self.session_timeout,
        }
        with (
            (self.directory / f"worker-{number}.out").open("ab") as out,
            (self.directory / f"worker-{number}.err").open("ab") as err,
        ):
            self._workers[number] = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker_main", json.dumps(options)],
                stdout=out,
                stderr=err,
                cwd=Path(__file__).parents[2],
            )

    async def _keep(self) -> None:
        while True:
            for number, worker in list(self._workers.items()):
                if worker.poll() is not None:
                    self._start(number)
            await asyncio.sleep(0.3)

    def kill(self, number: int) -> None:
        """kill -9; the supervisor starts it again."""
        self._workers[number].kill()
        self.kills += 1

    def retire(self, number: int) -> None:
        """kill -9, and nobody starts it again."""
        worker = self._workers.pop(number)
        worker.kill()
        worker.wait()
        self.kills += 1

    def terminate(self, number: int) -> None:
        """SIGTERM; the supervisor starts it again."""
        self._workers[number].terminate()

    async def freeze(self, number: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after `seconds`: a zombie if they exceed the session."""
        worker = self._workers[number]
        worker.send_signal(signal.SIGSTOP)
        self.stops += 1
        await asyncio.sleep(seconds)
        worker.send_signal(signal.SIGCONT)


async def write_prices(kafka: KafkaSettings) -> None:
    """The price list that `content.truth` goes by."""
    changes: list[Any] = [ModuleSet("hashmap", True)]
    for number, (metric, price) in enumerate(PRICES.items()):
        service = f"00000000-0000-4000-8000-00000000000{number}"
        changes.append(ServiceCreated(Service(service, metric)))
        changes.append(
            MappingCreated(MappingRule(f"10000000-0000-4000-8000-00000000000{number}", price, service_id=service))
        )
    await append_event(kafka, RuleEvent(expected_version=0, author="chaos", reason="", created_at=0, changes=changes))


async def write_script(kafka: KafkaSettings) -> None:
    """The same prices, by a script in the sandbox: each frame is decided some checkpoints after it is due."""
    prices = {metric: str(price) for metric, price in PRICES.items()}
    script = f"""
from decimal import Decimal
for metric, points in data['usage'].items():
    for point in points:
        point['rating']['price'] = point['vol']['qty'] * Decimal({prices!r}[metric])
"""
    created = ScriptCreated(Script("20000000-0000-4000-8000-000000000000", "prices", script))
    changes = (ModuleSet("hashmap", False), ModuleSet("pyscripts", True), created)
    await append_event(kafka, RuleEvent(expected_version=1, author="chaos", reason="", created_at=0, changes=changes))
