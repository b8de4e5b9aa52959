"""The API below /v3 made from the settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from rater.api.access import Access
from rater.api.faults import RefusalError
from rater.api.v3.catalogue import OPERATIONS
from rater.api.v3.operations import Backend, Event
from rater.api.v3.rule_source import KafkaRules
from rater.api.v3.service import V3Service
from rater.api.v3.settings import V3Settings
from rater.api.v3.values import refused
from rater.api_backend import ApiBackend
from rater.config import Config
from rater.model.codec import encode_msgpack
from rater.model.usage import FrameForced, GapAccepted
from rater.modules import list_modules
from rater.rating import Module, RuleBook, ScriptRunner
from rater.reports import StoreError
from rater.stream.alert_feed import AlertFeed, FeedFullError, FeedPlaceError, Listening
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.usage_log import UsageWriter, WriterFullError
from rater.trying import script_runner, third_party_modules

__all__ = ["ConfiguredTrials", "TopicAlerts", "UsageControl", "reading", "v3_service"]

log = logging.getLogger(__name__)


def v3_service(config: Config, settings: V3Settings, behind: ApiBackend, access: Access) -> V3Service:
    """What answers requests of whom `access` recognises."""
    backend = Backend(
        view=behind.view,
        read=reading(behind.threads),
        book=behind.books.book,
        policy=access.policy,
        period=config.settings.engine.period,
        rules=KafkaRules(config.settings.kafka, behind.books, frozenset(module.name for module in list_modules())),
        control=UsageControl(behind.usage),
        trials=ConfiguredTrials(config),
        alerts=TopicAlerts(AlertFeed(config.settings.kafka, settings.max_listeners)),
    )
    return V3Service(backend, OPERATIONS, access, settings.max_in_flight)


class ConfiguredTrials:
    """Trials with the metrics and the sandbox of the settings."""

    def __init__(self, config: Config) -> None:
        self.context = config.engine_context()
        self._config = config

    def scripts(self, *books: RuleBook) -> AbstractContextManager[ScriptRunner]:
        """Raises SandboxError."""
        return script_runner(self._config, *books)

    def modules(self, *books: RuleBook) -> Mapping[str, Module]:
        """Those that are installed."""
        return third_party_modules(*books)


class UsageControl:
    """Control records by the writer that pushed usage goes through."""

    def __init__(self, writer: UsageWriter) -> None:
        self._writer = writer

    async def send(self, record: FrameForced | GapAccepted) -> None:
        """Raises RefusalError 503."""
        try:
            await self._writer.write([(record.scope_id.encode(), encode_msgpack(record))])
        except (StreamUnavailableError, WriterFullError) as fault:
            raise RefusalError(503, f"it is not known to be written: {fault}. Send it again", retry_after=2) from fault


class TopicAlerts:
    """The alerts of topic `alerts`, as events."""

    def __init__(self, feed: AlertFeed) -> None:
        self._feed = feed

    async def listen(self, scopes: tuple[str, ...] | None, last_id: str) -> AsyncIterator[Event]:
        """Raises RefusalError 422, 429, 503."""
        try:
            return TopicEvents(await self._feed.listen(scopes, last_id))
        except FeedPlaceError as fault:
            raise refused("header.Last-Event-ID", str(fault)) from None
        except FeedFullError as fault:
            raise RefusalError(429, str(fault), retry_after=30) from None
        except StreamUnavailableError as fault:
            raise _away(fault) from fault


class TopicEvents:
    """One listener's events. It has to be closed."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def __aiter__(self) -> TopicEvents:
        return self

    async def __anext__(self) -> Event:
        """Raises RefusalError 503."""
        try:
            heard = await anext(self._listening)
        except StreamUnavailableError as fault:
            raise _away(fault) from fault
        return Event(heard.data, heard.place, heard.kind)

    async def aclose(self) -> None:
        """Ends the connection."""
        await self._listening.aclose()


def _away(fault: StreamUnavailableError) -> RefusalError:
    log.warning("a listener gets no alerts: %s", fault)
    return RefusalError(503, "alerts cannot be read now, Kafka is away: ask again", retry_after=5)


def reading(threads: ThreadPoolExecutor) -> Callable[[Callable[[], Any]], Any]:
    """What runs questions to the store in these threads; the store's faults become refusals."""

    async def read(ask: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, ask)
        except StoreError as fault:
            log.warning("the store cannot be read: %s", fault)
            raise RefusalError(503, "the store cannot be read now: ask again", retry_after=2) from fault

    return read
