"""The simulator itself: one seed is one run, and its Kafka behaves as the real one was measured to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sim.broker import SESSION, Broker, LostError, Weather, Wire
from tests.sim.kafka import Member
from tests.sim.loop import Host, SimLoop, running
from tests.sim.world import run

ROOT = Path(__file__).parents[2]


def test_one_seed_is_one_run_bit_for_bit() -> None:
    # given a run in this process, when the same seed runs again here and in another one with other hashes of strings
    digest = run(7, 60).digest
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    code = "from tests.sim.world import run; print(run(7, 60).digest)"
    other = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, check=True)

    # then all logs, tables and the trace are the same
    assert run(7, 60).digest == digest
    assert other.stdout.decode().strip() == digest
    assert run(8, 60).digest != digest


def simulated(scenario: Any) -> Any:
    """Runs a coroutine function on a loop and a broker in memory."""
    loop = SimLoop(1, 0.0)
    with running(loop):
        broker = Broker(loop, 1, Weather(loop, lambda fault: None))
        return loop.run_until_complete(scenario(loop, broker))


def test_the_clock_jumps_and_never_waits() -> None:
    async def a_year(loop: SimLoop, broker: Broker) -> float:
        await asyncio.sleep(366 * 86400)
        return loop.time()

    assert simulated(a_year) == 366 * 86400


def test_who_waits_for_nobody_is_told() -> None:
    async def for_ever(loop: SimLoop, broker: Broker) -> None:
        await loop.create_future()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        simulated(for_ever)


def test_an_old_generation_may_commit_until_the_new_one_is_complete() -> None:
    async def scenario(loop: SimLoop, broker: Broker) -> list[int]:
        # given a member, and another one that comes
        one, two = (Member(broker, Host(loop, name), "group", ("usage",)) for name in "ab")
        await one.join()
        old, place = (one.member_id, one.generation), ("usage", 0)
        codes = [one.group.commit(*old, {place: (5, "")})]
        joining = asyncio.ensure_future(two.join())
        await one.changed.wait()

        # when the old generation commits while the group gathers, and after it has
        assert one.group.gathering
        codes.append(one.group.commit(*old, {place: (6, "")}))
        await one.join()
        await joining
        codes.append(one.group.commit(*old, {place: (7, "")}))
        codes.append(one.group.commit("nobody", one.generation, {place: (8, "")}))

        # and when an offset goes back under the right membership
        codes.append(one.group.commit(one.member_id, one.generation, {place: (1, "")}))
        assert one.group.committed[place] == (1, "")
        assert broker.violations == ["group group: ('usage', 0) went back from 6 to 1"]
        return codes

    assert simulated(scenario) == [0, 0, 22, 25, 0]


def test_a_frozen_member_is_thrown_out_and_learns_of_it_when_it_wakes() -> None:
    async def scenario(loop: SimLoop, broker: Broker) -> None:
        host = Host(loop, "zombie")
        member = Member(broker, host, "group", ("usage",))
        await host.start(member.join())
        host.freeze()
        await asyncio.sleep(SESSION + 20)
        assert member.group.members() == []
        assert not member.changed.is_set()
        host.thaw()
        await asyncio.sleep(1)
        assert member.changed.is_set()

    simulated(scenario)


def test_what_a_killed_process_had_sent_still_arrives() -> None:
    async def scenario(loop: SimLoop, broker: Broker) -> None:
        host = Host(loop, "dying")
        wire = Wire(broker, host)
        sending = host.start(wire.call("x", lambda: broker.append("usage", 0, None, b"x")))
        await asyncio.sleep(0)
        host.kill()
        await asyncio.wait([sending])
        assert sending.cancelled()
        await asyncio.sleep(60)
        assert [record.value for record in broker.records("usage")] == [b"x"]

    simulated(scenario)


def test_a_lost_answer_did_its_work() -> None:
    async def scenario(loop: SimLoop, broker: Broker) -> set[int]:
        broker.weather.bad = 1.0
        wire, appended = Wire(broker, Host(loop, "sender")), set()
        for _ in range(20):
            before = len(broker.records("usage"))
            with pytest.raises(LostError):
                await wire.call("x", lambda: broker.append("usage", 0, None, b"x"))
            appended.add(len(broker.records("usage")) - before)
        return appended

    assert simulated(scenario) == {0, 1}
