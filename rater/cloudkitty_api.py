"""CloudKitty's API made from the settings: what it says of itself and knows of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rater.api.access import Access
from rater.api.cloudkitty.calls import Backend, MetricInfo, ModuleInfo
from rater.api.cloudkitty.requests import Requests
from rater.api.cloudkitty.service import CloudKittyService, posting, reading
from rater.api.cloudkitty.settings import CloudKittyApiSettings
from rater.api_backend import ApiBackend
from rater.config import Config
from rater.model.document import load, plain
from rater.modules import list_modules
from rater.rating import BUILT_IN

__all__ = ["cloudkitty_service"]

SCOPE_KEY = "project_id"
_BUILT_IN = (
    ModuleInfo("hashmap", "HashMap rating module.", True),
    ModuleInfo("noop", "Dummy test module.", False),
    ModuleInfo("pyscripts", "PyScripts rating module.", True),
)


def cloudkitty_service(
    config: Config, settings: CloudKittyApiSettings, behind: ApiBackend, access: Access
) -> CloudKittyService:
    """What answers requests of whom `access` recognises."""
    collect = config.settings.collect
    backend = Backend(
        view=behind.view,
        read=reading(behind.threads),
        book=behind.books.book,
        write_rules=behind.books.write,
        quote=behind.quoter.quote,
        exact_numbers=settings.exact_numbers,
        requests=Requests(behind.requests),
        period=config.settings.engine.period,
        policy=access.policy,
        zone=ZoneInfo(settings.time_zone),
        scope_key=settings.scope_key or (collect.scope_key if collect else SCOPE_KEY),
        collector=settings.collector or (collect.source_name if collect else "api"),
        fetcher=settings.fetcher or (collect.fetcher if collect else "api"),
        metrics=_metrics(config),
        metrics_conf=_metrics_conf(config),
        modules=_modules(),
        post=posting(behind.usage),
    )
    return CloudKittyService(backend, access, settings.max_in_flight)


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
