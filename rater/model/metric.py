"""What is known about each metric before any sample of it arrives: the catalog that workers and collectors share."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from rater.model.errors import RaterError

__all__ = ["Aggregation", "Catalog", "CatalogError", "Coverage", "MetricSpec"]


class CatalogError(RaterError):
    """Two metrics that cannot stand in one catalog."""


class Aggregation(Enum):
    """How the samples of one resource in one period become one quantity."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    MEAN = "mean"
    LAST = "last"
    FIRST = "first"
    COUNT = "count"
    DELTA = "delta"  # last minus first


class Coverage(Enum):
    """What proves that a metric was collected (`proof:` in rater.yaml)."""

    COLLECTION = "collection"  # the sub-ranges a complete collection says it covers
    SAMPLES = "samples"  # each sample covers its own interval; sources that only push samples


class MetricSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metric under its public name (`alt_name` of metrics.yml, the hashmap service)."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    unit: Annotated[str, Meta(min_length=1, max_length=255)] = "undefined"
    aggregation: Aggregation = Aggregation.SUM
    proof: Coverage = Coverage.COLLECTION
    resolution: Annotated[int, Meta(ge=1)] = 60
    """Seconds that an instant sample covers from its begin on; read only with `proof: samples`."""
    description: str = ""


class Catalog:
    """The metrics by name. Built once at start and never changed."""

    def __init__(self, metrics: Iterable[MetricSpec]) -> None:
        self._by_name: dict[str, MetricSpec] = {}
        for metric in metrics:
            if metric.name in self._by_name:
                raise CatalogError(f"metric {metric.name!r} is declared twice: give one of them another alt_name")
            self._by_name[metric.name] = metric

    def get(self, name: str) -> MetricSpec | None:
        """The metric of that public name, None if nobody declared it."""
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """All public names, sorted."""
        return sorted(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)
