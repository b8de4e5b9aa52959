"""Invariants of rows of the store: among themselves, and against topic `rated`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context

from rater.audit.facts import FrameKey, RatedLog, Stored, StoredFrame, StoredGap, StoredLine, best_frames
from rater.audit.violation import LINES, Invariant, RowKey, Violation, frame_row, frame_violation, line_row
from rater.model.labels import label_text
from rater.model.rated import Line, RatedFrame

__all__ = [
    "frames_have_their_lines",
    "gaps_match_frames",
    "lines_by_frame",
    "newest_rows",
    "no_frame_missing",
    "one_row_per_key",
    "store_is_best_of_rated",
]

_EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN)


def no_frame_missing(missing: Iterable[FrameKey], table: str = "topic rated") -> Iterator[Violation]:
    """Every frame that was expected is there. `missing` are those that are not."""
    for scope_id, period_begin in missing:
        row = RowKey(table, (("scope_id", scope_id), ("period_begin", period_begin)))
        yield Violation(Invariant.NO_FRAME_MISSING, scope_id, period_begin, "", "a frame", "none", (row,))


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
            yield frame_violation(Invariant.ONE_PAYLOAD, row.frame, "", "one row", text, frame_row(row.frame, "store"))
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
            (LINES, len(keys), row.line_count),
            (" lines in its totals", sum(total.n for total in frame.totals), row.line_count),
            (" gaps", len(frame.gaps), row.gap_count),
            (" quarantined points", len(frame.quarantined), row.quarantined_count),
        ]
        for what, there, said in counts:
            if there != said:
                yield frame_violation(Invariant.FRAMES_HAVE_THEIR_LINES, frame, "", f"{said}{what}", str(there), at)
        for other in of_frame:
            if other.rule_version != frame.rule_version:
                line = line_row(scope_id, period_begin, frame.revision, other.line.metric, other.line.line_id)
                yield frame_violation(
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
            yield frame_violation(
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
                yield frame_violation(Invariant.STORE_IS_BEST_OF_RATED, best, metric, wanted, found, at)


_HEAD = ("status", "closed_by", "weak", "rule_version", "closed_at", "expected_until", "totals", "coverage", "gaps",
         "quarantined", "failure", "period_end")  # fmt: skip
_SINCE_REWORKS = ("digest", "rework_id")  # a sink from before they were columns has left both empty
LAST_INSTANT = 2**32 - 1  # of a column of times: stands for no end


def _same_head(best: RatedFrame, row: RatedFrame) -> Iterator[Violation]:
    for name in (*_HEAD, *_SINCE_REWORKS) if row.digest else _HEAD:
        said, there = getattr(best, name), getattr(row, name)
        if name == "expected_until" and said is not None and said >= LAST_INSTANT:
            said = None
        if said != there:
            yield frame_violation(
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


def _of_gap(gap: StoredGap, expected: str, found: str) -> Violation:
    key = (
        ("scope_id", gap.scope_id), ("period_begin", gap.period_begin), ("metric", gap.gap.metric),
        ("source", gap.gap.source), ("gap_begin", gap.gap.begin), ("gap_end", gap.gap.end), ("gap_id", gap.gap.gap_id),
    )  # fmt: skip
    row = RowKey("gaps", key)
    return Violation(
        Invariant.GAPS_ALERTED_ONCE, gap.scope_id, gap.period_begin, gap.gap.metric, expected, found, (row,)
    )
