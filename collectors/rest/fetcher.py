"""The scope fetcher REST: scopes are what an expression finds in the answer of an endpoint."""

from __future__ import annotations

from collectors.errors import SourceError
from collectors.rest.answer import Expression, kind_of, written
from collectors.rest.api import RestApi
from collectors.rest.template import Asked
from collectors.source import ScopeFetcher, SourceContext
from rater.model.interval import period_of

__all__ = ["RestFetcher", "rest"]

_KEY = "collect.rest_fetcher"
_LONGEST = 255


class RestFetcher:
    """The scopes that an endpoint names: now, or since it was last asked, a period ago at least."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if the URL is missing or a file cannot be used."""
        self._settings = context.settings.rest_fetcher
        self._period = context.period_seconds
        self._api = RestApi(self._settings, _KEY, concurrency=1)
        self._scopes = Expression(f"{_KEY}.scopes", self._settings.scopes)

    async def fetch(self, now: int, since: int) -> set[str]:
        """The ids on all pages, without those that no scope can have. Raises SourceError."""
        begin = min(since, period_of(now, self._period).begin - self._period)
        asked = Asked(max(0, begin), now)
        pages = await self._api.pages(self._settings.url, self._settings.body, asked, self._scopes)
        found = set()
        for value in (item for page in pages for item in page.items):
            scope_id = written(value)
            if scope_id is None:
                raise SourceError(f"{_KEY}.scopes finds {kind_of(value)} among the ids: ids are texts")
            found.add(scope_id)
        return {scope_id for scope_id in found if 0 < len(scope_id) <= _LONGEST}

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def rest(context: SourceContext) -> ScopeFetcher:
    """The entry point `rest` of group `rater.fetchers`."""
    return RestFetcher(context)
