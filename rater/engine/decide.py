"""`decide`: the one place where time and rules count. Closes frames, rates them, opens and resolves gaps.

Called at the checkpoint cut. Its decisions are final bytes in `state.outbox`: they exist only if the checkpoint that
holds them is committed, so that the clock and the rules may differ between a lost decision and its repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

from rater.engine.alerts import JSON_HEADERS, batches_lost, frame_alerts, rework_alert
from rater.engine.coverage import expected_until
from rater.engine.rate import Look, Rating, look, open_gaps, rate_frame
from rater.engine.rework import abandon_overdue, ends_at, keep_use, result_of
from rater.engine.settings import EngineContext
from rater.engine.state import FOREVER, Frame, OutboxItem, PartitionState, Producer, Scope
from rater.model.codec import encode_json
from rater.model.interval import Interval, clip, overlaps, period_of, periods_of, subtract, union
from rater.model.rated import AlertKind, ClosedBy, Line, RatedFrame
from rater.rating import Chain, add_used, month_begin, tier_metric

__all__ = ["Step", "decide", "deciding", "retry_unpriced"]

ZERO = Decimal(0)
_TOO_LATE = (
    "the graduated prices of {} later periods were made without this usage, and their frames have left the state: "
    "`rater rerate` of the rest of the month makes them again"
)
_FORGOTTEN = (
    "what was used of its graduated prices earlier in the month is no longer counted (engine.gap_horizon_periods after "
    "the month's end): they begin anew with what comes since"
)
PART_BYTES = 900_000  # of lines in one message: well under the topic's limit of 4 MiB, with the frame's head added
LINE_BYTES = 200  # of a line without its labels
MONTH_AND_MORE = 32 * 24 * 3600  # after the begin of a month: in the next one
RETRY_SECONDS = 90  # before a frame that failed by chance is tried again; who runs scripts bounds how often
MAX_PENDING = 64  # frames that wait for their scripts at once: each is offered again at every checkpoint
MEMORY_SECONDS = 7 * 24 * 3600  # of batches and evicted revisions: asked for within minutes, and usage is kept a week
UNUSED_SHARE = 4  # a quarter of the series has to be unused before they are dropped: a checkpoint writes the rest anew
SCOPE_WORK = 4  # of a scope that is decided, in lines, whatever is in it
SCOPES_PER_LINE = 50  # scopes of which nothing is due, in the time of a line
POINTS_PER_LINE = 50  # the same of points that are looked at when a frame leaves the state


class Step(NamedTuple):
    """One step of `deciding`: a scope, or a look at many of which nothing is due."""

    scope_id: str | None
    work: int
    """What it cost, in lines: about 7 µs each."""
    revisions: int
    """How many were added to the outbox."""


class _Pass:
    """What one call of `decide` needs everywhere, and counts."""

    def __init__(self, state: PartitionState, now: int, as_of: int, rules: Chain, context: EngineContext) -> None:
        self.state = state
        self.now = now
        self.as_of = as_of
        self.rules = rules
        self.context = context
        self.pending = 0
        self.revisions = 0
        self.work = 0


def decide(state: PartitionState, now: int, rules: Chain, context: EngineContext, *, caught_up: bool = True) -> int:
    """Takes every decision that is due at `now` (seconds); returns how many revisions were added to the outbox.

    While the log is read from behind (not `caught_up`), nobody is given up for what may lie in the rest of it: what
    waits for a time without records waits by the hour of the newest record that was applied.
    A clock that goes back decides nothing new. A frame whose scripts have not run yet stays due, and the others go on.
    """
    return sum(step.revisions for step in deciding(state, now, rules, context, caught_up=caught_up))


def deciding(
    state: PartitionState, now: int, rules: Chain, context: EngineContext, *, caught_up: bool = True
) -> Iterator[Step]:
    """The same scope by scope; between the steps records may be applied. A scope that comes meanwhile is left out."""
    assert state.period == context.settings.period, "checked at restore"
    now = max(now, state.decided_at)
    state.decided_at = now
    has_new_rules = state.rule_version != rules.version
    as_of = now if caught_up else min(now, state.last_ms // 1000)
    current = _Pass(state, now, as_of, rules, context)
    for number, (scope_id, scope) in enumerate(list(state.scopes.items())):
        if has_new_rules:
            _retry_unpriced(scope)
        if scope.dirty or now >= scope.wake_at:
            revisions, work = current.revisions, current.work
            _decide_scope(current, scope_id, scope)
            yield Step(scope_id, SCOPE_WORK + current.work - work, current.revisions - revisions)
        elif number % SCOPES_PER_LINE == 0:
            yield Step(None, 1, 0)
    state.rule_version = rules.version


def retry_unpriced(state: PartitionState) -> None:
    """Has frames rated again of which something has no price: the rules have changed, or what runs them."""
    for scope in state.scopes.values():
        _retry_unpriced(scope)


def _retry_unpriced(scope: Scope) -> None:
    for frame in scope.frames.values():
        if frame.unpriced:
            frame.dirty = scope.dirty = True


def _decide_scope(current: _Pass, scope_id: str, scope: Scope) -> None:
    now, context = current.now, current.context
    _make_expected_frames(scope, now, current.state.period)
    abandon_overdue(current.state, scope_id, scope, current.as_of)
    waiting: set[int] = set()  # months of which a frame waits for its scripts
    for period_begin in sorted(scope.frames):
        frame = scope.frames[period_begin]
        closed_by = _due(scope, frame, current)
        if closed_by is None:
            continue
        month = month_begin(period_begin)
        if month in waiting and current.rules.has_tiers:
            continue  # an earlier frame of it says first what was used
        if not _close(current, scope_id, scope, frame, closed_by):
            waiting.add(month)
    current.work += _evict(scope, now, context) // POINTS_PER_LINE
    _tell_lost(current, scope_id, scope)
    _forget_producers(scope, current.as_of)
    scope.dirty = bool(waiting)
    scope.wake_at = _wake_at(scope, now, context)


def _make_expected_frames(scope: Scope, now: int, period_seconds: int) -> None:
    """Frames of a planned scope exist even when nothing came: a dead collector cannot hide."""
    horizon = period_of(now, period_seconds).begin
    if not scope.made_until or horizon <= scope.made_until:
        return
    span = Interval(scope.made_until, horizon)
    owed = [part for metrics in scope.plans.values() for parts in metrics.values() for part in parts]
    owed += [Interval(begin, FOREVER) for since in scope.seen.values() for begin in since.values()]
    wanted = (period for part in clip(owed, span) for period in periods_of(part, period_seconds))
    for period in wanted:  # not each one of the span: a plan of long ago would have all hours since then looked at
        if period.begin not in scope.frames and not any(overlaps(period, gone) for gone in scope.evicted):
            scope.frames[period.begin] = Frame(period.begin, scope.planned_ms)
    scope.made_until = horizon


def _due(scope: Scope, frame: Frame, current: _Pass) -> ClosedBy | None:
    """Why the frame is to be rated now; None if it is not."""
    if frame.rework is not None and not frame.rework.ended:
        return None  # half of a rework is worth less than the revision there is
    if frame.is_closed:
        return ClosedBy.COMPLETE if frame.dirty or 0 < frame.retry_at <= current.now else None
    if frame.forced:
        return ClosedBy.FORCED
    if current.now < frame.period_begin + current.state.period:
        return None
    if frame.dirty:
        if look(scope, frame, current.state.period).complete:
            return ClosedBy.COMPLETE
        frame.dirty = False
    return ClosedBy.GRACE if current.as_of >= _grace_ends(scope, frame, current.context) else None


def _grace_ends(scope: Scope, frame: Frame, context: EngineContext) -> int:
    settings = context.settings
    quiet_since = -(-max(frame.touched_ms, scope.planned_ms if _open_ended(scope) else 0) // 1000)
    return max(
        frame.period_begin + settings.period + settings.wait_periods * settings.period, quiet_since + settings.settle
    )


def _open_ended(scope: Scope) -> bool:
    """Whether some expectation has no end: its frames are made by the clock, and its plan's hour counts for them."""
    return bool(scope.seen) or any(
        intervals and intervals[-1].end >= FOREVER for metrics in scope.plans.values() for intervals in metrics.values()
    )


