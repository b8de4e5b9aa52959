"""Frames side by side with what their usage means: what most invariants are functions of.

A case is built from logs, where plans say what was expected, or from rows of the store, where only the frame says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from rater.audit.expected import ScopeLog, by_period, expected_pieces, frames_due, scope_logs
from rater.audit.facts import AlertLog, FrameKey, RatedLog, Setup, UsageLog, best_frames
from rater.audit.truth import (
    Cut,
    Held,
    Piece,
    Ref,
    Span,
    TruePoint,
    cuts_of,
    held,
    joined,
    points_of,
    spec_of,
)
from rater.model.labels import Labels, canonical_series
from rater.model.rated import AlertKind, CollectionRef, RatedFrame
from rater.model.usage import Collection as Part
from rater.model.usage import QuarantinedItem, answers_rework

__all__ = ["Case", "Keeps", "PriceOf", "Truth", "always", "cases_of_logs", "truth_of"]

Keeps = Callable[[int], bool]
"""Whether the modules of a version of the rules change nothing of a point but its price, and drop and add none."""
PriceOf = Callable[[str, Decimal, Labels, Labels], Decimal]
"""(metric, quantity, groupby, metadata) -> price, of simulations whose rules are that simple."""


class Truth(msgspec.Struct, frozen=True):
    """What the usage of one frame means. `expected` is None where nobody but the frame says it."""

    held: Mapping[tuple[str, str], Held]
    covered: Mapping[tuple[str, str], Sequence[Span]]
    expected: Sequence[Mapping[tuple[str, str], Sequence[Span]]] | None
    """What plans say; then what they said at earlier moments after the frame was closed."""
    points: Mapping[tuple[str, str], TruePoint]
    not_finite: Sequence[tuple[str, str, QuarantinedItem]]
    absent: Sequence[tuple[str, str, CollectionRef]]
    """Collections that the frame names and that are not there."""
    counts: Mapping[tuple[str, str, Ref], int]
    """Samples of the period in each collection that holds."""

    surplus: Mapping[str, int] = {}
    """Pushed samples by metric that are more than the frame counted: some of them came later."""

    @property
    def waiting_samples(self) -> int:
        """Samples that came for the frame and that it does not have yet: late, and not reworked."""
        waiting = sum(1 for one in self.held.values() for cut in one.waiting for _ in cut.samples())
        return waiting + sum(self.surplus.values())

    @property
    def unproven(self) -> frozenset[str]:
        """Metrics of which not all usage is there."""
        return frozenset(metric for metric, _, _ in self.absent) | self.surplus.keys()


class Case(msgspec.Struct, frozen=True):
    """The newest revision of one frame with its lines, and what its usage means (None: the usage is not known)."""

    rated: RatedFrame
    truth: Truth | None
    setup: Setup
    keeps: bool = True
    where: Literal["store", "topics"] = "topics"


def always(_version: int) -> bool:
    """The rules only price."""
    return True


def truth_of(
    rated: RatedFrame,
    parts: Iterable[Piece],
    setup: Setup,
    expected: Sequence[Mapping[tuple[str, str], Sequence[Span]]] | None,
    may_wait: Callable[[Cut], bool],
) -> Truth:
    """What these parts of collections, all of the scope, mean for the frame."""
    period = (rated.period_begin, rated.period_end)
    named: dict[tuple[str, str], dict[Ref, CollectionRef]] = {}
    for entry in rated.coverage:
        named[entry.metric, entry.source] = {(c.collection_id, c.attempt, c.begin, c.end): c for c in entry.collections}
    if expected is None:  # logs say which reworks were done, of the store it is the frame
        parts = [piece for piece in parts if not _is_untaken(piece.part, rated, named)]
    cuts = cuts_of(parts, period, setup)
    surplus: dict[str, int] = {}
    for key, of_source in cuts.items():
        for cut in of_source:
            reference = named.get(key, {}).get(cut.ref)
            _take_late_out(cut, reference)
            more = sum(1 for _ in cut.samples()) - reference.samples if cut.pushed and reference else 0
            if more > 0 and expected is None:  # logs say which samples were late, the store does not
                surplus[key[0]] = surplus.get(key[0], 0) + more
    found = {key: _held([c for c in of_source if c.pieces], named.get(key, {}), may_wait, setup, period)
             for key, of_source in cuts.items()}  # fmt: skip
    there = {(*key, cut.ref) for key, of_source in cuts.items() for cut in of_source if cut.complete}
    return Truth(
        held=found,
        covered={
            key: joined(period, [span for cut in one.chosen for span in cut.covers(spec_of(setup, key[0]).resolution)])
            for key, one in found.items()
            if one.chosen
        },
        expected=expected,
        points=points_of(rated.scope_id, [cut for _, one in sorted(found.items()) for cut in one.chosen], setup),
        not_finite=[
            (*key, item) for key, one in sorted(found.items()) for cut in one.chosen for item in cut.quarantined()
        ],
        absent=[(*key, ref) for key, refs in named.items() for of, ref in refs.items() if (*key, of) not in there],
        counts={(*key, cut.ref): sum(1 for _ in cut.samples()) for key, one in found.items() for cut in one.chosen},
        surplus=surplus,
    )


def _is_untaken(part: Part, rated: RatedFrame, named: Mapping[tuple[str, str], Mapping[Ref, CollectionRef]]) -> bool:
    """Whether it answers a reprocess that was refused, given up, or said the same as the frame."""
    if not answers_rework(part.producer_id, part.collection_id, part.metric, rated.period_begin):
        return False
    return (part.collection_id, part.attempt, part.begin, part.end) not in named.get((part.metric, part.source), {})


def _held(
    cuts: Sequence[Cut], named: Collection[Ref], may_wait: Callable[[Cut], bool], setup: Setup, period: Span
) -> Held:
    """What holds of one source. What says the same as what the frame has is not waited for: it makes no revision."""
    found = held(cuts, named, may_wait)
    if found.waiting and _says(found.chosen, setup, period) == _says(held(cuts, (), _never).chosen, setup, period):
        return Held(found.chosen, [])
    return found


def _never(_cut: Cut) -> bool:
    return False


def _says(cuts: Iterable[Cut], setup: Setup, period: Span) -> tuple[object, ...]:
    """What collections say, whichever say it."""
    listed = list(cuts)
    samples = Counter(
        (canonical_series(part.series[s.series].groupby, part.series[s.series].metadata), s.begin, s.end, s.qty)
        for cut in listed
        for part, s in cut.samples()
    )
    covers = [span for cut in listed for span in cut.covers(spec_of(setup, cut.metric).resolution)]
    items = Counter(repr(item) for cut in listed for item in cut.quarantined())
    return samples, joined(period, covers), items, any(cut.weak() for cut in listed)


def _take_late_out(cut: Cut, named: CollectionRef | None) -> None:
    """Of what a source pushed, leaves what had come in time, unless the frame has the late rest as well."""
    if not cut.pushed or not cut.late:
        return
    if named is None or named.samples != sum(1 for _ in cut.samples()):
        for number in [number for number, piece in cut.pieces.items() if piece.late]:
            del cut.pieces[number]


def cases_of_logs(
    usage: UsageLog,
    rated: RatedLog,
    alerts: AlertLog,
    setup: Setup,
    until: int,
    keeps: Keeps = always,
) -> tuple[list[Case], list[FrameKey]]:
    """(a case for each frame in `rated`, the frames that must be there and are not).

    `until`: everything that ends by this second should be closed. `keeps` as in Keeps.
    """
    done = {
        (alert.rework.rework_id, alert.scope_id, alert.period_begin)
        for alert in (entry.alert for entry in alerts)
        if alert.kind is AlertKind.REWORK_DONE and alert.rework is not None
    }
    logs = scope_logs(usage, setup, done)
    best = best_frames(rated)
    cases = []
    near: dict[str, Callable[[int], ScopeLog]] = {}
    for (scope_id, period_begin), frame in sorted(best.items()):
        log = logs.get(scope_id)
        if log is not None and scope_id not in near:
            near[scope_id] = by_period(log, setup.period)
        parts = [*log.parts.get(period_begin, []), *log.refused.get(period_begin, [])] if log else []
        expected: list[Mapping[tuple[str, str], Sequence[Span]]] = []
        if log:
            period = (period_begin, frame.period_end)
            since = frame.closed_at - setup.clock_skew
            said = near[scope_id](period_begin)
            changed = {second for second, _ in (*said.plans, *said.switches)} | {one[0] for one in said.seen}
            changes = sorted(second for second in changed if second > since)
            moments = [None, *(second - 1 for second in reversed(changes))]
            expected = [expected_pieces(said, period, moment) for moment in moments]
        truth = truth_of(frame, parts, setup, expected or [{}], lambda cut: cut.late)
        cases.append(Case(frame, truth, setup, keeps(frame.rule_version)))
    due = (key for log in logs.values() for key in frames_due(log, setup, until))
    return cases, _without(due, best)


def _without(due: Iterator[FrameKey], there: Collection[FrameKey]) -> list[FrameKey]:
    return sorted(key for key in due if key not in there)
