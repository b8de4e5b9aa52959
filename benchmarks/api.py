"""How fast the API answers over a year of rated usage, alone and while lines arrive.

100 million lines of 1 000 scopes and 12 months are made in an embedded store (`--directory` keeps them for the next
run). Sink and API run in one process, as in `rater up`, this one asks over HTTP and publishes frames to a real Kafka.

    python -m benchmarks.api --months 12 --directory /tmp/year
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.api_data import HOUR, LINES, fill, month, scope_name, update
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.codec import CONTENT_TYPE, MSGPACK, encode_msgpack
from rater.model.partition import partition_of
from rater.model.rated import ClosedBy, FrameStatus, Line, MetricTotal, RatedFrame

SETTINGS = """\
kafka: {{bootstrap: {bootstrap}, partitions: 4}}
store: {{dsn: "chdb://{directory}"}}
api: {{listen: "127.0.0.1:{port}", auth: noauth, cloudkitty: {{}}, rate_limits: {{reads: 0, writes: 0}}}}
audit: {{interval: 0}}
"""
FRAME_LINES = 100
"""Lines of a frame that arrives."""
READER_ROUNDS = 3
STORED_SECONDS = 300


class Options(NamedTuple):
    """What the command line chose."""

    scopes: int
    months: int
    asks: int
    readers: int
    pause: float
    arriving: int
    seed: int
    directory: Path | None


class Server:
    """The process that holds the store."""

    def __init__(self, settings: Path, since: int) -> None:
        command = [sys.executable, "-m", "benchmarks.api_server", str(settings), str(since)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str) -> Any:
        """An answer of benchmarks.api_server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


class Asker:
    """The questions, each about a scope, a month or a place of one's own."""

    def __init__(self, http: aiohttp.ClientSession, url: str, options: Options) -> None:
        self._http, self._url, self._options = http, url, options
        self._random = random.Random(options.seed)

    async def month_of_scope(self) -> None:
        """What a tenant sees first."""
        await self._get("/v2/summary", self._month(), {"filters": f"project_id:{self._scope()}", "groupby": "type"})

    async def month_of_all(self) -> None:
        """What an administrator sees first."""
        await self._get("/v2/summary", self._month(), {"groupby": "project_id", "limit": "1000"})

    async def page_of_scope(self) -> None:
        """100 points of one scope, anywhere in its month."""
        offset = str(self._random.randrange(28 * 24 * LINES - 100))
        query = {"filters": f"project_id:{self._scope()}", "offset": offset, "limit": "100"}
        await self._get("/v2/dataframes", self._month(), query)

    async def page_of_all(self) -> None:
        """100 points of the whole cloud, anywhere in a month, by offset as CloudKitty's clients ask."""
        offset = str(self._random.randrange(self._options.scopes * 28 * 24 * LINES - 100))
        await self._get("/v2/dataframes", self._month(), {"offset": offset, "limit": "100"})

    async def cursor_page(self) -> None:
        """100 lines of one scope after a random place in the year, by cursor."""
        place = await self._place()
        await self._get("/v3/lines", place)

    async def _place(self) -> dict[str, str]:
        begin, end = month(self._random.randrange(self._options.months))
        at = self._random.randrange(begin, end, HOUR)
        return {
            "scope_id": self._scope(),
            "begin": f"{_iso(at)}Z",
            "end": f"{_iso(month(self._options.months - 1)[1])}Z",
            "limit": "100",
        }

    def _scope(self) -> str:
        return scope_name(self._random.randrange(self._options.scopes))

    def _month(self) -> dict[str, str]:
        begin, end = month(self._random.randrange(self._options.months))
        return {"begin": _iso(begin), "end": _iso(end)}

    async def _get(self, path: str, *queries: dict[str, str]) -> None:
        query = {key: value for part in queries for key, value in part.items()}
        async with self._http.get(self._url + path, params=query) as answer:
            body = await answer.read()
            assert answer.status == 200, (answer.status, body[:300])


def _iso(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%S")


async def one_by_one(ask: Callable[[], Awaitable[None]], times: int) -> list[float]:
    """Milliseconds of each, by size; the first two, which open files, are not among them."""
    found = []
    for _ in range(times + 2):
        began = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found[2:])


async def all_at_once(asker: Asker, options: Options, until: Callable[[], bool]) -> list[float]:
    """Milliseconds of each answer that so many readers got, who look at it for `pause` seconds on average."""
    found: list[float] = []
    rng = random.Random(options.seed)

    async def reader() -> None:
        await asyncio.sleep(rng.uniform(0, 2 * options.pause))
        while not until():
            began = time.perf_counter()
            await (asker.month_of_scope() if rng.random() < 0.9 else asker.page_of_scope())
            found.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(rng.uniform(0, 2 * options.pause))

    await asyncio.gather(*(reader() for _ in range(options.readers)))
    return sorted(found)


