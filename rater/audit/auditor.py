"""Asks the invariants about the store: scope by scope and month by month, a bounded part of it in memory.

What looks wrong is looked at again after a pause before it is told, since the sink writes while this reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

import msgspec

from rater.audit.cases import Case, truth_of
from rater.audit.facts import Setup, Stored
from rater.audit.invariants import periods_accounted, totals_are_sums
from rater.audit.rows import collections_of, newest_of, stored_frame, stored_gap, stored_line
from rater.audit.rules import RuleHistory
from rater.audit.samples import best_revision_is_truth, every_sample_once, ledger, quantities_add_up
from rater.audit.stored import (
    frames_have_their_lines,
    gaps_match_frames,
    lines_by_frame,
    newest_rows,
    no_frame_missing,
    one_row_per_key,
)
from rater.audit.truth import Cut, Piece
from rater.audit.violation import Invariant, RowKey, Violation, frame_violation, line_row, roots
from rater.model.interval import Interval
from rater.reports import AuditRequest, Selection, UsageRequest
from rater.store import FrameRow, GapRow, Kept, LineRow, plain_text
from rater.store.audit import AuditMonth, RawFrame, RawUsage, RuleText

__all__ = ["PAUSE_SECONDS", "AuditView", "Auditor", "Counts", "Progress", "runs_of"]

T = TypeVar("T")

ROWS_AT_ONCE = 20_000  # lines or samples in memory; a single larger frame is read whole
LOOKS_AT_ONCE = 200  # frames that look wrong before they are looked at again
LOOKS = 3  # after the first, as long as something goes on changing
MOST_LATE = 1000  # frames that are listed as waiting for a rework
PAUSE_SECONDS = 3.0  # a sink writes what it has read after one second at the latest, if nothing holds it up
LOST = "not all of it"
NO_USAGE = "usage is not stored"
NO_LINES = "their lines are beyond retention"
NO_RULES = "the rules of their version are not in the store"
TIERS = "graduated prices or modules of third parties: prices are not compared"
OTHER_RULES = "scripts or other modules may have changed points"

Progress = Callable[[int, int], None]
"""Called with frames that are done and the total."""


class AuditView(Protocol):
    """What of `rater.reports.View` is read."""

    def kept(self) -> Kept:
        """From when on everything is there."""

    def audit_months(self, request: AuditRequest) -> list[AuditMonth]:
        """What there is to look at."""

    def audit_frames(self, request: UsageRequest) -> Iterator[RawFrame]:
        """All rows of frames."""

    def audit_lines(self, request: UsageRequest) -> Iterator[LineRow]:
        """All rows of lines."""

    def audit_usage(self, request: UsageRequest) -> Iterator[RawUsage]:
        """All rows of usage."""

    def gaps(self, selection: Selection) -> Iterator[GapRow]:
        """All gaps."""

    def rule_texts(self) -> Iterator[RuleText]:
        """The history of the rules."""


class Counts(msgspec.Struct):
    """What was looked at and what became of it. Samples are those of the frames that were compared with their usage."""

    frames: int = 0
    lines: int = 0
    samples: int = 0
    rated: int = 0
    dropped: int = 0
    quarantined: int = 0
    failed: int = 0
    waiting: int = 0
    late: Counter[tuple[str, int]] = msgspec.field(default_factory=Counter)
    """Samples that wait for a rework, by (scope_id, period_begin); of the first thousand frames."""
    unchecked: Counter[str] = msgspec.field(default_factory=Counter)
    """Why frames could not be compared in every respect, and how many."""


class _Look(msgspec.Struct, frozen=True):
    """A run of frames of one scope, as one look shows it."""

    cases: list[Case]
    violations: list[Violation]


class _Suspect(msgspec.Struct, frozen=True):
    """What looked wrong at first: a frame, or time without frames (`missing`)."""

    scope_id: str
    begin: int
    end: int
    missing: tuple[int, ...] = ()
    violations: tuple[Violation, ...] = ()


class Auditor:
    """Audits what a view shows. `pause` waits before the second look.

    `usage_stored` False: the sink does not keep usage. `caught_up` says whether the store has all usage that is in
    Kafka; None if nobody knows. `prices`: compare every price with the rules, not only those of frames that look wrong.
    """

    def __init__(
        self,
        view: AuditView,
        setup: Setup,
        pause: Callable[[], None],
        *,
        usage_stored: bool = True,
        caught_up: bool | None = None,
        prices: bool = False,
    ) -> None:
        self._view = view
        self._setup = setup
        self._pause = pause
        self._usage_stored = usage_stored
        self._caught_up = caught_up
        self._prices = prices
        self._rules = RuleHistory(view.rule_texts)
        self._kept = Kept()
        self.counts = Counts()

    def run(self, request: AuditRequest, advance: Progress = lambda _done, _total: None) -> Iterator[Violation]:
        """The violations, each once, without those that only follow from others. Raises StoreError."""
        months = self._view.audit_months(request)
        total, done = sum(month.frames for month in months), 0
        suspects: list[_Suspect] = []
        last: FrameRow | None = None
        for month in months:
            self._kept = self._view.kept()
            if month.begin < self._kept.lines:
                self.counts.unchecked[NO_LINES] += month.frames
                done += month.frames
                last = None
                continue
            rows = list(self._view.audit_frames(UsageRequest(month.scope_id, month.begin, month.end)))
            newest = newest_of(rows)
            last = last if last is not None and last.scope_id == month.scope_id else None
            suspects += self._missing(last, newest)
            last = newest[-1] if newest else last
            begin = month.begin
            for run in runs_of(newest, _weight):
                end = month.end if run[-1] is last else run[-1].period_end
                look = self._look(month.scope_id, run, rows, Interval(begin, end))
                suspects += self._suspects(month.scope_id, look)
                self._count(look)
                begin, done = end, done + len(run)
                advance(done, max(total, done))
            if len(suspects) >= LOOKS_AT_ONCE:
                yield from self._again(suspects)
                suspects = []
        yield from self._again(suspects)

    def _missing(self, last: FrameRow | None, newest: Sequence[FrameRow]) -> list[_Suspect]:
        """Time between frames that has none, although the one before it says that more is expected."""
        found = []
        for before, after in pairwise([*([last] if last else []), *newest]):
            until = after.period_begin
            if before.expected_until is not None:
                until = min(until, before.expected_until)
            begins = tuple(range(before.period_end, until, self._setup.period))
            if begins:
                found.append(_Suspect(after.scope_id, begins[0], begins[-1] + 1, begins))
        return found

    def _suspects(self, scope_id: str, look: _Look) -> list[_Suspect]:
        """The frames of a look in which something is wrong."""
        by_period: dict[int, list[Violation]] = {}
        for violation in look.violations:
            by_period.setdefault(violation.period_begin, []).append(violation)
        return [
            _Suspect(scope_id, begin, begin + self._setup.period, (), tuple(found))
            for begin, found in by_period.items()
        ]

    # --- one look

    def _look(
        self,
        scope_id: str,
        run: Sequence[FrameRow],
        rows: Iterable[RawFrame],
        span: Interval,
        *,
        later_is_there: bool = False,
    ) -> _Look:
        """The run once: `span` is its time, and that around it in which no other frame is.

        `later_is_there`: the store is known to have usage of later frames.
        """
        first, end = run[0].period_begin, run[-1].period_end
        revisions = {frame.period_begin: frame.revision for frame in run}
        stored = Stored(
            frames=[stored_frame(raw) for raw in rows if raw.row.period_begin in revisions],
            lines=[
                stored_line(row)
                for row in self._view.audit_lines(UsageRequest(scope_id, first, end))
                if row.revision == revisions.get(row.period_begin)
            ],
            gaps=[stored_gap(row) for row in self._view.gaps(Selection(scope_id, span.begin, span.end))],
        )
        cases = self._cases(stored, self._usage(scope_id, first, end))
        found = [*one_row_per_key(stored), *frames_have_their_lines(stored), *gaps_match_frames(stored)]
        for case in cases:
            found += self._violations(case)
        found += self._lost_usage(cases, later_is_there=later_is_there)
        return _Look(cases, roots(found))

    def _cases(self, stored: Stored, usage: dict[int, list[Piece]] | None) -> list[Case]:
        lines = lines_by_frame(stored)
        cases = []
        for key, row in newest_rows(stored).items():
            of_frame = {one.line.line_id: one.line for one in lines.get((*key, row.frame.revision), ())}
            frame = msgspec.structs.replace(row.frame, lines=list(of_frame.values()))
            truth = None if usage is None else truth_of(frame, usage.get(key[1], []), self._setup, None, _may_wait)
            cases.append(Case(frame, truth, self._setup, self._rules.keeps(frame.rule_version), "store"))
        return cases

    def _usage(self, scope_id: str, begin: int, end: int) -> dict[int, list[Piece]] | None:
        """The parts of collections by period begin; None if the sink keeps none."""
        if not self._usage_stored or begin < self._kept.usage:
            return None
        found: dict[int, list[Piece]] = {}
        period = self._setup.period
        for part in collections_of(self._view.audit_usage(UsageRequest(scope_id, begin, end))):
            first = max(part.begin, begin)
            for period_begin in range(first - first % period, min(part.end, end), period):
                found.setdefault(period_begin, []).append(Piece(part))
        return found

    def _violations(self, case: Case) -> list[Violation]:
        rated = case.rated
        found = [*periods_accounted(rated, "store"), *totals_are_sums(rated, rated.lines, "store")]
        counted = sum(total.n for total in rated.totals)
        if counted > 1 and not rated.lines:
            return found  # the row of the frame is wrong, and not each of its lines
        if self._prices or found:
            found += self._price_faults(case)
        return [*found, *every_sample_once(case), *quantities_add_up(case), *best_revision_is_truth(case)]

    def _price_faults(self, case: Case) -> Iterator[Violation]:
        rated = case.rated
        period = (rated.period_begin, rated.period_end)
        prices = self._rules.prices(rated.rule_version, rated.scope_id, period, rated.lines)
        if prices is None:
            return
        for line in rated.lines:
            price = prices.get(line.line_id)
            if price != line.price:
                row = line_row(rated.scope_id, rated.period_begin, rated.revision, line.metric, line.line_id)
                expected = "no price" if price is None else f"price {plain_text(price)}"
                found = f"price {plain_text(line.price)}"
                yield frame_violation(Invariant.PRICES_FOLLOW_RULES, rated, line.metric, expected, found, row)

    def _lost_usage(self, cases: Sequence[Case], *, later_is_there: bool) -> Iterator[Violation]:
        """Collections that a frame was made of and the store does not have, unless they may be on their way.

        Usage has a consumer of its own, which may be behind: then later frames lack theirs as well. A frame of which
        nothing is there is from a time when usage was not stored, or from before its retention.
        """
        for case in reversed(cases):
            truth = case.truth
            if truth is None:
                continue
            named = sum(len(entry.collections) for entry in case.rated.coverage)
            known_here = named > len(truth.absent)
            due = later_is_there if self._caught_up is None else self._caught_up
            if truth.absent and known_here and due:
                for metric, source, ref in truth.absent:
                    key = (
                        ("scope_id", case.rated.scope_id), ("metric", metric), ("source", source),
                        ("collection_id", ref.collection_id), ("attempt", ref.attempt),
                    )  # fmt: skip
                    yield Violation(
                        Invariant.EVERY_SAMPLE_ONCE, case.rated.scope_id, case.rated.period_begin, metric,
                        f"{ref.samples} samples of collection {ref.collection_id or 'of pushes'}",
                        LOST, (RowKey("usage", key),),
                    )  # fmt: skip
            later_is_there = later_is_there or (named > 0 and not truth.absent)

    # --- the second look

    def _again(self, suspects: Sequence[_Suspect]) -> Iterator[Violation]:
        """What is still wrong after a pause. What changed meanwhile is looked at once more."""
        for _ in range(LOOKS):
            if not suspects:
                return
            self._pause()
            changed: list[_Suspect] = []
            lines_from = self._view.kept().lines
            for suspect in suspects:
                if suspect.begin < lines_from:  # removed meanwhile
                    continue
                rows = list(self._view.audit_frames(UsageRequest(suspect.scope_id, suspect.begin, suspect.end)))
                newest = newest_of(rows)
                there = {frame.period_begin for frame in newest}
                missing = [(suspect.scope_id, begin) for begin in suspect.missing if begin not in there]
                yield from no_frame_missing(missing, "frames")
                if suspect.missing or not newest:
                    continue
                lost = any(violation.found == LOST for violation in suspect.violations)
                span = Interval(suspect.begin, suspect.end)
                look = self._look(suspect.scope_id, newest, rows, span, later_is_there=lost)
                before = {violation.identity for violation in suspect.violations}
                if all(violation.identity in before for violation in look.violations):
                    yield from look.violations
                else:
                    changed.append(msgspec.structs.replace(suspect, violations=tuple(look.violations)))
            suspects = changed

    # --- counting

    def _count(self, look: _Look) -> None:
        counts = self.counts
        for case in look.cases:
            counts.frames += 1
            counts.lines += len(case.rated.lines)
            if not case.keeps:
                known = self._rules.is_known(case.rated.rule_version)
                counts.unchecked[OTHER_RULES if known else NO_RULES] += 1
            elif self._prices and self._rules.prices(case.rated.rule_version, "", (0, 1), ()) is None:
                counts.unchecked[TIERS] += 1
            if case.truth is None or case.truth.absent:
                counts.unchecked[NO_USAGE] += 1
                continue
            found = ledger(case)
            counts.samples += found.rated + found.dropped + found.quarantined + found.failed
            for name in ("rated", "dropped", "quarantined", "failed", "waiting"):
                setattr(counts, name, getattr(counts, name) + getattr(found, name))
            key = (case.rated.scope_id, case.rated.period_begin)
            if found.waiting and len(counts.late) < MOST_LATE:
                counts.late[key] = found.waiting


def _may_wait(_cut: Cut) -> bool:
    """The store does not say which usage was refused as late: what a frame does not name may be."""
    return True


def _weight(frame: FrameRow) -> int:
    samples = sum(one.samples for entry in frame.coverage for one in entry.collections)
    return max(frame.line_count, samples)


def runs_of(frames: Sequence[T], weight: Callable[[T], int]) -> Iterator[list[T]]:
    """Frames that are looked at together."""
    run: list[T] = []
    rows = 0
    for frame in frames:
        own = max(weight(frame), 1)
        if run and rows + own > ROWS_AT_ONCE:
            yield run
            run, rows = [], 0
        run.append(frame)
        rows += own
    if run:
        yield run
