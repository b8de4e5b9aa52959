"""How long it takes to know the rule book: a log of a million events on a real Kafka, without and with a snapshot.

Each reader is a process of its own that has nothing in memory. Run it by
`python -m benchmarks.rules_log [--events N] [--rules N]`.
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
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.model.codec import encode_json
from rater.model.rules import (
    Change,
    Field,
    FieldCreated,
    MappingCreated,
    MappingRule,
    MappingUpdated,
    ModuleSet,
    RuleEvent,
    Service,
    ServiceCreated,
)
from rater.rating.snapshot import encode_book
from rater.stream.rules_log import append_event, reading

ROOT = Path(__file__).resolve().parents[1]
SERVICE, FIELD = (f"00000000-0000-0000-0000-{number:012x}" for number in (1, 2))
FIRST = (
    ModuleSet("hashmap", True),
    ServiceCreated(Service(SERVICE, "cpu")),
    FieldCreated(Field(FIELD, SERVICE, "flavor")),
)


def event(version: int, rules: int) -> RuleEvent:
    """The event that follows `version`: creates a mapping until there are `rules`, then changes them in turn."""
    changes: tuple[Change, ...] = FIRST
    if version:
        number = (version - 1) % rules
        rule = MappingRule(
            f"00000000-0000-0000-0001-{number:012x}", Decimal(version) / 1000, value=f"flavor-{number}", field_id=FIELD
        )
        changes = (MappingCreated(rule) if version <= rules else MappingUpdated(rule),)
    return RuleEvent(version, "bench", "prices of the day", 1_767_225_600 + version, changes)


async def write(kafka: KafkaSettings, events: int, rules: int) -> int:
    """Writes the log; its bytes."""
    producer = AIOKafkaProducer(**client_options(kafka), acks=1, linger_ms=50, max_batch_size=1024 * 1024)
    await producer.start()
    size = 0
    try:
        for version in range(events):
            value = encode_json(event(version, rules))
            size += len(value)
            await producer.send(kafka.topic(Topic.RULES), value, partition=0)
    finally:
        await producer.stop()
    return size


async def read(kafka: KafkaSettings, how: str, rules: int) -> dict[str, Any]:
    """What a process with nothing in memory takes to know the book (`whole`: as if there were no snapshots)."""
    began, cpu = time.perf_counter(), time.process_time()
    async with reading(kafka) as reader:
        await reader.start(most_offset=0 if how == "whole" else None)
        await reader.fold_to(await reader.end())
    found = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "records": reader.records_read}
    if how == "append":
        began = time.perf_counter()
        await append_event(kafka, event(reader.book.version, rules))
        found["append"] = time.perf_counter() - began
    return {
        **found,
        "version": reader.book.version,
        "book": hash_of(encode_book(reader.book)),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def hash_of(raw: bytes) -> str:
    """A short name of a book's content."""
    import hashlib

    return hashlib.blake2b(raw, digest_size=8).hexdigest()


async def save(kafka: KafkaSettings) -> dict[str, Any]:
    """Reads the log and writes a snapshot; how long the snapshot took."""
    async with reading(kafka) as reader:
        await reader.start()
        await reader.fold_to(await reader.end())
        began = time.perf_counter()
        await reader.write_snapshot()
        return {"seconds": time.perf_counter() - began, "bytes": len(encode_book(reader.book))}


def child(kafka: KafkaSettings, how: str, rules: int) -> dict[str, Any]:
    """The same in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.rules_log", "--child", how, kafka.bootstrap, "--rules", str(rules)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True, cwd=ROOT, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def as_child(how: str, bootstrap: str, rules: int) -> None:
    """One measurement, as JSON on stdout."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix="bench.")
    print(json.dumps(await save(kafka) if how == "save" else await read(kafka, how, rules)))


def main() -> None:
    """The whole benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="in the log")
    parser.add_argument("--rules", type=int, default=10_000, help="mappings that the events create and then change")
    parser.add_argument("--child", nargs=2, metavar=("HOW", "BOOTSTRAP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(as_child(*options.child, options.rules))
        return
    with tempfile.TemporaryDirectory() as directory, LaptopKafka(Path(directory)) as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap, prefix="bench.")
        asyncio.run(create_topics(kafka))
        size = asyncio.run(write(kafka, options.events, options.rules))
        found = {"without a snapshot": child(kafka, "whole", options.rules)}
        saved = child(kafka, "save", options.rules)
        found["with a snapshot"] = child(kafka, "book", options.rules)
        found["and one event more"] = child(kafka, "append", options.rules)
    assert len({row["book"] for row in found.values()}) == 1, "every reader has the same book"
    table = Table(title=f"{options.events:,} events, {options.rules:,} mappings, {size / 2**20:.0f} MiB in the log")
    for title in ("reader", "seconds", "CPU seconds", "records read", "peak MiB"):
        table.add_column(title, justify="left" if title == "reader" else "right")
    for name, row in found.items():
        table.add_row(name, f"{row['seconds']:.2f}", f"{row['cpu']:.2f}", f"{row['records']:,}", f"{row['mib']:.0f}")
    console = Console()
    console.print(table)
    console.print(f"snapshot: {saved['bytes'] / 2**20:.1f} MiB before compression, written in {saved['seconds']:.2f} s")
    console.print(f"an event appended and read back: {found['and one event more']['append']:.2f} s")
    console.print(f"{platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
