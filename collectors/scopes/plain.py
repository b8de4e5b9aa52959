"""Which scopes there are: a fixed list, or the values of a label in Prometheus."""

from __future__ import annotations

import logging

from collectors.errors import SettingsError, SourceAwayError, SourceError
from collectors.prometheus.api import Item, PrometheusApi, servers
from collectors.prometheus.promql import scopes_query
from collectors.source import ScopeFetcher, SourceContext
from collectors.times import iso

__all__ = ["PrometheusFetcher", "StaticFetcher", "prometheus", "static"]

log = logging.getLogger(__name__)

_LONGEST = 255
LEAST_SECONDS = 300  # as far as Prometheus itself looks back for a sample of now


class StaticFetcher:
    """A fixed list."""

    def __init__(self, scopes: list[str]) -> None:
        """Raises SettingsError for an empty list."""
        if not scopes:
            raise SettingsError("collect.static.scopes is empty: name at least one scope, or use another fetcher")
        self._scopes = set(scopes)

    async def fetch(self, now: int, since: int) -> set[str]:
        """The list."""
        return set(self._scopes)

    async def close(self) -> None:
        """Nothing to let go of."""


class PrometheusFetcher:
    """The values that a label of a metric had at any time since it was last looked at."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if no metric is named or Prometheus is not configured."""
        settings = context.settings.prometheus_fetcher
        if not settings.metric:
            raise SettingsError("collect.prometheus_fetcher.metric is missing: name the metric that knows all scopes")
        self._attribute = settings.scope_attribute or context.settings.scope_key
        self._metric, self._filters = settings.metric, settings.filters
        self._replicas = servers(context.settings.prometheus, concurrency=1)

    async def fetch(self, now: int, since: int) -> set[str]:
        """The values, without items that lack the label or have one that no scope can have. Raises SourceError.

        Of several replicas all that answer are believed: what one did not see another may have.
        """
        items: list[Item] = []
        failures: list[SourceError] = []
        for api in self._replicas:
            try:
                items += await self._named(api, now, since)
            except SourceError as fault:
                failures.append(fault)
        if len(failures) == len(self._replicas):
            raise failures[0]
        for failure in failures:
            log.warning("scopes are taken from the other replicas: %s", failure)
        found = {item.metric.get(self._attribute, "") for item in items}
        return {scope_id for scope_id in found if 0 < len(scope_id) <= _LONGEST}

    async def _named(self, api: PrometheusApi, now: int, since: int) -> list[Item]:
        """What one server names; only what there is now, if more is too much for it. Raises SourceError."""
        looked_back = max(now - since, LEAST_SECONDS)
        try:
            return await self._ask(api, now, looked_back)
        except SourceAwayError:
            raise
        except SourceError as fault:
            if looked_back == LEAST_SECONDS:
                raise
            log.warning("scopes that came and went since %s are not looked for: %s", iso(since), fault)
            return await self._ask(api, now, LEAST_SECONDS)

    async def _ask(self, api: PrometheusApi, now: int, looked_back: int) -> list[Item]:
        return await api.query(scopes_query(self._metric, self._filters, self._attribute, looked_back), now)

    async def close(self) -> None:
        """Close the connections."""
        for api in self._replicas:
            await api.close()


def static(context: SourceContext) -> ScopeFetcher:
    """The entry point `static` of group `rater.fetchers`."""
    return StaticFetcher(context.settings.static.scopes)


def prometheus(context: SourceContext) -> ScopeFetcher:
    """The entry point `prometheus` of group `rater.fetchers`."""
    return PrometheusFetcher(context)
