"""What those who watch the store are told: gaps that a bill waits for, and room on its disks."""

from __future__ import annotations

import msgspec

from rater.store.client import Store

__all__ = ["Disk", "OpenGaps", "disks", "open_gaps"]

_OPEN = """
SELECT count(), sum(toUInt32(gap_end) - toUInt32(gap_begin)), toUInt32(min(gap_begin))
FROM gaps FINAL
WHERE is_open AND gap_id NOT IN (SELECT gap_id FROM accepted_gaps)
"""
_DISKS = "SELECT name, free_space, total_space FROM system.disks ORDER BY name"


class OpenGaps(msgspec.Struct, frozen=True):
    """Gaps that are neither resolved nor accepted."""

    count: int
    missing_seconds: int
    oldest: int
    """Where the oldest begins; 0 if there is none."""


class Disk(msgspec.Struct, frozen=True):
    """A disk of the engine's, as the engine names it. Sizes in bytes."""

    name: str
    free: int
    size: int


def open_gaps(store: Store) -> OpenGaps:
    """All of them, of every month. Raises StoreError."""
    return OpenGaps(*store.rows(_OPEN)[0])


def disks(store: Store) -> list[Disk]:
    """Raises StoreError, also where the user may not read `system.disks`."""
    return [Disk(*row) for row in store.rows(_DISKS)]
