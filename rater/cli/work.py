"""Running coroutines from commands: one event loop, quiet libraries, signals that end services in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["run", "until_signal"]

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CLIENTS = ("aiokafka", "kafka", "faust", "mode", "asyncio")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs what an operator's command has to do; the clients' own logs are left out, since errors are raised."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    for name in _CLIENTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return asyncio.run(work)


def until_signal(service: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs a service until SIGINT or SIGTERM, which set its event; a second signal ends the process at once."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            stop.set()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

        for number in _SIGNALS:
            loop.add_signal_handler(number, on_signal)
        await service(stop)

    asyncio.run(main())
