"""Samples per second through HTTP: `rater api` as a process, a real Kafka, and either client in another process.

`python -m benchmarks.push [--samples N] [--runs N]`. CPU seconds of service and client are counted apart, and the log
is read afterwards: every sequence number once, as many samples as were pushed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table

from deploy.local.kafka import LaptopKafka
from rater.client import AsyncClient, Client, Sample
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.model.codec import MSGPACK, decode_usage
from rater.model.usage import Collection

T = 1_767_225_600
SCOPES = 20
RESOURCES = 50
PARTITIONS = 8


def samples(count: int) -> list[Sample]:
    """Instants of fifty resources of twenty scopes in turn, with labels of usual length."""
    return [
        Sample(
            f"project-{n % SCOPES}",
            "requests",
            T + n % 3600,
            Decimal(n) / 8,
            groupby={"id": f"gateway-{n // SCOPES % RESOURCES}", "zone": "eu-1"},
            metadata={"flavor": "m1.large"},
        )
        for n in range(count)
    ]


def push(kind: str, url: str, count: int, batch: int) -> dict[str, float]:
    """What one run of a client took, without making the samples."""
    made = samples(count)
    began, cpu = time.perf_counter(), time.process_time()
    if kind == "sync":
        with Client(url, source="bench", batch_samples=batch) as client:
            for first in range(0, count, 1000):
                client.push(made[first : first + 1000])
    else:
        asyncio.run(_push(url, made, batch))
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


async def _push(url: str, made: list[Sample], batch: int) -> None:
    async with AsyncClient(url, source="bench", batch_samples=batch) as client:
        await client.push(made)


def cpu_of(pid: int) -> float:
    """User and system seconds of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def count_log(kafka: KafkaSettings) -> int:
    """The samples in topic usage; fails if a number is there twice."""
    consumer = AIOKafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    await consumer.start()
    try:
        keys = [TopicPartition(kafka.topic(Topic.USAGE), n) for n in range(kafka.partitions)]
        consumer.assign(keys)
        await consumer.seek_to_beginning(*keys)
        ends = await consumer.end_offsets(keys)
        seen: set[tuple[str, str, int]] = set()
        total = records = 0
        while records < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                records += len(batch)
                for record in batch:
                    usage = decode_usage(record.value, MSGPACK)
                    assert isinstance(usage, Collection), "nothing else was pushed"
                    number = (usage.producer_id, usage.scope_id, usage.sequence)
                    assert number not in seen, f"{number} is there twice"
                    seen.add(number)
                    total += len(usage.samples)
        return total
    finally:
        await consumer.stop()


def measure(kind: str, count: int, batch: int, url: str, service: int) -> dict[str, float]:
    """One run, in a process of its own."""
    before = cpu_of(service)
    command = [sys.executable, "-m", "benchmarks.push", "--run", kind, url, str(count), str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return {**found, "service": cpu_of(service) - before}


def main() -> None:
    """Prints a row for each client and batch size: medians of the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200_000, help="of a run (default: 200000)")
    parser.add_argument("--runs", type=int, default=3, help="of each row (default: 3)")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        kind, url, count, batch = options.run
        print(json.dumps(push(kind, url, int(count), int(batch))))
        return
    table = Table("client", "batch_samples", "samples/s", "service: µs CPU per sample", "client: µs CPU per sample")
    with tempfile.TemporaryDirectory() as directory, LaptopKafka(Path(directory)) as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap, prefix="push.", partitions=PARTITIONS)
        asyncio.run(create_topics(kafka))
        settings = Path(directory) / "rater.yaml"
        settings.write_text(
            f"kafka: {{bootstrap: {broker.bootstrap}, prefix: push., partitions: {PARTITIONS}}}\n"
            "metrics: {requests: {proof: samples}}\napi: {listen: '127.0.0.1:0'}\n"
        )
        command = [sys.executable, "-m", "rater", "--config", str(settings), "api"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            try:
                url = wait_for(service)
                pushed = 0
                for kind, batch in (("async", 1000), ("sync", 1000), ("async", 100)):
                    runs = [measure(kind, options.samples, batch, url, service.pid) for _ in range(options.runs)]
                    pushed += options.samples * options.runs
                    rate = options.samples / statistics.median(run["seconds"] for run in runs)
                    own, theirs = (
                        statistics.median(run[name] for run in runs) / options.samples * 1e6
                        for name in ("service", "cpu")
                    )
                    table.add_row(kind, str(batch), f"{rate:,.0f}", f"{own:.1f}", f"{theirs:.1f}")
            finally:
                service.terminate()
        found = asyncio.run(count_log(kafka))
        assert found == pushed, f"{found} samples are in the log, {pushed} were pushed"
    console = Console()
    console.print(table)
    console.print(f"{options.runs} runs of {options.samples:,} samples each; load average {os.getloadavg()[0]:.1f}")


def wait_for(service: subprocess.Popen[str]) -> str:
    """The URL of a service that is ready."""
    url = ""
    assert service.stderr is not None
    for line in service.stderr:
        if "usage is taken at" in line:
            url = line.split("usage is taken at ")[1].split("/v3/usage")[0]
        if "usage can be written" in line:
            return url
    raise RuntimeError("the service ended")


if __name__ == "__main__":
    main()
