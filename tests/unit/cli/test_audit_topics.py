"""`rater audit --topics` while a worker writes: what is only half there when it is read is no violation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rater.audit import Invariant
from rater.audit.topics import PartitionLogs
from rater.cli import audit
from tests.unit.audit.test_invariants import COVERED, FIRST, RESOLVED, SECOND, of_alerts, of_rated, opened


def looked_at(logs: Sequence[PartitionLogs], monkeypatch: pytest.MonkeyPatch) -> set[Invariant]:
    """What is told of a partition that is read so, one time after the other."""
    reads: Iterator[PartitionLogs] = iter(logs)
    topics = audit._Topics.__new__(audit._Topics)
    topics._before, topics._view = cast("Any", SimpleNamespace(committed=lambda *_: 0)), cast("Any", None)
    monkeypatch.setattr(topics, "_logs", lambda _: next(reads))
    monkeypatch.setattr(audit.time, "sleep", lambda _: None)
    return {violation.invariant for violation in topics._of_partition(0)}


def test_a_gap_that_is_resolved_between_the_readings_of_two_topics_is_no_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given `rated` read before the revision that resolves the gap, and `alerts` after it
    torn = PartitionLogs(of_rated(FIRST, SECOND), of_alerts(opened(), RESOLVED), True, True)
    whole = PartitionLogs(of_rated(FIRST, SECOND, COVERED), torn.alerts, True, True)

    # when, then
    assert looked_at([torn, whole], monkeypatch) == set()
    assert looked_at([torn, torn], monkeypatch) == {Invariant.GAPS_ALERTED_ONCE}
