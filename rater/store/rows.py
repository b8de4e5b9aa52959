"""What queries answer: values that stand for rows of the tables. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from rater.model.rated import ClosedBy, FrameStatus, Gap, MetricCoverage, MetricTotal, QuarantinedPoint

__all__ = ["FrameRow", "GapRow", "LineRow", "ScopeRow", "TotalRow", "UsageRow", "plain_text"]


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
