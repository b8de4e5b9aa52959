"""Traces and logs of a whole installation: worker, sink, collector and API as processes, on a real Kafka.

From a question to a source, and from a push, to the insert of what became of it; with the receiver gone nothing is
different; and what was used, and what proves who somebody is, stands neither in a span nor in a line of the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaProducer

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, client_options, create_topics
from rater.log_fields import Fields
from rater.model.codec import JSON, decode_rated
from rater.stream.audit_log import read_positions
from tests.integration.otlp import CONSUMER, PRODUCER, SERVER, Receiver, receiving
from tests.integration.scraped import check_scrapes
from tests.integration.streams import read, send_raw

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

HOUR = 3600
ROLES = ("worker", "sink", "api", "collect")
TOKEN, PASSWORD, BEARER = "token-of-the-meters-SECRET1", "password-SECRET2", "receiver-SECRET3"
LABEL, QTY, PUSHED_LABEL, PUSHED_QTY = "label-USED1", "31337.0424242", "label-USED2", "27182.0818281"
MARKS = ("SECRET", "USED", "31337", "27182", "0424242", "0818281", "1618033")
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
USUAL = {"logged_at", "level", "logger", "message", "error", "request_id", "audit"}
SETTINGS = """\
kafka: {{bootstrap: '{bootstrap}', prefix: {prefix}, partitions: 1}}
store: {{dsn: 'chdb://clickhouse'}}
engine: {{settle: 1}}
worker: {{checkpoint_interval: 0.3, session_timeout: 6}}
sink: {{max_delay: 0.1}}
audit: {{interval: 3600}}
metrics_conf: metrics.yml
metrics: {{net: {{proof: samples}}}}
observe:
  log_level: debug
  log_format: json
  tracing: {{endpoint: '{endpoint}', sample_ratio: 1, headers_file: otlp-headers}}
api: {{listen: '127.0.0.1:{port}', token_file: tokens.yaml}}
collect:
  source: rest
  name: meters
  since: '{since}'
  static: {{scopes: [alpha]}}
  rest:
    url: '{source}/{{scope}}/{{metric}}?from={{begin}}&to={{end}}'
    auth: {{basic: {{username: rater, password_file: password}}}}
    items: data
    quantity: hours
    labels: {{id: server}}
    proof: {{begin: covered.from, end: covered.to}}
    retention: 7776000
  completeness: {{settle: 1, metrics: {{cpu: {{interval: 3600}}}}}}
