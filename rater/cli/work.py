"""Running coroutines from commands: one event loop, quiet libraries, signals that end services in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rater.cli.output import remark
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.config import Config

__all__ = ["listen_option", "observed", "run", "until_signal"]

T = TypeVar("T")

ENDING_SECONDS = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Address(click.ParamType):
    """An address to listen on."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`host:port`, as it is."""
        from rater.observe import ListenError, endpoint

        try:
            endpoint(value)
        except ListenError as fault:
            self.fail(str(fault), param, ctx)
        return str(value)


listen_option = click.option(
    "--listen",
    metavar="HOST:PORT",
    type=_Address(),
    help="Where /healthz, /readyz and /metrics are. Default: observe.listen.",
)
_CLIENTS = ("aiokafka", "kafka", "faust", "mode", "asyncio", "urllib3")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs what an operator's command has to do; the clients' own logs are left out, since errors are raised."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    for name in _CLIENTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    interrupted: list[bool] = []
    try:
        return asyncio.run(_ending_on_ctrl_c(work, interrupted))
    except asyncio.CancelledError as fault:
        if interrupted:
            raise KeyboardInterrupt from None
        # When Kafka is gone, aiokafka's stop() raises this in place of the error that made us stop.
        earlier = fault.__context__
        while earlier is not None and not isinstance(earlier, RaterError):
            earlier = earlier.__context__
        if earlier is None:
            raise
        raise earlier from None


async def _ending_on_ctrl_c(work: Coroutine[Any, Any, T], interrupted: list[bool]) -> T:
    """Cancels the work at the first Ctrl-C, as asyncio does, and says that a second one ends it at once.

    Clients of a Kafka that is gone wait long for what they have not sent.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"

    def end() -> None:
        interrupted.append(True)
        loop.remove_signal_handler(signal.SIGINT)  # the next one is a KeyboardInterrupt
        loop.call_later(ENDING_SECONDS, remark, "ending what is under way; Ctrl-C again ends it at once")
        task.cancel()

    in_foreground = threading.current_thread() is threading.main_thread()
    if in_foreground and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, end)
    return await work


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


def observed(config: Config, listen: str | None) -> Config:
    """The settings of a service about to run: `--listen` in place, logs set up."""
    import msgspec

    from rater.observe import setup_logging

    observe = config.settings.observe
    if listen is not None:
        observe = msgspec.structs.replace(observe, listen=listen)
    setup_logging(observe)
    settings = msgspec.structs.replace(config.settings, observe=observe)
    return msgspec.structs.replace(config, settings=settings)
