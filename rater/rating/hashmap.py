"""CloudKitty's hashmap: the price of a point from mappings and thresholds, the same to the last of 28 digits.

Rules are compiled once per rule book, scope and stretch of time between two rule dates; a point then costs a few dict
look-ups. Every arithmetic step is rounded half-even to 28 significant digits, in CloudKitty's order of steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from itertools import count
from typing import Any, Final, TypeAlias

import msgspec

from rater.model.errors import RaterError
from rater.model.labels import LabelValue, label_text
from rater.model.rules import MappingRule, RuleType, ThresholdRule
from rater.rating.book import RuleBook

__all__ = ["MODULE", "PRICE_CONTEXT", "Compiler", "Plan", "UnratableError", "compile_rules"]

MODULE = "hashmap"
DEFAULT_GROUP = "_DEFAULT_"  # rules without a group share it with a group of that name
MAX_PLANS = 20_000  # plans kept by a Compiler before it starts anew; scopes without rules of their own share theirs
MAX_SUMS = 50_000  # combinations of rules that a Compiler remembers, some 500 bytes each, before it starts anew

ZERO, ONE = Decimal(0), Decimal(1)
_RATE = RuleType.RATE  # once, not for each of thousands of rules
NO_LEVEL = Decimal(-1)  # levels up to this one can never win, as in CloudKitty

PRICE_CONTEXT: Final = Context(
    prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, capitals=1, clamp=0, flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)  # fmt: skip
_add, _multiply = PRICE_CONTEXT.add, PRICE_CONTEXT.multiply

_ABSENT: Final[Any] = object()  # a label that a point does not have; None is a value

Action: TypeAlias = tuple[str, bool, Decimal]  # group, is a rate, cost
Steps: TypeAlias = dict[Decimal, tuple[bool, Decimal]]  # level to: is a rate, cost
Levels: TypeAlias = list[tuple[str, list[Decimal], list[tuple[bool, Decimal]]]]  # group, levels ascending, their costs

Sum: TypeAlias = tuple[Decimal, Decimal | None, Decimal | None]  # cost of a unit, then a factor or a term of the whole
Sums: TypeAlias = tuple[Sum, ...]  # of the groups that a point touches, in the order in which it touches them
Met: TypeAlias = tuple[Any, ...]
"""All that decides the sums of a point: the number of its service and how many of its levels the quantity reaches;
then of each field its value, None if no mapping is about it, and, if there are levels, how many the value reaches."""


class UnratableError(RaterError):
    """A point that no rule can read: the point is put aside, its neighbours are rated."""

    def __init__(self, metric: str, reason: str) -> None:
        self.metric = metric
        self.reason = reason
        super().__init__(f"metric {metric!r}: {reason}")


class _State:
    """What one group has gathered for one point."""

    __slots__ = ("cost", "flat", "is_rate", "level", "of_service", "rate")

    def __init__(self) -> None:
        self.flat = ZERO
        self.rate = ONE
        self.level = NO_LEVEL
        self.cost = ZERO
        self.is_rate = False
        self.of_service = False


class _Rules(msgspec.Struct, frozen=True):
    """The compiled rules of one parent, a service or a field, as one scope sees them."""

    groups: dict[str, int] = {}
    """Rank of the groups of mappings: the order in which they come into play."""
    by_value: dict[str, tuple[Action, ...]] = {}
    """Mappings for everybody by value; the value is "" in a service."""
    own_values: dict[str, tuple[Action, ...]] = {}
    """What stands instead for the values that the scope has own mappings of."""
    steps: dict[str, Steps] = {}
    """Thresholds by group."""
    levels: Levels = []
    """The same, made for bisection."""
    bounds: list[Decimal] = []
    """The levels of all groups, ascending."""

    def actions(self, value: str) -> tuple[Action, ...]:
        """What the mappings do to a point that has this value."""
        return self.own_values.get(value) or self.by_value.get(value, ())


class _Service(msgspec.Struct, frozen=True):
    """The compiled rules of one metric."""

    number: int
    """Tells it from all others of its compiler."""
    rules: _Rules
    fields: tuple[tuple[str, _Rules], ...]
    bounds: list[Decimal]
    """Of `rules`."""
    labels: tuple[tuple[str, Container[str], Container[str], list[Decimal]], ...]
    """Of each field its name, the values with mappings for everybody and of its own, and the bounds."""


def _service(number: int, rules: _Rules, fields: tuple[tuple[str, _Rules], ...]) -> _Service:
    labels = tuple((name, part.by_value, part.own_values, part.bounds) for name, part in fields)
    return _Service(number, rules, fields, rules.bounds, labels)


class Plan:
    """Prices points of one scope in one stretch of time by the rules of one book. Never changes.

    Points that meet the same rules differ in their quantity alone, so what the groups come to for a unit is worked
    out once and kept in `sums`, which the plans of a compiler share. No step of the arithmetic is left out or moved.
    """

    __slots__ = ("_services", "_sums", "rule_version")

    def __init__(self, rule_version: int, services: Mapping[str, _Service], sums: dict[Met, Sums]) -> None:
        self.rule_version = rule_version
        self._services = services
        self._sums = sums

    def price(
        self,
        metric: str,
        qty: Decimal,
        groupby: Mapping[str, LabelValue],
        metadata: Mapping[str, LabelValue],
        price: Decimal = ZERO,
    ) -> Decimal:
        """The price of one point: what earlier modules came to (`price`) plus what the rules add.

        A label in both maps counts as it stands in `groupby`. At most 28 significant digits; trailing zeros vary, so
        compare as numbers. Raises UnratableError if a field with thresholds holds no number, or a sum overflows.
        """
        with localcontext(PRICE_CONTEXT):
            return self.price_in_context(metric, qty, groupby, metadata, price)

    def price_in_context(
        self,
        metric: str,
        qty: Decimal,
        groupby: Mapping[str, LabelValue],
        metadata: Mapping[str, LabelValue],
        price: Decimal,
    ) -> Decimal:
        """The same for a caller who has made PRICE_CONTEXT the current one for many points: a third faster."""
        service = self._services.get(metric)
        if service is None:
            return price
        if not qty.is_finite():
            raise UnratableError(metric, f"its quantity is {qty}, which is no finite number: correct the source")
        met: list[object] = [service.number, bisect_right(service.bounds, qty)]
        for name, shared, own, bounds in service.labels:
            value = groupby.get(name, _ABSENT)
            if value is _ABSENT:
                value = metadata.get(name, _ABSENT)
                if value is _ABSENT:
                    met += (None, 0) if bounds else (None,)  # the same as a value that no rule is about
                    continue
            text = value if type(value) is str else label_text(value)
            met.append(text if text in shared or text in own else None)
            if bounds:
                met.append(bisect_right(bounds, _number(metric, name, value)))
        key = tuple(met)
        try:
            sums = self._sums.get(key)
            if sums is None:
                if len(self._sums) >= MAX_SUMS:
                    self._sums.clear()
                sums = self._sums[key] = _sums(service, key)
            for unit, factor, term in sums:
                result = unit * qty
                if factor is not None:
                    result *= factor
                elif term is not None:
                    result += term
                price += result
        except (InvalidOperation, Overflow):
            raise UnratableError(metric, f"quantity {qty} makes a price beyond all bounds: correct it") from None
        return price


def _sums(service: _Service, met: Met) -> Sums:
    """What the groups come to for a unit, as far as the quantity does not matter."""
    states: dict[str, _State] = {}
    _, reached, *rest = met
    _map(states, service.rules.actions(""))
    _reach(states, service.rules, reached, of_service=True)
    parts = iter(rest)
    for _, rules in service.fields:
        text = next(parts)
        if text is not None:
            _map(states, rules.actions(text))
        if rules.bounds:
            _reach(states, rules, next(parts), of_service=False)
    return tuple(_sum(state) for state in states.values())


def _map(states: dict[str, _State], actions: Iterable[Action]) -> None:
    for group, is_rate, cost in actions:
        state = states.setdefault(group, _State())
        if is_rate:
            state.rate = _multiply(state.rate, cost)
        elif cost > state.flat:
            state.flat = cost


def _reach(states: dict[str, _State], rules: _Rules, reached: int, *, of_service: bool) -> None:
    """The thresholds of a parent of which the first `reached` levels are reached."""
    if not reached:
        return
    highest = rules.bounds[reached - 1]
    for group, levels, costs in rules.levels:
        of_group = bisect_right(levels, highest)
        if not of_group:
            continue
        state = states.setdefault(group, _State())
        if levels[of_group - 1] > state.level:
            state.level = levels[of_group - 1]
            state.is_rate, state.cost = costs[of_group - 1]
            state.of_service = of_service


def _sum(state: _State) -> Sum:
    flat, rate = state.flat, state.rate
    if state.of_service:
        unit = _multiply(rate, flat)
        return (unit, state.cost, None) if state.is_rate else (unit, None, state.cost)
    if state.is_rate:
        rate = _multiply(rate, state.cost)
    else:
        flat = _add(flat, state.cost)  # without a threshold too: adding zero rounds a long cost to 28 digits
    return _multiply(rate, flat), None, None


def _number(metric: str, field: str, value: LabelValue) -> Decimal:
    """A label as a number: texts by their decimal digits, floats by their exact binary value, as in CloudKitty."""
    try:
        number = None if value is None else Decimal(value, PRICE_CONTEXT)
    except InvalidOperation:
        number = None
    if number is None or number.is_nan():
        shown = f"{value!r:.100}"
        raise UnratableError(
            metric,
            f"field {field!r} has thresholds, but its value {shown} is no number: correct the source or the rules",
        )
    return number


class Compiler:
    """Makes and keeps the plans of one rule book; cheap to ask for every frame.

    Plans are shared as far as they are equal: between all periods that no rule's start or end divides, and between all
    scopes without rules of their own. A scope with own rules shares every field that they do not touch.
    """

    def __init__(self, book: RuleBook) -> None:
        self._version = book.version
        self._enabled = book.module(MODULE).enabled
        self._group_names = {group.group_id: group.name for group in book.groups.values()}
        self._services = [
            (service, [(field.name, field.field_id) for field in book.fields_of(service.service_id)])
            for service in book.services.values()
        ]
        self._mappings: dict[tuple[str | None, str], list[MappingRule]] = {}  # by scope and parent, in order
        self._thresholds: dict[tuple[str | None, str], list[ThresholdRule]] = {}
        bounds: set[int | None] = set()
        for service, fields in self._services:
            for parent_id in (service.service_id, *(field_id for _, field_id in fields)):
                for mapping in book.mappings_of(parent_id):
                    rule = mapping.rule
                    self._mappings.setdefault((rule.tenant_id, parent_id), []).append(rule)
                    bounds.update((rule.start, rule.end))
                for threshold in book.thresholds_of(parent_id):
                    self._thresholds.setdefault((threshold.rule.tenant_id, parent_id), []).append(threshold.rule)
        self._bounds = sorted(bound for bound in bounds if bound is not None)
        self._scopes = {scope for scope, _ in (*self._mappings, *self._thresholds)}
        self._plans: dict[tuple[str | None, int], Plan] = {}
        self._sums: dict[Met, Sums] = {}
        self._numbers = count()

    def plan(self, scope_id: str | None, period_begin: int) -> Plan:
        """The plan of a scope for the period that begins at `period_begin` (seconds since the epoch, UTC).

        Scope None goes by the rules for everybody alone.
        """
        scope = scope_id if scope_id in self._scopes else None
        key = scope, bisect_right(self._bounds, period_begin)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key] = self._compile(scope, period_begin)
        return plan

    def _compile(self, scope_id: str | None, period_begin: int) -> Plan:
        services: dict[str, _Service] = {}
        if self._enabled:
            shared = {} if scope_id is None else self.plan(None, period_begin)._services
            for service, fields in self._services:
                services[service.name] = self._compile_service(
                    service.service_id, fields, shared.get(service.name), scope_id, period_begin
                )
        return Plan(self._version, services, self._sums)

    def _compile_service(
        self,
        service_id: str,
        fields: list[tuple[str, str]],
        shared: _Service | None,
        scope_id: str | None,
        period_begin: int,
    ) -> _Service:
        parts = (
            [_Rules()] * (1 + len(fields)) if shared is None else [shared.rules, *(part for _, part in shared.fields)]
        )
        own = [
            self._layer(part, scope_id, parent_id, period_begin)
            for part, parent_id in zip(parts, (service_id, *(field_id for _, field_id in fields)), strict=True)
        ]
        if shared is not None and all(mine is part for mine, part in zip(own, parts, strict=True)):
            return shared
        names = [name for name, _ in fields]
        return _service(next(self._numbers), own[0], tuple(zip(names, own[1:], strict=True)))

    def _layer(self, below: _Rules, scope_id: str | None, parent_id: str, period_begin: int) -> _Rules:
        """The rules of one parent: those `below` with those of the scope over them; `below` itself if there are none.

        A rule replaces the one of the same group and value (or level), keeping its group's place in the order; a new
        group comes last. So it is with CloudKitty, which loads the rules for everybody first.
        """
        mappings = [
            rule
            for rule in self._mappings.get((scope_id, parent_id), ())
            if (rule.start is None or rule.start <= period_begin) and (rule.end is None or rule.end > period_begin)
        ]
        thresholds = self._thresholds.get((scope_id, parent_id), [])
        if not mappings and not thresholds:
            return below
        groups, values = self._layer_mappings(below, mappings)
        steps = {group: dict(costs) for group, costs in below.steps.items()}
        for rule in thresholds:
            steps.setdefault(self._group(rule), {})[rule.level] = (rule.type is _RATE, rule.cost)
        return _Rules(
            groups=groups,
            by_value=values if scope_id is None else below.by_value,
            own_values={} if scope_id is None else values,
            steps=steps,
            levels=[
                (group, sorted(costs), [costs[level] for level in sorted(costs)]) for group, costs in steps.items()
            ],
            bounds=sorted({level for costs in steps.values() for level in costs}),
        )

    def _layer_mappings(
        self, below: _Rules, mappings: list[MappingRule]
    ) -> tuple[dict[str, int], dict[str, tuple[Action, ...]]]:
        """Rank of all groups, and the actions of the values that `mappings` name, in that rank."""
        groups = dict(below.groups)
        values: dict[str, tuple[Action, ...]] = {}
        shared = below.by_value
        for rule in mappings:
            group = self._group(rule)
            if group not in groups:
                groups[group] = len(groups)
            value = rule.value
            action = (group, rule.type is _RATE, rule.cost)
            others = values.get(value) or shared.get(value)
            values[value] = _with(others, action, groups) if others else (action,)
        return groups, values

    def _group(self, rule: MappingRule | ThresholdRule) -> str:
        return DEFAULT_GROUP if rule.group_id is None else self._group_names[rule.group_id]


def _with(actions: tuple[Action, ...], action: Action, groups: Mapping[str, int]) -> tuple[Action, ...]:
    """The actions of a value with one more, which replaces that of its group; in the rank of their groups."""
    kept = [other for other in actions if other[0] != action[0]]
    return tuple(sorted([*kept, action], key=lambda one: groups[one[0]]))


def compile_rules(book: RuleBook, scope_id: str | None, period_begin: int) -> Plan:
    """The plan of one scope (None: the rules for everybody alone) for the period that begins then (seconds, UTC).

    Reads the whole book: whoever needs more than one plan keeps a `Compiler`.
    """
    return Compiler(book).plan(scope_id, period_begin)