"""


class Role:
    """`rater ROLE` as a process."""

    def __init__(self, name: str, directory: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        self._process = process

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]

    async def until_ready(self) -> None:
        async with asyncio.timeout(90), aiohttp.ClientSession() as http:
            while not (url := self._health()):
                assert self._process.returncode is None, self.log
                await asyncio.sleep(0.1)
            while True:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.1)

    def _health(self) -> str:
        found = [line for line in self.log.splitlines() if "health on " in line]
        return str(json.loads(found[0])["message"]).removeprefix("health on ") if found else ""

    async def metrics(self) -> str:
        """What Prometheus would scrape."""
        async with aiohttp.ClientSession() as http, http.get(self._health().replace("/readyz", "/metrics")) as answer:
            return await answer.text()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit status, and the seconds that it took."""
        began = time.monotonic()
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(60):
            return await self._process.wait(), time.monotonic() - began


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[dict[str, Role]]:
    """All roles, ready."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RATER_", "OTEL_"))}
    roles: dict[str, Role] = {}
    try:
        for name in ROLES:
            arguments = ("collect", "run") if name == "collect" else (name,)
            with (directory / f"{name}.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "rater", "--config", str(directory / "rater.yaml"), *arguments),
                    env=plain,
                    stderr=log,
                )
            roles[name] = Role(name, directory, process)
        await asyncio.gather(*(role.until_ready() for role in roles.values()))
        yield roles
    finally:
        for role in roles.values():
            await role.end(signal.SIGKILL)


async def answer(request: web.Request) -> web.Response:
    """The source: whatever is asked, one server, all of the time."""
    assert request.headers["Authorization"].startswith("Basic ")
    covered = {"from": request.query["from"], "to": request.query["to"]}
    return web.json_response({"covered": covered, "data": [{"server": LABEL, "hours": float(QTY)}]})


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def pushed(begin: int) -> dict[str, Any]:
    sample = {"scope_id": "beta", "metric": "net", "begin": begin, "end": begin + HOUR, "qty": PUSHED_QTY}
    return {
        "source": "meter",
        "plans": [{"scope_id": "beta", "begin": begin, "until": begin + HOUR, "metrics": ["net"]}],
        "samples": [{**sample, "groupby": {"id": PUSHED_LABEL}}],
    }


class Installation:
    """All of it, and how to reach its API."""

    def __init__(self, kafka: KafkaSettings, directory: Path, port: int) -> None:
        self.kafka = kafka
        self.directory = directory
        self._url = f"http://127.0.0.1:{port}/v3/usage"

    async def push(self, body: Any, key: str, token: str = TOKEN) -> int:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, "traceparent": CLIENT}
        async with aiohttp.ClientSession() as http, http.post(self._url, json=body, headers=headers) as said:
            await said.read()
            return said.status

    async def misuse(self, begin: int) -> None:
        """What is refused, with what nobody may read in a log: at the door, by the worker, by the sink."""
        wrong = pushed(begin)
        wrong["samples"][0] |= {"qty": "1618033E40", "groupby": {"id": PUSHED_LABEL, "n": 2**70}}
        assert await self.push(wrong, "wrong") in (400, 422)
        assert await self.push({"source": PUSHED_LABEL}, "wrong") == 422
        assert await self.push(pushed(begin), "wrong", f"{TOKEN}-not") == 401
        collection = {"type": "collection", "scope_id": "beta", "metric": PUSHED_LABEL, "qty": PUSHED_QTY}
        await send_raw(self.kafka, (b"beta", json.dumps(collection).encode()), (b"beta", PUSHED_LABEL.encode()))
        producer = AIOKafkaProducer(**client_options(self.kafka))
        await producer.start()
        try:
            await producer.send_and_wait(self.kafka.topic(Topic.RATED), PUSHED_LABEL.encode(), key=b"beta")
        finally:
            await producer.stop()

    async def until_stored(self, begin: int) -> None:
        """The frame of scope beta is rated, and the sink has committed all there is."""
        async with asyncio.timeout(60):
            while (begin, "beta") not in await self._rated():
                pass
            while True:
                positions = await read_positions(self.kafka)
                if positions.is_caught_up("sink", Topic.RATED):
                    return

    async def _rated(self) -> set[tuple[int, str]]:
        records = await read(self.kafka, Topic.RATED, 1_000, seconds=0.5)
        frames = [decode_rated(record.value, JSON) for record in records if record.value.startswith(b"{")]
        return {(frame.period_begin, frame.scope_id) for frame in frames}


@asynccontextmanager
async def installed(kafka: LaptopKafka, directory: Path, endpoint: str, begin: int) -> AsyncIterator[Installation]:
    """Files, topics and the source."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix=f"traced-{os.getpid()}.", partitions=1)
    await create_topics(settings)
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    source, port = TestServer(app, host="127.0.0.1"), free_port()
    await source.start_server()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))
    values = {"bootstrap": kafka.bootstrap, "prefix": settings.prefix, "endpoint": endpoint, "since": since}
    text = SETTINGS.format(**values, source=str(source.make_url("")).rstrip("/"), port=port)
    files = {
        "rater.yaml": text,
        "metrics.yml": "metrics: {cpu: {unit: h, groupby: [id]}}\n",
        "password": PASSWORD,
        "tokens.yaml": f"tokens: [{{name: meters, token: {TOKEN}}}]\n",
        "otlp-headers": f"Authorization: Bearer {BEARER}\n",
    }
    for name, content in files.items():
        (directory / name).write_text(content)
    try:
        yield Installation(settings, directory, port)
    finally:
        await source.close()


