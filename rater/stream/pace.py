"""Lets the event loop go on while much is encoded or decided: heartbeats and records must not wait for a checkpoint.

Slices are counted in work and not in time, so that the same run twice is the same run.
"""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pace"]


class Pace:
    """Await it with the work of each step: after `slice_work` of it others have their turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds that the longest slice has taken; whoever reads it may set it back."""
        self._done = 0.0
        self._since = time.perf_counter()

    def begin(self) -> None:
        """A slice begins: others had their turn."""
        self._done = 0.0
        self._since = time.perf_counter()

    def end(self) -> None:
        """A slice ends: others will have their turn."""
        self.longest = max(self.longest, time.perf_counter() - self._since)

    async def __call__(self, share: float) -> None:
        """So much of a slice was done."""
        self._done += share
        if self._done >= 1:
            self.end()
            await asyncio.sleep(0)
            self.begin()
