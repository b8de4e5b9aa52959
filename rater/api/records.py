"""The records of topic `usage` that requests become: each series once, labels in order, no clock and no chance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from collectors.replay.usage_file import MAX_SERIES_BYTES
from rater.model.errors import RejectedError
from rater.model.labels import Labels, canonical_series, series_labels
from rater.model.metric import MetricSpec
from rater.model.usage import Collection, Sample, Series

__all__ = ["Group", "Head", "Record", "Table", "Value"]


class Record(NamedTuple):
    """A record of topic `usage`, msgpack."""

    scope_id: str
    value: bytes


Value = tuple[Series, Sample]
"""A sample with its resource; the number of the series is given where the record is made."""


class Table:
    """The series of a request by their canonical bytes: the same resource is one object, with its labels in order."""

    def __init__(self) -> None:
        self._known: dict[bytes, Series] = {}

    def series(self, groupby: Labels, metadata: Labels) -> Series:
        """Raises RejectedError for labels that cannot be taken."""
        canonical = canonical_series(groupby, metadata)
        found = self._known.get(canonical)
        if found is None:
            if len(canonical) > MAX_SERIES_BYTES:
                raise RejectedError(f"labels have {len(canonical)} bytes: at most {MAX_SERIES_BYTES} are taken")
            found = self._known[canonical] = Series(*series_labels(canonical))
        return found


class Group:
    """Loose samples of one scope, source and metric, in the order in which they came."""

    def __init__(self, scope_id: str, source: str, spec: MetricSpec) -> None:
        self.scope_id = scope_id
        self.source = source
        self.spec = spec
        self.table = Table()
        self.samples: list[Value] = []


class Head(NamedTuple):
    """What the parts of one collection share."""

    source: str
    scope_id: str
    spec: MetricSpec
    begin: int
    end: int
    attempt: int
    proof: Literal["proven", "weak"]

    def record(self, values: Iterable[Value], producer_id: str, sequence: int, **more: Any) -> Collection:
        """One part: its samples refer to its own table of series, in order of their first appearance."""
        numbers: dict[int, int] = {}
        table: list[Series] = []
        samples = []
        for series, sample in values:
            number = numbers.get(id(series))
            if number is None:
                number = numbers[id(series)] = len(table)
                table.append(series)
            samples.append(Sample(number, sample.begin, sample.end, sample.qty))
        return Collection(
            source=self.source,
            scope_id=self.scope_id,
            metric=self.spec.name,
            begin=self.begin,
            end=self.end,
            attempt=self.attempt,
            producer_id=producer_id,
            sequence=sequence,
            unit=self.spec.unit,
            proof=self.proof,
            series=table,
            samples=samples,
            **more,
        )
