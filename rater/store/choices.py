"""What may be asked of sums and points, as values that also travel to the process that holds the embedded engine."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

__all__ = ["Attribute", "Choice", "Condition", "Kind", "PointPage", "PointRow", "PointsRequest", "ScopeStateRow"]
__all__ += ["SumPage", "SumRow", "SumsRequest"]

Instant: TypeAlias = Annotated[int, Meta(ge=0, le=2**32)]
Text: TypeAlias = Annotated[str, Meta(max_length=1000)]
Count: TypeAlias = Annotated[int, Meta(ge=0, lt=2**62)]


class Kind(Enum):
    """What an attribute of a point is taken from."""

    SCOPE = "scope"
    METRIC = "metric"
    PERIOD = "period"  # its begin
    DAY = "day"  # of the year, 1 to 366
    WEEK = "week"  # of the year, 00 to 53; Sunday is its first day
    MONTH = "month"  # 1 to 12
    YEAR = "year"
    LABEL = "label"


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that points are grouped or chosen by. `key` names a label and is empty for all other kinds."""

    kind: Kind
    key: Text = ""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The attribute has one of these values. A label is looked for in `groupby` and in `metadata`; absent it is ''."""

    attribute: Attribute
    values: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=10_000)]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points of the newest revisions of periods with `begin <= period_begin < end` that meet all conditions, and posted
    lines that begin then.
    """

    begin: Instant
    end: Instant
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=100)] = ()
    time_zone: Text = "UTC"
    """Of days, weeks, months and years: a name of the time zone database."""


class SumsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sums of quantity and price by groups. A group by a label looks at `groupby` alone."""

    choice: Choice
    groupby: Annotated[tuple[Attribute, ...], Meta(max_length=100)] = ()
    offset: Count = 0
    limit: Count = 2**62 - 1


class PointsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points by period, scope, metric and line id; of a scope and period those that were posted after all others."""

    choice: Choice
    offset: Count = 0
    limit: Count = 2**62 - 1


class SumRow(msgspec.Struct, frozen=True):
    """One group: its values in the order of the request; `begin` and `end` bound the periods in it."""

    keys: tuple[str, ...]
    begin: int
    end: int
    qty: Decimal
    price: Decimal
    n: int
    """How many points."""


class SumPage(msgspec.Struct, frozen=True):
    """A part of the groups, ordered by their values, and how many there are in all."""

    total: int
    rows: list[SumRow]


class PointRow(msgspec.Struct, frozen=True):
    """One point of one period."""

    scope_id: str
    period_begin: int
    period_end: int
    metric: str
    qty: Decimal
    price: Decimal
    unit: str
    groupby: dict[str, str]
    metadata: dict[str, str]
    posted: bool = False
    """It brought its price, and its period is its own."""


class PointPage(msgspec.Struct, frozen=True):
    """A part of the points and how many there are in all."""

    total: int
    rows: list[PointRow]


class ScopeStateRow(msgspec.Struct, frozen=True):
    """How far a scope is rated: the begin of its newest closed period."""

    scope_id: str
    period_begin: int
