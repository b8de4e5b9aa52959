"""Conditions and groups as SQL: fixed pieces of text put together, every value a parameter.

The names are those of the view `totals` and of table `lines`: scope_id, period_begin, metric; labels in lines alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rater.store.blocks import LAST_INSTANT
from rater.store.choices import Attribute, Choice, Condition, Kind

__all__ = ["Pieces"]

_LOCAL = "toTimeZone(period_begin, {time_zone:String})"
_EXPRESSIONS = {
    Kind.SCOPE: "scope_id",
    Kind.METRIC: "metric",
    Kind.PERIOD: "toString(toUInt32(period_begin))",
    Kind.DAY: f"toString(toDayOfYear({_LOCAL}))",
    Kind.WEEK: f"leftPad(toString(toWeek({_LOCAL}, 0)), 2, '0')",
    Kind.MONTH: f"toString(toMonth({_LOCAL}))",
    Kind.YEAR: f"toString(toYear({_LOCAL}))",
}


class Pieces:
    """The pieces of one statement with the parameters that they name."""

    def __init__(self, choice: Choice) -> None:
        first, last = (min(instant, LAST_INSTANT) for instant in (choice.begin, choice.end))
        self.parameters: dict[str, Any] = {"begin": first, "end": last, "time_zone": choice.time_zone}
        conditions = choice.conditions
        self.of_frames = self._all(c for c in conditions if c.attribute.kind not in (Kind.METRIC, Kind.LABEL))
        """Which frames: told by scope and period."""
        self.of_metrics = self._all(c for c in conditions if c.attribute.kind is Kind.METRIC)
        self.of_labels = self._all(c for c in conditions if c.attribute.kind is Kind.LABEL)
        self.has_metrics = any(c.attribute.kind is Kind.METRIC for c in conditions)
        self.has_labels = any(c.attribute.kind is Kind.LABEL for c in conditions)

    def group(self, attribute: Attribute) -> str:
        """The expression of a group."""
        if attribute.kind is not Kind.LABEL:
            return _EXPRESSIONS[attribute.kind]
        return f"groupby[{self._text(attribute.key)}]"

    def _all(self, conditions: Iterable[Condition]) -> str:
        return " AND ".join(map(self._condition, conditions)) or "true"

    def _condition(self, condition: Condition) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = list(condition.values)
        values = f"{{{name}:Array(String)}}"
        attribute = condition.attribute
        if attribute.kind is not Kind.LABEL:
            return f"{_EXPRESSIONS[attribute.kind]} IN {values}"
        key = self._text(attribute.key)
        found = f"if(mapContains(groupby, {key}), groupby[{key}], metadata[{key}])"
        return f"has({values}, toString({found}))"

    def _text(self, value: str) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:String}}"
