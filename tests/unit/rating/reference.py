"""The hashmap as slowly and plainly as it can be said, to compare the compiled one with.

A literal reading of the specification: every level in turn, every mapping compared, plain dicts, one decimal context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from rater.model.labels import LabelValue
from rater.model.rules import RuleType
from rater.rating import RuleBook


@dataclass
class Gathered:
    flat: Decimal = Decimal(0)
    rate: Decimal = Decimal(1)
    level: Decimal = Decimal(-1)
    cost: Decimal = Decimal(0)
    type: RuleType = RuleType.FLAT
    scope: str = "field"


def slow_price(
    book: RuleBook,
    scope_id: str | None,
    period_begin: int,
    metric: str,
    qty: Decimal,
    groupby: Mapping[str, LabelValue],
    metadata: Mapping[str, LabelValue],
    price: Decimal,
) -> Decimal | None:
    """The price of a point; None where a field with thresholds is no number."""
    service = book.service_named(metric)
    if service is None or not book.module("hashmap").enabled:
        return price
    desc = {**metadata, **groupby}
    groups: dict[str, Gathered] = {}
    with localcontext(Context(prec=28, rounding=ROUND_HALF_EVEN)):
        _apply_mappings(groups, _mappings(book, service.service_id, scope_id, period_begin), "")
        _apply_thresholds(groups, _thresholds(book, service.service_id, scope_id), qty, "service")
        for field in book.fields_of(service.service_id):
            if field.name not in desc:
                continue
            value = desc[field.name]
            _apply_mappings(groups, _mappings(book, field.field_id, scope_id, period_begin), str(value))
            thresholds = _thresholds(book, field.field_id, scope_id)
            if thresholds:
                try:
                    number = Decimal(value)  # type: ignore[arg-type] # None is one of the values that must fail
                except (ArithmeticError, TypeError):
                    return None
                if number.is_nan():
                    return None
                _apply_thresholds(groups, thresholds, number, "field")
        for gathered in groups.values():
            price = price + _amount(gathered, qty)
    return price


Rules = dict[str, dict[object, tuple[RuleType, Decimal]]]


def _group_name(book: RuleBook, group_id: str | None) -> str:
    return "_DEFAULT_" if group_id is None else book.groups[group_id].name


def _mappings(book: RuleBook, parent_id: str, scope_id: str | None, period_begin: int) -> Rules:
    """First the rules for everybody, then those of the scope: group to value to (type, cost)."""
    found: Rules = {}
    for tenant_id in (None, scope_id):
        for entry in book.mappings_of(parent_id):
            rule = entry.rule
            started = rule.start is None or rule.start <= period_begin
            ended = rule.end is not None and rule.end <= period_begin
            if rule.tenant_id == tenant_id and started and not ended:
                found.setdefault(_group_name(book, rule.group_id), {})[rule.value] = (rule.type, rule.cost)
    return found


def _thresholds(book: RuleBook, parent_id: str, scope_id: str | None) -> Rules:
    found: Rules = {}
    for tenant_id in (None, scope_id):
        for entry in book.thresholds_of(parent_id):
            rule = entry.rule
            if rule.tenant_id == tenant_id:
                found.setdefault(_group_name(book, rule.group_id), {})[rule.level] = (rule.type, rule.cost)
    return found


def _apply_mappings(groups: dict[str, Gathered], mappings: Rules, value: str) -> None:
    for group, by_value in mappings.items():
        for mapped, (kind, cost) in by_value.items():
            if mapped != value:
                continue
            gathered = groups.setdefault(group, Gathered())
            if kind is RuleType.RATE:
                gathered.rate = gathered.rate * cost
            elif cost > gathered.flat:
                gathered.flat = cost


def _apply_thresholds(groups: dict[str, Gathered], thresholds: Rules, number: Decimal, scope: str) -> None:
    for group, by_level in thresholds.items():
        for level, (kind, cost) in by_level.items():
            assert isinstance(level, Decimal)
            if number < level:
                continue
            gathered = groups.setdefault(group, Gathered())
            if level > gathered.level:
                gathered.level, gathered.cost, gathered.type, gathered.scope = level, cost, kind, scope


def _amount(gathered: Gathered, qty: Decimal) -> Decimal:
    flat, rate = gathered.flat, gathered.rate
    if gathered.scope == "field":
        if gathered.type is RuleType.FLAT:
            flat = flat + gathered.cost
        else:
            rate = rate * gathered.cost
    amount = rate * flat * qty
    if gathered.scope == "service":
        amount = amount + gathered.cost if gathered.type is RuleType.FLAT else amount * gathered.cost
    return amount
