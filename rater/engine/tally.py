"""What a state has to tell those who watch it: frames by status, gaps, sources that owe something."""

from __future__ import annotations

from collections import Counter

import msgspec

from rater.engine.decide import grace_ends
from rater.engine.settings import EngineContext
from rater.engine.state import PartitionState, Scope

__all__ = ["OPEN", "UNKNOWN", "Tally", "tally"]

OPEN = "open"
UNKNOWN = "unknown"
"""Closed by a release that did not note it, or come back into the state for a rework."""


class Tally(msgspec.Struct, frozen=True):
    """Of one partition, at one moment."""

    frames: dict[str, int]
    """By status: those of `FrameStatus`, OPEN and UNKNOWN."""
    overdue: int
    """Frames that are open though everybody had the time to complete them."""
    unpriced: int
    """Frames of which something has no price, for want of a rule or script that can read it."""
    open_gaps: int
    heard: dict[str, int]
    """By source that owes something now: the broker's time of what was last taken of it, in seconds. One of which
    nothing was taken yet is not in it: its gaps will say so.
    """


def tally(state: PartitionState, now: int, context: EngineContext) -> Tally:
    """Counts what is in the state, about 0.2 µs a frame; `now` in seconds. A thread may decide a scope meanwhile."""
    settings = context.settings
    hopeful = now - (1 + settings.wait_periods) * settings.period - settings.settle  # frames of later are not overdue
    statuses: Counter[str] = Counter()
    overdue = unpriced = gaps = 0
    for scope in state.scopes.values():
        for frame in list(scope.frames.values()):
            if frame.revision < 0:
                statuses[OPEN] += 1
                if frame.period_begin < hopeful:
                    overdue += now > grace_ends(scope, frame, context) + settings.settle
                continue
            statuses[frame.status] += 1
            unpriced += frame.unpriced
            if frame.gaps:
                gaps += len(frame.gaps)
    statuses[UNKNOWN] = statuses.pop("", 0)
    return Tally(dict(statuses), overdue, unpriced, gaps, _heard(state, now))


def _heard(state: PartitionState, now: int) -> dict[str, int]:
    owing: set[str] = set()
    for scope in state.scopes.values():
        if len(owing) == len(state.heard):
            break  # as a rule the first scope owes to all
        owing |= _owing(scope, now) & state.heard.keys()
    return {source: state.heard[source] // 1000 for source in sorted(owing)}


def _owing(scope: Scope, now: int) -> set[str]:
    """The sources of which something is expected now."""
    if scope.pauses.is_off:
        return set()
    planned = {
        source
        for source, metrics in scope.plans.items()
        if any(parts and parts[-1].begin <= now < parts[-1].end for parts in metrics.values())
    }
    return planned | set(scope.seen)
