"""The whole of rater under faults of every kind for some minutes, and small tests of what the run is made of."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.cloud import PERIOD, STEP, Cloud
from tests.chaos.faults import TABLE, Decks
from tests.chaos.offsets import backward
from tests.chaos.proxy import Mode, Proxy
from tests.chaos.report import SECTION, write_report
from tests.chaos.run import Outcome, run
from tests.chaos.storm import Step, Storm
from tests.chaos.verify import Verdict

SEED = int(os.environ.get("RATER_CHAOS_SEED", "1"))
MINUTES = float(os.environ.get("RATER_CHAOS_MINUTES", "3"))


@pytest.mark.kafka
@pytest.mark.slow
async def test_nothing_is_lost_doubled_or_unnamed_whatever_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # a thousand times that the broker is away would hide what is wrong
    caplog.set_level(logging.CRITICAL, logger="aiokafka")

    # given every part of rater in a process of its own; when faults come for some minutes
    outcome = await run(tmp_path / "run", MINUTES, SEED, print)

    # then the faults happened, and everything is as if none had
    assert outcome.storm.steps
    assert not outcome.findings, "\n".join(outcome.findings)
    assert outcome.verdict.frames
    assert outcome.verdict.lines


# --- the parts of the run itself


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before a server that says everything twice."""

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(2 * data)
        writer.close()

    server = await asyncio.start_server(twice, "127.0.0.1", 0)
    found = Proxy()
    found.target = server.sockets[0].getsockname()[1]
    await found.start()
    yield found
    await found.stop()
    server.close()
    await server.wait_closed()


async def ask(proxy: Proxy) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        return await asyncio.wait_for(reader.read(100), 10)
    finally:
        writer.close()


async def test_a_proxy_passes_on_answers_itself_tears_and_refuses(proxy: Proxy) -> None:
    assert await ask(proxy) == 2 * b"GET / HTTP/1.1\r\n\r\n"
    proxy.answer("503 Service Unavailable", b"away")
    assert (await ask(proxy)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    proxy.mode, proxy.torn_after = Mode.TORN, 3
    assert await ask(proxy) == b"GET"
    proxy.mode = Mode.REFUSE
    with pytest.raises(ConnectionError):
        await ask(proxy)
    proxy.heal()
    assert (await ask(proxy)).startswith(b"GET")


async def test_a_half_open_connection_stays_silent_after_it_was_healed(proxy: Proxy) -> None:
    # given a connection that worked
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"a")
    assert await reader.read(2) == b"aa"

    # when it goes silent, and the proxy is healed
    proxy.silence()
    writer.write(b"b")
    await writer.drain()
    proxy.heal()

    # then a new one passes, and the old one says nothing more until its end
    assert await ask(proxy)
    proxy.cut()
    said = await asyncio.gather(reader.read(2), return_exceptions=True)
    assert said == [b""] or isinstance(said[0], ConnectionError)
    writer.close()


def test_every_fault_comes_once_before_any_of_its_area_comes_again() -> None:
    decks = Decks(random.Random(7))
    drawn = [fault.name for _ in range(200) for fault in decks.draw(2)]
    assert len(TABLE) == len(set(drawn)) == len({make().name for make in TABLE})
    again = Decks(random.Random(7))
    assert drawn == [fault.name for _ in range(200) for fault in again.draw(2)]


def test_the_cloud_knows_its_holes() -> None:
    cloud = Cloud(600_000, 600_000 + 40 * PERIOD)
    holes = [
        hole for begin in range(cloud.begin, cloud.end, PERIOD) for hole in cloud.holes("tenant-1", "instance", begin)
    ]
    assert all(begin < end for begin, end in holes)
    assert sum(end - begin for begin, end in holes) > 200
    assert not any(cloud.holes("tenant-0", "instance", begin) for begin in range(cloud.begin, cloud.end, PERIOD))
    assert cloud.quantity("tenant-1", "instance", cloud.begin + 10 * PERIOD) is None
    assert STEP < PERIOD


def test_offsets_that_go_back_are_seen() -> None:
    commits = {("g", "usage", 0): [1, 5, 5, 9], ("g", "usage", 1): [4, 3], ("other", "usage", 1): [4, 3]}
    assert backward(commits, "g") == ["usage[1]: 4 then 3"]


def outcome(seed: int, frames: int) -> Outcome:
    storm = Storm([Step(("kill -9 of a worker",), 4.0, 5.0)], ["kill -9 at cut"])
    verdict = Verdict(frames=frames)
    return Outcome(seed, 3, storm, verdict, {"records": 9}, {}, 1, 1, "tmpfs", 0, 200.0)


def test_a_report_replaces_the_entry_of_its_seed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "reliability.md"
    path.write_text(f"# R\n\n## A\n\ntext\n\n{SECTION}\n\nhow\n\n## B\n\nlast\n")
    for seed, frames in ((1, 111), (2, 222), (1, 333)):
        write_report(path, outcome(seed, frames))
    text = path.read_text()
    assert "111" not in text
    assert text.index("how") < text.index("### Seed 2") < text.index("### Seed 1") < text.index("## B")
    assert text.count("### Seed") == 2
    assert "| kill -9 of a worker | 1 |  | 4.0 s / 4.0 s |" in text
    assert "| kill -9 at cut | 0 | 1 |  |" in text
    assert text.endswith("## B\n\nlast\n")
