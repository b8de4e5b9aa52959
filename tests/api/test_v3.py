"""/v3 on the real thing: usage is pushed, the worker rates it, the sink stores it, and the API tells what came of it.

Worker, sink and API run in this process as in `rater up`, but the API asks the store by its socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.config import Config, load_config
from rater.model.interval import Interval
from rater.reports import ReportRefusedError, StoreView, View, report_of
from rater.services import api_service, run_all, serve_sink, worker_service
from rater.store import Store
from tests.integration.sinks import PARTITIONS, own_topics, until
from tests.unit.api.cloudkitty.world import ANN, BOSS, METER, TOKENS
from tests.unit.store.builders import HOUR, JANUARY

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: {bootstrap}, prefix: {prefix}, partitions: {partitions}}}
store: {{dsn: "chdb://clickhouse"}}
engine: {{settle: 1}}
worker: {{checkpoint_interval: 0.5}}
sink: {{max_delay: 0.1}}
audit: {{interval: 2}}
metrics: {{cpu: {{unit: core}}}}
api: {{listen: "127.0.0.1:{port}", token_file: tokens.yaml, v3: {{max_listeners: 2}}}}
"""
PAGE = (Path(__file__).parents[2] / "docs" / "api-v3.md").read_text()
DAY = "2026-01-01"
LATE_HOUR = f"{DAY}T01:00:00Z"


class Place:
    """The API while it is served."""

    def __init__(self, url: str, http: aiohttp.ClientSession, view: View, config: Path) -> None:
        self.url = url
        self.config = config
        self.view = view
        self.http = http

    async def ask(self, path: str, token: str = BOSS, method: str = "GET", status: int = 200, **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}", **request.pop("headers", {})}
        async with self.http.request(method, self.url + path, headers=headers, **request) as answer:
            body = await answer.read()
            assert answer.status == status, (path, answer.status, body)
            return json.loads(body)

    @asynccontextmanager
    async def listening(self, token: str, last_id: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {token}", **({"Last-Event-ID": last_id} if last_id else {})}
        async with self.http.get(f"{self.url}/v3/alerts", headers=headers) as answer:
            assert answer.status == 200, await answer.read()
            yield answer


async def next_event(stream: aiohttp.ClientResponse) -> tuple[str, str, Any]:
    """id, name and data of the next event; comments are left out."""
    found: dict[str, str] = {}
    async with asyncio.timeout(30):
        while line := (await stream.content.readline()).decode().rstrip("\n") or not found:
            if isinstance(line, str) and line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                found[name] = value
    return found["id"], found["event"], json.loads(found["data"])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def configured(directory: Path, bootstrap: str, prefix: str) -> Config:
    (directory / "tokens.yaml").write_text(
        TOKENS.replace("token: the-token-of-a-meter-1}", "token: the-token-of-a-meter-1, roles: [push]}")
    )
    path = directory / "rater.yaml"
    path.write_text(CONFIG.format(bootstrap=bootstrap, prefix=prefix, partitions=PARTITIONS, port=free_port()))
    return load_config(path, {})


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> AsyncIterator[Place]:
    topics = await own_topics(kafka)
    config = configured(tmp_path, topics.bootstrap, topics.prefix)
    assert config.settings.api is not None
    stop = asyncio.Event()
    with Store(config.settings.store) as store:
        async with serve_sink(config, store, CollectorRegistry()) as sink:
            services = [worker_service(config, CollectorRegistry()), sink, api_service(config, CollectorRegistry())]
            running = asyncio.create_task(run_all(services, stop))
            try:
                async with aiohttp.ClientSession() as http:
                    found = Place(
                        f"http://{config.settings.api.listen}", http, StoreView(store), tmp_path / "rater.yaml"
                    )
                    await until(lambda: not any(service.red() for service in services), seconds=60)
                    yield found
            finally:
                stop.set()
                await running


async def test_what_became_of_usage_is_told(place: Place) -> None:
    async with place.listening(BOSS) as everybody, place.listening(ANN) as own:
        await push(place)
        frames = await frames_of(place, "A", 3)
        assert [frame["status"] for frame in frames] == ["rated", "partial", "empty"]
        seen = [await next_event(everybody) for _ in range(2)]
        assert {(name, alert["scope_id"]) for _, name, alert in seen} == {("gap_opened", "A"), ("gap_opened", "B")}
        place_of_ann, name, alert = await next_event(own)
        assert (name, alert["scope_id"]) == ("gap_opened", "A")
        await no_more_listeners_than_allowed(place)
    gap = await gaps_are_listed_and_accepted(place)
    await prices_are_explained(place)
    await who_comes_back_misses_nothing(place, place_of_ann, gap)
    await reports_say_what_was_accepted(place)
    await coverage_is_told(place)
    await a_frame_is_forced(place)
    await readers_see_their_own(place)
    await audits_and_sources_are_told(place)
    await it_describes_itself(place)


async def push(place: Place) -> None:
    """Two scopes, three hours; of the second hour a quarter is missing, in the third nothing was used."""
    sent: dict[str, Any] = {"source": "meter", "plans": [], "collections": []}
    for scope in "AB":
        sent["plans"].append(
            {"scope_id": scope, "begin": f"{DAY}T00:00:00Z", "until": f"{DAY}T03:00:00Z", "metrics": ["cpu"]}
        )
        for hour in range(3):
            begin, end = f"{DAY}T{hour:02}:00:00Z", f"{DAY}T{hour + 1:02}:00:00Z"
            covers = [[begin, f"{DAY}T01:45:00Z"]] if hour == 1 else [[begin, end]]
            samples = [{"begin": begin, "qty": "1.5", "groupby": {"id": "vm"}}] if hour < 2 else []
            sent["collections"].append(
                {
                    "scope_id": scope,
                    "metric": "cpu",
                    "begin": begin,
                    "end": end,
                    "attempt": 1,
                    "covers": covers,
                    "samples": samples,
                }
            )
    await place.ask("/v3/usage", METER, "POST", 202, json=sent, headers={"Idempotency-Key": f"first-{time.time_ns()}"})


async def frames_of(place: Place, scope: str, count: int) -> Any:
    """The frames, once there are so many."""
    async with asyncio.timeout(60):
        while True:
            async with place.http.get(
                f"{place.url}/v3/scopes/{scope}/frames", headers={"Authorization": f"Bearer {BOSS}"}
            ) as answer:
                found = (await answer.json())["items"] if answer.status == 200 else []
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)


