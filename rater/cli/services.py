"""`rater worker` and `rater sink`: one part of the system as a process of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.work import listen_option, observed, until_signal

if TYPE_CHECKING:
    from rater.config import Config

__all__ = ["sink", "worker"]


@click.command()
@listen_option
@click.pass_context
def worker(context: click.Context, listen: str | None) -> None:
    """Run a worker: windows, rates and closes frames, alerts of gaps. Ctrl-C or SIGTERM ends it in order.

    Start as many as there are partitions, at most; they share the work and take over from each other.

    \b
    Examples:
      rater worker
      rater worker --listen 127.0.0.1:8990
    """
    config = observed(session(context).config, listen)
    until_signal(lambda stop: _work(config, stop))


async def _work(config: Config, stop: asyncio.Event) -> None:
    from prometheus_client import CollectorRegistry

    from rater.observe import serve_health
    from rater.stream.worker import Worker

    settings, registry = config.settings, CollectorRegistry()
    service = Worker(settings.kafka, config.engine_context(), settings.worker, registry=registry)
    async with serve_health(settings.observe, {"worker": service.red}, registry):
        await service.run(stop)
