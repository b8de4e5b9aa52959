"""What the tests of /v3 share: the service at a free port, before a small store, for people that a test knows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, NamedTuple

import aiohttp
from prometheus_client import CollectorRegistry
from yarl import URL

from rater.api.app import Api, serve
from rater.api.faults import RefusalError
from rater.api.identity import ADMIN, READER, Identity
from rater.api.intake import Intake, Limits
from rater.api.policy import DefaultPolicy
from rater.api.settings import ApiSettings
from rater.api.v3.catalogue import OPERATIONS
from rater.api.v3.operations import Backend
from rater.api.v3.service import V3Service
from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings
from rater.model.metric import Catalog
from rater.model.rules import RuleEvent
from rater.rating import Module, NoScripts, RuleBook, ScriptRunner
from rater.reports import View
from rater.stream.rules_history import LoggedChange, LogRecord
from rater.stream.usage_log import UsageWriter
from rater.v3_api import reading
from tests.unit.store.builders import HOUR

PEOPLE = {
    "boss": Identity("boss", frozenset({ADMIN})),
    "ann": Identity("ann", frozenset({READER}), ("A",)),
    "both": Identity("both", frozenset({READER}), ("A", "B")),
    "lost": Identity("lost", frozenset({READER}), ("nowhere",)),
    "meter": Identity("meter", frozenset({"push"}), ("A",)),
}


class Known:
    """Recognises people by their names, which is enough where the credentials are not what is tested."""

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        found = PEOPLE.get(headers.get("Authorization", "").removeprefix("Bearer "))
        if found is None:
            raise RefusalError(401, "who are you?")
        return found

    def red(self) -> str:
        return ""

    async def close(self) -> None:
        return None


class Control:
    """What operators have said, in the memory of the test."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, record: Any) -> None:
        self.sent.append(record)


class NoAlerts:
    """Where there is no Kafka."""

    async def listen(self, scopes: tuple[str, ...] | None, last_id: str) -> Any:
        raise RefusalError(503, f"no alerts of {scopes} after {last_id!r}", retry_after=5)


class KnownRules:
    """Rules in the memory of the test, each change a version."""

    modules = frozenset({"hashmap", "pyscripts", "noop"})

    def __init__(self) -> None:
        self._books = [RuleBook.empty()]
        self._changes: list[LoggedChange] = []
        self.before_write: Callable[[], Any] = lambda: None
        """Runs between what a caller has read and what it writes."""

    async def book(self) -> RuleBook:
        return self._books[-1]

    async def book_at(self, version: int) -> RuleBook:
        if version >= len(self._books):
            raise RefusalError(404, f"there is no version {version} yet")
        return self._books[version]

    async def write(self, author: str, reason: str, now: int, decide: Any) -> RuleBook:
        self.before_write()
        before = self._books[-1]
        changes = decide(before)
        if changes:
            event = RuleEvent(before.version, author, reason, now, changes)
            book, outcome = before.apply(event)
            self._books.append(book)
            self._changes.append(LoggedChange(LogRecord(len(self._changes), now, event, outcome=outcome), before))
        return self._books[-1]

    async def history(self, limit: int, before_offset: int | None) -> list[LoggedChange]:
        return self._changes[:before_offset][-limit:]


class KnownTrials:
    """Trials of rules without scripts."""

    context = EngineContext(EngineSettings(), Catalog([]))

    def scripts(self, *books: RuleBook) -> AbstractContextManager[ScriptRunner]:
        return nullcontext(NoScripts())

    def modules(self, *books: RuleBook) -> Mapping[str, Module]:
        return {}


class Found(NamedTuple):
    """An answer."""

    status: int
    body: Any
    headers: Mapping[str, str]


class World(NamedTuple):
    """The service while it is served."""

    url: str
    http: aiohttp.ClientSession

    async def ask(self, path: str, query: Any = None, who: str = "boss", method: str = "GET", **request: Any) -> Found:
        """One request; JSON is decoded."""
        headers = {**({"Authorization": f"Bearer {who}"} if who else {}), **request.pop("headers", {})}
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, params=query, headers=headers, **request) as answer:
            body: Any = await answer.read()
            if answer.content_type in ("application/json", "application/problem+json") and body:
                body = json.loads(body)
            return Found(answer.status, body, answer.headers.copy())

    async def get(self, path: str, query: Any = None, who: str = "boss", **request: Any) -> Any:
        """The JSON of an answer 200."""
        found = await self.ask(path, query, who, **request)
        assert found.status == 200, found
        return found.body


@asynccontextmanager
async def serving(
    view: View, operations: Any = OPERATIONS, max_in_flight: int = 20, **changed: Any
) -> AsyncIterator[World]:
    """The service with these operations; without a Kafka."""
    settings = ApiSettings(listen="127.0.0.1:0", max_body_bytes=100_000)
    with ThreadPoolExecutor(2) as threads:

        async def book() -> RuleBook:
            return RuleBook()

        values: dict[str, Any] = {
            "view": view,
            "read": reading(threads),
            "book": book,
            "policy": DefaultPolicy(),
            "period": HOUR,
            "rules": KnownRules(),
            "trials": KnownTrials(),
            "control": Control(),
            "alerts": NoAlerts(),
        }
        backend = Backend(**(values | changed))
        writer = UsageWriter(KafkaSettings(bootstrap="127.0.0.1:1"), confirm_seconds=1, max_waiting_bytes=1)
        intake = Intake(Catalog([]), Limits(1, HOUR), "u", 1)

        def made(_: object) -> V3Service:
            return V3Service(backend, operations, Known(), max_in_flight)

        api = Api(settings, intake, writer, CollectorRegistry(), v3=made)
        async with serve(api, settings) as url, aiohttp.ClientSession() as http:
            yield World(url, http)
