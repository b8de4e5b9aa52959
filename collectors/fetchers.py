"""Which scopes there are: a fixed list, or the values of a label in Prometheus."""

from __future__ import annotations

from collectors.errors import SettingsError
from collectors.prom_api import PrometheusApi
from collectors.promql import scopes_query
from collectors.source import ScopeFetcher, SourceContext

__all__ = ["PrometheusFetcher", "StaticFetcher", "prometheus", "static"]

_LONGEST = 255


class StaticFetcher:
    """A fixed list."""

    def __init__(self, scopes: list[str]) -> None:
        """Raises SettingsError for an empty list."""
        if not scopes:
            raise SettingsError("collect.static.scopes is empty: name at least one scope, or use another fetcher")
        self._scopes = set(scopes)

    async def fetch(self, now: int) -> set[str]:
        """The list."""
        return set(self._scopes)

    async def close(self) -> None:
        """Nothing to let go of."""


class PrometheusFetcher:
    """The values that a label of a metric has now."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if no metric is named or Prometheus is not configured."""
        settings = context.settings.prometheus_fetcher
        if not settings.metric:
            raise SettingsError("collect.prometheus_fetcher.metric is missing: name the metric that knows all scopes")
        self._attribute = settings.scope_attribute or context.settings.scope_key
        self._query = scopes_query(settings.metric, settings.filters, self._attribute)
        self._api = PrometheusApi(context.settings.prometheus, concurrency=1)

    async def fetch(self, now: int) -> set[str]:
        """The values, without items that lack the label or have one that no scope can have. Raises SourceError."""
        items = await self._api.query(self._query, now)
        found = {item.metric.get(self._attribute, "") for item in items}
        return {scope_id for scope_id in found if 0 < len(scope_id) <= _LONGEST}

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def static(context: SourceContext) -> ScopeFetcher:
    """The entry point `static` of group `rater.fetchers`."""
    return StaticFetcher(context.settings.static.scopes)


def prometheus(context: SourceContext) -> ScopeFetcher:
    """The entry point `prometheus` of group `rater.fetchers`."""
    return PrometheusFetcher(context)
