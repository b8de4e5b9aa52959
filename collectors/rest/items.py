"""From the items of a REST answer to series and samples. What cannot be read is quarantined, the others are taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import msgspec

from collectors.errors import SourceError
from collectors.metrics_yml import Metric
from collectors.quantity import Arithmetic, Numbers, QuantityError, quantity
from collectors.rest.answer import Expression, instant, kind_of, written
from collectors.rest.settings import TimeFormat
from rater.model.codec import encode_msgpack
from rater.model.interval import Interval
from rater.model.labels import Labels, LabelValue
from rater.model.usage import QuarantinedItem, Sample, Series

__all__ = ["ItemReader", "Read"]

_ARITHMETIC = Arithmetic(Context(prec=28, rounding=ROUND_HALF_EVEN))  # CloudKitty's, where a collector sets no other
_LOW, _HIGH = -(2**63), 2**64 - 1  # of a label that is a number


class Read(msgspec.Struct):
    """What was read of the items of one scope."""

    series: list[Series] = []
    samples: list[Sample] = []
    quarantined: list[QuarantinedItem] = []
    outside: int = 0
    """Items whose time is not in the period: those of a neighbour, where a source gives both ends of a range."""


class ItemReader(msgspec.Struct, frozen=True):
    """How the items of one metric are read."""

    metric: Metric
    scope_key: str
    numbers: Numbers
    time_format: TimeFormat
    quantity: Expression
    only: Expression | None
    time: Expression | None
    until: Expression | None
    labels: dict[str, Expression]
    is_scoped: bool
    """Whether the source was asked for one scope; else items of other scopes are passed over."""

    def shares(self, items: Iterable[Any]) -> dict[str, list[Any]]:
        """The items of the metric by the scope that they name, '' if they name none.

        Raises SourceError where that is no text, or `only` neither true nor false.
        """
        found: dict[str, list[Any]] = {}
        for item in items:
            if self._is_wanted(item):
                value = self._label(item, self.scope_key)
                named = "" if value is None else written(value)
                if named is None:
                    raise SourceError(f"an item does not name its scope: its {self.scope_key!r} is {kind_of(value)}")
                found.setdefault(named, []).append(item)
        return found

    def read(self, shares: Mapping[str, Sequence[Any]], scope_id: str, period: Interval) -> Read:
        """Series and samples of a scope. Raises SourceError for items of which it is not clear whose they are."""
        self._check_shares(shares, scope_id)
        found = Read([], [], [])
        numbers: dict[bytes, int] = {}
        for item in (*shares.get(scope_id, ()), *shares.get("", ())):
            self._take(found, numbers, item, scope_id, period)
        return found

    def _is_wanted(self, item: Any) -> bool:
        if self.only is None:
            return True
        chosen = self.only.of(item)
        if not isinstance(chosen, bool):
            raise SourceError(f"{self.only.key} finds {kind_of(chosen)}, neither true nor false")
        return chosen

    def _check_shares(self, shares: Mapping[str, Sequence[Any]], scope_id: str) -> None:
        if not self.is_scoped:
            if "" in shares:
                raise SourceError(f"an item does not name its scope: {self.scope_key!r} finds nothing in it")
            return
        for named in shares.keys() - {scope_id, ""}:
            raise SourceError(
                f"scope {scope_id!r} was asked for, and an item of scope {named[:100]!r} came: is {{scope}} in the "
                f"right place, and {self.scope_key!r} the id of the scope?"
            )

    def _take(self, found: Read, numbers: dict[bytes, int], item: Any, scope_id: str, period: Interval) -> None:
        groupby, metadata, label_fault = self._labels(item, scope_id)
        raw = self.quantity.of(item)
        span, fault = self._span(item, period)
        if span is None and not fault:
            found.outside += 1
            return
        qty, value_fault = self._quantity(raw)
        fault = label_fault or fault or value_fault
        if fault:
            shown = (written(raw) or kind_of(raw))[:2000]
            found.quarantined.append(QuarantinedItem(shown, f"its {fault}"[:2000], groupby, metadata))
            return
        assert span is not None, "it is in the period"
        assert qty is not None, "it has no fault"
        number = numbers.setdefault(encode_msgpack(Series(groupby, metadata)), len(found.series))
        if number == len(found.series):
            found.series.append(Series(groupby, metadata))
        found.samples.append(Sample(number, span.begin, span.end, qty))

    def _quantity(self, raw: Any) -> tuple[Decimal | None, str]:
        """The quantity, or what is wrong with the value."""
        text = written(raw)
        if text is None:
            return None, f"value is {kind_of(raw)}, not a number"
        try:
            return quantity(text, self.metric, self.numbers, _ARITHMETIC), ""
        except QuantityError as fault:
            return None, f"value {fault}"

    def _span(self, item: Any, period: Interval) -> tuple[Interval | None, str]:
        """When the item was, None if that is not in the period; and what is wrong with its time."""
        if self.time is None:
            return period, ""
        try:
            begin = math.floor(instant(self.time.of(item), self.time_format))
            end = math.floor(instant(self.until.of(item), self.time_format)) if self.until is not None else begin
        except ValueError as fault:
            return None, f"time {fault}"
        if end < begin:
            return None, f"time ends at {end}, before it begins at {begin}"
        if begin >= period.end or (end <= period.begin and begin < period.begin):
            return None, ""
        if begin < period.begin or end > period.end:
            return None, f"time, [{begin}, {end}), is only in part in the period, and so would be its value"
        return Interval(begin, end), ""

    def _labels(self, item: Any, scope_id: str) -> tuple[Labels, Labels, str]:
        """The labels that metrics.yml names, '' where the item lacks one, and what is wrong with them."""
        fault = ""
        kinds: list[Labels] = []
        for names in (self.metric.grouped_by(self.scope_key), self.metric.metadata):
            labels: Labels = {}
            for name in names:
                value = self._label(item, name)
                labels[name] = _label_value(value)
                if isinstance(value, dict | list):
                    fault = fault or f"label {name!r} is {kind_of(value)}"
            kinds.append(labels)
        groupby, metadata = kinds
        groupby[self.scope_key] = scope_id  # as text, also where the item has a number, or nothing
        return groupby, metadata, fault

    def _label(self, item: Any, name: str) -> Any:
        expression = self.labels.get(name)
        if expression is not None:
            return expression.of(item)
        return item.get(name) if isinstance(item, dict) else None


def _label_value(value: Any) -> LabelValue:
    """Texts, whole numbers and booleans as they are, others as text; '' for nothing and for what is no value."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int) and _LOW <= value <= _HIGH:
        return value
    return written(value) or ""
