"""POST /v2/dataframes on real Kafka and the real store: with CloudKitty's client, and whoever is killed meanwhile.

The API and the sink are processes. The worker has its default checkpoint interval, the sink its default delay.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

from deploy.local.kafka import LaptopKafka
from rater.audit import usage_entry
from rater.audit.posted import posted_once
from rater.config import Config, load_config
from rater.kafka import Topic, create_topics
from rater.model.codec import content_type, decode_rated_record
from rater.model.interval import Interval
from rater.model.posted import PostedLines
from rater.reports import UsageRequest, open_view, report_of
from rater.store import PostedRow
from rater.stream.settings import WorkerSettings
from tests.api.cloudkittyclient.client import Client, clients
from tests.integration.pushing import ApiProcess, serving
from tests.integration.streams import read, working

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 2}}
store: {{dsn: "chdb://clickhouse"}}
sink: {{usage: {usage}}}
api: {{listen: "127.0.0.1:0", auth: noauth, cloudkitty: {{}}}}
"""
JANUARY, FEBRUARY, MARCH = 1767225600, 1769904000, 1772323200
POSTS = 24
SCOPES = ("A", "B", "C")
NEW_YEAR = "2026-01-01T00:00:00+00:00"


class SinkProcess:
    """`rater sink` as a process, whose group waits for it 6 s once it is killed, as little as a broker allows."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it; does not wait until it is there."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
        brief = "import rater.stream.sink as s; s.SESSION_MS = 6_000; from rater.cli import main; main()"
        with (self._config.parent / "sink.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", brief, "--config", str(self._config), "sink", env=plain, stderr=log
            )

    async def end(self, number: signal.Signals) -> None:
        """Ends it by a signal."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            async with asyncio.timeout(60):
                await self._process.wait()


class Place(NamedTuple):
    """An installation."""

    config: Config
    api: ApiProcess
    sink: SinkProcess
    client: Client
    http: aiohttp.ClientSession

    async def post(self, *frames: dict[str, Any], key: str = "") -> int:
        """The status."""
        headers = {"Idempotency-Key": key} if key else {}
        async with self.http.post(
            f"{self.api.url}/v2/dataframes", json={"dataframes": frames}, headers=headers
        ) as answer:
            await answer.read()
            return answer.status

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Status and JSON."""
        async with self.http.get(f"{self.api.url}{path}", params=query) as answer:
            return answer.status, await answer.json()

    async def posted(self, scope_id: str) -> list[PostedRow]:
        """What the store has, asked through the sink."""

        def asked() -> list[PostedRow]:
            with open_view(self.config.settings.store) as view:
                return list(view.posted(UsageRequest(scope_id, JANUARY, MARCH)))

        return await asyncio.to_thread(asked)


def frame(scope_id: str, price: str, begin: str = NEW_YEAR, end: str = "2026-01-01T00:10:00+00:00") -> dict[str, Any]:
    point = {
        "vol": {"unit": "GiB", "qty": 1.5},
        "rating": {"price": price},
        "groupby": {"project_id": scope_id, "id": "x"},
        "metadata": {"flavor": "m1"},
    }
    return {"period": {"begin": begin, "end": end}, "usage": {"cpu": [point]}}


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> AsyncIterator[Place]:
    path = tmp_path / "rater.yaml"
    # the sink keeps no samples here, and posted lines all the same
    values = {"bootstrap": kafka.bootstrap, "prefix": f"posting-{uuid4().hex[:8]}.", "usage": "false"}
    path.write_text(CONFIG.format(**values))
    config = load_config(path, {})
    await create_topics(config.settings.kafka)
    sink = SinkProcess(path)
    await sink.start()
    try:
        async with (
            working(config.settings.kafka, config.engine_context(), WorkerSettings()),
            serving(path) as api,
            aiohttp.ClientSession() as http,
        ):
            with clients(api.url) as client:
                yield Place(config, api, sink, client, http)
    finally:
        await sink.end(signal.SIGTERM)


async def test_posting(place: Place, tmp_path: Path) -> None:
    await the_clients_post_and_read(place, tmp_path)
    seconds = [await seconds_until_readable(place, number) for number in range(5)]
    print("seconds from posting to reading:", ", ".join(f"{found:.2f}" for found in seconds))
    await what_was_acknowledged_counts_once_whoever_is_killed(place)
    await everybody_else_is_told(place)


async def the_clients_post_and_read(place: Place, directory: Path) -> None:
    """What CloudKitty's client posts it reads back, as do `openstack rating`, v1 and v2."""
    file = directory / "frames.json"
    for number, (shell, words) in enumerate((("cloudkitty", ""), ("openstack", "rating "))):
        scope = f"client{number}"
        file.write_text(json.dumps({"dataframes": [frame(scope, "0.25"), frame(scope, "0.5", end="2026-01-02")]}))
        done = await asyncio.to_thread(place.client.run, shell, f"{words}dataframes add", str(file))
        assert (done.status, done.out) == (0, ""), done
        await until_total(place, scope, 2)
        bounds = ("-b", "2026-01-01T00:00:00Z", "-e", "2026-02-01T00:00:00Z")
        command = f"{words}dataframes get"
        rows = await asyncio.to_thread(place.client.json, shell, command, "--filter", f"project_id:{scope}", *bounds)
        common = {
            "Begin": NEW_YEAR,
            "Metric Type": "cpu",
            "Unit": "GiB",
            "Quantity": 1.5,
            "Group By": f'project_id="{scope}" id="x"',
            "Metadata": 'flavor="m1"',
        }
        assert rows == [
            {**common, "End": "2026-01-01T00:10:00+00:00", "Price": 0.25},
            {**common, "End": "2026-01-02T00:00:00+00:00", "Price": 0.5},
        ]
        (row,) = await asyncio.to_thread(
            place.client.json, shell, f"{words}summary get", "--filter", f"project_id:{scope}", *bounds
        )
        assert (row["Qty"], row["Rate"]) == (3.0, 0.75)
    file.write_text('{"dataframes": [{"period": {}}]}')
    done = await asyncio.to_thread(place.client.run, "cloudkitty", "dataframes add", str(file))
    assert done.status == 1
    assert "required key not provided (path: '['dataframes'][0]['period']['begin']')" in done.err
    assert "required key not provided (path: '['dataframes'][0]['usage']')" in done.err


