"""`rater worker`, `rater sink` and `rater api`: one part of the system as a process of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.work import listen_option, observed, until_signal

if TYPE_CHECKING:
    from rater.config import Config

__all__ = ["api", "sink", "worker"]


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
    until_signal(lambda stop: _worker(config, stop))


async def _worker(config: Config, stop: asyncio.Event) -> None:
    from rater.metrics import process_registry
    from rater.services import run_together, worker_service
    from rater.tracing import open_tracing

    registry = process_registry()
    with open_tracing(config.settings.observe.tracing, "worker", config.settings.worker.instance_id) as tracing:
        await run_together(config.settings.observe, [worker_service(config, registry, tracing)], registry, stop)


@click.command()
@listen_option
@click.pass_context
def sink(context: click.Context, listen: str | None) -> None:
    """Run the sink: rated frames, gaps and usage into ClickHouse. Ctrl-C or SIGTERM ends it in order.

    With the embedded ClickHouse this is the process that has it open; `rater report`, `frames`, `gaps` and `export`
    are answered by it meanwhile.

    \b
    Examples:
      rater sink
      RATER_STORE__DSN=http://clickhouse:8123/rater rater sink
    """
    config = observed(session(context).config, listen)
    until_signal(lambda stop: _sink(config, stop))


async def _sink(config: Config, stop: asyncio.Event) -> None:
    from rater.metrics import process_registry
    from rater.services import run_together, sink_service
    from rater.tracing import open_tracing

    registry = process_registry()
    with open_tracing(config.settings.observe.tracing, "sink") as tracing:
        async with sink_service(config, registry, tracing) as service:
            await run_together(config.settings.observe, [service], registry, stop)


@click.command()
@listen_option
@click.pass_context
def api(context: click.Context, listen: str | None) -> None:
    """Take usage over HTTP (section api): POST /v3/usage. Ctrl-C or SIGTERM ends it in order.

    Start as many as you like behind a load balancer: a request may be repeated at another one. With section
    api.cloudkitty it also answers CloudKitty's API, /v1 and /v2, as far as that reads.

    \b
    Examples:
      rater api
      RATER_API__LISTEN=127.0.0.1:8890 rater api
    """
    config = observed(session(context).config, listen)
    until_signal(lambda stop: _api(config, stop))


async def _api(config: Config, stop: asyncio.Event) -> None:
    from rater.metrics import process_registry
    from rater.services import api_service, run_together
    from rater.tracing import open_tracing

    registry = process_registry()
    with open_tracing(config.settings.observe.tracing, "api") as tracing:
        await run_together(config.settings.observe, [api_service(config, registry, tracing)], registry, stop)
