"""CloudKitty's API made from the settings: which store it asks, which rules it reads, what it knows of metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rater.api.access import Access
from rater.api.cloudkitty.calls import Backend, MetricInfo, ModuleInfo
from rater.api.cloudkitty.requests import Requests
from rater.api.cloudkitty.rulebook import RuleBooks
from rater.api.cloudkitty.service import READERS, CloudKittyService, reading
from rater.api.cloudkitty.settings import CloudKittyApiSettings
from rater.config import Config
from rater.model.document import load, plain
from rater.model.errors import RaterError
from rater.modules import list_modules
from rater.rating import BUILT_IN
from rater.reports import RemoteView, StoreView, View, socket_of
from rater.store import EmbeddedTarget, Store
from rater.stream.requests_log import RequestsLog
from rater.stream.rules_reader import open_rules
from rater.stream.rules_writer import open_appender

__all__ = ["CloudKittyApi", "NoStoreError"]

SCOPE_KEY = "project_id"
_BUILT_IN = (
    ModuleInfo("hashmap", "HashMap rating module.", True),
    ModuleInfo("noop", "Dummy test module.", False),
    ModuleInfo("pyscripts", "PyScripts rating module.", True),
)


class NoStoreError(RaterError):
    """CloudKitty's API is wanted in a process that cannot read the store."""


class CloudKittyApi:
    """The API with what it keeps open. `holds_store`: this process has an embedded store open anyway.

    Else the one that has it is asked by its socket, and is waited for: an API that claimed the directory of an embedded
    store would keep the sink out. Raises NoStoreError.
    """

    def __init__(self, config: Config, settings: CloudKittyApiSettings, *, holds_store: bool) -> None:
        self._config, self._settings = config, settings
        self._store = Store(config.settings.store)
        self._view = _view(self._store, holds_store=holds_store)
        kafka = config.settings.kafka
        self._books = RuleBooks(lambda: open_rules(kafka), lambda: open_appender(kafka))
        self._requests = RequestsLog(kafka)
        self._threads = ThreadPoolExecutor(READERS, "cloudkitty")

    def service(self, access: Access) -> CloudKittyService:
        """What answers requests of whom these recognise."""
        config, settings = self._config, self._settings
        collect = config.settings.collect
        backend = Backend(
            view=self._view,
            read=reading(self._threads),
            book=self._books.book,
            write_rules=self._books.write,
            requests=Requests(self._requests),
            period=config.settings.engine.period,
            policy=access.policy,
            zone=ZoneInfo(settings.time_zone),
            scope_key=settings.scope_key or (collect.scope_key if collect else SCOPE_KEY),
            collector=settings.collector or (collect.source_name if collect else "api"),
            fetcher=settings.fetcher or (collect.fetcher if collect else "api"),
            metrics=_metrics(config),
            metrics_conf=_metrics_conf(config),
            modules=_modules(),
        )
        return CloudKittyService(backend, access, settings.max_in_flight)

    async def close(self) -> None:
        """Gives back what is open, after everybody was answered."""
        await self._books.close()
        await self._requests.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._store.close)


def _view(store: Store, *, holds_store: bool) -> View:
    if holds_store or not isinstance(store.target, EmbeddedTarget):
        return StoreView(store)
    if store.target.directory is None:
        raise NoStoreError(f"api.cloudkitty is set, and the store {store.target} is in another process's memory")
    return RemoteView(socket_of(store.target.directory))


def _metrics(config: Config) -> tuple[MetricInfo, ...]:
    metadata: dict[str, tuple[str, ...]] = {}
    if config.settings.metrics_conf:
        from collectors.metrics_yml import load as load_metrics  # here, so that settings without it cost no collectors

        metadata = {metric.name: metric.metadata for metric in load_metrics(config.settings.metrics_conf).metrics}
    found = ((name, config.catalog.get(name)) for name in config.catalog.names())
    return tuple(MetricInfo(name, metadata.get(name, ()), spec.unit) for name, spec in found if spec is not None)


def _metrics_conf(config: Config) -> Mapping[str, Any]:
    """metrics.yml as it stands there, else what rater.yaml says of metrics in the same form."""
    path = config.settings.metrics_conf
    if path:
        values = plain(load(Path(path).read_text(encoding="utf-8"), path))
        assert isinstance(values, dict), "the settings were read from it"
        return {str(key): value for key, value in values.items()}
    return {"metrics": {metric.metric_id: {"unit": metric.unit} for metric in _metrics(config)}}


def _modules() -> tuple[ModuleInfo, ...]:
    others = (ModuleInfo(module.name, None, False) for module in list_modules() if module.name not in BUILT_IN)
    return (*_BUILT_IN, *others)
