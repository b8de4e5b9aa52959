"""What the tests of pushed usage share: the service as a process, a proxy that loses answers, usage and its lines."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

from rater.client import Sample
from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog, Coverage, MetricSpec
from rater.store import Store, frames, lines

HOUR = 3600
T = 1_767_225_600  # 2026-01-01T00:00:00Z
METRICS = [MetricSpec("cpu"), MetricSpec("net", proof=Coverage.SAMPLES), MetricSpec("calls", proof=Coverage.SAMPLES)]
CONTEXT = EngineContext(EngineSettings(settle=1), Catalog(METRICS))
TOKEN = "0123456789-of-the-meters"
SETTINGS = """\
kafka: {{bootstrap: {bootstrap}, prefix: {prefix}, partitions: {partitions}}}
engine: {{settle: 1}}
metrics: {{cpu: {{}}, net: {{proof: samples}}, calls: {{proof: samples}}}}
observe: {{log_level: debug}}
api: {api}
"""


def written(directory: Path, kafka: KafkaSettings, api: str = "{listen: '127.0.0.1:0'}") -> Path:
    """A rater.yaml."""
    file = directory / "rater.yaml"
    values = {"bootstrap": kafka.bootstrap, "prefix": kafka.prefix, "partitions": kafka.partitions}
    file.write_text(SETTINGS.format(api=api, **values))
    return file


class ApiProcess:
    """`rater api` as a process; `port` is kept over restarts."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.port = 0
        self.log = ""
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._ready = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *, ready: bool = True) -> None:
        """Starts it; waits until it listens, and until Kafka is there."""
        self._listening.clear()
        self._ready.clear()
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
        fixed = {"RATER_API__LISTEN": f"127.0.0.1:{self.port}"} if self.port else {}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "rater", "--config", str(self.config), "api"),
            env={**plain, **fixed},
            stderr=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        async with asyncio.timeout(60):
            await self._listening.wait()
            if ready:
                await self._ready.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode()
            self.log += line
            if "usage is taken at" in line:
                self.port = int(line.split("/v3/usage")[0].rpartition(":")[2])
                self._listening.set()
            if "usage can be written" in line:
                self._ready.set()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it by a signal; its exit status."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(60):
            status = await self._process.wait()
            assert self._reading is not None
            await self._reading
        return status


@asynccontextmanager
async def serving(config: Path, *, ready: bool = True) -> AsyncIterator[ApiProcess]:
    """The service while the block runs."""
    process = ApiProcess(config)
    try:
        await process.start(ready=ready)
        yield process
    finally:
        if process._process is not None and process._process.returncode is None:
            await process.end(signal.SIGKILL)


class LossyProxy:
    """Passes requests on to the first of `targets`, in turn; loses the answers that `loses` says, by their numbers."""

    def __init__(self, targets: list[int], loses: Iterable[int]) -> None:
        self.targets = targets
        self.loses = set(loses)
        self.answers: list[int] = []
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.close()
            await server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head, body = await message(reader)
                number = len(self.answers)
                self.answers.append(0)
                answer = await self._ask(self.targets[number % len(self.targets)], head + body)
                self.answers[number] = int(answer.split(b" ", 2)[1])
                if number in self.loses:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _ask(self, port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            await writer.drain()
            head, body = await message(reader)
            return head + body
        finally:
            writer.close()
            await writer.wait_closed()


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One HTTP message with Content-Length: head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head, await reader.readexactly(int(lengths[0]) if lengths else 0)


def usage(scopes: Iterable[str], hours: int, seed: int = 1) -> list[Sample]:
    """A sample per minute of two resources of each scope, in order of time."""
    chance = random.Random(seed)
    return [
        Sample(scope, "net", begin, Decimal(chance.randrange(10**9)).scaleb(-3), begin + 60, groupby={"id": resource})
        for begin in range(T, T + hours * HOUR, 60)
        for scope in scopes
        for resource in ("r1", "r2")
    ]


def expected(samples: Iterable[Sample]) -> dict[tuple[str, int, str, str], Decimal]:
    """The quantity of each line that samples become, by scope, period, metric and resource."""
    found: dict[tuple[str, int, str, str], Decimal] = {}
    for sample in samples:
        assert isinstance(sample.begin, int)
        key = (sample.scope_id, sample.begin - sample.begin % HOUR, sample.metric, str(sample.groupby.get("id", "")))
        found[key] = found.get(key, Decimal(0)) + sample.qty
    return found


def held(store: Store) -> dict[tuple[str, int, str, str], Decimal]:
    """The same as the store has it."""
    return {(row.scope_id, row.period_begin, row.metric, row.groupby.get("id", "")): row.qty for row in lines(store)}


def closed(store: Store) -> int:
    """How many frames the store has."""
    return len(list(frames(store)))
