"""Asks the store now and then whether it answers, so that readiness knows it without anybody's request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from rater.reports import RevisionRequest, StoreError, View

__all__ = ["PROBE_SECONDS", "StoreProbe"]

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0


class StoreProbe:
    """Runs beside the service. `ask` is a question that costs the store nothing; it runs in one of `threads`."""

    def __init__(self, ask: Callable[[], object], threads: Executor) -> None:
        """`ask` raises StoreError if the store is away."""
        self._ask, self._threads = ask, threads
        self._fault = "the store was not asked yet"

    @classmethod
    def of(cls, view: View, threads: Executor) -> StoreProbe:
        """Asks for a frame that there is not."""
        return cls(lambda: view.frame_at(RevisionRequest("", 0, 0)), threads)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._ask)
            except StoreError as fault:
                found = f"the store cannot be read: {fault}"
            else:
                found = ""
            if found and not self._fault.startswith(found[:30]):
                log.warning("%s", found)
            self._fault = found
            await asyncio.sleep(PROBE_SECONDS)

    def red(self) -> str:
        """Why nothing can be read; empty if it can."""
        return self._fault