async def no_more_listeners_than_allowed(place: Place) -> None:
    refused = await place.ask("/v3/alerts", status=429)
    assert "max_listeners" in refused["detail"]


async def gaps_are_listed_and_accepted(place: Place) -> dict[str, Any]:
    found = (await place.ask("/v3/gaps?scope_id=A", ANN))["items"]
    assert [(gap["begin"], gap["end"], gap["source"]) for gap in found] == [
        (f"{DAY}T01:45:00Z", f"{DAY}T02:00:00Z", "meter")
    ]
    gap: dict[str, Any] = found[0]
    path = f"/v3/scopes/A/gaps/{gap['gap_id']}"
    await place.ask(f"{path}/accept", ANN, "POST", 403, json={"reason": "mine"})
    await the_page_is_true(place, gap["gap_id"])  # and accepts it
    async with asyncio.timeout(30):
        while (told := await place.ask(path))["state"] != "accepted":
            await asyncio.sleep(0.1)
    assert (told["accepted"]["author"], told["accepted"]["reason"]) == ("boss", "the meter was replaced")
    assert (await place.ask("/v3/gaps?scope_id=A"))["items"] == []
    assert (await place.ask("/v3/scopes/A"))["open_gaps"] == 0
    assert (await place.ask("/v3/scopes/B"))["open_gaps"] == 1
    return gap