def _close(current: _Pass, scope_id: str, scope: Scope, frame: Frame, closed_by: ClosedBy) -> bool:
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
    current: _Pass,
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
    frame.totals, frame.rule_version = rating.totals, current.rules.version
    _answer_rework(current, scope_id, frame, f"revision {revision} replaces the one before")
    current.revisions += 1


def _answer_rework(current: _Pass, scope_id: str, frame: Frame, what: str) -> None:
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
    content = (rating.status.value, rating.weak, rating.lines, proven, rating.holes, rating.quarantined, rating.failure)
    return blake2b(encode_json(content), digest_size=16).digest()


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
    return OutboxItem("rated", frame.scope_id.encode(), encode_json(frame), JSON_HEADERS)


_HEAD = [name for name in RatedFrame.__struct_fields__ if name not in {"part", "parts", "lines"}]


def _leaves_at(frame: Frame, context: EngineContext) -> int:
    """When a closed frame may leave the state."""
    settings = context.settings
    kept = settings.gap_horizon_periods if frame.gaps or frame.unpriced else settings.late_horizon_periods
    return frame.closed_at + max(kept, settings.late_horizon_periods) * settings.period


def _leaving(scope: Scope, now: int, context: EngineContext) -> list[Frame]:
    """The frames that may leave the state.

    One with graduated prices stays as long as an earlier frame of its month is there, which could still move them.
    """
    gone: list[Frame] = []
    months: set[int] = set()
    for period_begin in sorted(scope.frames):
        frame = scope.frames[period_begin]
        month = month_begin(period_begin)
        # for its scripts, or the end of a rework: what came in is not rated yet
        waits = frame.dirty or frame.retry_at > 0 or frame.rework is not None
        if not frame.is_closed or waits or now < _leaves_at(frame, context) or (frame.used and month in months):
            months.add(month)
        else:
            gone.append(frame)
    return gone


