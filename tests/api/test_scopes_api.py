"""Scopes reset and periods reprocessed with CloudKitty's client, on real Kafka and the real store.

The API and the sink are processes that are killed in the middle: what was acknowledged is done once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

from deploy.local.kafka import LaptopKafka
from rater.config import Config, load_config
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.codec import JSON, MSGPACK, decode_usage
from rater.model.requests import ScopeSwitched
from rater.model.usage import Sample, ScopePlan, ScopeSwitch
from rater.reports import ReworkRequest, Selection, View, open_view
from rater.store import FrameRow, ReworkRow
from rater.stream.operate import read_values
from rater.stream.requests_log import RequestsLog
from rater.stream.worker import Worker
from tests.api.cloudkittyclient.client import Client, clients
from tests.integration.pushing import ApiProcess, serving
from tests.integration.reworks import RULES, apply_rules
from tests.integration.streams import HOUR, SETTINGS, T, collection, read, send

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 2}}
store: {{dsn: "chdb://clickhouse"}}
engine: {{wait_periods: 1, settle: 10, late_horizon_periods: 0, gap_horizon_periods: 0}}
sink: {{max_delay: 0.1}}
api: {{listen: "127.0.0.1:0", auth: noauth, cloudkitty: {{collector: prometheus, fetcher: keystone}}}}
metrics: {{cpu: {{unit: undefined}}}}
"""
HOURS = 60
TASKS = "/v2/task/reprocesses"


class SinkProcess:
    """`rater sink` as a process."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it; does not wait until it is there."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
        with (self._config.parent / "sink.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rater", "--config", str(self._config), "sink", env=plain, stderr=log
            )

    async def end(self, number: signal.Signals) -> None:
        """Ends it by a signal."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            async with asyncio.timeout(60):
                await self._process.wait()


class Place(NamedTuple):
    """An installation: a worker in this process, sink and API as processes."""

    config: Config
    path: Path
    api: ApiProcess
    sink: SinkProcess
    client: Client

    async def read(self, ask: Callable[[View], Any]) -> Any:
        """What the store says, asked through the sink."""

        def asked() -> Any:
            with open_view(self.config.settings.store) as view:
                return ask(view)

        return await asyncio.to_thread(asked)

    async def frames(self, scope_id: str) -> list[FrameRow]:
        """Newest revisions."""
        return await self.read(lambda view: list(view.frames(Selection(scope_id))))

    async def prices(self, scope_id: str) -> Counter[Decimal]:
        """How many frames cost how much."""
        return Counter(total.price for frame in await self.frames(scope_id) for total in frame.totals)

    async def reworks(self) -> list[ReworkRow]:
        """What was rated again."""
        return await self.read(lambda view: list(view.reworks(ReworkRequest())))

    async def run(self, words: str, *more: str, shell: str = "cloudkitty") -> Any:
        """What a command shows as JSON; None for one that shows nothing."""
        done = await asyncio.to_thread(self.client.run, shell, words, *more)
        assert done.status == 0, done
        return done.out

    async def tasks(self) -> list[dict[str, str]]:
        """The newest first."""
        return await asyncio.to_thread(self.client.json, "cloudkitty", "tasks reprocessing get")

    async def put(self, **values: Any) -> int:
        """PUT /v2/scope; the status."""
        async with aiohttp.ClientSession() as http, http.put(f"{self.api.url}/v2/scope", json=values) as answer:
            return answer.status

    async def until_over(self, count: int) -> list[dict[str, str]]:
        """Waits until all of so many tasks are at their end."""
        async with asyncio.timeout(90):
            while True:
                done = await asyncio.to_thread(self.client.run, "cloudkitty", "tasks reprocessing get", "-f", "json")
                if done.status != 0:  # the sink is starting, and nobody has the store open yet
                    await asyncio.sleep(0.3)
                    continue
                found: list[dict[str, str]] = json.loads(done.out)
                over = [task["Current reprocessing time"] == task["End reprocessing time"] for task in found]
                if len(found) == count and all(over):
                    return found
                await asyncio.sleep(0.3)


