"""What the usage log says of one scope, and what was expected of it: plans, and what was sent once without a plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial

import msgspec

from rater.audit.facts import FrameKey, Setup, UsageEntry
from rater.audit.truth import FOREVER, Piece, Span, inside, pieces, spec_of
from rater.model.metric import Coverage
from rater.model.usage import Collection as Part
from rater.model.usage import FrameForced, ScopePlan, ScopeSwitch

__all__ = ["ScopeLog", "by_period", "expected_pieces", "frames_due", "scope_logs"]

LATE = "late:"
"""How the reason begins in `rejected` for usage whose frames had left the state; of its other periods it was taken."""
OFF = "is switched off"
"""In the reason for usage of a scope that was off: nothing of it was taken; a rework may bring in what was pushed."""
FEW_PERIODS = 100  # a longer plan is looked at for each period


class ScopeLog(msgspec.Struct):
    """What the usage log says of one scope."""

    scope_id: str
    plans: list[tuple[int, ScopePlan]] = []
    """With the second of the record, in the order of the log."""
    seen: list[tuple[int, str, str, int]] = []
    """(second of the record, source, metric, begin), of sources that had no plan by then: each time it was earlier."""
    parts: dict[int, list[Piece]] = {}
    """By period begin."""
    refused: dict[int, list[Piece]] = {}
    """The same of what was pushed while the scope was off."""
    forced: set[int] = set()
    sequences: set[tuple[str, int]] = set()
    planned: set[str] = set()
    """Sources that have sent a plan."""
    earliest: dict[tuple[str, str], int] = {}
    """The last of `seen` by source and metric."""
    switches: list[tuple[int, ScopeSwitch]] = []
    """With the second of the record: each has a higher number than those before."""


def scope_logs(
    usage: Iterable[UsageEntry], setup: Setup, done: Collection[tuple[str, str, int]] = ()
) -> dict[str, ScopeLog]:
    """The log by scope. `done` are the reworks that came to their end, as (rework_id, scope_id, period_begin)."""
    logs: dict[str, ScopeLog] = {}
    for entry in usage:
        record = entry.record
        if entry.refused and not entry.refused.startswith(LATE) and OFF not in entry.refused:
            continue
        log = logs.get(record.scope_id) or logs.setdefault(record.scope_id, ScopeLog(record.scope_id))
        second = entry.timestamp_ms // 1000
        match record:
            case ScopePlan():
                log.plans.append((second, record))
                log.planned.add(record.source)
            case ScopeSwitch():
                if not log.switches or record.number > log.switches[-1][1].number:
                    log.switches.append((second, record))
            case FrameForced():
                log.forced.add(record.period_begin)
            case Part() if record.rework_id:
                _add_reworked(log, record, setup, done)
            case Part() if OFF in entry.refused:
                _add_refused(log, record, setup)
            case Part():
                _add_part(log, record, second, setup, late=bool(entry.refused))
            case _:
                pass  # failures prove nothing; brackets of reworks are judged by their alerts
    return logs


def _add_reworked(log: ScopeLog, part: Part, setup: Setup, done: Collection[tuple[str, str, int]]) -> None:
    """Counts if the rework came to its end. Pushed samples are only repeated in it, and came before."""
    period_begin = part.begin - part.begin % setup.period
    pushed = spec_of(setup, part.metric).proof is Coverage.SAMPLES
    if not pushed and (part.rework_id, part.scope_id, period_begin) in done:
        log.parts.setdefault(period_begin, []).append(Piece(part))


def _add_refused(log: ScopeLog, part: Part, setup: Setup) -> None:
    if spec_of(setup, part.metric).proof is Coverage.SAMPLES:
        for period_begin in range(part.begin - part.begin % setup.period, part.end, setup.period):
            log.refused.setdefault(period_begin, []).append(Piece(part, late=True))


def _add_part(log: ScopeLog, part: Part, second: int, setup: Setup, *, late: bool) -> None:
    batch = (part.producer_id, part.sequence)
    if batch in log.sequences:
        return
    log.sequences.add(batch)  # also if it was late: sent once more it is a repetition, and passed over without a word
    first = part.begin - part.begin % setup.period
    for period_begin in range(first, part.end, setup.period):
        log.parts.setdefault(period_begin, []).append(Piece(part, late))
    if part.source in setup.planned or part.source in log.planned:
        return
    if part.begin < log.earliest.get((part.source, part.metric), FOREVER):
        log.earliest[part.source, part.metric] = part.begin
        log.seen.append((second, part.source, part.metric, part.begin))


def by_period(log: ScopeLog, period_seconds: int) -> Callable[[int], ScopeLog]:
    """What the log says of the expectations of one period, by its begin: whoever pushes sends a plan for each hour.

    The first plan of a source is always among them: it ends what was owed for being sent once.
    """
    always: list[int] = []
    near: dict[int, list[int]] = {}
    sources: set[str] = set()
    for number, (_, plan) in enumerate(log.plans):
        begin = plan.begin - plan.begin % period_seconds
        touched = range(begin, _end(plan), period_seconds)
        if plan.source not in sources or len(touched) > FEW_PERIODS:
            sources.add(plan.source)
            always.append(number)
        else:
            for period_begin in touched:
                near.setdefault(period_begin, []).append(number)

    def of(period_begin: int) -> ScopeLog:
        numbers = sorted([*always, *near.get(period_begin, ())])
        return ScopeLog(log.scope_id, [log.plans[number] for number in numbers], log.seen, switches=log.switches)

    return of


def _end(plan: ScopePlan) -> int:
    return FOREVER if plan.until is None else plan.until


def expected_pieces(log: ScopeLog, period: Span, until_second: int | None = None) -> dict[tuple[str, str], list[Span]]:
    """What is expected of each (metric, source) within the period, by what the log said up to a second."""
    if _is_off(log.switches, period[0], until_second):
        return {}
    plans = [plan for second, plan in log.plans if until_second is None or second <= until_second]
    first = {plan.source: plan.begin for plan in reversed(plans)}
    plans = [plan for plan in plans if plan.begin < period[1] and _end(plan) > period[0]]
    seen = [one[1:] for one in log.seen if until_second is None or one[0] <= until_second]
    marks = {mark for plan in plans for mark in (plan.begin, _end(plan))} | {begin for _, _, begin in seen}
    marks |= set(first.values())
    keys = {(metric, plan.source) for plan in plans for metric in plan.metrics}
    keys |= {(metric, source) for source, metric, _ in seen}
    found = {}
    for metric, source in sorted(keys):
        of_source = [plan for plan in plans if plan.source == source]
        begins = [begin for s, m, begin in seen if (s, m) == (source, metric)]
        owed = (min(begins, default=FOREVER), first.get(source, FOREVER))
        wanted = pieces(period, marks, partial(_is_expected, metric, of_source, owed))
        if wanted:
            found[metric, source] = wanted
    return found


def _is_off(switches: Sequence[tuple[int, ScopeSwitch]], period_begin: int, until_second: int | None) -> bool:
    """Whether the scope is off then, or was and that time was skipped: a period counts by its begin."""
    off_since: int | None = None
    for second, switch in switches:
        if until_second is not None and second > until_second:
            break
        if not switch.active:
            off_since = switch.begin if off_since is None else min(off_since, switch.begin)
            continue
        if switch.inactive_time == "skip" and off_since is not None and off_since <= period_begin < switch.begin:
            return True
        off_since = None
    return off_since is not None and off_since <= period_begin


def _is_expected(metric: str, plans: Sequence[ScopePlan], owed: Span, instant: int) -> bool:
    """The last plan whose window holds the instant decides; where none does, what was sent once is owed.

    `owed` reaches from the first time that it was sent for to the begin of the source's first plan.
    """
    for plan in reversed(plans):
        if plan.begin <= instant < _end(plan):
            return metric in plan.metrics
    return inside([owed], instant)


def frames_due(log: ScopeLog, setup: Setup, until: int) -> Iterator[FrameKey]:
    """The frames of the scope that must be there once all that ends by `until` (seconds) is closed, in order."""
    begins = [plan.begin for _, plan in log.plans if plan.metrics] + [one[3] for one in log.seen]
    touched = {begin for begin in (*log.parts, *log.forced) if begin + setup.period <= until}
    if begins:
        first = min(begins) - min(begins) % setup.period
        of = by_period(log, setup.period)
        for begin in range(first, until - setup.period + 1, setup.period):
            if expected_pieces(of(begin), (begin, begin + setup.period)):
                touched.add(begin)
    for begin in sorted(touched):
        yield log.scope_id, begin
