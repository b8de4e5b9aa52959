"""The scope fetcher Gnocchi: scopes are the values that an attribute of resources had, since it was last looked at."""

from __future__ import annotations

from typing import Any

from collectors.errors import SourceError
from collectors.gnocchi.api import GnocchiApi, instant_text
from collectors.source import ScopeFetcher, SourceContext

__all__ = ["GnocchiFetcher", "gnocchi"]

_LONGEST = 255
_OF_ALL_TYPES = ("project_id", "user_id", "creator", "original_resource_id", "type")
_MOST_PAGES = 10_000


class GnocchiFetcher:
    """The projects, or whatever an attribute says, of all that lived at any time since it was last looked at."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if Gnocchi is not configured or a file cannot be used."""
        settings = context.settings.gnocchi_fetcher
        self._attribute = settings.scope_attribute or context.settings.scope_key
        self._types = list(dict.fromkeys(settings.resource_types))
        self._api = GnocchiApi(context.settings.gnocchi, concurrency=1)

    async def fetch(self, now: int, since: int) -> set[str]:
        """The values, revisions counted, without those that no scope can have. Raises SourceError."""
        found: set[str] = set()
        for resource_type in self._types:
            await self._find(resource_type, min(since, now), now, found)
        return {scope_id for scope_id in found if 0 < len(scope_id) <= _LONGEST}

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _find(self, resource_type: str, since: int, now: int, found: set[str]) -> None:
        """Adds to `found`: asks for whatever is not among them, until there is nothing, as CloudKitty does."""
        for _ in range(_MOST_PAGES):
            rows = await self._api.some_rows(resource_type, self._search(since, now, found), [self._attribute])
            if not rows:
                return
            values = {row.get(self._attribute) for row in rows if self._attribute in row}
            new = {value for value in values if isinstance(value, str)} - found
            if not new:
                raise SourceError(
                    f"resources of type {resource_type} have no text as {self._attribute} "
                    "(collect.gnocchi_fetcher.scope_attribute)"
                )
            found |= new
        raise SourceError(f"the scopes of resources of type {resource_type} have no end")

    def _search(self, since: int, now: int, found: set[str]) -> dict[str, Any]:
        begin, end, attribute = instant_text(since), instant_text(now), self._attribute
        lived: list[dict[str, Any]] = [
            {"<=": {"started_at": end}},
            {"or": [{"=": {"revision_end": None}}, {">": {"revision_end": begin}}]},
            {"or": [{"=": {"ended_at": None}}, {">=": {"ended_at": begin}}, {">=": {"revision_start": begin}}]},
            {"!=": {attribute: None}},
        ]
        if found:
            lived.append({"not": _any_of(attribute, sorted(found))})
        return {"and": lived}


def _any_of(attribute: str, values: list[str]) -> dict[str, Any]:
    """One of the values; Gnocchi's search of histories knows `in` only for the attributes that all types have."""
    if attribute in _OF_ALL_TYPES:
        return {"in": {attribute: values}}
    return {"or": [{"=": {attribute: value}} for value in values]}


def gnocchi(context: SourceContext) -> ScopeFetcher:
    """The entry point `gnocchi` of group `rater.fetchers`."""
    return GnocchiFetcher(context)
