"""Several services in one process on one event loop: they start together and end together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

__all__ = ["run_together"]

log = logging.getLogger(__name__)


async def run_together(services: Mapping[str, Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Runs all services until each has ended after `stop`. One that ends by itself or fails stops the others.

    Raises what the first one failed with, after all have ended.
    """
    tasks = {asyncio.create_task(work, name=name) for name, work in services.items()}
    pending = tasks
    failure: BaseException | None = None
    try:
        while pending:
            ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                fault = None if task.cancelled() else task.exception()
                if fault is not None:
                    log.error("%s failed: %s", task.get_name(), fault)
                    failure = failure or fault
                elif not stop.is_set():
                    log.warning("%s ended", task.get_name())
            stop.set()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None:
        raise failure