async def until_total(place: Place, scope_id: str, total: int) -> Any:
    """The answer once so many points are there."""
    query = {"begin": NEW_YEAR, "end": "2026-03-01", "filters": f"project_id:{scope_id}"}
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):  # it may have been killed a moment ago
                status, found = await place.get("/v2/dataframes", **query)
                if status == 200 and found["total"] == total:
                    return found
            await asyncio.sleep(0.05)


async def seconds_until_readable(place: Place, number: int) -> float:
    """From the begin of a request until somebody reads what it posted."""
    began = time.monotonic()
    assert await place.post(frame(f"fresh{number}", "1")) == 204
    await until_total(place, f"fresh{number}", 1)
    return time.monotonic() - began


def frames_of(number: int) -> list[dict[str, Any]]:
    """Of each scope one in January and two in February, by their prices recognisable."""
    months = (("2026-01-31T23:00:00", "2026-02-01"), ("2026-02-01", "2026-02-02"), ("2026-02-01", "2026-02-02"))
    return [
        frame(scope, f"{number}.{place}{month}", *bounds)
        for place, scope in enumerate(SCOPES)
        for month, bounds in enumerate(months)
    ]


async def what_was_acknowledged_counts_once_whoever_is_killed(place: Place) -> None:
    """Each post is repeated under its key until it is answered 204, by an API and for a sink that are killed."""

    async def insist(number: int) -> None:
        async with asyncio.timeout(90):
            while True:
                with suppress(aiohttp.ClientError):
                    if await place.post(*frames_of(number), key=f"post {number}") == 204:
                        break
                await asyncio.sleep(0.05)
            if number % 4 == 0:  # as if its answer had been lost
                assert await again(place, number) == 204

    async def post_all() -> None:
        for number in range(POSTS):
            await insist(number)

    posting = asyncio.create_task(post_all())
    for killed in (place.sink, place.api), (place.api,):
        await asyncio.sleep(0.2)
        await asyncio.gather(*(process.end(signal.SIGKILL) for process in killed))
        await asyncio.gather(*(process.start() for process in killed))
    await posting
    expected = {
        scope: Counter(
            Decimal(point["rating"]["price"])
            for number in range(POSTS)
            for one in frames_of(number)
            for point in one["usage"]["cpu"]
            if point["groupby"]["project_id"] == scope
        )
        for scope in SCOPES
    }
    for scope in SCOPES:
        await until_total(place, scope, 3 * POSTS)
        assert Counter(row.price for row in await place.posted(scope)) == expected[scope]


async def again(place: Place, number: int) -> int:
    """The same once more, whatever it takes."""
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):
                status = await place.post(*frames_of(number), key=f"post {number}")
                if status != 503:  # it was started a moment ago and has no connection to Kafka yet
                    return status
            await asyncio.sleep(0.05)


async def everybody_else_is_told(place: Place) -> None:
    """Topic `rated` has each line, the report has them beside completeness, and the audit finds nothing."""
    kafka = place.config.settings.kafka
    rows = {scope: await place.posted(scope) for scope in SCOPES}
    wanted = {(row.post_id, row.n): row.price for of_scope in rows.values() for row in of_scope}
    async with asyncio.timeout(60):
        while True:
            told: dict[tuple[str, int], Decimal] = {}
            for record in await read(kafka, Topic.RATED, 10**6, seconds=1):
                found = decode_rated_record(record.value, content_type(record.headers))
                assert isinstance(found, PostedLines)  # nothing else was used: no frame was closed for them
                told |= {(found.post_id, line.n): line.price for line in found.lines if found.scope_id in SCOPES}
            if told.keys() >= wanted.keys():
                break
    assert told == wanted

    def asked() -> Any:
        with open_view(place.config.settings.store) as view:
            return report_of(view, "A", Interval(JANUARY, FEBRUARY), FEBRUARY)

    report = await asyncio.to_thread(asked)
    assert (report.frames, report.metrics) == (0, [])
    assert [(row.metric, row.unit, row.lines) for row in report.posted] == [("cpu", "GiB", POSTS)]
    assert report.price == sum(row.price for row in rows["A"] if row.period_begin < FEBRUARY)

    usage = [
        usage_entry(record.value, record.headers, partition=record.partition, offset=record.offset)
        for record in await read(kafka, Topic.USAGE, 10**6, seconds=1)
    ]
    entries = [entry for entry in usage if entry is not None and entry.record.scope_id in SCOPES]
    everything = [row for of_scope in rows.values() for row in of_scope]
    assert list(posted_once(entries, everything)) == []
    assert len(list(posted_once(entries, everything[1:]))) == 1
