"""What a scope had used of graduated prices before a stored frame, by the rules that each earlier frame was rated by.

The stream counts what the last revision of each frame added; here the same is found in the store, or an error says why
it cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeAlias

from rater.engine import EngineContext
from rater.engine.again import lines_again
from rater.model.errors import RaterError
from rater.model.rated import FrameStatus
from rater.rating import Chain, RatingFrame, RuleBook, ScriptRunner, add_used, month_begin, tier_key
from rater.rating.chain import HASHMAP, PYSCRIPTS
from rater.reports import Selection, View
from rater.store import FrameRow
from rater.trial.pricing import iso
from rater.trial.stored import StoredFrame, StoredFrames

__all__ = ["CountUnknownError", "used_before", "versions_before"]

ZERO = Decimal(0)
Rules: TypeAlias = tuple[RuleBook, Chain]


class CountUnknownError(RaterError):
    """What was used before in the month cannot be proven, so that graduated prices cannot be explained."""


def used_before(
    view: View, context: EngineContext, rules_of: Callable[[int], Rules], scripts: ScriptRunner, frame: FrameRow
) -> dict[str, Decimal]:
    """What the scope used of graduated prices in the month before the frame, by `tier_key`.

    A frame counts by the rules of its own version: nothing if these had no tiers, or if it failed. Where modules ran
    after hashmap its lines need not be what was counted, and it is rated again. Raises CountUnknownError, StoreError.
    """
    needed = versions_before(view, frame)
    frames = StoredFrames(view, context, lambda version: version not in needed or not _changed_after(rules_of(version)))
    used: dict[str, Decimal] = {}
    for stored in frames.read(frame.scope_id, month_begin(frame.period_begin), frame.period_begin):
        if not _has_usage(stored.frame):
            continue
        if stored.frame.rule_version not in needed:
            raise _unknown(stored.frame, "it is being revised just now: try again")
        rules = rules_of(stored.frame.rule_version)
        _, chain = rules
        if not chain.has_tiers:
            continue
        by_lines = _proves_count(stored.frame, rules)
        more = _of_lines(stored, chain) if by_lines else _again(stored, chain, scripts, used)
        for key, qty in more.items():
            used[key] = add_used(used.get(key, ZERO), qty)
    return used


def versions_before(view: View, frame: FrameRow) -> list[int]:
    """The versions of the rules that `used_before` looks at, in order. Raises StoreError."""
    selection = Selection(frame.scope_id, month_begin(frame.period_begin), frame.period_begin)
    return sorted({earlier.rule_version for earlier in view.frames(selection) if _has_usage(earlier)})


def _has_usage(frame: FrameRow) -> bool:
    """Whether the frame may have counted anything."""
    return frame.status is not FrameStatus.FAILED and any(
        reference.samples for entry in frame.coverage for reference in entry.collections
    )


def _changed_after(rules: Rules) -> bool:
    """Whether a module that runs after hashmap counted may have changed or dropped points."""
    book, chain = rules
    if not chain.has_tiers:
        return False
    later = chain.order[chain.order.index(HASHMAP) + 1 :]
    return any(name != PYSCRIPTS or book.scripts_in_order() for name in later)


def _proves_count(frame: FrameRow, rules: Rules) -> bool:
    """Whether the lines are what was counted: a point whose price no column holds was counted and is no line."""
    return not _changed_after(rules) and all(point.source and point.value for point in frame.quarantined)


def _of_lines(stored: StoredFrame, chain: Chain) -> dict[str, Decimal]:
    used: dict[str, Decimal] = {}
    for line in stored.lines:
        tiers = chain.tiers_of(line.metric)
        if tiers is not None:
            key = tier_key(line.metric, tiers.by, line.groupby, line.metadata)
            used[key] = add_used(used.get(key, ZERO), line.qty)
    return used


def _again(
    stored: StoredFrame, chain: Chain, scripts: ScriptRunner, used: Mapping[str, Decimal]
) -> Mapping[str, Decimal]:
    """What the frame counts when it is rated again. Raises CountUnknownError unless its lines come out, too."""
    frame, points = stored.frame, stored.points
    if points is None:
        raise _unknown(frame, stored.trouble)
    rating = RatingFrame(frame.scope_id, frame.period_begin, frame.period_end, tuple(points.points), dict(used))
    outcome = chain.rate(rating, scripts)
    assert outcome is not None, "whoever runs scripts here waits for them"
    again = lines_again(frame.scope_id, outcome, points)
    if again.failure:
        raise _unknown(frame, f"it was rated, but would not be any more: {again.failure}")
    if {line.line_id: line.qty for line in again.lines} != {line.line_id: line.qty for line in stored.lines}:
        raise _unknown(frame, "rated again, it has other lines or quantities than the stored ones")
    return again.used


def _unknown(frame: FrameRow, why: str) -> CountUnknownError:
    return CountUnknownError(
        f"scope {frame.scope_id!r}: what was used before in the month, which graduated prices depend on, cannot be "
        f"proven: the lines of the frame of {iso(frame.period_begin)}, rated by version {frame.rule_version} of the "
        "rules, need not be what was counted (a module ran after hashmap, or a point has no price), and it cannot be "
        f"rated again: {why}"
    )
