"""A slow second opinion on the demonstration: usage file and rule document in, every line and its price out.

Shares no code with rater: the rules of CloudKitty's hashmap (docs of rater/rating) written down once more, plainly,
with `decimal` alone. No windows, no stream, no cache; everything is held in memory and rated at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PERIOD = 3600
AGGREGATION = {
    "instance": "sum",
    "network.incoming": "sum",
    "network.outgoing": "sum",
    "storage.objects.size": "last",
    "volume.size": "max",
}


class Line(NamedTuple):
    """A line as an export should show it; numbers as plain text, times in seconds since the epoch."""

    scope_id: str
    period_begin: int
    metric: str
    line_id: str
    qty: str
    price: str
    unit: str
    groupby: dict[str, str]
    metadata: dict[str, str]


def expected_lines(usage_files: Iterable[Path], rules_file: Path) -> list[Line]:
    """Every line that the usage files make, by scope, period, metric and line id."""
    rules = yaml.safe_load(rules_file.read_text())["hashmap"]["services"]
    resources: dict[tuple[str, int, str, str], list[dict[str, Any]]] = {}
    for sample in _samples(usage_files):
        period_begin = _seconds(sample["begin"]) // PERIOD * PERIOD
        labels = json.dumps([sample["groupby"], sample["metadata"]], sort_keys=True)
        resources.setdefault((sample["scope_id"], period_begin, sample["metric"], labels), []).append(sample)
    lines = [_line(*key, found, rules) for key, found in resources.items()]
    return sorted(lines, key=lambda line: (line.scope_id, line.period_begin, line.metric, line.line_id))


def _samples(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        for text in file.read_text().splitlines():
            entry = json.loads(text)
            if "covers" not in entry:
                yield entry


def _line(
    scope_id: str, period_begin: int, metric: str, labels: str, samples: list[dict[str, Any]], rules: list[Any]
) -> Line:
    groupby, metadata = json.loads(labels)
    with localcontext(prec=200):
        qty = _quantity(AGGREGATION[metric], samples)
    service = next((service for service in rules if service["name"] == metric), None)
    price = price_of(service, scope_id, period_begin, qty, {**metadata, **groupby}) if service else Decimal(0)
    identity = json.dumps(
        [scope_id, metric, groupby, metadata], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    line_id = blake2b(identity.encode(), digest_size=16).hexdigest()
    unit = samples[0]["unit"]
    return Line(scope_id, period_begin, metric, line_id, number_text(qty), number_text(price), unit, groupby, metadata)


def _quantity(aggregation: str, samples: list[dict[str, Any]]) -> Decimal:
    quantities = [Decimal(sample["qty"]) for sample in sorted(samples, key=lambda sample: sample["begin"])]
    return {"sum": sum(quantities, Decimal(0)), "max": max(quantities), "last": quantities[-1]}[aggregation]


class _Group:
    """What the rules of one group have said of a point so far."""

    def __init__(self) -> None:
        self.flat = Decimal(0)
        self.rate = Decimal(1)
        self.level = Decimal(-1)
        self.threshold = Decimal(0)
        self.threshold_type = "flat"
        self.threshold_of_field = True


def price_of(
    service: dict[str, Any], scope_id: str, period_begin: int, qty: Decimal, labels: dict[str, str]
) -> Decimal:
    with localcontext(prec=28, rounding=ROUND_HALF_EVEN):
        groups: dict[str, _Group] = {}
        for rule in _in_force(service.get("mappings", []), scope_id, period_begin).values():
            _map(groups, rule)
        _reach(groups, _in_force(service.get("thresholds", []), scope_id, period_begin), qty, of_field=False)
        for field in service.get("fields", []):
            if field["name"] in labels:
                value = labels[field["name"]]
                for rule in _in_force(field.get("mappings", []), scope_id, period_begin).values():
                    if rule["value"] == value:
                        _map(groups, rule)
                if field.get("thresholds"):
                    thresholds = _in_force(field["thresholds"], scope_id, period_begin)
                    _reach(groups, thresholds, Decimal(value), of_field=True)
        return _total(groups.values(), qty)


def _in_force(rules: list[dict[str, Any]], scope_id: str, period_begin: int) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The rules that hold for a scope and a period; a tenant's rule takes the place of everybody's."""
    chosen = {}
    for tenant in (None, scope_id):
        for rule in rules:
            if rule.get("tenant_id") != tenant:
                continue
            begins = _seconds(rule["start"]) if rule.get("start") else 0
            ends = _seconds(rule["end"]) if rule.get("end") else None
            if begins <= period_begin and (ends is None or ends > period_begin):
                chosen[rule.get("group"), rule.get("value"), rule.get("level")] = rule
    return chosen


def _map(groups: dict[str, _Group], rule: dict[str, Any]) -> None:
    group = groups.setdefault(rule.get("group") or "_DEFAULT_", _Group())
    cost = Decimal(rule["cost"])
    if rule.get("type", "flat") == "rate":
        group.rate *= cost
    elif cost > group.flat:
        group.flat = cost


def _reach(groups: dict[str, _Group], rules: dict[Any, dict[str, Any]], number: Decimal, *, of_field: bool) -> None:
    for rule in rules.values():
        if Decimal(rule["level"]) > number:
            continue
        group = groups.setdefault(rule.get("group") or "_DEFAULT_", _Group())
        if Decimal(rule["level"]) > group.level:
            group.level, group.threshold = Decimal(rule["level"]), Decimal(rule["cost"])
            group.threshold_type, group.threshold_of_field = rule.get("type", "flat"), of_field


def _total(groups: Iterable[_Group], qty: Decimal) -> Decimal:
    price = Decimal(0)
    for group in groups:
        reached = group.level > -1
        if reached and group.threshold_of_field:
            if group.threshold_type == "flat":
                group.flat += group.threshold
            else:
                group.rate *= group.threshold
        result = group.rate * group.flat * qty
        if reached and not group.threshold_of_field:
            result = result + group.threshold if group.threshold_type == "flat" else result * group.threshold
        price += result
    return price


def _seconds(text: Any) -> int:
    instant = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return int(instant.replace(tzinfo=instant.tzinfo or UTC).timestamp())


def number_text(number: Decimal) -> str:
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
