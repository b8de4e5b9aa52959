"""What stands in topic `rules`: the events that make up the rule book, one record per event, one partition.

An event applies as a whole or not at all, and only to the version of the book it names; see `rater.rating.book`.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import Enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from rater.model.version import FORMAT_VERSION

__all__ = [
    "COST_DECIMALS",
    "LEVEL_DECIMALS",
    "MAX_INSTANT",
    "MAX_SCRIPT",
    "NUMBER_DIGITS",
    "Change",
    "CollectorMapped",
    "CollectorSwitched",
    "Field",
    "FieldCreated",
    "FieldDeleted",
    "Group",
    "GroupCreated",
    "GroupDeleted",
    "MappingCreated",
    "MappingDeleted",
    "MappingRule",
    "MappingUpdated",
    "ModuleSet",
    "Moved",
    "RuleEvent",
    "RuleType",
    "Script",
    "ScriptCreated",
    "ScriptDeleted",
    "ScriptUpdated",
    "Service",
    "ServiceCreated",
    "ServiceDeleted",
    "ThresholdCreated",
    "ThresholdDeleted",
    "ThresholdRule",
    "ThresholdUpdated",
    "TierStep",
    "Tiers",
    "TiersDeleted",
    "TiersSet",
    "cost_fault",
    "level_fault",
    "number_text",
    "tiers_fault",
]

NUMBER_DIGITS = 12  # digits before the point: CloudKitty's columns are NUMERIC(40,28) and NUMERIC(20,8)
COST_DECIMALS = 28
LEVEL_DECIMALS = 8
MAX_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z
MAX_SCRIPT = 1_000_000  # characters: an event of the topic holds 4 MiB

Id: TypeAlias = Annotated[
    str, Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", description="a UUID")
]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Instant: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INSTANT, description="seconds since the epoch, UTC")]
Cost: TypeAlias = Annotated[
    Decimal, Meta(description="decimal text, exact: at most 12 digits before and 28 after the point")
]
Level: TypeAlias = Annotated[
    Decimal, Meta(description="decimal text, exact: at most 12 digits before and 8 after the point")
]

_EXACT = Context(prec=NUMBER_DIGITS + COST_DECIMALS, rounding=ROUND_HALF_EVEN)


class RuleType(Enum):
    """How a cost acts: `flat` is added up, `rate` multiplies."""

    FLAT = "flat"
    RATE = "rate"


class Service(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The rules of one metric; its name is the metric's public name."""

    service_id: Id
    name: Name


