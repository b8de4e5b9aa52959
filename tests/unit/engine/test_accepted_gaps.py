"""Gaps that an operator accepts: an alert says so, and nothing else changes."""

from __future__ import annotations

import msgspec

from rater.model.rated import Alert, AlertKind
from rater.model.usage import GapAccepted
from tests.unit.engine.builders import HOUR, Bench, T, plan

GAP = "0f" * 16
ACCEPTED = GapAccepted(GAP, "A", "cpu", "prom", T, T + 60, T + 120, "kim", "the meter was broken")


def test_an_acceptance_is_told_with_who_and_why() -> None:
    bench = Bench()
    bench.take(ACCEPTED)

    [alert] = bench.alerts()
    assert alert == Alert(
        GAP,
        AlertKind.GAP_ACCEPTED,
        "A",
        "cpu",
        "prom",
        T,
        T + 60,
        T + 120,
        -1,
        T + HOUR,
        "the meter was broken",
        "kim",
    )


def test_it_leaves_no_trace_in_the_state() -> None:
    with_it, without = Bench(), Bench()
    for bench in (with_it, without):
        bench.take(plan("cpu"))
    with_it.take(ACCEPTED)

    assert with_it.state.scopes == without.state.scopes


def test_without_a_reason_it_is_refused() -> None:
    bench = Bench()
    bench.take(msgspec.structs.replace(ACCEPTED, reason=""))

    assert bench.alerts() == []
    [reason] = bench.rejected()
    assert "$.reason" in reason
