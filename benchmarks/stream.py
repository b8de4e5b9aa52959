"""How much the stream costs: samples per CPU-second of worker and sink, bytes per live point, event to queryable.

Real Apache Kafka, worker and sink as processes of their own, embedded ClickHouse; sequence numbers checked, money
exact. Kafka's and the producer's CPU are counted apart. Run it by `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.interval import Interval
from rater.model.rules import (
    Field,
    FieldCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    Service,
    ServiceCreated,
)
from rater.model.usage import Collection, Sample, ScopePlan, Series
from rater.stream.rules_log import append_event

HOUR = 3600
START = 1_767_225_600  # 2026-01-01T00:00:00Z
RESOURCES = 400  # of a scope
BATCH = 480  # samples in a message
SCOPES = 16
HEADERS = [(CONTENT_TYPE, MSGPACK.encode())]
ROOT = Path(__file__).resolve().parents[1]


class Child:
    """A process of benchmarks/processes.py."""

    def __init__(self, role: str, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", role, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            text=True,
        )

    def ask(self, command: str) -> Any:
        """The answer to one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended with status {self._process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """Asks it to stop, then kills it."""
        try:
            self._process.communicate("quit\n", timeout=20)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Load:
    """One run: `hours` hours of all scopes, `per_line` samples for each rated line."""

    per_line: int
    hours: int

    @property
    def samples(self) -> int:
        """Of all scopes and hours."""
        return SCOPES * self.hours * RESOURCES * self.per_line

    @property
    def frames(self) -> int:
        """Of all scopes and hours."""
        return SCOPES * self.hours


def messages(scope: int, hour: int, per_line: int, sequence: int, begin: int) -> list[bytes]:
    """The parts of one collection of one scope for one hour, about `BATCH` samples each."""
    at_once = max(1, BATCH // per_line)
    parts = -(-RESOURCES // at_once)
    step = HOUR // per_line
    found = []
    for part in range(parts):
        numbers = range(part * at_once, min(RESOURCES, (part + 1) * at_once))
        found.append(
            encode_msgpack(
                Collection(
                    source="bench",
                    scope_id=f"project-{scope}",
                    metric="cpu",
                    begin=begin,
                    end=begin + HOUR,
                    attempt=1,
                    collection_id=f"{scope}-{hour}",
                    producer_id="bench",
                    sequence=sequence + part,
                    part=part,
                    parts=parts,
                    covers=[Interval(begin, begin + HOUR)],
                    series=[
                        Series(
                            {
                                "id": f"7c9e6679-7425-40de-944b-{scope:04d}{number:08d}",
                                "project_id": f"project-{scope}",
                            },
                            {"flavor": f"m1.{number % 5}"},
                        )
                        for number in numbers
                    ],
                    samples=[
                        Sample(place, begin + step * n, begin + step * (n + 1), Decimal(number * 7 + n).scaleb(-2))
                        for place, number in enumerate(numbers)
                        for n in range(per_line)
                    ],
                )
            )
        )
    return found


def untraced() -> list[tuple[str, bytes]]:
    """The headers of a collection's records."""
    return HEADERS


async def produce(
    kafka: KafkaSettings, load: Load, begin: int, headers: Callable[[], list[tuple[str, bytes]]] = untraced
) -> None:
    """Publishes the whole load, hour by hour. `headers` is asked for each collection."""
    producer = AIOKafkaProducer(**client_options(kafka), acks="all", enable_idempotence=True, max_batch_size=262_144)
    await producer.start()
    topic = kafka.topic(Topic.USAGE)
    sequences = [0] * SCOPES
    for scope in range(SCOPES):
        plan = ScopePlan("bench", f"project-{scope}", begin, begin + load.hours * HOUR, ["cpu"])
        await producer.send_and_wait(topic, encode_msgpack(plan), key=plan.scope_id.encode(), headers=HEADERS)
    for hour in range(load.hours):
        futures = []
        for scope in range(SCOPES):
            named = headers()
            for value in messages(scope, hour, load.per_line, sequences[scope], begin + hour * HOUR):
                sequences[scope] += 1
                key = f"project-{scope}".encode()
                futures.append(await producer.send(topic, value, key=key, headers=named))
        await asyncio.gather(*futures)
    await producer.stop()


def price_event() -> RuleEvent:
    """Five flavors, a price each."""
    service, field = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    changes: list[Any] = [
        ModuleSet("hashmap", True),
        ServiceCreated(Service(service, "cpu")),
        FieldCreated(Field(field, service, "flavor")),
    ]
    for number in range(5):
        rule = MappingRule(
            f"10000000-0000-4000-8000-00000000000{number}",
            Decimal("0.0123") * (number + 1),
            value=f"m1.{number}",
            field_id=field,
        )
        changes.append(MappingCreated(rule))
    return RuleEvent(expected_version=0, author="bench", reason="", created_at=0, changes=tuple(changes))


@dataclass
class Stage:
    """Fresh topics, a worker and a sink, both ready."""

    kafka: KafkaSettings
    worker: Child
    sink: Child

    def wait(self, frames: int, seconds: float = 600) -> None:
        """Until the store holds so many frames."""
        ends = time.monotonic() + seconds
        while self.sink.ask("frames") < frames:
            if time.monotonic() > ends:
                raise RuntimeError(f"{self.sink.ask('frames')} of {frames} frames after {seconds:.0f} s")
            time.sleep(0.5)

    def end(self) -> None:
        """Both services."""
        self.worker.end()
        self.sink.end()


async def stage(
    broker: LaptopKafka, name: str, directory: Path, *, usage: bool, interval: float = 5.0, tracing: str = ""
) -> Stage:
    """Makes topics of that name and starts both services; `tracing` is where their traces go, if anywhere."""
    kafka = KafkaSettings(bootstrap=broker.bootstrap, prefix=f"{name}.", partitions=4)
    await create_topics(kafka)
    await append_event(kafka, price_event())
    options = {"bootstrap": broker.bootstrap, "prefix": kafka.prefix, "partitions": 4, "tracing": tracing}
    made = Stage(
        kafka,
        Child("worker", {**options, "interval": interval}),
        Child("sink", {**options, "directory": str(directory / name), "usage": usage}),
    )
    while made.worker.ask("red") or made.sink.ask("red"):  # noqa: ASYNC110  another process tells, when asked
        await asyncio.sleep(0.2)
    return made


def broker_cpu(broker: LaptopKafka) -> float:
    """User + system seconds of the broker (Linux)."""
    fields = Path(f"/proc/{broker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """CPU-seconds per million samples."""

    load: Load
    usage: bool
    worker: float
    sink: float
    kafka: float
    producer: float
    wall: float

    @property
    def rate(self) -> float:
        """Samples per CPU-second of worker and sink together."""
        return 1e6 / (self.worker + self.sink)


async def throughput(
    broker: LaptopKafka,
    load: Load,
    directory: Path,
    name: str,
    *,
    usage: bool,
    tracing: str = "",
    headers: Callable[[], list[tuple[str, bytes]]] = untraced,
) -> Cost:
    """Publishes the load to services that wait for it, until all of it is queryable."""
    made = await stage(broker, name, directory, usage=usage, tracing=tracing)
    try:
        before = made.worker.ask("cpu"), made.sink.ask("cpu"), broker_cpu(broker), time.process_time(), time.monotonic()
        await produce(made.kafka, load, START, headers)
        produced = time.process_time()
        made.wait(load.frames)
        millions = load.samples / 1e6
        return Cost(
            load,
            usage,
            (made.worker.ask("cpu") - before[0]) / millions,
            (made.sink.ask("cpu") - before[1]) / millions,
            (broker_cpu(broker) - before[2]) / millions,
            (produced - before[3]) / millions,
            time.monotonic() - before[4],
        )
    finally:
        made.end()


async def live_bytes(broker: LaptopKafka, directory: Path, hours: int) -> tuple[int, float]:
    """Points held open by a period that is not over, and resident bytes of the worker for each."""
    made = await stage(broker, "live", directory, usage=False, interval=300)
    try:
        load = Load(1, hours)
        begin = (int(time.time()) // HOUR + 24) * HOUR
        before = made.worker.ask("rss")
        await produce(made.kafka, load, begin)
        settled, same = made.worker.ask("rss"), 0
        while same < 5:
            await asyncio.sleep(1)
            now = made.worker.ask("rss")
            same = same + 1 if abs(now - settled) < 200_000 else 0
            settled = now
        points = load.frames * RESOURCES
        return points, (settled - before) / points
    finally:
        made.end()


async def delays(broker: LaptopKafka, directory: Path, interval: float, frames: int) -> list[float]:
    """Seconds from the acknowledgement of a frame's last message until the store answers with the frame."""
    made = await stage(broker, f"delay{interval:g}", directory, usage=True, interval=interval)
    producer = AIOKafkaProducer(**client_options(made.kafka), acks="all")
    await producer.start()
    try:
        made.sink.ask("watch")
        sent: list[float] = []
        for number in range(frames):
            begin = START + number * HOUR
            plan = ScopePlan("bench", "project-0", begin, begin + HOUR, ["cpu"])
            for value in (encode_msgpack(plan), *messages(0, number, 1, number, begin)):
                await producer.send_and_wait(made.kafka.topic(Topic.USAGE), value, key=b"project-0", headers=HEADERS)
            sent.append(time.time())
            await asyncio.sleep(0.1)
        made.wait(frames)
        seen: list[tuple[float, int]] = made.sink.ask("seen")
        return [next(at for at, count in seen if count > number) - sent[number] for number in range(frames)]
    finally:
        await producer.stop()
        made.end()


async def main() -> None:
    """Runs all and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a tenth of the load, once: to see that it runs")
    parser.add_argument("--runs", type=int, default=3, help="runs of each load; medians are printed")
    chosen = parser.parse_args()
    scale, runs = (1, 1) if chosen.short else (10, chosen.runs)
    loads = [Load(60, 1 * scale), Load(12, 4 * scale), Load(1, 8 * scale)]
    console = Console(width=110)
    console.print(f"$ python -m benchmarks.stream {' '.join(sys.argv[1:])}")
    console.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, {RESOURCES} lines a frame"
    )
    with tempfile.TemporaryDirectory(prefix="rater-bench-") as folder:
        directory = Path(folder)
        with LaptopKafka(directory / "kafka", heap_mb=512) as broker:
            table = Table(
                "samples/line", "audit", "samples", "samples/CPU-s", *["worker", "sink", "kafka", "producer", "wall"]
            )
            for load in loads:
                for usage in (False, True):
                    costs = [
                        await throughput(broker, load, directory, f"t{load.per_line}-{usage}-{run}", usage=usage)
                        for run in range(runs)
                    ]
                    console.print(f"  {load.per_line} samples/line, audit {usage}: done", style="dim")
                    cost = sorted(costs, key=lambda c: c.rate)[len(costs) // 2]
                    seconds = [f"{part:.2f}" for part in (cost.worker, cost.sink, cost.kafka, cost.producer)]
                    audit = "on" if usage else "off"
                    table.add_row(
                        str(load.per_line),
                        audit,
                        f"{load.samples:,}",
                        f"{cost.rate:,.0f}",
                        *seconds,
                        f"{cost.wall:.0f}",
                    )
            console.print(table)
            console.print("worker, sink, kafka, producer: CPU-seconds per million samples; the median run of", runs)
            points, size = await live_bytes(broker, directory, 2 * scale)
            console.print(f"live points: {points:,}, {size:.0f} bytes each (resident memory of the worker)")
            for interval in (5.0, 1.0):
                found = sorted(await delays(broker, directory, interval, 20 * scale))
                p99 = found[int(len(found) * 0.99)]
                console.print(
                    f"event to queryable, checkpoint_interval {interval:g} s: "
                    f"p50 {statistics.median(found):.2f} s, p99 {p99:.2f} s ({len(found)} frames)"
                )


if __name__ == "__main__":
    asyncio.run(main())