@asynccontextmanager
async def working(config: Config) -> AsyncIterator[None]:
    """A worker while the block runs."""
    worker, stop = Worker(config.settings.kafka, config.engine_context(), SETTINGS), asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> AsyncIterator[Place]:
    path = tmp_path / "rater.yaml"
    path.write_text(CONFIG.format(bootstrap=kafka.bootstrap, prefix=f"scopes-{uuid4().hex[:8]}."))
    config = load_config(path, {})
    await create_topics(config.settings.kafka)
    await apply_rules(config, RULES.format(cpu="2"))
    hours = [(scope, T + hour * HOUR) for scope in "AB" for hour in range(HOURS)]
    usage = [
        collection(scope, begin, samples=[Sample(0, begin, begin + HOUR, Decimal("1.5"))]) for scope, begin in hours
    ]
    plans = [ScopePlan("test", scope, T, T + HOURS * HOUR, ["cpu"]) for scope in "AB"]
    sink = SinkProcess(path)
    try:
        await asyncio.gather(sink.start(), send(config.settings.kafka, *plans, *usage))
        async with working(config), serving(path) as api:
            with clients(api.url) as client:
                yield Place(config, path, api, sink, client)
    finally:
        await sink.end(signal.SIGTERM)


async def test_scopes_and_tasks(place: Place) -> None:
    await all_is_rated(place)
    await a_scope_is_reset(place)
    await periods_are_reprocessed(place)
    await a_scope_is_added(place)
    await a_scope_is_switched_off_and_on(place)
    await a_clock_two_days_ahead_switches_now(place)
    await what_was_acknowledged_is_done_whoever_is_killed(place)


async def all_is_rated(place: Place) -> None:
    last = "2026-01-03T11:00:00+00:00"
    scope = {"Scope Key": "project_id", "Collector": "prometheus", "Fetcher": "keystone", "State": last}
    async with asyncio.timeout(90):
        while True:
            done = await asyncio.to_thread(place.client.run, "cloudkitty", "scope state get", "-f", "json")
            if done.out.count(last) == 2 and [len(await place.frames(name)) for name in "AB"] == [HOURS] * 2:
                break
            await asyncio.sleep(0.3)
    for shell, words in (("cloudkitty", "scope state get"), ("openstack", "rating scope state get")):
        found = await asyncio.to_thread(place.client.json, shell, words)
        assert found == [{"Scope ID": name, **scope} for name in "AB"]
    one = await asyncio.to_thread(place.client.json, "cloudkitty", "scope state get", "--scope-id", "B")
    assert [found["Scope ID"] for found in one] == ["B"]
    assert await place.tasks() == []
    assert await place.prices("A") == {Decimal(3): HOURS}


async def a_scope_is_reset(place: Place) -> None:
    """The period of the time and each later one have the price of now; CloudKitty would lose the first of them."""
    await apply_rules(place.config, RULES.format(cpu="4"))
    await place.run("scope state reset", "--scope-id", "A", "2026-01-02T00:00:00Z")
    (task,) = await place.until_over(1)
    assert task == {
        "Scope ID": "A",
        "Reason": "scope reset to 2026-01-02T00:00:00+00:00",
        "Start reprocessing time": "2026-01-02T00:00:00",
        "End reprocessing time": "2026-01-03T11:00:00",
        "Current reprocessing time": "2026-01-03T11:00:00",
    }
    assert [frame.revision for frame in await place.frames("A")] == [0] * 24 + [1] * 36
    assert await place.prices("A") == {Decimal(3): 24, Decimal(6): 36}
    assert await place.prices("B") == {Decimal(3): HOURS}
    # the client reads sums of exactly that
    bounds = ("-b", "2026-01-01T00:00:00", "-e", "2026-02-01T00:00:00")
    (row,) = await asyncio.to_thread(place.client.json, "cloudkitty", "summary get", *bounds)
    assert (row["Qty"], row["Rate"]) == (180.0, 24 * 3.0 + 36 * 6.0 + 60 * 3.0)


async def periods_are_reprocessed(place: Place) -> None:
    """From the first to the last one, that one as well; each once."""
    times = ("--start-reprocess-time", "2026-01-01T10:00:00Z", "--end-reprocess-time", "2026-01-01T12:00:00Z")
    asked = ("tasks reprocessing create", "--scope-id", "B", *times, "--reason", "price was wrong")
    await place.run(f"rating {asked[0]}", *asked[1:], shell="openstack")
    newest, _ = await place.until_over(2)
    assert (newest["Scope ID"], newest["Reason"]) == ("B", "price was wrong")
    assert [frame.revision for frame in await place.frames("B")] == [0] * 10 + [1] * 3 + [0] * 47
    assert await place.prices("B") == {Decimal(3): 57, Decimal(6): 3}
    times = ("--start-reprocess-time", "2026-01-09T00:00:00Z", "--end-reprocess-time", "2026-01-09T00:00:00Z")
    refused = await asyncio.to_thread(place.client.run, "cloudkitty", *asked[:3], *times, "--reason", "too far")
    assert refused.status == 1
    assert "is after the last processed timestamp" in refused.err


