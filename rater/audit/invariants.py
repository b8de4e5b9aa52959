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
    StoredFrame,
    StoredGap,
    StoredLine,
    UsageLog,
    best_frames,
)
from rater.audit.samples import best_revision_is_truth, every_sample_once, quantities_add_up
from rater.audit.truth import left_out
from rater.audit.violation import Invariant, RowKey, Violation, frame_row, line_row
from rater.model.labels import label_text
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
                yield _violation(Invariant.ONE_PAYLOAD, frame, "", "the bytes published first", text, row)
            continue
        parts[key] = payload
        for line in frame.lines if frame.parts > 1 else ():
            first = lines.setdefault((*key[:3], line.line_id), frame.part)
            if first != frame.part:
                text = f"line {line.line_id} in parts {first} and {frame.part} of revision {frame.revision}"
                yield _violation(Invariant.ONE_PAYLOAD, frame, line.metric, "each line once", text, row)
        for identity, count in Counter(line.line_id for line in frame.lines).items():
            if count > 1:
                text = f"line {identity} {count} times in part {frame.part} of revision {frame.revision}"
                yield _violation(Invariant.ONE_PAYLOAD, frame, "", "each line once", text, row)
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
                yield _violation(Invariant.REVISIONS_CONTIGUOUS, frame, "", f"revision {due} next", text, _rated(frame))
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
                yield _violation(
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


def no_frame_missing(missing: Iterable[FrameKey], table: str = "topic rated") -> Iterator[Violation]:
    """Every frame that was expected is there. `missing` are those that are not."""
    for scope_id, period_begin in missing:
        row = RowKey(table, (("scope_id", scope_id), ("period_begin", period_begin)))
        yield Violation(Invariant.NO_FRAME_MISSING, scope_id, period_begin, "", "a frame", "none", (row,))


# --- one frame


def periods_accounted(rated: RatedFrame, where: str = "topics") -> Iterator[Violation]:
    """What a frame covers and its gaps are together what was expected in its period, and do not overlap."""
    period = (rated.period_begin, rated.period_end)
    keys = {(entry.metric, entry.source) for entry in rated.coverage}
    row = frame_row(rated, where)
    for gap in rated.gaps:
        if (gap.metric, gap.source) not in keys:
            yield _violation(
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
            yield _violation(
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
            yield _violation(
                Invariant.TOTALS_ARE_SUMS, rated, key[0], _sum_text(sums.get(key)), _sum_text(totals.get(key)),
                frame_row(rated, where),
            )  # fmt: skip


def _sum_text(total: tuple[Decimal, Decimal, int] | None) -> str:
    return "no total" if total is None else f"quantity {total[0]}, price {total[1]}, {total[2]} lines"


# --- rows of the store


def newest_rows(stored: Stored) -> dict[FrameKey, StoredFrame]:
    """Of each frame the row that FINAL shows: that of the newest revision, of equal ones the last."""
    newest: dict[FrameKey, StoredFrame] = {}
    for row in stored.frames:
        key = (row.frame.scope_id, row.frame.period_begin)
        if key not in newest or newest[key].frame.revision <= row.frame.revision:
            newest[key] = row
    return newest


def lines_by_frame(stored: Stored) -> dict[tuple[str, int, int], list[StoredLine]]:
    """The rows of lines by scope, period begin and revision."""
    found: dict[tuple[str, int, int], list[StoredLine]] = defaultdict(list)
    for row in stored.lines:
        found[row.scope_id, row.period_begin, row.revision].append(row)
    return found


def one_row_per_key(stored: Stored) -> Iterator[Violation]:
    """The store's form of `one_payload`: rows of one key, of a revision that counts, say the same."""
    newest = newest_rows(stored)
    count = Counter((r.frame.scope_id, r.frame.period_begin, r.frame.revision) for r in stored.frames)
    for (scope_id, period_begin), row in newest.items():
        n = count[scope_id, period_begin, row.frame.revision]
        if n > 1:
            text = f"{n} that differ, of revision {row.frame.revision}"
            yield _violation(Invariant.ONE_PAYLOAD, row.frame, "", "one row", text, frame_row(row.frame, "store"))
    lines = Counter((s.scope_id, s.period_begin, s.revision, s.line.metric, s.line.line_id) for s in stored.lines)
    for (scope_id, period_begin, revision, metric, identity), n in lines.items():
        of = newest.get((scope_id, period_begin))
        if n > 1 and of is not None and of.frame.revision == revision:
            line = line_row(scope_id, period_begin, revision, metric, identity)
            text = f"{n} that differ"
            yield Violation(Invariant.ONE_PAYLOAD, scope_id, period_begin, metric, "one row", text, (line,))


def frames_have_their_lines(stored: Stored) -> Iterator[Violation]:
    """A frame's row is there only when its lines are: as many as it counts, of its revision and rules."""
    lines = lines_by_frame(stored)
    for (scope_id, period_begin), row in newest_rows(stored).items():
        frame = row.frame
        of_frame = lines.get((scope_id, period_begin, frame.revision), [])
        keys = {(stored_line.line.metric, stored_line.line.line_id) for stored_line in of_frame}
        at = frame_row(frame, "store")
        counts = [
            ("lines", len(keys), row.line_count),
            ("lines in its totals", sum(total.n for total in frame.totals), row.line_count),
            ("gaps", len(frame.gaps), row.gap_count),
            ("quarantined points", len(frame.quarantined), row.quarantined_count),
        ]
        for what, there, said in counts:
            if there != said:
                yield _violation(Invariant.FRAMES_HAVE_THEIR_LINES, frame, "", f"{said} {what}", str(there), at)
        for other in of_frame:
            if other.rule_version != frame.rule_version:
                line = line_row(scope_id, period_begin, frame.revision, other.line.metric, other.line.line_id)
                yield _violation(
                    Invariant.FRAMES_HAVE_THEIR_LINES, frame, other.line.metric,
                    f"rule version {frame.rule_version}", str(other.rule_version), line,
                )  # fmt: skip


def gaps_match_frames(stored: Stored) -> Iterator[Violation]:
    """The store's form of `gaps_alerted_once`: the rows of gaps that are open are the gaps of their frames."""
    newest = newest_rows(stored)
    rows: dict[tuple[str, int, str], StoredGap] = {}
    for gap in stored.gaps:
        frame = newest.get((gap.scope_id, gap.period_begin))
        rows[gap.scope_id, gap.period_begin, gap.gap.gap_id] = gap
        if fault := _gap_fault(gap, frame.frame if frame else None):
            yield _of_gap(gap, *fault)
    for (scope_id, period_begin), stored_frame in newest.items():
        for of_frame in stored_frame.frame.gaps:
            if (scope_id, period_begin, of_frame.gap_id) not in rows:
                lost = StoredGap(scope_id, period_begin, of_frame, None, None)
                yield _of_gap(lost, "an open gap, as its frame says", "no row")


def _gap_fault(row: StoredGap, frame: RatedFrame | None) -> tuple[str, str] | None:
    """(expected, found) if the row says something else than its frame."""
    if row.opened is None:
        return "an alert that it opened", "only that it was resolved"
    if frame is None:
        return "a frame of its period", "none"
    said = {gap.gap_id: gap for gap in frame.gaps}.get(row.gap.gap_id)
    if row.opened[0] > frame.revision or (row.resolved is not None and row.resolved[0] > frame.revision):
        newest = max(row.opened[0], row.resolved[0] if row.resolved else 0)
        return f"revision {frame.revision} at most", f"revision {newest}"
    if row.is_open != (said is not None):
        return ("open", "resolved") if said else ("resolved, since its frame no longer has it", "open")
    where = (row.gap.metric, row.gap.source, row.gap.begin, row.gap.end)
    if said is not None and (said.metric, said.source, said.begin, said.end) != where:
        return f"{said.metric} from {said.source}: [{said.begin}, {said.end})", f"[{row.gap.begin}, {row.gap.end})"
    return None


def store_is_best_of_rated(rated: RatedLog, stored: Stored, *, at_rest: bool = True) -> Iterator[Violation]:
    """What FINAL shows of each frame, with its lines, is the newest whole revision in `rated`.

    Frames that only the store has are left to other invariants: `rated` forgets after days. Not `at_rest`: the store
    was read after the topic, and may have newer revisions.
    """
    newest, lines = newest_rows(stored), lines_by_frame(stored)
    for key, best in best_frames(rated).items():
        row = newest.get(key)
        if row is None:
            yield from no_frame_missing([key], "frames")
            continue
        if row.frame.revision > best.revision and not at_rest:
            continue
        if row.frame.revision != best.revision:
            text = f"revision {row.frame.revision}"
            yield _violation(
                Invariant.STORE_IS_BEST_OF_RATED, best, "", f"revision {best.revision}", text, frame_row(best, "store")
            )
            continue
        yield from _same_head(best, row.frame)
        there = {(s.line.metric, s.line.line_id): s for s in lines.get((*key, best.revision), [])}
        said = {(line.metric, line.line_id): line for line in best.lines}
        for metric, identity in sorted(there.keys() | said.keys()):
            got = there.get((metric, identity))
            wanted = _line_text(said.get((metric, identity)))
            found = _line_text(got.line if got else None)
            if wanted != found:
                at = line_row(*key, best.revision, metric, identity)
                yield _violation(Invariant.STORE_IS_BEST_OF_RATED, best, metric, wanted, found, at)


_HEAD = ("status", "closed_by", "weak", "rule_version", "closed_at", "expected_until", "totals", "coverage", "gaps",
         "quarantined", "failure", "period_end")  # fmt: skip
LAST_INSTANT = 2**32 - 1  # of a column of times: stands for no end


def _same_head(best: RatedFrame, row: RatedFrame) -> Iterator[Violation]:
    for name in _HEAD:
        said, there = getattr(best, name), getattr(row, name)
        if name == "expected_until" and said is not None and said >= LAST_INSTANT:
            said = None
        if said != there:
            yield _violation(
                Invariant.STORE_IS_BEST_OF_RATED, best, "", f"{name} {_short(said)}", _short(there),
                frame_row(best, "store"),
            )  # fmt: skip


def _line_text(line: Line | None) -> str:
    if line is None:
        return "no line"
    labels = [{name: label_text(value) for name, value in sorted(one.items())} for one in (line.groupby, line.metadata)]
    return f"quantity {line.qty.normalize(_EXACT)}, price {line.price.normalize(_EXACT)}, unit {line.unit}, {labels}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"


# --- violations


def _violation(
    invariant: Invariant, frame: RatedFrame, metric: str, expected: str, found: str, *rows: RowKey
) -> Violation:
    return Violation(invariant, frame.scope_id, frame.period_begin, metric, expected, found, rows)


def _of_alert(invariant: Invariant, alert: Alert, expected: str, found: str, row: RowKey) -> Violation:
    return Violation(invariant, alert.scope_id, alert.period_begin, alert.metric, expected, found, (row,))


def _of_gap(gap: StoredGap, expected: str, found: str) -> Violation:
    key = (
        ("scope_id", gap.scope_id), ("period_begin", gap.period_begin), ("metric", gap.gap.metric),
        ("source", gap.gap.source), ("gap_begin", gap.gap.begin), ("gap_end", gap.gap.end), ("gap_id", gap.gap.gap_id),
    )  # fmt: skip
    row = RowKey("gaps", key)
    return Violation(
        Invariant.GAPS_ALERTED_ONCE, gap.scope_id, gap.period_begin, gap.gap.metric, expected, found, (row,)
    )


def _rated(frame: RatedFrame) -> RowKey:
    return frame_row(frame, "topics")
