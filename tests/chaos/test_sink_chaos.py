"""The sink under kill -9 between insert and commit and at random: the store holds the best of `rated`, once."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.store import Store, StoreSettings, frames, gaps, lines
from rater.store import totals as store_totals
from tests.chaos.content import HOUR, METRICS, Generator, TrueFrame, truth
from tests.chaos.fleet import Fleet, write_prices
from tests.chaos.verify import read_topic, settled

ROOT = Path(__file__).parents[2]
FAULTS = ["sink-inserted:1:kill", "sink-committed:2:kill", "sink-inserted:3:kill", "", "", "sink-inserted:2:kill", ""]

pytestmark = [pytest.mark.slow]


def start_sink(kafka: KafkaSettings, directory: Path, fault: str) -> subprocess.Popen[bytes]:
    options = {
        "bootstrap": kafka.bootstrap,
        "prefix": kafka.prefix,
        "partitions": kafka.partitions,
        "directory": str(directory / "store"),
        "fault": fault,
    }
    with (directory / "sink.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.sink_main", json.dumps(options)], stdout=log, stderr=log, cwd=ROOT
        )


async def kill_sinks(kafka: KafkaSettings, directory: Path) -> subprocess.Popen[bytes]:
    """One sink after another, each killed at its point or after a while; the last one lives."""
    rng = random.Random(1)
    sink = start_sink(kafka, directory, FAULTS[0])
    for fault in [*FAULTS[1:], ""]:
        limit = time.monotonic() + (20 if fault else rng.uniform(4, 7))
        while sink.poll() is None and time.monotonic() < limit:
            await asyncio.sleep(0.1)
        sink.kill()
        sink.wait()
        sink = start_sink(kafka, directory, fault)
    return sink


async def test_kills_of_the_sink(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given usage that is rated while sinks are killed one after another
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=4)
    await create_topics(settings)
    await write_prices(settings)
    generator = Generator(settings, seed=7)
    async with Fleet(settings, tmp_path, size=1) as fleet:
        killing = asyncio.create_task(kill_sinks(settings, tmp_path))
        hour = 0
        while not killing.done():
            await generator.run(10, first=hour)
            hour += 10
        sink = await killing
        assert (await settled(settings, 60)).ok, fleet.logs()
    expected = truth(await read_topic(settings, Topic.USAGE))
    async with asyncio.timeout(120):  # a killed sink is a member of the group for 15 s more
        while not await caught_up(settings):
            await asyncio.sleep(1)
    sink.terminate()
    sink.wait(30)

    # then the store holds each frame once, with the lines, totals and open gaps of the truth
    with Store(StoreSettings(dsn=f"chdb://{tmp_path / 'store'}")) as store:
        found = compare(store, expected)
    print(f"\nchaos: {len(FAULTS)} kills of the sink; {found}")
    assert not found["wrong"], (found, (tmp_path / "sink.log").read_text()[-2000:])


async def caught_up(kafka: KafkaSettings) -> bool:
    """Whether the sinks' group has committed everything that `rated` and `alerts` hold."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    consumer = AIOKafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    await admin.start()
    await consumer.start()
    try:
        committed = await admin.list_consumer_group_offsets(f"{kafka.prefix}sink")
        keys = [TopicPartition(kafka.topic(t), p) for t in (Topic.RATED, Topic.ALERTS) for p in range(kafka.partitions)]
        ends = await consumer.end_offsets(keys)
        return all(ends[key] == 0 or (key in committed and committed[key].offset == ends[key]) for key in keys)
    finally:
        await consumer.stop()
        await admin.close()


def compare(store: Store, expected: dict[tuple[str, int], TrueFrame]) -> Counter[str]:
    """How many lines were compared and how many things are wrong."""
    found: Counter[str] = Counter()
    held: dict[tuple[str, int], dict[str, tuple[Decimal, Decimal]]] = {key: {} for key in expected}
    for line in lines(store):
        of_frame = held[line.scope_id, line.period_begin]
        found["wrong"] += line.line_id in of_frame
        if line.qty:
            of_frame[line.line_id] = (line.qty, line.price)
    for key, frame in expected.items():
        found["lines"] += len(frame.lines)
        found["wrong"] += held[key] != frame.lines
    rows = [(row.scope_id, row.period_begin) for row in frames(store)]
    found["frames"] = len(rows)
    found["wrong"] += sorted(rows) != sorted(expected)
    still = Counter((gap.scope_id, gap.metric, gap.begin, gap.end) for gap in gaps(store, open_only=True))
    holes = Counter(
        (scope, m, *hole) for (scope, _), f in expected.items() for m in METRICS for hole in f.holes.get(m, ())
    )
    found["gaps"] = holes.total()
    found["wrong"] += still != holes
    begins = [begin for _, begin in expected]
    price = sum(t.price for t in store_totals(store, begin=min(begins), end=max(begins) + HOUR))
    found["wrong"] += price != sum(p for frame in expected.values() for _, p in frame.lines.values())
    return found
