"""Why a point costs what it costs, as values that become JSON or text: what `rater.rating.explain` finds out.

Numbers are plain decimal text, exact, without exponent and trailing zeros, so that every reader sees the same digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from rater.model.labels import Labels, label_text

__all__ = [
    "Explanation",
    "GroupSum",
    "ModuleStep",
    "Number",
    "Operation",
    "RuleStep",
    "TierCount",
    "TierPart",
    "explanation_text",
    "number_of",
]

Number: TypeAlias = str
MAX_PLAIN = 200  # digits; a quantity of a usage file may have an exponent that would fill the memory
Outcome: TypeAlias = Literal["counts", "beaten", "not valid then"]


class RuleStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule that speaks of the point, and what it did to its group."""

    outcome: Outcome
    kind: Literal["mapping", "threshold"]
    type: Literal["flat", "rate"]
    cost: Number
    group: str
    rule_id: str
    field: str = ""
    """The label that the rule is about; empty for a rule of the metric itself."""
    value: str = ""
    """What the point has there: the text of its label; its quantity for a threshold of the metric."""
    level: Number = ""
    """Of a threshold."""
    tenant_id: str = ""
    name: str = ""
    because: str = ""
    """Why it does not count."""
    beaten_by: str = ""
    """Id of the rule that stands in its place."""
    flat: Number = ""
    """The group's flat price after this rule, as far as mappings go."""
    rate: Number = ""
    """The product of the group's rates after it."""
    reached: Number = ""
    """The group's highest level after it; empty while it has none."""


class Operation(msgspec.Struct, frozen=True):
    """One step of arithmetic, rounded half-even to 28 significant digits."""

    what: str
    result: Number


class GroupSum(msgspec.Struct, frozen=True):
    """What one group of rules adds to the price."""

    group: str
    operations: list[Operation]
    amount: Number
    price: Number
    """The price so far, with this group in it."""


class TierPart(msgspec.Struct, frozen=True):
    """The part of the quantity that falls into one step: `(above, up_to]` of what the month has used."""

    above: Number | None
    """None: the first step, which also holds what lies below zero."""
    up_to: Number | None
    """None: the last step, which has no end."""
    qty: Number
    cost: Number
    amount: Number
    price: Number
    """The price so far, with this part in it."""


class TierCount(msgspec.Struct, frozen=True):
    """The graduated prices that a point went through."""

    by: Labels
    """The labels whose values have a count of their own."""
    used_before: Number
    """What the month's count stood at before this point."""
    parts: list[TierPart]


class ModuleStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rating module: the price before and after it, and how it came to that."""

    module: str
    before: Number
    after: Number | None
    """None: the point left the frame here."""
    rules: list[RuleStep] = []
    groups: list[GroupSum] = []
    tiers: TierCount | None = None
    scripts: list[str] = []
    """Names of the scripts that ran, in order."""
    changes: list[str] = []
    """What else the module changed: `qty 2 -> 3`."""
    note: str = ""


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A point with every step to its price. Exactly one of `price`, `error` and `dropped` says how it ended."""

    metric: str
    unit: str
    qty: Number
    groupby: Labels
    metadata: Labels
    steps: list[ModuleStep]
    price: Number | None = None
    error: str = ""
    """Why the point has no price."""
    dropped: bool = False
    """A module took the point out of the frame."""
    added: bool = False
    """A module made the point."""


def number_of(amount: Decimal) -> Number:
    """The one text of a number: `0`, `1.5`, `1200`, never `1E+3` or `-0`; beyond 200 digits as Python writes it."""
    if not amount.is_finite() or (amount and not -MAX_PLAIN < amount.adjusted() < MAX_PLAIN):
        return str(amount)
    text = format(amount, "f") if amount else "0"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text


def explanation_text(found: Explanation, indent: str = "") -> str:
    """The explanation for people: one line for each step, the price in the last one."""
    return "\n".join(f"{indent}{line}" for line in _lines(found))


def _lines(found: Explanation) -> Iterator[str]:
    yield f"{found.metric}: {found.qty} {found.unit}  {_labels(found)}".rstrip()
    if not found.steps and not found.error:
        yield "  no rating module is on"
    for step in found.steps:
        yield from _module_lines(step)
    if found.error:
        yield f"no price: {found.error}"
    elif found.dropped:
        yield f"no price: dropped by module {found.steps[-1].module}"
    else:
        yield f"price {found.price}"


def _labels(found: Explanation) -> str:
    return ", ".join(f"{name}={label_text(value)}" for name, value in {**found.metadata, **found.groupby}.items())


def _module_lines(step: ModuleStep) -> Iterator[str]:
    ran = f" ({', '.join(step.scripts)})" if step.scripts else ""
    yield f"  {step.module}{ran}: price {step.before} -> {'none' if step.after is None else step.after}"
    if step.note:
        yield f"    {step.note}"
    for change in step.changes:
        yield f"    {change}"
    for rule in step.rules:
        yield f"    {_rule_text(rule)}"
    for group in step.groups:
        done = "; ".join(f"{operation.what} = {operation.result}" for operation in group.operations)
        sum_up = "" if group.price == group.amount else f"; price so far {group.price}"
        yield f"    group {group.group}: {done}{sum_up}"
    if step.tiers is not None:
        yield from _tier_lines(step.tiers)


def _rule_text(rule: RuleStep) -> str:
    if rule.kind == "threshold":
        where = f"{rule.field or 'quantity'} {rule.value} >= {rule.level}"
    else:
        where = f"{rule.field} = {rule.value}" if rule.field else "every point"
    marks = (("group", rule.group), ("tenant", rule.tenant_id), ("rule", rule.name))
    what = f"{where}: {rule.type} {rule.cost} ({', '.join(f'{mark} {text}' for mark, text in marks if text)})"
    if rule.outcome != "counts":
        return f"[{rule.outcome}] {what}: {rule.because}"
    level = f", level {rule.reached}" if rule.reached else ""
    return f"{what} -> flat {rule.flat}, rate {rule.rate}{level}"


def _tier_lines(tiers: TierCount) -> Iterator[str]:
    of = f" of {', '.join(f'{name}={label_text(value)}' for name, value in tiers.by.items())}" if tiers.by else ""
    yield f"    used{of} this month before: {tiers.used_before}"
    for part in tiers.parts:
        bounds = [f"above {part.above}"] if part.above is not None else []
        bounds += [f"up to {part.up_to}"] if part.up_to is not None else []
        step = " ".join(bounds) or "any quantity"
        yield f"    {step}: {part.qty} x {part.cost} = {part.amount}; price so far {part.price}"
