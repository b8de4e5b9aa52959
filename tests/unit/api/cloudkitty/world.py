"""What the tests of CloudKitty's API share: a small cloud in a real store, a rule book, the service at a free port."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import aiohttp
from prometheus_client import CollectorRegistry
from yarl import URL

from rater.api.access import Access
from rater.api.app import Api, serve
from rater.api.cloudkitty.calls import Backend, Decide, MetricInfo, ModuleInfo
from rater.api.cloudkitty.quoting import Quoter
from rater.api.cloudkitty.requests import Requests
from rater.api.cloudkitty.service import CloudKittyService, reading
from rater.api.cloudkitty.settings import CloudKittyApiSettings
from rater.api.intake import Intake, Limits
from rater.api.policy import DefaultPolicy
from rater.api.settings import ApiSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog
from rater.model.rated import Line
from rater.model.requests import RequestRecord
from rater.model.rules import RuleEvent
from rater.rating import Applied, RuleBook
from rater.reports import StoreView, View
from rater.rework import RequestBook
from rater.sandbox import SandboxSettings
from rater.store import Store, migrate
from rater.stream.usage_log import UsageWriter
from tests.unit.store.builders import HOUR, JANUARY, a_frame, memory_store, store_frames

TOKENS = """\
tokens:
- {name: boss, token: the-token-of-the-boss-1, roles: [admin]}
- {name: ann, token: the-token-of-tenant-A-1, roles: [reader], scopes: [A]}
- {name: both, token: the-token-of-A-and-B-1, roles: [reader], scopes: [A, B]}
- {name: meter, token: the-token-of-a-meter-1}
"""
BOSS, ANN, BOTH, METER = (f"the-token-of-{who}-1" for who in ("the-boss", "tenant-A", "A-and-B", "a-meter"))
RANGE = {"begin": "2026-01-01T00:00:00", "end": "2026-02-01T00:00:00"}
METRICS = (MetricInfo("cpu", ("flavor",), "core"), MetricInfo("net/in", (), "B"))
MODULES = (
    ModuleInfo("hashmap", "HashMap rating module.", True),
    ModuleInfo("noop", "Dummy test module.", False),
    ModuleInfo("pyscripts", "PyScripts rating module.", True),
)


def line(number: int, metric: str, qty: str, price: str, groupby: Mapping[str, str], flavor: str = "m1") -> Line:
    """A line of that many units."""
    unit = "core" if metric == "cpu" else "B"
    labels = {"id": f"r{number}", **groupby}
    return Line(f"{number:032x}", metric, unit, Decimal(qty), Decimal(price), labels, {"flavor": flavor})


def lines_of(scope: str, hour: int) -> list[Line]:
    """Scope A has two machines and traffic, B one machine of another flavor."""
    if scope == "B":
        return [line(9, "cpu", "4", "0.3333333333333333333333333333", {"az": "y"}, "m2")]
    traffic = [line(3, "net/in", "1500.5", "0.0000125", {})] if hour % 2 else []
    return [line(1, "cpu", "1", "0.1", {"az": "x"}), line(2, "cpu", "2", "0.2", {"az": "y"}), *traffic]


def filled_store(hours: int = 4) -> Store:
    """Some hours from the begin of 2026 of scopes A and B."""
    store = memory_store()
    migrate(store)
    begins = range(JANUARY, JANUARY + hours * HOUR, HOUR)
    for scope in "AB":
        frames = (a_frame(scope, begin, lines=lines_of(scope, (begin - JANUARY) // HOUR)) for begin in begins)
        store_frames(store, *frames)
    return store


class Found(NamedTuple):
    """An answer."""

    status: int
    body: Any
    headers: Mapping[str, str]


class World(NamedTuple):
    """The service while it is served."""

    url: str
    http: aiohttp.ClientSession

    async def ask(self, path: str, query: Any = None, token: str = "", method: str = "GET", **request: Any) -> Found:
        """One request; JSON is decoded."""
        headers = {**({"X-Auth-Token": token} if token else {}), **request.pop("headers", {})}
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, params=query, headers=headers, **request) as answer:
            body: Any = await answer.read()
            if answer.content_type == "application/json" and body:
                body = json.loads(body)
            return Found(answer.status, body, dict(answer.headers))

    async def get(self, path: str, query: Any = None, token: str = "", **request: Any) -> Any:
        """The JSON of an answer 200."""
        found = await self.ask(path, query, token, **request)
        assert found.status == 200, found
        return found.body


class RequestsInMemory:
    """Stands for topic `requests`. The real one: tests/api."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self._book = RequestBook()

    async def book(self) -> RequestBook:
        return self._book

    async def append(self, record: RequestRecord) -> RequestBook:
        self.records.append(record)
        self._book.take(record, int(time.time()))
        return self._book


class Rules:
    """Stands for topic `rules`, with one writer. The real one: tests/api."""

    def __init__(self, book: RuleBook) -> None:
        self.book = book

    async def current(self) -> RuleBook:
        return self.book

    async def write(self, author: str, reason: str, now: int, decide: Decide) -> RuleBook:
        changes = decide(self.book)
        if changes:
            self.book, outcome = self.book.apply(RuleEvent(self.book.version, author, reason, now, changes))
            assert isinstance(outcome, Applied), outcome
        return self.book


@asynccontextmanager
async def serving(
    view: View,
    book: RuleBook,
    directory: Path | None = None,
    *,
    zone: str = "UTC",
    api: Mapping[str, Any] | None = None,
    registry: CollectorRegistry | None = None,
    **changed: Any,
) -> AsyncIterator[World]:
    """The API, with the tokens above in `directory`, without authentication if that is None.

    `api`: more of its settings; `changed`: of its backend.
    """
    token_file = ""
    if directory is not None:
        (directory / "tokens.yaml").write_text(TOKENS)
        token_file = str(directory / "tokens.yaml")
    cloudkitty = CloudKittyApiSettings()
    shared = {"listen": "127.0.0.1:0", "token_file": token_file, "cloudkitty": cloudkitty, "max_body_bytes": 100_000}
    settings = ApiSettings(**{**shared, **(api or {})})
    with ThreadPoolExecutor(4) as threads:
        rules, quoter = Rules(book), Quoter({}, SandboxSettings())
        values: dict[str, Any] = {
            "view": view,
            "read": reading(threads),
            "book": rules.current,
            "write_rules": rules.write,
            "quote": quoter.quote,
            "exact_numbers": False,
            "requests": Requests(RequestsInMemory()),
            "period": HOUR,
            "policy": DefaultPolicy(),
            "zone": ZoneInfo(zone),
            "scope_key": "project_id",
            "collector": "prometheus",
            "fetcher": "keystone",
            "metrics": METRICS,
            "metrics_conf": {"metrics": {"cpu": {"unit": "core"}}},
            "modules": MODULES,
        }
        backend = Backend(**(values | changed))

        def made(access: Access) -> CloudKittyService:
            return CloudKittyService(backend, access, 50)

        writer = UsageWriter(KafkaSettings(bootstrap="127.0.0.1:1"), confirm_seconds=1, max_waiting_bytes=1)
        intake = Intake(Catalog([]), Limits(1, HOUR), "u", 1)
        api = Api(settings, intake, writer, registry or CollectorRegistry(), made)
        async with serve(api, settings) as url, aiohttp.ClientSession() as http:
            try:
                yield World(url, http)
            finally:
                await quoter.close()


def opened(make: Callable[[], Store]) -> Iterator[StoreView]:
    """For a fixture: a view of a store that is closed at the end."""
    with make() as store:
        yield StoreView(store)