class Field(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The rules about one label of a metric; its name is a key of `groupby` or `metadata`."""

    field_id: Id
    service_id: Id
    name: Name


class Group(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Rules of one group act on each other, those of different groups add up."""

    group_id: Id
    name: Name


class MappingRule(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A cost for a metric, or for one value of a field of it, within `[start, end)`.

    Exactly one of `service_id` and `field_id` is set; `value` is set with `field_id` only. `tenant_id` None is
    everybody, `start` None the beginning of time, `end` None for ever.
    """

    mapping_id: Id
    cost: Cost
    type: RuleType = RuleType.FLAT
    value: Annotated[str, Meta(max_length=255)] = ""
    service_id: Id | None = None
    field_id: Id | None = None
    group_id: Id | None = None
    tenant_id: Name | None = None
    start: Instant | None = None
    end: Instant | None = None
    name: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    description: Annotated[str, Meta(max_length=256)] | None = None

    @property
    def parent_id(self) -> str:
        """The service or the field that the rule belongs to."""
        return self.service_id or self.field_id or ""


class ThresholdRule(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A cost from a level of the quantity on, or of the number in a field. Always valid: thresholds have no dates."""

    threshold_id: Id
    level: Level
    cost: Cost
    type: RuleType = RuleType.FLAT
    service_id: Id | None = None
    field_id: Id | None = None
    group_id: Id | None = None
    tenant_id: Name | None = None

    @property
    def parent_id(self) -> str:
        """The service or the field that the rule belongs to."""
        return self.service_id or self.field_id or ""


class Script(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A rating script: Python that changes the points of a frame, within `[start, end)` of period begins.

    `start` None is the beginning of time, `end` None for ever. Whether it compiles is checked before it is written,
    not by readers: Pythons of two versions may differ, and all readers must agree on the book.
    """

    script_id: Id
    name: Name
    data: Annotated[str, Meta(max_length=MAX_SCRIPT)]
    start: Instant | None = None
    end: Instant | None = None
    description: Annotated[str, Meta(max_length=256)] | None = None


class TierStep(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What each unit costs up to a cumulated quantity; `up_to` None, in the last step alone, is without bound."""

    cost: Cost
    up_to: Level | None = None


class Tiers(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Graduated prices of a service over what a scope has used since the begin of the month (UTC).

    One count runs for each combination of the values of the labels `by`. The bounds of `steps` rise.
    """

    service_id: Id
    steps: Annotated[tuple[TierStep, ...], Meta(min_length=1, max_length=1000)]
    by: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()


class _Change(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type"):
    """One step of an event."""


class ServiceCreated(_Change, frozen=True, tag="service_created"):
    """Its name must be free."""

    service: Service


class ServiceDeleted(_Change, frozen=True, tag="service_deleted"):
    """Takes its fields and all rules below it along."""

    service_id: Id


class FieldCreated(_Change, frozen=True, tag="field_created"):
    """Comes after the fields its service has; its name must be free there."""

    field: Field


class FieldDeleted(_Change, frozen=True, tag="field_deleted"):
    """Takes all rules below it along."""

    field_id: Id


class GroupCreated(_Change, frozen=True, tag="group_created"):
    """Its name must be free."""

    group: Group


class GroupDeleted(_Change, frozen=True, tag="group_deleted"):
    """Its rules are deleted with it if `recursive`; else they stay, without a group, which may change prices."""

    group_id: Id
    recursive: bool = False


class MappingCreated(_Change, frozen=True, tag="mapping_created"):
    """Comes after the mappings its parent has."""

    mapping: MappingRule


class MappingUpdated(_Change, frozen=True, tag="mapping_updated"):
    """The mapping of that id as it is from now on, for every period. Its parent stays the same."""

    mapping: MappingRule


class MappingDeleted(_Change, frozen=True, tag="mapping_deleted"):
    """The mapping is kept for audit and counts for no period any more."""

    mapping_id: Id


class ThresholdCreated(_Change, frozen=True, tag="threshold_created"):
    """Comes after the thresholds its parent has."""

    threshold: ThresholdRule


class ThresholdUpdated(_Change, frozen=True, tag="threshold_updated"):
    """The threshold of that id as it is from now on, for every period. Its parent stays the same."""

    threshold: ThresholdRule


class ThresholdDeleted(_Change, frozen=True, tag="threshold_deleted"):
    """The threshold is gone."""

    threshold_id: Id


class ScriptCreated(_Change, frozen=True, tag="script_created"):
    """Comes after the scripts there are; its name must be free among those that are not deleted."""

    script: Script


class ScriptUpdated(_Change, frozen=True, tag="script_updated"):
    """The script of that id as it is from now on, for every period."""

    script: Script


class ScriptDeleted(_Change, frozen=True, tag="script_deleted"):
    """The script is kept for audit and runs for no period any more."""

    script_id: Id


class TiersSet(_Change, frozen=True, tag="tiers_set"):
    """Graduated prices of a service, in place of those it had; it must have no mappings, thresholds or fields."""

    tiers: Tiers


class TiersDeleted(_Change, frozen=True, tag="tiers_deleted"):
    """The service has no graduated prices any more."""

    service_id: Id


class Moved(_Change, frozen=True, tag="moved"):
    """A field, mapping, threshold or script takes the place before its sibling `before`, the last one if that is None.

    Order is order of creation until something is moved. It decides which of two equal levels wins and in which order
    groups are added up.
    """

    id: Id
    before: Id | None = None


class ModuleSet(_Change, frozen=True, tag="module_set"):
    """A rating module is switched on or off and given its priority."""

    module: Name
    enabled: bool
    priority: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class CollectorMapped(_Change, frozen=True, tag="collector_mapped"):
    """CloudKitty's old note which collector a service has, None for none: kept for its API, and looked at by nobody."""

    service: Name
    collector: Name | None = None


class CollectorSwitched(_Change, frozen=True, tag="collector_switched"):
    """CloudKitty's old switch of a collector: kept for its API, and looked at by nobody."""

    collector: Name
    enabled: bool


Change: TypeAlias = (
    ServiceCreated
    | ServiceDeleted
    | FieldCreated
    | FieldDeleted
    | GroupCreated
    | GroupDeleted
    | MappingCreated
    | MappingUpdated
    | MappingDeleted
    | ThresholdCreated
    | ThresholdUpdated
    | ThresholdDeleted
    | ScriptCreated
    | ScriptUpdated
    | ScriptDeleted
    | TiersSet
    | TiersDeleted
    | Moved
    | ModuleSet
    | CollectorMapped
    | CollectorSwitched
)


class RuleEvent(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="rule_event",
):
    """A step of the rule book from `expected_version` to the next, however many changes it carries."""

    expected_version: Annotated[int, Meta(ge=0, le=2**53)]
    author: Name
    reason: Annotated[str, Meta(max_length=2000)]
    created_at: Instant
    changes: Annotated[tuple[Change, ...], Meta(min_length=1)]
    version: int = FORMAT_VERSION


def cost_fault(cost: Decimal) -> str:
    """Why this cost cannot be taken, as the end of a sentence; empty if it can."""
    return _fault(cost, COST_DECIMALS)


def level_fault(level: Decimal) -> str:
    """Why this level cannot be taken, as the end of a sentence; empty if it can."""
    return _fault(level, LEVEL_DECIMALS)


def tiers_fault(tiers: Tiers) -> str:
    """Why these tiers cannot be taken, as a sentence; empty if they can."""
    if len(set(tiers.by)) < len(tiers.by):
        return "a label stands twice in `by`"
    *bounded, last = tiers.steps
    if last.up_to is not None:
        return "the last step has a bound: it must be without one (up_to null)"
    floor = Decimal(0)
    for number, step in enumerate(bounded):
        if step.up_to is None:
            return f"steps[{number}] has no bound: only the last step is without one"
        if fault := level_fault(step.up_to):
            return f"the bound of steps[{number}] {fault}"
        if step.up_to <= floor:
            return f"the bound of steps[{number}] is {step.up_to}: it must be more than {floor}"
        floor = step.up_to
    faults = (
        f"the cost of steps[{n}] {fault}" for n, step in enumerate(tiers.steps) if (fault := cost_fault(step.cost))
    )
    return next(faults, "")


def number_text(number: Decimal) -> str:
    """The plain decimal text of a cost or level without faults, without exponent and trailing zeros."""
    return format(_EXACT.normalize(number), "f") if number else "0"


def _fault(number: Decimal, decimals: int) -> str:
    if not number.is_finite():
        return f"is {number}: it must be a finite number"
    if not number:
        return ""
    before = number.adjusted() + 1
    if before > NUMBER_DIGITS:
        return f"has {before} digits before the point: at most {NUMBER_DIGITS} are taken"
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "a finite number has a numeric exponent"
    zeros = next(count for count, digit in enumerate(reversed(digits)) if digit)
    if -exponent - zeros > decimals:
        return f"has {-exponent - zeros} digits after the point: at most {decimals} are taken"
    return ""
