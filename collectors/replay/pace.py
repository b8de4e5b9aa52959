"""Not faster than so many a second."""

from __future__ import annotations

import asyncio

__all__ = ["Pace"]


class Pace:
    """`await pace.take(n)` returns when it is time for the next n. What was not used earlier is not made up for."""

    def __init__(self, per_second: float | None) -> None:
        """None: no limit."""
        self._seconds_each = 1 / per_second if per_second else 0.0
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait for the turn of `count` more, in the order of the calls."""
        if not self._seconds_each:
            return
        now = asyncio.get_running_loop().time()
        turn = max(now, self._free_at)
        self._free_at = turn + count * self._seconds_each
        if turn > now:
            await asyncio.sleep(turn - now)
