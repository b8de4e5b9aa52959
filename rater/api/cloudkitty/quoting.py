"""Rates what somebody asks the price of, as the stream rates usage: by the same modules, scripts in the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from rater.api.cloudkitty.faults import ApiFaultError
from rater.rating import Chain, Failed, Module, Rated, RatingFrame, RuleBook
from rater.sandbox import Sandbox, SandboxSettings

__all__ = ["Quoter"]

MAX_WAITING = 8
"""Quotes at once: one is rated at a time, with scripts for as long as section `scripts` allows."""


class Quoter:
    """Rates one frame at a time, beside the loop. Keeps the compiled rules while they stay as they are."""

    def __init__(self, modules: Mapping[str, Module], scripts: SandboxSettings) -> None:
        """`modules`: the rating modules of third parties, by name."""
        self._modules = modules
        self._sandbox = Sandbox(scripts)
        self._thread = ThreadPoolExecutor(1, "quote")
        self._waiting = 0
        self._compiled: tuple[RuleBook, Chain] | None = None

    async def quote(self, book: RuleBook, frame: RatingFrame) -> Rated | Failed:
        """The frame by the rules of `book`. Raises ApiFaultError 503 if too many ask."""
        if self._waiting >= MAX_WAITING:
            raise ApiFaultError(503, "too many prices are asked for: ask again", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._rate, book, frame)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Ends scripts that run, and their process."""
        await asyncio.to_thread(self._sandbox.close)
        await asyncio.to_thread(self._thread.shutdown)

    def _rate(self, book: RuleBook, frame: RatingFrame) -> Rated | Failed:
        if self._compiled is None or self._compiled[0] is not book:
            self._compiled = book, Chain(book, self._modules)
        found = self._compiled[1].rate(frame, self._sandbox)
        assert found is not None, "this sandbox waits for its scripts"
        return found
