"""What a report says beside its figures: above all that something is used and given away."""

from __future__ import annotations

from decimal import Decimal

import pytest

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


def test_what_was_posted_stands_beside_what_was_rated(capsys: pytest.CaptureFixture[str]) -> None:
    """Given usage that was rated and usage that brought its price; then both are in the total, each under its name."""
    rated = [MetricRow("cpu", "core", Decimal(2), Decimal("0.2"), 1)]
    posted = [
        MetricRow("cpu", "core", Decimal(3), Decimal("0.05"), 2),
        MetricRow("ip", "ip", Decimal(1), Decimal(0), 1),
    ]
    said: list[str] = []
    found = Report("p1", T, T + 3600, T, T + 3600, 1, 0, 0, 0, [3], Decimal("0.25"), rated, posted)

    print_report(found, "csv", tell=said.append)

    lines = [text.split(",")[3:] for text in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        ["cpu", "2", "core", "1", "0.2"],
        ["cpu (posted)", "3", "core", "2", "0.05"],
        ["ip (posted)", "1", "ip", "1", "0"],
        ["total", "", "", "4", "0.25"],
    ]
    assert said[1:] == ["3 lines were posted through the API with their price, and not rated: cpu, ip"]


def test_of_posted_lines_alone_no_frames_are_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    posted = [MetricRow("cpu", "core", Decimal(3), Decimal("0.05"), 2)]
    print_report(Report("p1", T, T + 3600, T, T + 3600, 0, 0, 0, 0, [], Decimal("0.05"), [], posted), tell=said.append)
    assert said == ["2 lines were posted through the API with their price, and not rated: cpu"]
    assert "cpu (posted)" in capsys.readouterr().out


def test_time_that_stays_unbilled_is_not_told_as_unused() -> None:
    said: list[str] = []
    found = Report("p1", T, T + 10800, T, T + 10800, 3, 2, 0, 0, [3], Decimal(0), [], inactive_frames=1)
    print_report(found, "csv", tell=said.append)
    assert any("1 of them empty (nothing was used)" in line for line in said)
    assert any("1 period(s) in which the scope was switched off and that stay unbilled" in line for line in said)
