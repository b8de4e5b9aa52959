"""`rater api` as a process on a real Kafka and store: what its audit log keeps, and what readiness says."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.config import load_config
from rater.services import serve_sink
from rater.store import Store
from tests.api.test_cloudkitty_api import configured
from tests.integration.pushing import ApiProcess, serving
from tests.integration.sinks import own_topics
from tests.unit.api.cloudkitty.world import ANN, BOSS

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SERVICES = "/v1/rating/module_config/hashmap/services"
WRITERS = 8


async def ready(api: ApiProcess, http: aiohttp.ClientSession, wanted: str) -> None:
    """Waits until /readyz says of the API what is wanted."""
    [*_, url] = re.findall(r"health on (\S+/readyz)", api.log)
    said: Any = None
    try:
        async with asyncio.timeout(60):
            while said is None or wanted not in said["checks"]["api"] or said["ready"] is not (wanted == "ok"):
                await asyncio.sleep(0.1)
                async with http.get(url) as answer:
                    said = await answer.json()
                    assert answer.status == (200 if said["ready"] else 503)
    except TimeoutError:
        pytest.fail(f"{wanted!r} was not said, but {said}")


async def write(api: ApiProcess, http: aiohttp.ClientSession, name: str, token: str = BOSS) -> int:
    headers = {"X-Auth-Token": token, "X-Request-ID": f"id-{name}"}
    async with http.post(api.url + SERVICES, json={"name": name}, headers=headers) as answer:
        await answer.read()
        return answer.status


async def until_killed(api: ApiProcess, http: aiohttp.ClientSession, writer: int, told: list[str]) -> None:
    """Creates one service after the other; `told` are those that the API has confirmed."""
    try:
        for number in range(1000):
            if await write(api, http, f"s-{writer}-{number}") == 201:
                told.append(f"s-{writer}-{number}")
    except (aiohttp.ClientError, ConnectionError):
        return


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of the audit log that are whole: after a kill the last one may not be."""
    *whole, last = path.read_bytes().split(b"\n")
    assert last == b""
    return [json.loads(line) for line in whole]


async def test_each_write_that_was_answered_is_recorded_whatever_is_killed(kafka: LaptopKafka, tmp_path: Path) -> None:
    # given
    topics = await own_topics(kafka)
    path = tmp_path / "audit.jsonl"
    config = configured(tmp_path, topics, f"token_file: tokens.yaml, audit_file: {path}, cloudkitty: {{}}")
    loaded = load_config(config, {})
    async with serving(config) as api, aiohttp.ClientSession() as http:
        await ready(api, http, "the store cannot be read")
        with Store(loaded.settings.store) as store:
            async with serve_sink(loaded, store, CollectorRegistry()) as sink:
                stop = asyncio.Event()
                running = asyncio.create_task(sink.run(stop))
                await ready(api, http, "ok")
                await killed_in_the_middle(api, http, path)
                await ready(api, http, "ok")
                stop.set()
                await running
        # when whoever has the store has ended
        await ready(api, http, "the store cannot be read")


async def killed_in_the_middle(api: ApiProcess, http: aiohttp.ClientSession, path: Path) -> None:
    # when it is killed in the middle of writes
    told: list[str] = []
    writing = [asyncio.create_task(until_killed(api, http, number, told)) for number in range(WRITERS)]
    async with asyncio.timeout(60):
        while len(told) < 20:
            await asyncio.sleep(0.01)
    await api.end(signal.SIGKILL)
    await asyncio.gather(*writing)
    # then
    done = {line["after"]["name"]: line for line in records(path) if line["status"] == 201}
    assert set(told) <= set(done)
    first = done[told[0]]
    assert (first["user"], first["auth"], first["request_id"]) == ("boss", "token", f"id-{told[0]}")
    assert (first["action"], first["before"]) == (f"POST {SERVICES}", None)
    # and the next one goes on in the same file, with what is refused to somebody known
    await api.start()
    assert await write(api, http, "after") == 201
    assert await write(api, http, "anns", ANN) == 403
    assert await write(api, http, "nobodys", "nobody-gave-this-to-me") == 401
    *_, after, refused = records(path)
    assert (after["after"]["name"], after["status"]) == ("after", 201)
    assert (refused["user"], refused["status"]) == ("ann", 403)