async def a_scope_is_added(place: Place) -> None:
    async with aiohttp.ClientSession() as http:
        values = {"scope_id": "new", "last_processed_timestamp": "2026-01-05T00:00:00"}
        async with http.post(f"{place.api.url}/v2/scope", json=values) as answer:
            assert (answer.status, (await answer.json())["scope_id"]) == (200, "new")
    found = await asyncio.to_thread(place.client.json, "cloudkitty", "scope state get")
    assert [scope["Scope ID"] for scope in found] == ["A", "B", "new"]


async def a_scope_is_switched_off_and_on(place: Place) -> None:
    """By CloudKitty's client, which does as it is told and then fails by itself."""
    kafka, following = place.config.settings.kafka, int(time.time() // HOUR + 1) * HOUR
    scope = ("scope patch", "-id", "B", "--active")
    for active, count, seconds in (("false", 1, 40), ("true", 2, 2)):
        await asyncio.to_thread(place.client.run, "cloudkitty", *scope, active)
        found = await asyncio.to_thread(place.client.json, "cloudkitty", "scope state get", "--scope-id", "B")
        assert len(found) == 1, "it is listed, on or off"
        await the_engine_has(kafka, active == "true")
        # what comes for the next hour is refused while the scope is off, and taken when it is on
        await send(kafka, *(collection(name, following, attempt=count) for name in "AB"))
        (rejected,) = await read(kafka, Topic.REJECTED, count, seconds)
        assert b"scope 'B' is switched off" in dict(rejected.headers)["reason"]


async def a_clock_two_days_ahead_switches_now(place: Place) -> None:
    """By the broker's clock: the engine would refuse a switch for another day, API and collectors not."""
    kafka, ahead = place.config.settings.kafka, int(time.time()) + 48 * HOUR
    log = RequestsLog(kafka)
    try:
        for active in (False, True):
            book = await log.append(ScopeSwitched("B", active, ahead, "ann", ahead))
            last = book.switches.last("B")
            assert last is not None
            assert last.begin <= time.time()
            await the_engine_has(kafka, active)
    finally:
        await log.close()


async def the_engine_has(kafka: KafkaSettings, active: bool) -> None:
    """Waits until the last switch in topic `usage` is this one."""
    async with asyncio.timeout(30):
        while True:
            switches = [found for value in await read_values(kafka, Topic.USAGE) if (found := switch_of(value))]
            if switches and switches[-1].active is active:
                return
            await asyncio.sleep(0.2)


def switch_of(value: bytes) -> ScopeSwitch | None:
    """The record if it is a switch; the sink's process sends msgpack, tests send JSON."""
    record = decode_usage(value, JSON if value.startswith(b"{") else MSGPACK)
    return record if isinstance(record, ScopeSwitch) else None


async def what_was_acknowledged_is_done_whoever_is_killed(place: Place) -> None:
    await apply_rules(place.config, RULES.format(cpu="10"))
    before = {scope: [frame.revision for frame in await place.frames(scope)] for scope in "AB"}
    records = len(await place.reworks())
    # the API is killed as soon as it has answered, the sink when the first frames have their answers
    assert await place.put(all_scopes=True, state="2026-01-01T05:00:00") == 202
    await place.api.end(signal.SIGKILL)
    async with asyncio.timeout(60):
        while len(await place.reworks()) == records:
            await asyncio.sleep(0.02)
    await place.sink.end(signal.SIGKILL)
    await asyncio.gather(place.sink.start(), place.api.start())

    # when others take over, every frame has one more revision, and none has two
    await place.until_over(5)
    for scope in "AB":
        frames = await place.frames(scope)
        assert [frame.revision - was for frame, was in zip(frames, before[scope], strict=True)] == [0] * 5 + [1] * 55
        assert (await place.prices(scope))[Decimal(15)] == 55
    newest = Counter(row.outcome for row in await place.reworks() if row.requested.endswith("05:00:00+00:00"))
    assert newest == {"done": 110}