async def test_traces_reach_from_question_and_push_to_the_insert_and_say_nothing_of_usage(
    kafka: LaptopKafka, tmp_path: Path
) -> None:
    begin = (int(time.time()) // HOUR - 2) * HOUR
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        installation = await stack.enter_async_context(installed(kafka, tmp_path, receiver.url, begin))
        roles = await stack.enter_async_context(started(tmp_path))
        # when usage comes by the collector, by a push, and some that is refused
        await installation.misuse(begin)
        assert await installation.push(pushed(begin), "first") == 202
        # then each way is one chain
        await check_chain(receiver, "alpha", "rater-collect")
        await check_chain(receiver, "beta", "rater-api")
        await check_collection(receiver)
        await check_request(receiver)
        await check_headers(installation, receiver)
        check_scrapes({name: await role.metrics() for name, role in roles.items()})
        assert receiver.authorizations == {f"Bearer {BEARER}"}
        assert not [mark for mark in MARKS if any(mark.encode() in body for body in receiver.bodies)]

        # when the receiver is gone
        receiver.hangs = True
        assert await installation.push(pushed(begin + HOUR), "second") == 202
        # then all goes on, and ends in order
        await installation.until_stored(begin + HOUR)
        ends = await asyncio.gather(*(role.end() for role in roles.values()))
        assert [status for status, _ in ends] == [0] * len(ROLES)
        assert max(seconds for _, seconds in ends) < 30
        assert receiver.left_waiting
        for role in roles.values():
            check_log(role)


async def check_chain(receiver: Receiver, scope_id: str, service: str) -> None:
    """From the record in `usage` to the insert of the frame that is made of it."""

    def inserted() -> Any:
        for frame in receiver.named("close frame", "rater-worker", rater__scope_id=scope_id):
            for insert in receiver.named("insert", "rater-sink", rater__group="sink"):
                if frame.place in insert.links:
                    return frame
        return None

    frame = await receiver.until(inserted)
    assert frame.attributes["rater.status"] == "rated"
    published = [span for span in receiver.named("publish usage", service) if span.place in frame.links]
    assert published
    for span in published:
        assert span.kind == PRODUCER
        applied = [other for other in receiver.named("apply usage") if other.parent_id == span.span_id]
        assert {(other.trace_id, other.kind) for other in applied} == {(span.trace_id, CONSUMER)}
        await receiver.until(
            lambda place=span.place: [
                insert for insert in receiver.named("insert", rater__group="sink-usage") if place in insert.links
            ]
        )
    checkpoints = await receiver.until(
        lambda: [span for span in receiver.named("checkpoint", "rater-worker") if frame.place in span.links]
    )
    assert checkpoints[0].events[0] == "cut"
    assert checkpoints[0].events[-1] == "published"


async def check_collection(receiver: Receiver) -> None:
    [collect, *_] = receiver.named("collect", "rater-collect", rater__scope_id="alpha", rater__metric="cpu")
    assert not collect.parent_id
    names = {span.name for span in receiver.spans if span.parent_id == collect.span_id}
    assert names == {"fetch", "publish usage"}


async def check_request(receiver: Receiver) -> None:
    requests = receiver.named("POST /v3/usage", "rater-api", http__response__status_code=202)
    assert [(span.trace_id, span.parent_id, span.kind) for span in requests] == [(*CLIENT.split("-")[1:3], SERVER)]
    assert [span.parent_id for span in receiver.named("publish usage", "rater-api")] == [requests[0].span_id]


async def check_headers(installation: Installation, receiver: Receiver) -> None:
    """Records name spans that the receiver has."""
    for topic, name in ((Topic.USAGE, "publish usage"), (Topic.RATED, "close frame")):
        records = await read(installation.kafka, topic, 100, seconds=1)
        headers = {
            dict(record.headers)["traceparent"].decode() for record in records if "traceparent" in dict(record.headers)
        }
        assert headers
        assert headers <= {span.traceparent for span in receiver.named(name)}


def check_log(role: Role) -> None:
    """Every line is an object with known fields, and none has a mark."""
    lines = role.lines
    assert [mark for mark in MARKS if mark in role.log] == []
    assert {line["level"] for line in lines} & {"debug", "info"}
    assert {name for line in lines for name in line} <= USUAL | set(Fields.__annotations__)
