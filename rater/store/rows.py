"""What queries answer: values that stand for rows of the tables. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from rater.model.interval import Interval
from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage, MetricTotal, QuarantinedPoint
from rater.model.usage import QuarantinedItem, ReworkKind

__all__ = [
    "BatchNumber",
    "FrameRow",
    "GapRow",
    "LineRow",
    "ReworkOutcome",
    "ReworkRow",
    "ScopeRow",
    "TotalRow",
    "UsageRow",
    "plain_text",
]

ReworkOutcome: TypeAlias = Literal["done", "unchanged", "refused", "abandoned"]
"""`unchanged`: rated again, and it came to the same; nothing was published. The last two changed nothing either."""


class FrameRow(msgspec.Struct, frozen=True):
    """The newest revision of a frame. `line_count` lines belong to it."""

    scope_id: str
    period_begin: int
    period_end: int
    revision: int
    status: FrameStatus
    closed_by: ClosedBy
    weak: bool
    rule_version: int
    closed_at: int
    expected_until: int | None
    """Until when usage of the scope was expected when the frame closed; None without end."""
    line_count: int
    totals: list[MetricTotal]
    coverage: list[MetricCoverage]
    gaps: list[Gap]
    quarantined: list[QuarantinedPoint]
    failure: str = ""
    """Of a failed frame: which script or module failed, in which line, and why."""
    digest: str = ""
    """Of what the revision says; empty for those stored before digests were."""
    rework_id: str = ""
    """The rework that made the revision; empty for all others."""


class LineRow(msgspec.Struct, frozen=True):
    """One line of the newest revision of its frame. Labels are text, as rules match them."""

    scope_id: str
    period_begin: int
    revision: int
    metric: str
    line_id: str
    qty: Decimal
    price: Decimal
    unit: str
    groupby: dict[str, str]
    metadata: dict[str, str]
    rule_version: int


class UsageRow(msgspec.Struct, frozen=True):
    """The samples of one series in one part of a collection, as they came: `begins`, `ends` and `qty` side by side.

    `series` is the canonical text that line ids are made of, empty in a part without samples; `qty` is decimal text.
    """

    scope_id: str
    metric: str
    source: str
    range_begin: int
    range_end: int
    attempt: int
    collection_id: str
    part: int
    parts: int
    series: str
    begins: list[int]
    ends: list[int]
    qty: list[str]
    unit: str = "undefined"
    producer_id: str = ""
    sequence: int = 0
    proof: Literal["proven", "weak"] = "proven"
    is_first: bool = True
    """Whether it is the first row of its part: what follows stands there and is empty in the others."""
    covers: list[Interval] = []
    note: str = ""
    quarantined: list[QuarantinedItem] = []


class BatchNumber(msgspec.Struct, frozen=True):
    """The number under which a part of a collection came."""

    producer_id: str
    sequence: int


class GapRow(msgspec.Struct, frozen=True):
    """A gap with its history. A gap whose opening has not arrived yet has neither `opened_at` nor a reason."""

    scope_id: str
    period_begin: int
    metric: str
    source: str
    begin: int
    end: int
    gap_id: str
    is_open: bool
    opened_revision: int | None
    opened_at: int | None
    reason: str
    resolved_revision: int | None
    resolved_at: int | None
    resolution: str


class ReworkRow(msgspec.Struct, frozen=True):
    """What became of one frame in a rework. `revision` is `base_revision` unless it is done."""

    scope_id: str
    period_begin: int
    rework_id: str
    kind: ReworkKind
    author: str
    requested: str
    """Why the author wanted it."""
    outcome: ReworkOutcome
    base_revision: int
    revision: int
    rule_version_before: int
    rule_version_after: int
    before: list[MetricTotal]
    after: list[MetricTotal]
    raised_at: int
    reason: str
    """Of the outcome, in words."""


class TotalRow(msgspec.Struct, frozen=True):
    """Sums over the frames that were asked for; `n` counts lines."""

    metric: str
    unit: str
    qty: Decimal
    price: Decimal
    n: int


class ScopeRow(msgspec.Struct, frozen=True):
    """A scope that has frames: from the first period's begin to the last period's end."""

    scope_id: str
    begin: int
    end: int
    frames: int


def plain_text(amount: Decimal) -> str:
    """The one text of a number in exports: no exponent, no trailing zeros, no minus zero: `0`, `1.5`, `1200`."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
