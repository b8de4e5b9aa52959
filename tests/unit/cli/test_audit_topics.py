"""`rater audit --topics` while a worker writes: what is only half there when it is read is no violation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rater.audit import Invariant, UsageEntry
from rater.audit.topics import PartitionLogs
from rater.cli import audit
from rater.model.codec import encode_json
from rater.model.posted import PostedLine, PostedLines
from rater.reports import AuditRequest
from rater.stream.audit_log import AuditRecord, TopicPart
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


def test_posted_lines_that_nobody_takes_or_that_came_late_are_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a record under another key, one that the sink has stored, and one after its last commit
    record = PostedLines("A", "0" * 32, [PostedLine(0, "cpu", 0, 1, Decimal(1))])
    keys = (b"B", b"A", b"A")
    records = [AuditRecord(offset, 0, encode_json(record), (), key) for offset, key in enumerate(keys)]

    async def read_part(*_: Any) -> TopicPart:
        return TopicPart(0, records)

    asked: list[UsageEntry] = []
    monkeypatch.setattr("rater.stream.audit_log.read_part", read_part)
    monkeypatch.setattr("rater.audit.posted.differs_from_posted", lambda _, entries: iter(asked.extend(entries) or ()))
    topics = audit._Topics.__new__(audit._Topics)
    topics._before, topics._view = cast("Any", SimpleNamespace(committed=lambda *_: 2)), cast("Any", None)
    topics._kafka = cast("Any", None)

    # when, then
    assert list(topics._posted(0)) == []
    assert [entry.offset for entry in asked] == [1]


def test_topics_need_not_have_as_many_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = audit._Topics.__new__(audit._Topics)
    ends = {("rated", 0): 5, ("rated", 1): 5, ("usage", 0): 5, ("usage", 2): 5, ("alerts", 7): 5}
    topics._before, topics._kafka = cast("Any", SimpleNamespace(ends=ends, commits=())), cast("Any", None)
    looked: list[tuple[str, int]] = []
    monkeypatch.setattr(topics, "_of_partition", lambda number: looked.append(("rated", number)) or [])
    monkeypatch.setattr(topics, "_posted", lambda number: looked.append(("usage", number)) or iter(()))

    async def read_positions(_: Any) -> Any:
        return topics._before

    monkeypatch.setattr("rater.stream.audit_log.read_positions", read_positions)
    assert topics.violations([]) == []
    assert looked == [("rated", 0), ("usage", 0), ("rated", 1), ("usage", 2)]


def test_a_scope_that_has_posted_lines_alone_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[int] = []
    view = cast("Any", SimpleNamespace(scopes=lambda: [], posted_totals=lambda _: found))
    with pytest.raises(audit.UnknownScopeError):
        audit._nothing_seen(view, AuditRequest("A"))
    found.append(1)
    audit._nothing_seen(view, AuditRequest("A"))
    assert "only --topics" in capsys.readouterr().err
