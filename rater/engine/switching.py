"""A scope is switched off or on: nothing is expected of it while it is off, and nothing of it is taken."""

from __future__ import annotations

from rater.engine.state import FOREVER, PartitionState, Record, Scope
from rater.engine.take import spans
from rater.model.errors import RejectedError
from rater.model.interval import Interval
from rater.model.switches import Pauses
from rater.model.usage import Collection, ScopeSwitch

__all__ = ["changed_by", "check_not_off", "switched"]

AHEAD_SECONDS = 24 * 3600


def switched(scope: Scope | None, state: PartitionState, record: Record, switch: ScopeSwitch) -> Pauses:
    """The pauses of the scope after the switch. Raises RejectedError for one whose time cannot be right."""
    before = scope.pauses if scope is not None else Pauses()
    now = record.timestamp_ms // 1000
    if switch.begin > now + AHEAD_SECONDS:
        raise RejectedError(
            f"the switch is for {switch.begin}, more than {AHEAD_SECONDS // 3600} hours after it came", "wrong_time"
        )
    if not switch.active:  # the time that it is off begins then: a wrong date must not make it decades
        spans(Interval(switch.begin, max(switch.begin, now)), state.period)
    skips = switch.inactive_time == "skip"
    return before.after(switch.number, switch.begin, state.period, active=switch.active, skips=skips)


def changed_by(before: Pauses, after: Pauses) -> Interval | None:
    """The time whose meaning a switch has changed; None if it is as it was."""
    if (before.skipped, before.since) == (after.skipped, after.since):
        return None
    return Interval(min(before.since, after.since), FOREVER)


def check_not_off(scope: Scope | None, part: Collection, periods: list[Interval]) -> None:
    """Raises RejectedError if some of the periods are not billed: a collection is taken whole or not at all."""
    if scope is None or not (scope.pauses.is_off or scope.pauses.skipped):
        return
    paused = [period for period in periods if scope.pauses.holds(period.begin)]
    if paused:
        raise RejectedError(
            f"scope {part.scope_id!r} is switched off in {len(paused)} of {len(periods)} period(s), from "
            f"{paused[0].begin} on; nothing of it was taken. Switch it on and bill that time, then send it again",
            "switched_off",
        )
