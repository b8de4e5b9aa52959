"""A frame that is due: rated, published as a revision in parts, with what it has to tell."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b

from rater.engine.alerts import frame_alerts, rework_alert
from rater.engine.coverage import expected_until
from rater.engine.rate import Look, Rating, look, open_gaps, rate_frame
from rater.engine.rework import result_of
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, Frame, OutboxItem, PartitionState, Scope
from rater.model.codec import encode_json
from rater.model.events import event_headers
from rater.model.interval import Interval
from rater.model.rated import AlertKind, ClosedBy, Line, RatedFrame
from rater.rating import Chain, add_used, month_begin, tier_metric

__all__ = ["Pass", "close"]

ZERO = Decimal(0)
_TOO_LATE = (
    "the graduated prices of {} later periods were made without this usage, and their frames have left the state: "
    "`rater rerate` of the rest of the month makes them again"
)
_FORGOTTEN = (
    "what was used of its graduated prices earlier in the month is no longer counted (engine.gap_horizon_periods after "
    "the month's end): they begin anew with what comes since"
)
DIGEST_LINES = 1_000  # encoded at once: 1 ms
PART_BYTES = 900_000  # of lines in one message: well under the topic's limit of 4 MiB, with the frame's head added
LINE_BYTES = 200  # of a line without its labels
RETRY_SECONDS = 90  # before a frame that failed by chance is tried again; who runs scripts bounds how often
MAX_PENDING = 64  # frames that wait for their scripts at once: each is offered again at every checkpoint


class Pass:
    """What one call of `decide` needs everywhere, and counts."""

    def __init__(self, state: PartitionState, now: int, as_of: int, rules: Chain, context: EngineContext) -> None:
        self.state = state
        self.now = now
        self.as_of = as_of
        self.rules = rules
        self.context = context
        self.pending = 0
        self.revisions = 0
        self.statuses: list[str] = []
        self.work = 0


def close(current: Pass, scope_id: str, scope: Scope, frame: Frame, closed_by: ClosedBy) -> bool:
    """Rates the frame; publishes a revision if it says anything new. False if its scripts have to run first."""
    state, context = current.state, current.context
    if current.pending >= MAX_PENDING and current.rules.scripts_at(frame.period_begin):
        return False
    seen: Look = look(scope, frame, state.period)
    used = _used_before(scope, frame) if current.rules.has_tiers else {}
    rating = rate_frame(scope_id, scope, frame, seen, current.rules, context, used)
    if rating is None:
        current.pending += 1
        return False
    current.work += len(rating.lines) + len(rating.vanished)
    frame.dirty = False
    frame.unpriced = rating.unpriced
    frame.retry_at = current.now + RETRY_SECONDS if rating.by_chance else 0
    digest = _digest(rating)
    period_end = frame.period_begin + state.period
    until = expected_until(scope, period_end)
    is_new_end = until <= period_end < frame.expected_until  # if more is expected, later frames will say so
    recounted = _recount(scope, frame, rating.used, current.rules)
    moved = rating.used != frame.used  # a revision says by which usage and rules the count was made, for `explain`
    frame.used = rating.used
    if frame.is_closed and digest == frame.digest and not is_new_end and not moved:
        _answer_rework(current, scope_id, frame, "the frame says the same as before: no new revision")
        return True
    if frame.is_closed and seen.holes:
        closed_by = ClosedBy.GRACE
    _publish(current, scope_id, frame, rating, closed_by, digest, until, recounted)
    scope.series.update(rating.series)
    return True


def _publish(
    current: Pass,
    scope_id: str,
    frame: Frame,
    rating: Rating,
    closed_by: ClosedBy,
    digest: bytes,
    until: int,
    recounted: list[tuple[str, str]],
) -> None:
    """The next revision of the frame, with what it has to tell. `recounted` are suspicions (metric, reason)."""
    state = current.state
    revision = frame.revision + 1
    gaps = open_gaps(scope_id, frame, rating, revision)
    known, still = {gap.gap_id for gap in frame.gaps}, {gap.gap_id for gap in gaps}
    head = RatedFrame(
        scope_id=scope_id,
        period_begin=frame.period_begin,
        period_end=frame.period_begin + state.period,
        revision=revision,
        status=rating.status,
        closed_by=closed_by,
        weak=rating.weak,
        rule_version=current.rules.version,
        closed_at=state.decided_at,
        part=0,
        parts=1,
        lines=[],
        totals=rating.totals,
        coverage=rating.coverage,
        gaps=gaps,
        quarantined=rating.quarantined,
        expected_until=until if until < FOREVER else None,
        failure=rating.failure,
        digest=digest.hex(),
        rework_id=frame.rework.rework_id if frame.rework else "",
    )
    state.outbox += [
        _message(head, lines, part, parts) for lines, part, parts in _parts([*rating.lines, *rating.vanished])
    ]
    opened = [gap for gap in gaps if gap.gap_id not in known]
    resolved = [gap for gap in frame.gaps if gap.gap_id not in still]
    state.outbox += frame_alerts(head, opened, resolved, rating.suspicions + recounted, had_failed=frame.failed)
    frame.closed_at = frame.closed_at or state.decided_at
    frame.revision, frame.digest, frame.emitted, frame.gaps = revision, digest, rating.emitted, gaps
    frame.expected_until, frame.failed = until, bool(rating.failure)
    frame.totals, frame.rule_version, frame.status = rating.totals, current.rules.version, rating.status.value
    current.statuses.append(frame.status)
    _answer_rework(current, scope_id, frame, f"revision {revision} replaces the one before")
    current.revisions += 1


def _answer_rework(current: Pass, scope_id: str, frame: Frame, what: str) -> None:
    """The rework that the frame was rated for, if any, is over."""
    if frame.rework is not None:
        period = Interval(frame.period_begin, frame.period_begin + current.state.period)
        result = result_of(frame.rework, frame)
        current.state.outbox.append(
            rework_alert(AlertKind.REWORK_DONE, scope_id, period, result, what, current.state.decided_at)
        )
        frame.rework = None


def _used_before(scope: Scope, frame: Frame) -> dict[str, Decimal]:
    """What was used of graduated prices in the month before the frame, by their keys."""
    month = month_begin(frame.period_begin)
    sums: dict[str, Decimal] = {}
    gone = scope.months.get(month)
    for key, by_period in gone.used.items() if gone else ():
        for period_begin, qty in by_period.items():
            if period_begin < frame.period_begin:
                sums[key] = add_used(sums.get(key, ZERO), qty)
    for earlier in scope.frames.values():
        if month <= earlier.period_begin < frame.period_begin:
            for key, qty in earlier.used.items():
                sums[key] = add_used(sums.get(key, ZERO), qty)
    return sums


def _recount(scope: Scope, frame: Frame, used: dict[str, Decimal], rules: Chain) -> list[tuple[str, str]]:
    """Has the later frames of the month rated again whose count this frame moves.

    Those that have left the state cannot be: they are named, as suspicions (metric, reason). So is a first frame of a
    month whose counts are forgotten.
    """
    moved = {key for key in {*used, *frame.used} if used.get(key) != frame.used.get(key)}
    if not moved or not rules.has_tiers:
        return []
    month = month_begin(frame.period_begin)
    for later in scope.frames.values():
        if later.is_closed and later.period_begin > frame.period_begin and month_begin(later.period_begin) == month:
            later.dirty = later.dirty or not moved.isdisjoint(later.used)
    gone = scope.months[month].used if month in scope.months else {}
    named = [(tier_metric(key), _FORGOTTEN) for key in sorted(used) if month in scope.forgotten]
    for key in sorted(moved):
        count = sum(period_begin > frame.period_begin for period_begin in gone.get(key, ()))
        if count:
            named.append((tier_metric(key), _TOO_LATE.format(count)))
    return named


def _digest(rating: Rating) -> bytes:
    """Of what a revision says to a reader; which collection said it is left out."""
    proven = [(c.metric, c.source, c.expected, c.covered, c.proof) for c in rating.coverage]
    head, tail = (rating.status.value, rating.weak), (proven, rating.holes, rating.quarantined, rating.failure)
    digest = blake2b(encode_json(head)[:-1] + b",[", digest_size=16)
    for begin in range(0, len(rating.lines), DIGEST_LINES):  # as one list, without holding up other threads for it
        run = encode_json(rating.lines[begin : begin + DIGEST_LINES])[1:-1]
        digest.update(b"," + run if begin else run)
    digest.update(b"]," + encode_json(tail)[1:])
    return digest.digest()


def _parts(lines: list[Line]) -> Iterator[tuple[list[Line], int, int]]:
    """The lines in runs that fit into a message, with part number and number of parts; at least one part."""
    runs: list[list[Line]] = [[]]
    size = 0
    for line in lines:
        length = LINE_BYTES + len(encode_json((line.groupby, line.metadata)))  # as bytes: some characters take six
        if runs[-1] and size + length > PART_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(line)
        size += length
    return ((run, part, len(runs)) for part, run in enumerate(runs))


def _message(head: RatedFrame, lines: list[Line], part: int, parts: int) -> OutboxItem:
    frame = RatedFrame(**{name: getattr(head, name) for name in _HEAD}, part=part, parts=parts, lines=lines)
    key, value = frame.scope_id.encode(), encode_json(frame)
    return OutboxItem("rated", key, value, event_headers(frame, key, value))


_HEAD = [name for name in RatedFrame.__struct_fields__ if name not in {"part", "parts", "lines"}]
