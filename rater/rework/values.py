"""What is asked for in a rework, what is sent for one frame, and why a frame is left as it is. Values only."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rater.model.errors import RaterError
from rater.model.usage import Collection, ReworkBegun, ReworkEnded, ReworkKind, ReworkLines
from rater.store import FrameRow, LineRow, UsageRow

__all__ = ["Bracket", "FrameKey", "Left", "Material", "ReworkError", "Wanted"]

FrameKey: TypeAlias = tuple[str, int]
"""Scope and begin of the period."""


class ReworkError(RaterError):
    """A rework that cannot be begun, or did not come to its end."""


class Wanted(msgspec.Struct, frozen=True):
    """A request: who wants frames to be rated again, and why."""

    rework_id: str
    kind: ReworkKind
    author: str
    reason: str
    takes_late: bool = False
    """Whether pushed samples that a frame was not made of are rated too: they came late, or the engine refused them."""


class Material(msgspec.Struct, frozen=True):
    """A closed frame as the store has it."""

    frame: FrameRow
    lines: list[LineRow]
    """Of exactly that revision."""
    usage: list[UsageRow]
    """What was collected of its period, whether it was rated or not."""
    reused: frozenset[tuple[str, int]] = frozenset()
    """Producers and numbers under which more than one part came for the scope, of whatever period. Known only where
    there are more samples than were rated.
    """
    lines_gone: bool = False
    """Its lines are beyond retention: it stays as it is, and neither they nor its usage were read."""

    @property
    def key(self) -> FrameKey:
        """Which frame it is."""
        return self.frame.scope_id, self.frame.period_begin


class Left(msgspec.Struct, frozen=True):
    """A frame that is left as it is."""

    scope_id: str
    period_begin: int
    reason: str
    may_pass: bool = False
    """Whether the same request may find it otherwise a little later: a source gave no answer."""


class Bracket(msgspec.Struct, frozen=True):
    """All that is sent for one frame. Producer and sequence numbers of the collections are given when it is sent."""

    begun: ReworkBegun
    lines: list[ReworkLines]
    collections: list[Collection]
    remarks: list[str] = []
    """What is not sent of the stored usage, and why."""

    @property
    def key(self) -> FrameKey:
        """Which frame it is for."""
        return self.begun.scope_id, self.begun.period_begin

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return sum(len(part.samples) for part in self.collections)

    def records(
        self, producer_id: str, first_sequence: int
    ) -> list[ReworkBegun | ReworkLines | Collection | ReworkEnded]:
        """Its records in order; the collections count from `first_sequence`."""
        begun = self.begun
        numbered = [
            msgspec.structs.replace(part, producer_id=producer_id, sequence=first_sequence + number)
            for number, part in enumerate(self.collections)
        ]
        records = len(self.lines) + len(numbered)
        ended = ReworkEnded(begun.rework_id, begun.scope_id, begun.period_begin, records)
        return [begun, *self.lines, *numbered, ended]