async def the_page_is_true(place: Place, gap_id: str) -> None:
    """Every shell block of docs/api-v3.md runs as it is written, and answers what stands below it."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    shown = [after for (kind, _), after in zip(blocks, [*blocks[1:], ("", "")], strict=True) if kind == "sh"]
    commands = [text for kind, text in blocks if kind == "sh"]
    assert len(commands) == 6
    for command, (kind, answer) in zip(commands, shown, strict=True):
        text = command.replace("http://127.0.0.1:8889", place.url).replace("projA", "A")
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", text, env={**os.environ, "TOKEN": BOSS, "GAP": gap_id}, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, (text, out)
        if kind == "json":
            assert json.loads(out) == json.loads(answer.replace("projA", "A"))


async def prices_are_explained(place: Place) -> None:
    path = "/v3/scopes/A/frames/2026-01-01T00:00:00Z/explanation"
    found = await place.ask(path, ANN)
    [line] = found["lines"]
    assert (line["qty"], line["price"], [sample["qty"] for sample in line["samples"]]) == ("1.5", "0", ["1.5"])
    assert await place.ask(f"{path}?line_id={line['line_id']}") == found
    assert (await place.ask(f"{path}?line_id={'0' * 32}", status=404))["faults"][0]["place"] == "query.line_id"


async def who_comes_back_misses_nothing(place: Place, last_id: str, gap: dict[str, Any]) -> None:
    async with place.listening(ANN, last_id) as stream:
        _, name, alert = await next_event(stream)
    assert (name, alert["alert_id"], alert["author"]) == ("gap_accepted", gap["gap_id"], "boss")
    async with place.listening(BOSS, "0.0") as stream:
        names = [(await next_event(stream))[1] for _ in range(3)]
    assert sorted(names) == ["gap_accepted", "gap_opened", "gap_opened"]
    await until_heard(place)
    for wrong in ("x", "9.9.9", "99999999", "-1.0"):
        refused = await place.ask("/v3/alerts", status=422, headers={"Last-Event-ID": wrong})
        assert refused["faults"][0]["place"] == "header.Last-Event-ID"


async def reports_say_what_was_accepted(place: Place) -> None:
    """A's report is made without the missing quarter, and says so; B's is refused."""
    hours = Interval(JANUARY, JANUARY + 3 * HOUR)
    report = await asyncio.to_thread(report_of, place.view, "A", hours, hours.end)
    assert [(one.hole.begin - JANUARY, one.author, one.reason) for one in report.accepted] == [
        (6300, "boss", "the meter was replaced")
    ]
    with pytest.raises(ReportRefusedError) as refused:
        await asyncio.to_thread(report_of, place.view, "B", hours, hours.end)
    assert len(refused.value.holes) == 1
    [gap] = (await place.ask("/v3/gaps?scope_id=B"))["items"]
    command = ("gaps", "accept", "--scope", "B", gap["gap_id"], "--author", "kim", "--reason", "by the command line")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "rater", "--config", place.config, *command)
    assert await process.wait() == 0
    async with asyncio.timeout(30):
        while not (await place.ask("/v3/gaps?scope_id=B&state=accepted"))["items"]:
            await asyncio.sleep(0.1)
    report = await asyncio.to_thread(report_of, place.view, "B", hours, hours.end)
    assert [one.author for one in report.accepted] == ["kim"]


async def until_heard(place: Place) -> None:
    """Whoever hung up makes room for another one."""
    async with asyncio.timeout(30):
        while True:
            headers = {"Authorization": f"Bearer {BOSS}", "Last-Event-ID": "x"}
            async with place.http.get(f"{place.url}/v3/alerts", headers=headers) as answer:
                if answer.status == 422:
                    return
            await asyncio.sleep(0.1)


async def coverage_is_told(place: Place) -> None:
    asked = f"begin={DAY}T00:00:00Z&end={DAY}T04:00:00Z"
    [cpu] = (await place.ask(f"/v3/scopes/A/coverage?{asked}", ANN))["metrics"]
    assert [span["end"] for span in cpu["proven"]] == [f"{DAY}T01:45:00Z", f"{DAY}T03:00:00Z"]
    assert cpu["missing"] == [{"begin": f"{DAY}T01:45:00Z", "end": f"{DAY}T02:00:00Z"}]
    [frame] = (await place.ask(f"/v3/scopes/A/frames?begin={LATE_HOUR}&limit=1", ANN))["items"]
    assert frame["totals"] == [{"metric": "cpu", "unit": "core", "qty": "1.5", "price": "0", "lines": 1}]


async def a_frame_is_forced(place: Place) -> None:
    """Of the hour that runs: it would not be closed before it is over."""
    now = int(time.time())
    begin = time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(now))
    plan = {"scope_id": "A", "begin": begin, "metrics": ["cpu"]}
    sent = {"source": "other", "plans": [plan]}
    await place.ask("/v3/usage", METER, "POST", 202, json=sent, headers={"Idempotency-Key": f"second-{now}"})
    await place.ask(f"/v3/scopes/A/frames/{begin}/force", BOSS, "POST", 202, json={"reason": "the test"})
    async with asyncio.timeout(30):
        while not (found := (await place.ask(f"/v3/scopes/A/frames?begin={begin}"))["items"]):
            await asyncio.sleep(0.1)
    assert (found[0]["closed_by"], found[0]["status"]) == ("forced", "missing")


async def readers_see_their_own(place: Place) -> None:
    assert [scope["scope_id"] for scope in (await place.ask("/v3/scopes", ANN))["items"]] == ["A"]
    assert {gap["scope_id"] for gap in (await place.ask("/v3/gaps", ANN))["items"]} == {"A"}
    for path in ("/v3/scopes/B", "/v3/scopes/B/frames", "/v3/gaps?scope_id=B", "/v3/alerts?scope_id=B"):
        foreign = await place.ask(path, ANN, status=404)
        unknown = await place.ask(path.replace("B", "C"), ANN, status=404)
        assert foreign == {**unknown, "detail": unknown["detail"].replace("'C'", "'B'")}
    await place.ask("/v3/scopes", METER, status=403)
    await place.ask("/v3/scopes", "nobody-gave-this-to-me", status=401)


async def audits_and_sources_are_told(place: Place) -> None:
    async with asyncio.timeout(60):
        while (last := (await place.ask("/v3/audit"))["last"]) is None:
            await asyncio.sleep(0.2)
    assert last["violation_count"] == 0
    found = {source["source"]: source for source in (await place.ask("/v3/sources?days=366"))["items"]}
    assert found["meter"]["silent"] == []
    [cpu] = found["meter"]["metrics"]
    assert (cpu["collected_until"], cpu["scopes"], cpu["open_gaps"]) == (f"{DAY}T03:00:00Z", 2, 0)
    await place.ask("/v3/sources", ANN, status=403)


async def it_describes_itself(place: Place) -> None:
    async with place.http.get(f"{place.url}/v3/openapi.json") as answer:
        told = await answer.json()
    assert "/v3/scopes/{scope_id}/gaps/{gap_id}/accept" in told["paths"]
    async with place.http.get(f"{place.url}/v3/docs") as answer:
        assert "acceptGap" in await answer.text()
