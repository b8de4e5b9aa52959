"""Replicas of a collector share the partitions of `usage` on a real Kafka, and take over from each other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from collectors.errors import PublishError, SeatLostError
from collectors.seat import KafkaSeat
from collectors.service import _first_known
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, create_topics
from rater.model.partition import partition_of

SOURCE = "cloud"
MOVED_SECONDS = 30.0  # what is promised: a dead replica's scopes are somebody else's by then
_numbers = count()

MEMBER = """
import asyncio, sys
from collectors.seat import KafkaSeat
from rater.kafka import KafkaSettings

async def main():
    seat = KafkaSeat(KafkaSettings(bootstrap=sys.argv[1], prefix=sys.argv[2], partitions=8), sys.argv[3])
    await seat.start()
    while True:
        print(len(await seat.held()), flush=True)
        await seat.moves(60)

asyncio.run(main())
"""


@pytest.fixture
async def settings(kafka: LaptopKafka) -> KafkaSettings:
    found = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"seat{next(_numbers)}.", partitions=8)
    await create_topics(found)
    return found


@pytest.fixture
async def seats(settings: KafkaSettings) -> AsyncIterator[Callable[[], KafkaSeat]]:
    """Makes seats, and takes them back."""
    made: list[KafkaSeat] = []

    def make() -> KafkaSeat:
        made.append(KafkaSeat(settings, SOURCE))
        return made[-1]

    yield make
    for seat in made:
        await seat.stop()


async def _until(true: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(MOVED_SECONDS):
        while not true():
            await asyncio.sleep(0.05)
    assert true(), what


def _scopes(*seats: KafkaSeat) -> list[int]:
    """How many of a hundred scopes each holds."""
    return [sum(seat.holds(f"scope-{number}") for number in range(100)) for seat in seats]


async def test_scopes_are_shared_and_move_to_those_who_are_left(seats: Callable[[], KafkaSeat]) -> None:
    """Given one replica, then two, then one again; then each scope always belongs to exactly one of them."""
    first, second = seats(), seats()
    await first.start()
    assert await first.held() == frozenset(range(8))
    assert _scopes(first) == [100]
    turn = first.turn

    await second.start()
    await _until(lambda: sum(_scopes(first, second)) == 100 and all(_scopes(first, second)), "shared")
    shared = [await first.held(), await second.held()]
    assert sorted(map(len, shared)) == [4, 4]
    assert shared[0] | shared[1] == set(range(8))
    for number in range(100):
        holder = first if partition_of(f"scope-{number}".encode(), 8) in shared[0] else second
        assert holder.holds(f"scope-{number}")
    assert first.turn > turn

    await second.stop()
    assert _scopes(second) == [0]
    await _until(lambda: _scopes(first) == [100], "taken back")


async def test_the_scopes_of_a_replica_that_was_killed_move(
    settings: KafkaSettings, seats: Callable[[], KafkaSeat], tmp_path: Path
) -> None:
    """Given two replicas; when one is killed without a word; then the other holds everything within 30 s."""
    other = subprocess.Popen(
        [sys.executable, "-c", MEMBER, settings.bootstrap, settings.prefix, SOURCE], stdout=subprocess.DEVNULL
    )
    try:
        seat = seats()
        await seat.start()
        await _until(lambda: 0 < _scopes(seat)[0] < 100, "shared")
        other.kill()
        other.wait()
        await _until(lambda: _scopes(seat) == [100], "moved")
    finally:
        other.kill()
        other.wait()


async def test_replicas_of_other_sources_share_nothing(settings: KafkaSettings, seats: Callable[[], KafkaSeat]) -> None:
    other = KafkaSeat(settings, "another")
    first = seats()
    await first.start()
    await other.start()
    try:
        assert (len(await first.held()), len(await other.held())) == (8, 8)
    finally:
        await other.stop()


async def test_a_membership_that_has_ended_is_said_and_begun_anew(seats: Callable[[], KafkaSeat]) -> None:
    """Given a membership whose polling died of whatever; then it is not taken for one that holds its scopes still."""
    seat = seats()
    await seat.start()
    await seat.held()
    assert seat._polling is not None
    seat._polling.cancel()
    await asyncio.wait({seat._polling})

    with pytest.raises(SeatLostError, match="membership in the group of collectors has ended"):
        await seat.held()
    turn = seat.turn
    await seat.restart()

    assert await seat.held() == frozenset(range(8))
    assert seat.turn > turn


async def test_a_membership_lost_before_anything_was_known_is_begun_anew(
    settings: KafkaSettings, seats: Callable[[], KafkaSeat]
) -> None:
    seat = seats()
    await seat.start()
    assert seat._polling is not None
    seat._polling.cancel()
    await asyncio.wait({seat._polling})

    known = await _first_known(settings, SOURCE, 3600, seat)

    assert (known.partitions, known.history.progress.reached) == (frozenset(range(8)), 0)


async def test_a_missing_topic_is_said(kafka: LaptopKafka) -> None:
    nobody = KafkaSettings(bootstrap=kafka.bootstrap, prefix="nobody-made-this-either.")
    with pytest.raises(PublishError, match=r"usage is missing: run `rater topics create`"):
        await KafkaSeat(nobody, SOURCE).start()
