"""The programs of docs/consume.md, as they are written there, end with the sums that the store has."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from deploy.local.kafka import LaptopKafka, install
from rater.kafka import KafkaSettings, Topic, client_options
from rater.model.interval import Interval
from rater.model.posted import PostedLine, PostedLines
from rater.model.usage import FrameForced, Sample, ScopePlan, Series
from rater.store import Store, frames, posted_totals
from tests.integration.reworks import RULES, cloud, until, write_settings
from tests.integration.sinks import committed
from tests.integration.streams import HOUR, T, collection, read, send

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "consume.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_SECONDS = 120
HOURS = [Interval(T + n * HOUR, T + (n + 1) * HOUR) for n in range(4)]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with the files of the page, each under the name in its first line, and a Kafka's `libs`."""
    for kind, text in BLOCKS:
        if kind in {"python", "java"}:
            (tmp_path / text.split("\n")[0].split()[-1]).write_text(text)
    (tmp_path / "libs").symlink_to(install() / "jars")
    return tmp_path


async def run(block: str, directory: Path, kafka: KafkaSettings) -> dict[str, tuple[Decimal, int]]:
    """What the program of a block prints: by scope the price, and how many frames are not whole."""
    text = block.replace("rater.rated", kafka.topic(Topic.RATED)).replace("127.0.0.1:9092", kafka.bootstrap)
    assert text != block
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=directory,
        env={**os.environ, "KAFKA": str(directory), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, block + done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {scope: (Decimal(price), int(count)) for scope, price, count in rows}


def of_store(store: Store) -> dict[str, tuple[Decimal, int]]:
    """The same from the store."""
    prices: dict[str, Decimal] = {}
    unfinished: Counter[str] = Counter()
    for row in frames(store):
        prices[row.scope_id] = prices.get(row.scope_id, Decimal(0)) + sum(total.price for total in row.totals)
        unfinished[row.scope_id] += row.status.value not in {"rated", "empty"}
    for scope_id in "ABC":
        prices[scope_id] = prices.get(scope_id, Decimal(0)) + sum(
            total.price for total in posted_totals(store, scope_id)
        )
    return {scope_id: (price, unfinished[scope_id]) for scope_id, price in prices.items()}


async def again(kafka: KafkaSettings, records: Sequence[ConsumerRecord]) -> None:
    """Publishes the records once more, as they were."""
    producer = AIOKafkaProducer(**client_options(kafka), acks="all", max_request_size=8 * 1024 * 1024)
    await producer.start()
    try:
        for record in records:
            headers = list(record.headers)
            await producer.send_and_wait(record.topic, record.value, record.key, record.partition, headers=headers)
    finally:
        await producer.stop()


async def ends(kafka: KafkaSettings) -> dict[int, int]:
    """The end of each partition of `rated`."""
    consumer = AIOKafkaConsumer(**client_options(kafka))
    await consumer.start()
    try:
        partitions = [TopicPartition(kafka.topic(Topic.RATED), number) for number in range(kafka.partitions)]
        return {at.partition: end for at, end in (await consumer.end_offsets(partitions)).items() if end}
    finally:
        await consumer.stop()


@pytest.mark.slow
async def test_both_programs_end_with_the_sums_of_the_store(kafka: LaptopKafka, programs: Path) -> None:
    python, java = (text for kind, text in BLOCKS if kind == "sh")
    config = write_settings(kafka, programs, kept=100_000)
    topics = config.settings.kafka
    # given a scope with a whole hour, an empty, a missing and a partial one; one whose frame takes several records
    many = [Series({"id": f"vm{n}", "note": "x" * 2000}) for n in range(600)]
    samples = [Sample(n, T, T + HOUR, Decimal("0.3")) for n in range(600)]
    async with cloud(config, programs, rules=RULES.format(cpu="0.0123")) as running:
        await send(
            topics,
            ScopePlan("test", "A", T, T + 4 * HOUR, ["cpu"]),
            collection(begin=HOURS[0].begin),
            collection(begin=HOURS[1].begin, series=[], samples=[]),
            collection(begin=HOURS[3].begin, covers=[Interval(HOURS[3].begin, HOURS[3].begin + 600)]),
            *(FrameForced("A", HOURS[n].begin, "kim", "month end") for n in (2, 3)),
            ScopePlan("test", "B", T, T + HOUR, ["cpu"]),
            collection("B", series=many, samples=samples),
        )
        first = await read(topics, Topic.RATED, 6)
        assert len(first) == 6
        # when the first program has read that, it knows what is not whole
        early = await run(python, programs, topics)
        assert {scope: count for scope, (_, count) in early.items()} == {"A": 2, "B": 0}
        # and then the partial hour is collected, lines are posted, one of them twice, and all comes again, old last
        lines = [PostedLine(n, "licence", T, T + HOUR, Decimal(1), Decimal("12.50")) for n in (0, 1)]
        posts = [PostedLines(scope, "5f" * 16, [lines[n]]) for scope, n in (("C", 0), ("C", 0), ("A", 1))]
        better = [Sample(0, HOURS[3].begin, HOURS[3].end, Decimal("1.75"))]
        await send(topics, collection(begin=HOURS[3].begin, attempt=2, samples=better), *posts)
        everything = await read(topics, Topic.RATED, 10)
        assert len(everything) == 10
        await again(topics, [*everything, *first])
        # and the store has it all
        wanted = await ends(topics)
        async with asyncio.timeout(60):
            while await committed(topics, Topic.RATED) != wanted:
                await asyncio.sleep(0.1)
        await until(lambda: len(of_store(running.store)) == 3)
        truth = await asyncio.to_thread(of_store, running.store)
    assert truth == {
        "A": (Decimal("0.0123") * (Decimal("1.5") + Decimal("1.75")) + Decimal("12.50"), 1),
        "B": (Decimal("0.0123") * 180, 0),
        "C": (Decimal("12.50"), 0),
    }

    # then the programs agree with it, the one that went on and the one that reads it all; and nothing is read twice
    assert await run(python, programs, topics) == truth
    assert await run(python, programs, topics) == truth
    assert await run(java, programs, topics) == truth


def test_every_block_of_the_page_is_a_file_a_command_or_an_example() -> None:
    assert [kind for kind, _ in BLOCKS] == ["json", "python", "sh", "java", "sh"]
    asyncapi = (ROOT / "schemas" / "asyncapi.yaml").read_text()
    headers = json.loads(BLOCKS[0][1])
    assert all(f"{name}: " in asyncapi and value in asyncapi for name, value in headers.items())


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
