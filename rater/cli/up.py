"""`rater up`: everything in one process on one event loop, with the embedded ClickHouse."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.work import listen_option, observed, until_signal

if TYPE_CHECKING:
    from rater.config import Config

__all__ = ["up"]


@click.command()
@click.option("--with-kafka", is_flag=True, help="Start a Kafka on this machine, too, at kafka.bootstrap.")
@listen_option
@click.pass_context
def up(context: click.Context, with_kafka: bool, listen: str | None) -> None:
    """Run worker, sink and, if sections collect and api are set, the collector and the HTTP service in one process.

    Creates what is missing: topics, tables. Meanwhile `rater report`, `frames`, `gaps` and `export` work in other
    shells: this process, which has the embedded ClickHouse open, answers them. Ctrl-C or SIGTERM ends it in order.

    \b
    Examples:
      rater up --with-kafka
      RATER_KAFKA__BOOTSTRAP=kafka1:9092 rater up --listen 127.0.0.1:8990
    """
    config = observed(session(context).config, listen)
    until_signal(lambda stop: _up(config, with_kafka, stop))


async def _up(config: Config, with_kafka: bool, stop: asyncio.Event) -> None:
    from rater.metrics import process_registry
    from rater.observe import serve_health
    from rater.services import (
        api_service,
        collector_service,
        laptop_kafka,
        run_all,
        sink_service,
        with_topics,
        worker_service,
    )
    from rater.tracing import open_tracing

    registry = process_registry()
    async with AsyncExitStack() as stack:
        if with_kafka:
            await stack.enter_async_context(laptop_kafka(config))
        tracing = stack.enter_context(open_tracing(config.settings.observe.tracing, "up"))
        sink = await stack.enter_async_context(sink_service(config, registry, tracing))
        services = [worker_service(config, registry, tracing), sink]
        if config.settings.collect is not None:
            services.append(collector_service(config, registry, tracing))
        if config.settings.api is not None:
            services.append(api_service(config, registry, tracing, holds_store=True))
        everything = with_topics(config, services)
        checks = {service.name: service.red for service in (everything, *services)}
        await stack.enter_async_context(serve_health(config.settings.observe, checks, registry))
        await run_all([everything], stop)
