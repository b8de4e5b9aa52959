"""The invariants, one function each: pure, over logs, cases and rows, giving a Violation for whatever breaks them.

`check_logs` asks all those that need only logs; production asks the same functions about rows of the store
(`rater.audit.auditor`). docs/audit.md says in a sentence what each means.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from hashlib import blake2b

from rater.audit.cases import Keeps, PriceOf, always, cases_of_logs
from rater.audit.facts import (
    AlertLog,
    Commit,
    FrameKey,
    RatedLog,
    Setup,
    Stored,
    UsageLog,
)
from rater.audit.samples import best_revision_is_truth, every_sample_once, quantities_add_up
from rater.audit.stored import (
    frames_have_their_lines,
    gaps_match_frames,
    no_frame_missing,
    one_row_per_key,
    store_is_best_of_rated,
)
from rater.audit.truth import left_out
from rater.audit.violation import Invariant, RowKey, Violation, frame_row, frame_violation
from rater.model.rated import Alert, AlertKind, Line, RatedFrame

__all__ = [
    "best_revision_is_truth",
    "check_logs",
    "every_sample_once",
    "frames_have_their_lines",
    "gaps_alerted_once",
    "gaps_match_frames",
    "no_frame_missing",
    "offsets_never_go_back",
    "one_payload",
    "one_row_per_key",
    "periods_accounted",
    "quantities_add_up",
    "revisions_contiguous",
    "store_is_best_of_rated",
    "totals_are_sums",
]

_EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN)


def check_logs(
    usage: UsageLog,
    rated: RatedLog,
    alerts: AlertLog,
    setup: Setup,
    until: int,
    *,
    commits: Sequence[Commit] = (),
    stored: Stored | None = None,
    keeps: Keeps = always,
    price_of: PriceOf | None = None,
) -> list[Violation]:
    """Every invariant about logs that are whole and at rest: nothing more is going to come out of this usage.

    `until`: what ends by this second should be closed. `stored` None: the store is not looked at. `price_of` None:
    prices are not compared. The log of usage must be in the order of each partition.
    """
    cases, missing = cases_of_logs(usage, rated, alerts, setup, until, keeps)
    found = [
        *one_payload(rated, alerts),
        *revisions_contiguous(rated),
        *no_frame_missing(missing),
        *gaps_alerted_once(rated, alerts),
        *offsets_never_go_back(commits),
    ]
    for case in cases:
        found += every_sample_once(case)
        found += quantities_add_up(case)
        found += best_revision_is_truth(case, price_of)
        found += periods_accounted(case.rated)
        found += totals_are_sums(case.rated, case.rated.lines, case.where)
    if stored is not None:
        found += one_row_per_key(stored)
        found += frames_have_their_lines(stored)
        found += store_is_best_of_rated(rated, stored)
        found += gaps_match_frames(stored)
    return found


# --- the topics

_OF_REVISIONS = frozenset(
    {
        AlertKind.GAP_OPENED,
        AlertKind.GAP_RESOLVED,
        AlertKind.QUARANTINED,
        AlertKind.RATING_FAILED,
        AlertKind.RATING_REPAIRED,
        AlertKind.SUSPICION,
    }
)
"""Alerts that come with a revision. The others answer a record, and whoever sends it again is answered again."""


def one_payload(rated: RatedLog, alerts: AlertLog = ()) -> Iterator[Violation]:
    """One payload per (frame, revision, part), per (line, revision) and per (alert of a revision, kind, revision)."""
    parts: dict[tuple[str, int, int, int], bytes] = {}
    lines: dict[tuple[str, int, int, str], int] = {}
    for entry in rated:
        frame = entry.frame
        key = (frame.scope_id, frame.period_begin, frame.revision, frame.part)
        payload = blake2b(entry.payload, digest_size=16).digest()
        row = RowKey("topic rated", (("partition", entry.partition), ("offset", entry.offset)))
        if key in parts:
            if parts[key] != payload:
                text = f"another payload of part {frame.part} of revision {frame.revision}"
                yield frame_violation(Invariant.ONE_PAYLOAD, frame, "", "the bytes published first", text, row)
            continue
        parts[key] = payload
        for line in frame.lines if frame.parts > 1 else ():
            first = lines.setdefault((*key[:3], line.line_id), frame.part)
            if first != frame.part:
                text = f"line {line.line_id} in parts {first} and {frame.part} of revision {frame.revision}"
                yield frame_violation(Invariant.ONE_PAYLOAD, frame, line.metric, "each line once", text, row)
        for identity, count in Counter(line.line_id for line in frame.lines).items():
            if count > 1:
                text = f"line {identity} {count} times in part {frame.part} of revision {frame.revision}"
                yield frame_violation(Invariant.ONE_PAYLOAD, frame, "", "each line once", text, row)
    said: dict[tuple[str, AlertKind, int], bytes] = {}
    for told in alerts:
        alert = told.alert
        if alert.kind not in _OF_REVISIONS:
            continue
        known = said.setdefault((alert.alert_id, alert.kind, alert.revision), told.payload)
        if known != told.payload:
            row = RowKey("topic alerts", (("partition", told.partition), ("offset", told.offset)))
            text = f"another payload of {alert.kind.value} {alert.alert_id}"
            yield _of_alert(Invariant.ONE_PAYLOAD, alert, "the bytes published first", text, row)


def revisions_contiguous(rated: RatedLog, *, from_begin: bool = True) -> Iterator[Violation]:
    """Revisions of a frame count up by one from 0, in the order of the log, each with all of its parts.

    `from_begin` False: the log may have lost its oldest records, so that the first revision seen may be any.
    """
    seen: dict[FrameKey, dict[int, set[int]]] = defaultdict(dict)
    parts: dict[tuple[str, int, int], int] = {}
    heads: dict[FrameKey, RatedFrame] = {}
    for entry in rated:
        frame = entry.frame
        key = (frame.scope_id, frame.period_begin)
        newest = max(seen[key], default=None)
        if frame.revision not in seen[key]:
            due = frame.revision if newest is None and not from_begin else 0 if newest is None else newest + 1
            if frame.revision != due:
                text = f"revision {frame.revision}"
                yield frame_violation(
                    Invariant.REVISIONS_CONTIGUOUS, frame, "", f"revision {due} next", text, _rated(frame)
                )
        seen[key].setdefault(frame.revision, set()).add(frame.part)
        parts[*key, frame.revision] = frame.parts
        heads[key] = frame
    for key, revisions in seen.items():
        oldest = min(revisions)
        for revision, numbers in sorted(revisions.items()):
            wanted = parts[*key, revision]
            if len(numbers) != wanted and (from_begin or revision != oldest):
                row = RowKey("topic rated", (("scope_id", key[0]), ("period_begin", key[1]), ("revision", revision)))
                text = f"{len(numbers)} of them"
                yield frame_violation(
                    Invariant.REVISIONS_CONTIGUOUS, heads[key], "", f"{wanted} parts of revision {revision}", text, row
                )


def gaps_alerted_once(rated: RatedLog, alerts: AlertLog) -> Iterator[Violation]:
    """A gap has exactly one open alert and at most one resolve, and none is resolved without coverage.

    Repetitions of one payload count once. Both logs are whole.
    """
    opened: dict[str, set[int]] = defaultdict(set)
    resolved: dict[str, set[int]] = defaultdict(set)
    of: dict[str, Alert] = {}
    for entry in alerts:
        alert = entry.alert
        if alert.kind in (AlertKind.GAP_OPENED, AlertKind.GAP_RESOLVED):
            of[alert.alert_id] = alert
            (opened if alert.kind is AlertKind.GAP_OPENED else resolved)[alert.alert_id].add(alert.revision)
    heads: dict[tuple[str, int, int], RatedFrame] = {}
    for rated_entry in rated:
        head = rated_entry.frame
        heads.setdefault((head.scope_id, head.period_begin, head.revision), head)
    for identity, alert in of.items():
        row = RowKey("topic alerts", (("alert_id", identity),))
        if len(opened[identity]) != 1:
            text = f"{len(opened[identity])} of them"
            yield _of_alert(Invariant.GAPS_ALERTED_ONCE, alert, "one alert that the gap opened", text, row)
        if len(resolved[identity]) > 1:
            text = f"{len(resolved[identity])} of them"
            yield _of_alert(Invariant.GAPS_ALERTED_ONCE, alert, "at most one alert that it is resolved", text, row)
        for revision in sorted(resolved[identity]):
            still = heads.get((alert.scope_id, alert.period_begin, revision))
            if still is None:
                yield _of_alert(
                    Invariant.GAPS_ALERTED_ONCE, alert, f"revision {revision} that resolves it", "no such revision", row
                )
            elif uncovered := _unresolved(alert, still):
                yield _of_alert(
                    Invariant.GAPS_ALERTED_ONCE, alert, "coverage of what was resolved", f"{uncovered} without", row
                )
    for head in {key[:2]: frame for key, frame in sorted(heads.items())}.values():
        yield from _open_gaps_told(head, opened, resolved, of)


def _unresolved(alert: Alert, frame: RatedFrame) -> list[tuple[int, int]]:
    """What of the gap is expected, not covered, and in no other gap of the revision that says it is resolved."""
    period = (frame.period_begin, frame.period_end)
    for entry in frame.coverage:
        if (entry.metric, entry.source) == (alert.metric, alert.source):
            holes = left_out(period, entry.expected, entry.covered)
            inside = [(max(a, alert.begin), min(b, alert.end)) for a, b in holes]
            inside = [(a, b) for a, b in inside if a < b]
            others = [(gap.begin, gap.end) for gap in frame.gaps if gap.gap_id != alert.alert_id]
            return left_out(period, inside, others)
    return []


def _open_gaps_told(
    frame: RatedFrame, opened: dict[str, set[int]], resolved: dict[str, set[int]], of: dict[str, Alert]
) -> Iterator[Violation]:
    """Gaps of the newest revision are told open, and no others of the frame are."""
    open_now = {gap.gap_id for gap in frame.gaps}
    for gap in frame.gaps:
        if not opened[gap.gap_id] or resolved[gap.gap_id]:
            text = "told as resolved" if resolved[gap.gap_id] else "never told"
            yield Violation(
                Invariant.GAPS_ALERTED_ONCE, frame.scope_id, frame.period_begin, gap.metric,
                f"gap {gap.gap_id} told as open", text, (_rated(frame),),
            )  # fmt: skip
    for identity, alert in of.items():
        is_here = (alert.scope_id, alert.period_begin) == (frame.scope_id, frame.period_begin)
        if is_here and opened[identity] and not resolved[identity] and identity not in open_now:
            row = RowKey("topic alerts", (("alert_id", identity),))
            yield _of_alert(Invariant.GAPS_ALERTED_ONCE, alert, "a gap of the newest revision", "none there", row)


def offsets_never_go_back(commits: Iterable[Commit]) -> Iterator[Violation]:
    """What a group has committed of a partition only grows, in the order in which it was observed."""
    highest: dict[tuple[str, str, int], int] = {}
    for seen in commits:
        key = (seen.group, seen.topic, seen.partition)
        before = highest.get(key, seen.offset)
        if seen.offset < before:
            row = RowKey("topic " + seen.topic, (("group", seen.group), ("partition", seen.partition)))
            yield Violation(
                Invariant.OFFSETS_NEVER_GO_BACK, "", -1, "", f"offset {before} or later", f"{seen.offset}", (row,)
            )
        highest[key] = max(before, seen.offset)


# --- one frame


def periods_accounted(rated: RatedFrame, where: str = "topics") -> Iterator[Violation]:
    """What a frame covers and its gaps are together what was expected in its period, and do not overlap."""
    period = (rated.period_begin, rated.period_end)
    keys = {(entry.metric, entry.source) for entry in rated.coverage}
    row = frame_row(rated, where)
    for gap in rated.gaps:
        if (gap.metric, gap.source) not in keys:
            yield frame_violation(
                Invariant.PERIODS_ACCOUNTED, rated, gap.metric, f"what was expected of {gap.source}", "only a gap", row
            )
    for entry in rated.coverage:
        gaps = sorted(
            (gap.begin, gap.end) for gap in rated.gaps if (gap.metric, gap.source) == (entry.metric, entry.source)
        )
        outside = [
            tuple(span) for span in (*entry.expected, *entry.covered) if not period[0] <= span[0] < span[1] <= period[1]
        ]
        holes = left_out(period, entry.expected, entry.covered)
        if holes != gaps or outside:
            text = f"gaps {gaps}" + (f", and {outside} outside the period" if outside else "")
            yield frame_violation(
                Invariant.PERIODS_ACCOUNTED, rated, entry.metric, f"gaps {holes} of {entry.source}", text, row
            )


def totals_are_sums(rated: RatedFrame, lines: Iterable[Line], where: str = "topics") -> Iterator[Violation]:
    """The totals of a frame are the sums over its lines: quantity, price and number, by metric and unit."""
    sums: dict[tuple[str, str], tuple[Decimal, Decimal, int]] = {}
    with localcontext(_EXACT):
        for line in lines:
            qty, price, n = sums.get((line.metric, line.unit), (Decimal(0), Decimal(0), 0))
            sums[line.metric, line.unit] = (qty + line.qty, price + line.price, n + 1)
    totals = {(total.metric, total.unit): (total.qty, total.price, total.n) for total in rated.totals}
    for key in sorted(sums.keys() | totals.keys()):
        if sums.get(key) != totals.get(key):
            yield frame_violation(
                Invariant.TOTALS_ARE_SUMS, rated, key[0], _sum_text(sums.get(key)), _sum_text(totals.get(key)),
                frame_row(rated, where),
            )  # fmt: skip


def _sum_text(total: tuple[Decimal, Decimal, int] | None) -> str:
    return "no total" if total is None else f"quantity {total[0]}, price {total[1]}, {total[2]} lines"


# --- violations


def _of_alert(invariant: Invariant, alert: Alert, expected: str, found: str, row: RowKey) -> Violation:
    return Violation(invariant, alert.scope_id, alert.period_begin, alert.metric, expected, found, (row,))


def _rated(frame: RatedFrame) -> RowKey:
    return frame_row(frame, "topics")
