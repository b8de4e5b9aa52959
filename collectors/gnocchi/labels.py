"""The metadata of what is billed: attributes of resources, as they were in the period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collectors.gnocchi.items import Key, Reading
from collectors.gnocchi.resources import Resource, label_value
from rater.model.labels import Labels

__all__ = ["Metadata"]


class Metadata:
    """Those of one metric in one period: of the latest revision that belongs to a group.

    CloudKitty takes those of now, and loses what it does not find there: `current`, if given, is asked first, as it
    would be; what it lacks is looked up in the revisions.
    """

    def __init__(
        self,
        names: Sequence[str],
        resources: Iterable[Resource],
        reading: Reading,
        scope_key: str,
        resource_key: str,
        current: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """`names` of metrics.yml; `current` in the order of the answer."""
        self._names = tuple(names)
        self._at = reading.names.index(resource_key)
        self._revisions: dict[Key, Mapping[str, Any]] = {}
        self._current: dict[tuple[str, Any], Mapping[str, Any]] = {}
        if not self._names:
            return
        for resource in resources:
            for piece in resource.shares(reading.period):
                self._revisions[reading.key(piece.attributes)] = piece.attributes
        for row in current:
            self._current[str(row.get(scope_key)), row.get(resource_key)] = row

    def of(self, key: Key, scope_id: str) -> Labels:
        """The labels of a group; '' for an attribute that the resource does not have, or that nobody knows of."""
        row = self._current.get((scope_id, key[self._at])) or self._revisions.get(key) or {}
        return {name: label_value(row.get(name, "")) for name in self._names}
