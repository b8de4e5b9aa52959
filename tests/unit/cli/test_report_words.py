"""What a report says beside its figures: above all that something is used and given away."""

from __future__ import annotations

from decimal import Decimal

from rater.cli.report import print_report
from rater.reports import Report
from rater.reports.statement import MetricRow

T = 1_767_225_600  # 2026-01-01T00:00:00Z


def test_what_is_used_without_a_charge_is_named() -> None:
    """Given a metric with a price, one without, and one that was not used; then the one without is named alone."""
    metrics = [
        MetricRow("cpu", "core", Decimal(2), Decimal("0.2"), 1),
        MetricRow("disk", "GiB", Decimal(5), Decimal(0), 1),
        MetricRow("gpu", "card", Decimal(0), Decimal(0), 1),
    ]
    said: list[str] = []

    print_report(Report("p1", T, T + 3600, T, T + 3600, 1, 0, 0, 0, [3], Decimal("0.2"), metrics), tell=said.append)

    assert [text for text in said if "nothing is charged" in text] == [
        "disk is used and nothing is charged for it: no rule matches, or the price is 0 (`rater explain` says which)"
    ]
