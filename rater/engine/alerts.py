"""Alerts as final bytes for the outbox, each with an id that the same event always has."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from rater.engine.state import OutboxItem, Record
from rater.model.codec import encode_json
from rater.model.events import event_headers
from rater.model.interval import Interval, clip, subtract
from rater.model.rated import Alert, AlertKind, Gap, RatedFrame, ReworkResult
from rater.model.usage import Collection, GapAccepted

__all__ = ["batches_lost", "frame_alerts", "gap_accepted", "gap_id", "late_plan"]
__all__ += ["late_usage", "rework_alert"]


def _identity(*parts: object) -> str:
    return blake2b(encode_json(parts), digest_size=16).hexdigest()


def gap_id(scope_id: str, metric: str, source: str, period_begin: int, hole: Interval, revision: int) -> str:
    """Of a hole that opens with this revision; a hole that opens again later is another gap."""
    return _identity("gap", scope_id, metric, source, period_begin, hole.begin, hole.end, revision)


def _item(alert: Alert) -> OutboxItem:
    key, value = alert.scope_id.encode(), encode_json(alert)
    return OutboxItem("alerts", key, value, event_headers(alert, key, value))


def late_usage(part: Collection, late: list[Interval], record: Record) -> OutboxItem:
    """Usage came for frames that have left the state. Raised at the broker's time of the record."""
    collection = (part.source, part.begin, part.end, part.attempt, part.collection_id, part.part)
    return _item(
        Alert(
            alert_id=_identity("late", part.scope_id, part.metric, *collection),
            kind=AlertKind.LATE_USAGE,
            scope_id=part.scope_id,
            metric=part.metric,
            source=part.source,
            period_begin=late[0].begin,
            begin=max(part.begin, late[0].begin),
            end=min(part.end, late[-1].end),
            revision=-1,
            raised_at=record.timestamp_ms // 1000,
            reason=f"{len(part.samples)} samples came after their frames had left the state; they are in `rejected`",
        )
    )


def late_plan(scope_id: str, source: str, metric: str, span: Interval, period_begin: int, record: Record) -> OutboxItem:
    """It is said only now what is expected in `span`, whose frames have left the state."""
    return _item(
        Alert(
            alert_id=_identity("plan", scope_id, metric, source, span, record.offset),
            kind=AlertKind.LATE_PLAN,
            scope_id=scope_id,
            metric=metric,
            source=source,
            period_begin=period_begin,
            begin=span.begin,
            end=span.end,
            revision=-1,
            raised_at=record.timestamp_ms // 1000,
            reason="what is expected here changed after the frames had left the state: rated again (by itself with "
            "`rework.late_usage`, else by `rater rerate`) they name what is missing",
        )
    )


def gap_accepted(accepted: GapAccepted, record: Record) -> OutboxItem:
    """Somebody has decided to live with a gap. Raised at the broker's time of the record."""
    return _item(
        Alert(
            alert_id=accepted.gap_id,
            kind=AlertKind.GAP_ACCEPTED,
            scope_id=accepted.scope_id,
            metric=accepted.metric,
            source=accepted.source,
            period_begin=accepted.period_begin,
            begin=accepted.begin,
            end=accepted.end,
            revision=-1,
            raised_at=record.timestamp_ms // 1000,
            reason=accepted.reason,
            author=accepted.author,
        )
    )


def batches_lost(
    scope_id: str, producer_id: str, numbers: Interval, period_begin: int, noticed_at: int, now: int
) -> OutboxItem:
    """Batches with the sequence numbers `[begin, end)` never came. Times in seconds."""
    return _item(
        Alert(
            alert_id=_identity("lost", scope_id, producer_id, numbers),
            kind=AlertKind.BATCHES_LOST,
            scope_id=scope_id,
            metric="",
            source="",
            period_begin=period_begin,
            begin=noticed_at,
            end=now,
            revision=-1,
            raised_at=now,
            reason=f"{numbers.end - numbers.begin} batch(es) of producer {producer_id!r} never came, the first with "
            f"sequence {numbers.begin}, while later ones did: send them again, or find out what they held",
        )
    )