def _evict(scope: Scope, now: int, context: EngineContext) -> int:
    """Drops the frames that may leave, and the series that no other needs; returns how many series were looked at."""
    period = context.settings.period
    leaving = _leaving(scope, now, context)
    _forget_months(scope, now, context)
    if not leaving:
        return 0
    for frame in leaving:
        del scope.frames[frame.period_begin]
        keep_use(scope, frame, now)
        if frame.revision:
            scope.revised[frame.period_begin] = (frame.revision, now)
    scope.revised = {begin: kept for begin, kept in scope.revised.items() if kept[1] >= now - MEMORY_SECONDS}
    gone = [frame.period_begin for frame in leaving]
    scope.evicted = union([*scope.evicted, *(Interval(begin, begin + period) for begin in gone)])
    used = {
        identity
        for frame in scope.frames.values()
        for sources in frame.slices.values()
        for slices in sources.values()
        for held in slices
        for identity in held.points
    }
    used.update(identity for frame in scope.frames.values() for ids in frame.emitted.values() for identity in ids)
    if len(scope.series) - len(used) >= len(scope.series) / UNUSED_SHARE:
        scope.series = {identity: series for identity, series in scope.series.items() if identity in used}
    return len(scope.series)


def _forget_months(scope: Scope, now: int, context: EngineContext) -> None:
    """Drops the counts of months that are over and of which nothing has come for as long as a gap is waited for."""
    kept = context.settings.gap_horizon_periods * context.settings.period
    alive = {month_begin(period_begin) for period_begin in scope.frames}
    for month, use in list(scope.months.items()):
        over = month_begin(month + MONTH_AND_MORE)
        if month not in alive and now >= max(use.evicted_at, over) + kept:
            del scope.months[month]
            scope.forgotten.append(month)


def _tell_lost(current: _Pass, scope_id: str, scope: Scope) -> None:
    """Holes in the sequence numbers of producers, when those who were only late have had their time."""
    for producer_id, known in scope.producers.items():
        if not known.hole_ms or current.as_of < _told_at(known, current.context):
            continue
        noticed_at = known.hole_ms // 1000
        period_begin = period_of(noticed_at, current.state.period).begin
        for hole in subtract([Interval(known.told_until, known.seen[-1].end)], [*known.seen, *known.refused]):
            current.state.outbox.append(
                batches_lost(scope_id, producer_id, hole, period_begin, noticed_at, current.now)
            )
        known.told_until, known.hole_ms = known.seen[-1].end, 0


def _told_at(known: Producer, context: EngineContext) -> int:
    return -(-known.hole_ms // 1000) + context.settings.settle


def _forget_producers(scope: Scope, as_of: int) -> None:
    """By the hour that the log has reached: what is read from behind holds repetitions of what was just read."""
    for producer_id in [p for p, known in scope.producers.items() if known.last_ms < (as_of - MEMORY_SECONDS) * 1000]:
        del scope.producers[producer_id]


def _wake_at(scope: Scope, now: int, context: EngineContext) -> int:
    """The next second at which the clock alone may change something: never later than the next period's begin."""
    period = context.settings.period
    wake = period_of(now, period).end
    for producer in scope.producers.values():
        wake = min(wake, _told_at(producer, context)) if producer.hole_ms else wake
    for frame in scope.frames.values():
        if frame.rework is not None and not frame.rework.ended:
            wake = min(wake, ends_at(frame.rework))
        if frame.is_closed:
            leaves_at = _leaves_at(frame, context)
            wake = min(wake, leaves_at) if leaves_at > now else wake  # else an earlier one of its month holds it
            wake = min(wake, frame.retry_at) if frame.retry_at else wake
        elif now >= frame.period_begin + period:
            wake = min(wake, _grace_ends(scope, frame, context))
    return wake
