"""Workers under kill -9 at named points and at random, as zombies, and with the broker killed: nothing may differ."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, create_topics
from tests.chaos.content import Generator, partitions_in_use
from tests.chaos.fleet import Fleet, write_prices, write_script
from tests.chaos.verify import Verdict, partitions_rated_since, settled
from tests.conftest import OwnKafka

SEED = int(os.environ.get("RATER_CHAOS_SEED", "1"))
HOURS = int(os.environ.get("RATER_CHAOS_HOURS", "20"))
POINTS = ["cut", "chunks_written", "before_commit", "committed", "before_publish", "published", "restore", "restored"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
async def topics(kafka: LaptopKafka, tmp_path: Path) -> KafkaSettings:
    """Topics of this test's own on the session's broker, with the price list."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"{tmp_path.name}.", partitions=4)
    await create_topics(settings)
    await write_prices(settings)
    return settings


async def outcome(fleet: Fleet, faults: Callable[[], Awaitable[None]], limit: float = 90) -> Verdict:
    """Usage comes as long as faults happen; then everybody may settle, and what came out is compared."""
    generator = Generator(fleet.kafka, SEED)
    async with fleet:
        happening = asyncio.ensure_future(faults())
        hour = 0
        while not happening.done():
            await generator.run(HOURS, first=hour)
            hour += HOURS
        await happening
        verdict = await settled(fleet.kafka, limit)
    faults_text = f"{fleet.kills} kill -9, {fleet.stops} SIGSTOP, {len(fleet.hit)} at named points"
    print(f"\nchaos: {faults_text}; {generator.sent} records; {verdict}")
    return verdict


async def run(fleet: Fleet, faults: Callable[[], Awaitable[None]], limit: float = 90) -> None:
    """The same, and nothing may be wrong."""
    verdict = await outcome(fleet, faults, limit)
    assert verdict.ok, f"{verdict}\n{fleet.logs()}"


async def test_kill_at_every_named_point(topics: KafkaSettings, tmp_path: Path) -> None:
    # given two workers, one of which dies at each point of the protocol in turn, also later than at its first hit
    faults = [f"{point}:1:kill" for point in POINTS] + [f"{point}:5:kill" for point in POINTS[:6:2]]
    fleet = Fleet(topics, tmp_path, size=2, faults=list(faults))

    async def until_all_happened() -> None:
        async with asyncio.timeout(200):
            while fleet.faults:
                await asyncio.sleep(0.5)

    # when usage comes all the while
    await run(fleet, until_all_happened)

    # then nothing is lost, doubled or said twice in different words, and the faults did happen
    assert len(fleet.hit) >= len(faults) - 1, fleet.hit


@pytest.mark.parametrize("seed", [SEED, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 22))])
async def test_random_kills_and_zombies(topics: KafkaSettings, tmp_path: Path, seed: int) -> None:
    # given three workers and a session of four seconds
    fleet = Fleet(topics, tmp_path, size=3)
    rng = random.Random(seed)

    async def kill_and_freeze() -> None:
        await asyncio.sleep(5)
        for _ in range(4):
            fleet.kill(rng.randrange(3))
            await asyncio.sleep(rng.uniform(0, 3))
            await fleet.freeze(rng.randrange(3), 6.5)

    # when they are killed, and stopped for longer than a session, then woken
    await run(fleet, kill_and_freeze)

    # then the zombies changed nothing
    assert fleet.stops == 4


async def test_kills_and_zombies_while_scripts_run(topics: KafkaSettings, tmp_path: Path) -> None:
    # given prices by a script: frames wait for it, and are decided some checkpoints after they are due
    await write_script(topics)
    fleet = Fleet(topics, tmp_path, size=2)

    async def kill_and_freeze() -> None:
        await asyncio.sleep(5)
        for number in (0, 1, 0):
            fleet.kill(number)
            await asyncio.sleep(2)
            await fleet.freeze(1 - number, 6.5)

    # when workers are killed and frozen all the while, then nothing is lost, doubled or said twice in different words
    await run(fleet, kill_and_freeze)
    assert (fleet.kills, fleet.stops) == (3, 3)


async def test_a_freeze_before_the_commit_is_fenced(topics: KafkaSettings, tmp_path: Path) -> None:
    fleet = Fleet(topics, tmp_path, size=2, faults=["before_rated_commit:2:freeze=9", "before_commit:4:freeze=9"])

    async def until_all_happened() -> None:
        await asyncio.sleep(17)
        fleet.kill(0)
        await asyncio.sleep(17)

    await run(fleet, until_all_happened)

    assert len(fleet.hit) == 2, fleet.hit


@pytest.mark.parametrize(
    ("mutation", "faults"),
    [
        ("no_fence", ["before_rated_commit:2:freeze=9"]),
        ("publish_first", [f"published_early:{hit}:kill" for hit in (2, 3, 4, 5)]),
    ],
)
async def test_the_suite_finds_a_defect(
    topics: KafkaSettings, tmp_path: Path, mutation: str, faults: list[str]
) -> None:
    # given workers without the fence, or that publish before they commit
    fleet = Fleet(topics, tmp_path, size=2, faults=list(faults), mutation=mutation)

    async def until_all_happened() -> None:
        while fleet.faults:
            await asyncio.sleep(0.5)
        await asyncio.sleep(35 if mutation == "no_fence" else 5)  # the zombie has to wake up and to join again

    # when they are frozen or killed at the points where that matters
    verdict = await outcome(fleet, until_all_happened)

    # then the same frame was said twice in different words, and the comparison sees it
    assert fleet.hit
    assert verdict.conflicting


async def test_broker_killed(own_kafka: OwnKafka, tmp_path: Path) -> None:
    # given a broker of this test's own
    broker = own_kafka()
    settings = KafkaSettings(bootstrap=broker.bootstrap, prefix="broker.", partitions=4)
    await create_topics(settings)
    await write_prices(settings)
    fleet = Fleet(settings, tmp_path, size=2, session_timeout=15)

    async def kill_broker() -> None:
        for pause in (6, 8):
            await asyncio.sleep(pause)
            await asyncio.to_thread(broker.kill)
            fleet.kills += 1
            await asyncio.sleep(1)
            await asyncio.to_thread(broker.start)
        await asyncio.sleep(5)

    # when it is killed and started again twice, then all goes on without anybody's help
    await run(fleet, kill_broker, limit=120)


async def test_others_take_over(own_kafka: OwnKafka, tmp_path: Path) -> None:
    # given three workers on eight partitions, with the session of production
    broker = own_kafka()
    settings = KafkaSettings(bootstrap=broker.bootstrap, prefix="eight.", partitions=8)
    await create_topics(settings)
    await write_prices(settings)
    fleet = Fleet(settings, tmp_path, size=3, session_timeout=15)
    took: list[float] = []

    async def kill_one() -> None:
        await asyncio.sleep(10)
        fleet.retire(2)
        killed_at = time.time()
        async with asyncio.timeout(60):
            while await partitions_rated_since(settings, killed_at) < partitions_in_use(settings.partitions):
                await asyncio.sleep(0.5)
        took.append(time.time() - killed_at)

    # when one is killed for good
    await run(fleet, kill_one)

    # then the others rate its partitions in less than half a minute
    print(f"chaos: others took over after {took[0]:.1f} s")
    assert took[0] < 30
