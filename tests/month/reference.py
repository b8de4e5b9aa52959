"""The month computed slowly and in the plainest way: every line, every total, as text of the numbers.

From the content as it was made up, whatever happened to it on its way. Shares no code with rater.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.e2e.reference import Line, number_text, price_of
from tests.month.content import BEGIN, HOUR, HOURS, METRICS, Metric, Month, Reading, labels

_COLUMN = Decimal(1).scaleb(-38)  # what columns keep: 38 decimals


class Total(NamedTuple):
    """A row of a report."""

    metric: str
    quantity: str | None
    unit: str | None
    lines: int
    price: str


class Reference:
    """The lines of the month by scope, period, metric and line id; `totals` are summed up on the way."""

    def __init__(self, month: Month, rules: Path) -> None:
        self.totals: dict[str, list[Total]] = {}
        self._month = month
        self._rules = {rule["name"]: rule for rule in yaml.safe_load(rules.read_text())["hashmap"]["services"]}

    def lines(self) -> Iterator[Line]:
        """All lines, those of one scope after the other. `totals` has a scope once its last line was taken."""
        for scope in self._month.scopes:
            sums = {metric.name: [Decimal(0), Decimal(0), Decimal(0)] for metric in METRICS}
            for hour in range(HOURS):
                for metric in sorted(METRICS):
                    for line in self._of(scope, metric, hour):
                        with localcontext(prec=200):
                            sums[metric.name][0] += Decimal(line.qty)
                            sums[metric.name][1] += Decimal(line.price)
                            sums[metric.name][2] += 1
                        yield line
            self.totals[scope] = _totals(sums)

    def _of(self, scope: str, metric: Metric, hour: int) -> list[Line]:
        resources: dict[str, list[Reading]] = {}
        for reading in self._month.readings(scope, metric.name, hour):
            key = json.dumps([scope, metric.name, *labels(scope, reading)], sort_keys=True, separators=(",", ":"))
            resources.setdefault(key, []).append(reading)
        return sorted(
            (self._line(key, readings, metric, BEGIN + hour * HOUR) for key, readings in resources.items()),
            key=lambda line: line.line_id,
        )

    def _line(self, key: str, readings: list[Reading], metric: Metric, begin: int) -> Line:
        scope, name, groupby, metadata = json.loads(key)
        qty = _column(_quantity(metric.aggregation, [reading.qty for reading in readings]))
        rules = self._rules.get(name)
        price = price_of(rules, scope, begin, qty, {**metadata, **groupby}) if rules else Decimal(0)
        identity = blake2b(key.encode(), digest_size=16).hexdigest()
        texts = number_text(qty), number_text(_column(price))
        return Line(scope, begin, name, identity, *texts, metric.unit, groupby, metadata)


def _quantity(aggregation: str, quantities: list[Decimal]) -> Decimal:
    """In order of time. Exact, but for a mean, which has 28 significant digits."""
    with localcontext(prec=200):
        total = sum(quantities, Decimal(0))
    match aggregation:
        case "sum":
            return total
        case "mean":
            with localcontext(prec=28, rounding=ROUND_HALF_EVEN):
                return total / len(quantities)
        case "delta":
            return quantities[-1] - quantities[0]
        case "count":
            return Decimal(len(quantities))
        case "max":
            return max(quantities)
        case "last":
            return quantities[-1]
    raise ValueError(aggregation)


def _column(number: Decimal) -> Decimal:
    with localcontext(prec=200, rounding=ROUND_HALF_EVEN):
        return number.quantize(_COLUMN)


def _totals(sums: dict[str, list[Decimal]]) -> list[Total]:
    units = {metric.name: metric.unit for metric in METRICS}
    rows = [
        Total(name, number_text(qty), units[name], int(count), number_text(price))
        for name, (qty, price, count) in sorted(sums.items())
        if count
    ]
    with localcontext(prec=200):
        price = sum((price for _, price, _ in sums.values()), Decimal(0))
    return [*rows, Total("total", None, None, sum(row.lines for row in rows), number_text(price))]
