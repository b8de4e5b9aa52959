"""The invariants that need the topics, one partition of them at a time, compared with the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rater.audit.auditor import AuditView, runs_of
from rater.audit.facts import AlertEntry, FrameKey, RatedEntry, Stored, best_frames
from rater.audit.invariants import gaps_alerted_once, one_payload, revisions_contiguous, store_is_best_of_rated
from rater.audit.rows import stored_frame, stored_line
from rater.audit.violation import Violation
from rater.model.rated import RatedFrame
from rater.reports import UsageRequest

__all__ = ["PartitionLogs", "check_partition", "differs_from_rated"]


class PartitionLogs(msgspec.Struct, frozen=True):
    """What `rated` and `alerts` say in one partition."""

    rated: Sequence[RatedEntry]
    alerts: Sequence[AlertEntry]
    is_rated_whole: bool
    """Whether `rated` still has its first record; `alerts` likewise."""
    is_alerts_whole: bool


def check_partition(logs: PartitionLogs) -> list[Violation]:
    """One payload, contiguous revisions, and, if nothing of the topics is gone, each gap told once."""
    found = [*one_payload(logs.rated, logs.alerts), *revisions_contiguous(logs.rated, from_begin=logs.is_rated_whole)]
    if logs.is_rated_whole and logs.is_alerts_whole:
        found += gaps_alerted_once(logs.rated, logs.alerts)
    return found


def differs_from_rated(view: AuditView, rated: Iterable[RatedEntry]) -> Iterator[Violation]:
    """Where the store is not the best of what these records say. They were stored before it is read now."""
    best = best_frames(rated)
    by_scope: dict[str, list[RatedFrame]] = {}
    for (scope_id, _), frame in sorted(best.items()):
        by_scope.setdefault(scope_id, []).append(frame)
    for scope_id, frames in by_scope.items():
        for run in runs_of(frames, lambda frame: len(frame.lines)):
            yield from _compare(view, scope_id, run)


def _compare(view: AuditView, scope_id: str, run: Sequence[RatedFrame]) -> Iterator[Violation]:
    span = UsageRequest(scope_id, run[0].period_begin, run[-1].period_end)
    wanted: set[FrameKey] = {(frame.scope_id, frame.period_begin) for frame in run}
    frames = [stored_frame(raw) for raw in view.audit_frames(span) if (scope_id, raw.row.period_begin) in wanted]
    lines = [stored_line(row) for row in view.audit_lines(span) if (scope_id, row.period_begin) in wanted]
    entries = [RatedEntry(frame, b"") for frame in run]
    yield from store_is_best_of_rated(entries, Stored(frames, lines), at_rest=False)