def arriving(options: Options, first_hour: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of as many frames as hold the lines that arrive, in the months after the others."""
    begin = month(options.months)[0]
    for number in range(options.arriving // FRAME_LINES):
        scope = scope_name(number % options.scopes)
        at = begin + (first_hour + number // options.scopes) * HOUR
        price = Decimal(number % 997 + 1) / 10000
        lines = [
            Line(
                f"{n:032x}",
                "cpu",
                "core",
                Decimal(1),
                price,
                {"id": f"{scope}-{n}", "project_id": scope},
                {"flavor": "m1"},
            )
            for n in range(FRAME_LINES)
        ]
        totals = [MetricTotal("cpu", "core", Decimal(FRAME_LINES), price * FRAME_LINES, FRAME_LINES)]
        frame = RatedFrame(
            scope, at, at + HOUR, 0, FrameStatus.RATED, ClosedBy.COMPLETE, False, 7, at + HOUR, 0, 1,
            lines, totals, [], [], [],
        )  # fmt: skip
        yield scope.encode(), encode_msgpack(frame)


class Arrival(NamedTuple):
    """How the lines came in."""

    seconds: float
    """From the first one published to the last one stored."""
    cpu: float
    """Of the process with sink and API."""


async def arrive(kafka: KafkaSettings, server: Server, options: Options, first_hour: int) -> Arrival:
    """Publishes what arrives as fast as Kafka takes it, and waits until it is stored."""
    messages = list(arriving(options, first_hour))
    before, wanted = server.ask("cpu"), server.ask("lines") + len(messages) * FRAME_LINES
    topic, headers, began = kafka.topic(Topic.RATED), [(CONTENT_TYPE, MSGPACK.encode())], time.perf_counter()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=20, max_batch_size=512 * 1024)
    await producer.start()
    try:
        for key, value in messages:
            await producer.send(topic, value, key, partition_of(key, kafka.partitions), headers=headers)
        await producer.flush()
    finally:
        await producer.stop()
    async with asyncio.timeout(STORED_SECONDS):
        while await asyncio.to_thread(server.ask, "lines") < wanted:  # noqa: ASYNC110  another process stores them
            await asyncio.sleep(0.05)
    return Arrival(time.perf_counter() - began, server.ask("cpu") - before)


async def measure(options: Options, url: str, server: Server, kafka: KafkaSettings, console: Console) -> None:
    """All of it, told as it is found."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as http:
        asker = Asker(http, url, options)
        await _answering(asker)
        table = Table("question, one after another", "p50 ms", "p99 ms", "max ms")
        questions = (
            asker.month_of_scope,
            asker.month_of_all,
            asker.page_of_scope,
            asker.page_of_all,
            asker.cursor_page,
        )
        for ask in questions:
            table.add_row((ask.__doc__ or "").rstrip("."), *_figures(await one_by_one(ask, options.asks)))
        console.print(table, f"resident: {server.ask('rss') / 2**20:.0f} MiB")

        alone, busy, waits = [], [], list[float]()
        for number in range(READER_ROUNDS):  # in turn, so that a slow minute of the machine meets both
            alone.append(await arrive(kafka, server, options, 2 * number * _hours(options)))
            done = asyncio.Event()
            readers = asyncio.create_task(all_at_once(asker, options, done.is_set))
            busy.append(await arrive(kafka, server, options, (2 * number + 1) * _hours(options)))
            done.set()
            waits += await readers
        table = Table(f"{options.arriving} lines arrive", "seconds", "lines/s", "CPU s of sink and API")
        for name, found in (("nobody reads", alone), (f"{options.readers} readers", busy)):
            seconds = statistics.median(one.seconds for one in found)
            cpu = statistics.median(one.cpu for one in found)
            table.add_row(name, f"{seconds:.1f}", f"{options.arriving / seconds:.0f}", f"{cpu:.1f}")
        ratio = statistics.median(b.seconds / a.seconds for a, b in zip(alone, busy, strict=True))
        console.print(table, f"readers: {len(waits)} answers, p50, p99, max ms:", *_figures(sorted(waits)))
        console.print(f"with readers / without: {ratio:.2f}; resident: {server.ask('rss') / 2**20:.0f} MiB")


def _hours(options: Options) -> int:
    return options.arriving // FRAME_LINES // options.scopes + 1


async def _answering(asker: Asker) -> None:
    for _ in range(240):
        try:
            return await asker.month_of_scope()
        except aiohttp.ClientError:
            await asyncio.sleep(0.25)
    raise SystemExit("the API does not answer: see above")


def _figures(sorted_ms: list[float]) -> list[str]:
    """Median, 99th percentile and maximum."""
    count = len(sorted_ms)
    return [f"{sorted_ms[at]:.1f}" for at in (count // 2, min(count - 1, count * 99 // 100), count - 1)]


@contextmanager
def serving(options: Options, bootstrap: str, directory: Path, place: Path) -> Iterator[tuple[Server, str]]:
    """The server and its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = place / "rater.yaml"
    settings.write_text(SETTINGS.format(bootstrap=bootstrap, directory=directory, port=port))
    server = Server(settings, month(options.months)[0])
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.close()


def main() -> None:
    """Runs it."""
    options = parsed()
    console = Console()
    console.print(f"{' '.join(['python -m benchmarks.api', *sys.argv[1:]])}\nPython {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        directory = options.directory or place / "store"
        if directory.exists():
            update(directory, options.months)
        else:
            rows = sum(end - begin for begin, end in map(month, range(options.months))) // HOUR * options.scopes * LINES
            with Progress(console=console) as progress:
                task = progress.add_task(f"{rows} lines", total=rows)
                fill(directory, options.scopes, options.months, lambda done: progress.update(task, completed=done))
        with LaptopKafka(place / "kafka") as broker:
            kafka = KafkaSettings(bootstrap=broker.bootstrap, partitions=4)
            asyncio.run(create_topics(kafka))
            with serving(options, broker.bootstrap, directory, place) as (server, url):
                asyncio.run(measure(options, url, server, kafka, console))


def parsed() -> Options:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scopes", type=int, default=1000)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--asks", type=int, default=200, help="of each kind")
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds for which a reader looks at an answer")
    parser.add_argument("--arriving", type=int, default=1_000_000, help="lines of a round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="of the store, which is kept and used again")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
