"""The hashmap once more, plain and slow, writing down every step: the second opinion that `explain` shows.

It reads the rule book itself and shares nothing with the compiled form in `rater.rating.hashmap`; a property test
holds both to the same price for any book and any point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Literal, TypeVar

import msgspec

from rater.model.labels import LabelValue, label_text
from rater.model.rules import MappingRule, RuleType, Service, ThresholdRule
from rater.rating.book import RuleBook
from rater.rating.explanation import GroupSum, Operation, RuleStep, number_of
from rater.rating.hashmap import UnratableError

__all__ = ["Traced", "trace_hashmap"]

R = TypeVar("R", MappingRule, ThresholdRule)

_WITHOUT_GROUP = "_DEFAULT_"
_context = Context(
    prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, capitals=1, clamp=0, flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)  # fmt: skip


class Traced(msgspec.Struct, frozen=True):
    """What the hashmap did to a point."""

    price: Decimal
    rules: list[RuleStep]
    groups: list[GroupSum]
    error: str = ""
    """Why it has no price; the steps up to there are kept."""


class _Group:
    """What one group has gathered: numbers, and which step they come from."""

    def __init__(self) -> None:
        self.flat = Decimal(0)
        self.flat_step: int | None = None
        self.rate = Decimal(1)
        self.level = Decimal(-1)
        self.threshold: ThresholdRule | None = None
        self.threshold_step: int | None = None


class _Tracer:
    """One point on its way through the rules of its metric."""

    def __init__(self, book: RuleBook, scope_id: str | None, period_begin: int) -> None:
        self._book = book
        self._tenants: list[str | None] = [None] if scope_id is None else [None, scope_id]
        self._period_begin = period_begin
        self.steps: list[RuleStep] = []
        self.groups: dict[str, _Group] = {}

    def group_of(self, rule: MappingRule | ThresholdRule) -> str:
        return _WITHOUT_GROUP if rule.group_id is None else self._book.groups[rule.group_id].name

    def is_valid(self, rule: MappingRule) -> bool:
        started = rule.start is None or rule.start <= self._period_begin
        return started and (rule.end is None or rule.end > self._period_begin)

    def in_order(self, rules: Iterable[R]) -> list[R]:
        """The rules for everybody, then those of the scope."""
        listed = list(rules)
        return [rule for tenant in self._tenants for rule in listed if rule.tenant_id == tenant]

    def mappings(self, parent_id: str, field: str, value: str) -> None:
        """Every mapping of the parent that names the value."""
        chosen: dict[str, list[MappingRule]] = {}  # by group: the rules of one place, of which the last one counts
        expired: list[MappingRule] = []
        for rule in self.in_order(entry.rule for entry in self._book.mappings_of(parent_id)):
            if self.is_valid(rule):
                held = chosen.setdefault(self.group_of(rule), [])  # any value gives the group its place in the order
                if rule.value == value:
                    held.append(rule)
            elif rule.value == value:
                expired.append(rule)
        for group, rules in chosen.items():
            if rules:
                *replaced, rule = rules
                self._replaced(replaced, rule, field, value)
                self._map(self.groups.setdefault(group, _Group()), rule, field, value)
        for rule in expired:
            self._note("not valid then", rule, field, value, _validity(rule), "")

    def _map(self, group: _Group, rule: MappingRule, field: str, value: str) -> None:
        number = len(self.steps)
        if rule.type is RuleType.RATE:
            group.rate = _context.multiply(group.rate, rule.cost)
        elif rule.cost > group.flat:
            if group.flat_step is not None:
                self._beaten(group.flat_step, "a dearer flat price of its group counts", rule.mapping_id)
            group.flat, group.flat_step = rule.cost, number
        elif group.flat_step is None:
            self._note("beaten", rule, field, value, "a flat price of zero or less never counts", "", group)
            return
        else:
            winner = self.steps[group.flat_step].rule_id
            self._note("beaten", rule, field, value, "its group has a flat price as high or higher", winner, group)
            return
        self._note("counts", rule, field, value, "", "", group)

    def thresholds(self, parent_id: str, field: str, number: Decimal, shown: str) -> None:
        """Every threshold of the parent that the number reaches."""
        chosen: dict[str, dict[Decimal, list[ThresholdRule]]] = {}
        for rule in self.in_order(entry.rule for entry in self._book.thresholds_of(parent_id)):
            chosen.setdefault(self.group_of(rule), {}).setdefault(rule.level, []).append(rule)
        for name, by_level in chosen.items():
            for level in sorted(by_level):
                if level <= number:
                    *replaced, rule = by_level[level]
                    self._replaced(replaced, rule, field, shown)
                    self._reach(self.groups.setdefault(name, _Group()), rule, field, shown)

    def _reach(self, group: _Group, rule: ThresholdRule, field: str, shown: str) -> None:
        if rule.level > group.level:
            if group.threshold_step is not None:
                self._beaten(group.threshold_step, "a higher level of its group is reached", rule.threshold_id)
            group.level, group.threshold, group.threshold_step = rule.level, rule, len(self.steps)
            self._note("counts", rule, field, shown, "", "", group)
        elif group.threshold_step is None:
            self._note("beaten", rule, field, shown, "levels up to -1 never count", "", group)
        else:
            winner = self.steps[group.threshold_step].rule_id
            self._note("beaten", rule, field, shown, "its group has reached this level or a higher one", winner, group)

    def _replaced(self, replaced: Iterable[R], winner: R, field: str, value: str) -> None:
        """Rules of the same place as `winner`: the same group, and the same value or level."""
        for rule in replaced:
            what = "value" if isinstance(rule, MappingRule) else "level"
            if winner.tenant_id != rule.tenant_id:
                because = f"tenant {winner.tenant_id} has its own rule for this {what}"
            else:
                because = f"a later rule stands for the same {what}"
            self._note("beaten", rule, field, value, because, _id(winner))

    def _beaten(self, step: int, because: str, beaten_by: str) -> None:
        self.steps[step] = msgspec.structs.replace(
            self.steps[step], outcome="beaten", because=because, beaten_by=beaten_by
        )

    def _note(
        self,
        outcome: Literal["counts", "beaten", "not valid then"],
        rule: MappingRule | ThresholdRule,
        field: str,
        value: str,
        because: str,
        beaten_by: str,
        group: _Group | None = None,
    ) -> None:
        is_mapping = isinstance(rule, MappingRule)
        step = RuleStep(
            outcome=outcome,
            kind="mapping" if is_mapping else "threshold",
            type=rule.type.value,
            cost=number_of(rule.cost),
            group=self.group_of(rule),
            rule_id=_id(rule),
            field=field,
            value=value,
            level="" if isinstance(rule, MappingRule) else number_of(rule.level),
            tenant_id=rule.tenant_id or "",
            name=(rule.name or "") if isinstance(rule, MappingRule) else "",
            because=because,
            beaten_by=beaten_by,
        )
        if group is not None:
            reached = "" if group.threshold is None else number_of(group.level)
            step = msgspec.structs.replace(
                step, flat=number_of(group.flat), rate=number_of(group.rate), reached=reached
            )
        self.steps.append(step)


def trace_hashmap(
    book: RuleBook,
    scope_id: str | None,
    period_begin: int,
    metric: str,
    qty: Decimal,
    groupby: Mapping[str, LabelValue],
    metadata: Mapping[str, LabelValue],
    price: Decimal,
) -> Traced:
    """The price of a point by mappings and thresholds, on top of `price`, and every rule that had a say in it.

    `period_begin` in seconds since the epoch, UTC; scope None goes by the rules for everybody.
    """
    tracer = _Tracer(book, scope_id, period_begin)
    groups: list[GroupSum] = []
    service = book.service_named(metric)
    if service is None:
        return Traced(price, [], [])
    if not qty.is_finite():
        reason = UnratableError(metric, f"its quantity is {qty}, which is no finite number: correct the source")
        return Traced(price, [], [], str(reason))
    try:
        _walk(tracer, book, service, qty, {**metadata, **groupby})
        for name, group in tracer.groups.items():
            done, amount = _amount(group, qty)
            price = _context.add(price, amount)
            groups.append(GroupSum(name, done, number_of(amount), number_of(price)))
    except UnratableError as fault:
        return Traced(price, tracer.steps, groups, str(fault))
    except (InvalidOperation, Overflow):
        reason = UnratableError(metric, f"quantity {qty} makes a price beyond all bounds: correct it")
        return Traced(price, tracer.steps, groups, str(reason))
    return Traced(price, tracer.steps, groups)


def _walk(tracer: _Tracer, book: RuleBook, service: Service, qty: Decimal, labels: Mapping[str, LabelValue]) -> None:
    """The rules of the metric, then those of each field that the point has, in order."""
    tracer.mappings(service.service_id, "", "")
    tracer.thresholds(service.service_id, "", qty, number_of(qty))
    for field in book.fields_of(service.service_id):
        if field.name not in labels:
            continue
        value = labels[field.name]
        tracer.mappings(field.field_id, field.name, label_text(value))
        if tracer.in_order(entry.rule for entry in book.thresholds_of(field.field_id)):
            number = _as_number(service.name, field.name, value)
            tracer.thresholds(field.field_id, field.name, number, label_text(value))


def _amount(group: _Group, qty: Decimal) -> tuple[list[Operation], Decimal]:
    """What a group comes to. Each operation names its operands by their values."""
    done: list[Operation] = []

    def note(what: str, result: Decimal) -> Decimal:
        done.append(Operation(what, number_of(result)))
        return result

    flat, rate, rule = group.flat, group.rate, group.threshold
    is_of_service = rule is not None and rule.service_id is not None
    if rule is not None and not is_of_service:
        if rule.type is RuleType.FLAT:
            flat = note(f"flat {number_of(flat)} + threshold {number_of(rule.cost)}", _context.add(flat, rule.cost))
        else:
            rate = note(
                f"rate {number_of(rate)} x threshold {number_of(rule.cost)}", _context.multiply(rate, rule.cost)
            )
    elif rule is None:
        flat = _context.plus(flat)  # the sum with a threshold of zero: rounds a long cost to 28 digits
    amount = note(f"rate {number_of(rate)} x flat {number_of(flat)}", _context.multiply(rate, flat))
    amount = note(f"{number_of(amount)} x quantity {number_of(qty)}", _context.multiply(amount, qty))
    if rule is not None and is_of_service:
        if rule.type is RuleType.FLAT:
            amount = note(f"{number_of(amount)} + threshold {number_of(rule.cost)}", _context.add(amount, rule.cost))
        else:
            amount = note(
                f"{number_of(amount)} x threshold {number_of(rule.cost)}", _context.multiply(amount, rule.cost)
            )
    return done, amount


def _as_number(metric: str, field: str, value: LabelValue) -> Decimal:
    """A label as a number: texts by their digits, floats by their exact binary value."""
    try:
        number = Decimal("NaN") if value is None else Decimal(value, _context)
    except InvalidOperation:
        number = Decimal("NaN")
    if number.is_nan():
        raise UnratableError(
            metric,
            f"field {field!r} has thresholds, but its value {f'{value!r:.100}'} is no number: "
            "correct the source or the rules",
        )
    return number


def _validity(rule: MappingRule) -> str:
    bounds = (("from", rule.start), ("until", rule.end))
    return " ".join(["it is valid", *(f"{word} {_iso(bound)}" for word, bound in bounds if bound is not None)])


def _iso(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _id(rule: MappingRule | ThresholdRule) -> str:
    return rule.mapping_id if isinstance(rule, MappingRule) else rule.threshold_id
