"""What stands behind all versions of the HTTP API: the store they read, the rules, and the threads that ask."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from rater.api.cloudkitty.quoting import Quoter
from rater.api.cloudkitty.rulebook import RuleBooks
from rater.config import Config
from rater.model.errors import RaterError
from rater.modules import installed_modules
from rater.reports import RemoteView, StoreView, View, socket_of
from rater.store import EmbeddedTarget, Store
from rater.stream.requests_log import RequestsLog
from rater.stream.rules_reader import open_rules
from rater.stream.rules_writer import open_appender
from rater.stream.usage_log import UsageWriter

__all__ = ["ApiBackend", "NoStoreError"]

READERS = 6  # threads that ask the store at the same time: two exports and two explanations leave two for all else


class NoStoreError(RaterError):
    """The API is to read a store that this process cannot reach."""


class ApiBackend:
    """What the handlers of all versions share. `holds_store`: this process has an embedded store open anyway.

    Else the one that has it is asked by its socket, and is waited for: an API that claimed the directory of an embedded
    store would keep the sink out. Raises NoStoreError.
    """

    def __init__(self, config: Config, writer: UsageWriter, *, holds_store: bool) -> None:
        """`writer` is run and closed by whoever made it."""
        kafka = config.settings.kafka
        self._store = Store(config.settings.store)
        self.view = _view(self._store, holds_store=holds_store)
        self.books = RuleBooks(lambda: open_rules(kafka, asks_often=True), lambda: open_appender(kafka))
        self.quoter = Quoter(installed_modules(), config.settings.scripts)
        self.requests = RequestsLog(kafka)
        self.usage = writer
        self.threads = ThreadPoolExecutor(READERS, "api")

    async def close(self) -> None:
        """Gives back what is open, after everybody was answered."""
        await self.quoter.close()
        await self.books.close()
        await self.requests.close()
        await asyncio.to_thread(self.threads.shutdown)
        await asyncio.to_thread(self._store.close)


def _view(store: Store, *, holds_store: bool) -> View:
    if holds_store or not isinstance(store.target, EmbeddedTarget):
        return StoreView(store)
    if store.target.directory is None:
        raise NoStoreError(f"the API cannot read the store {store.target}: it is in another process's memory")
    return RemoteView(socket_of(store.target.directory))