def rework_alert(
    kind: AlertKind, scope_id: str, period: Interval, result: ReworkResult, reason: str, now: int
) -> OutboxItem:
    """The answer to a rework of one frame; the same `alert_id` whatever it is."""
    return _item(
        Alert(
            alert_id=_identity("rework", result.rework_id, scope_id, period.begin),
            kind=kind,
            scope_id=scope_id,
            metric="",
            source="",
            period_begin=period.begin,
            begin=period.begin,
            end=period.end,
            revision=result.revision,
            raised_at=now,
            reason=reason,
            rework=result,
        )
    )


def frame_alerts(
    frame: RatedFrame,
    opened: Iterable[Gap],
    resolved: Iterable[Gap],
    suspicions: Iterable[tuple[str, str]],
    *,
    had_failed: bool,
) -> list[OutboxItem]:
    """What this revision has to tell: gaps opened and resolved, points quarantined, suspicions (metric, reason).

    And that its rating failed, or no longer fails if that of the revision before it `had_failed`.
    """
    alerts = [_gap_alert(frame, AlertKind.GAP_OPENED, gap, gap.reason) for gap in opened]
    alerts += [_gap_alert(frame, AlertKind.GAP_RESOLVED, gap, _resolution(frame, gap)) for gap in resolved]
    if frame.quarantined:
        first = frame.quarantined[0]
        reason = (
            f"{len(frame.quarantined)} point(s) have no price; the first: {first.metric} {first.value}: {first.reason}"
        )
        alerts.append(_frame_alert(frame, AlertKind.QUARANTINED, first.metric, first.source, reason))
    if frame.failure:
        alerts.append(_rating_alert(frame, AlertKind.RATING_FAILED, frame.failure))
    elif had_failed:
        alerts.append(_rating_alert(frame, AlertKind.RATING_REPAIRED, "the frame is rated now"))
    alerts += [_frame_alert(frame, AlertKind.SUSPICION, metric, "", reason) for metric, reason in suspicions]
    return [_item(alert) for alert in alerts]


def _resolution(frame: RatedFrame, gap: Gap) -> str:
    """Why the gap is none any more, or another one."""
    hole = Interval(gap.begin, gap.end)
    entries = [entry for entry in frame.coverage if (entry.metric, entry.source) == (gap.metric, gap.source)]
    expected = [part for entry in entries for part in clip(entry.expected, hole)]
    covered = [part for entry in entries for part in clip(entry.covered, hole)]
    if not expected:
        return "no longer expected"
    if not subtract(expected, covered):
        return "covered by a later collection"
    return "covered in part: a smaller gap is left" if covered else "another gap takes its place"


def _gap_alert(frame: RatedFrame, kind: AlertKind, gap: Gap, reason: str) -> Alert:
    return Alert(
        alert_id=gap.gap_id,
        kind=kind,
        scope_id=frame.scope_id,
        metric=gap.metric,
        source=gap.source,
        period_begin=frame.period_begin,
        begin=gap.begin,
        end=gap.end,
        revision=frame.revision,
        raised_at=frame.closed_at,
        reason=reason,
    )


def _rating_alert(frame: RatedFrame, kind: AlertKind, reason: str) -> Alert:
    alert_id = _identity("rating", frame.scope_id, frame.period_begin)
    return msgspec.structs.replace(_frame_alert(frame, kind, "", "", reason), alert_id=alert_id)


def _frame_alert(frame: RatedFrame, kind: AlertKind, metric: str, source: str, reason: str) -> Alert:
    return Alert(
        alert_id=_identity(kind.value, frame.scope_id, metric, source, frame.period_begin, frame.revision),
        kind=kind,
        scope_id=frame.scope_id,
        metric=metric,
        source=source,
        period_begin=frame.period_begin,
        begin=frame.period_begin,
        end=frame.period_end,
        revision=frame.revision,
        raised_at=frame.closed_at,
        reason=reason[:2000],
    )
