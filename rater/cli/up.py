"""`rater up`: everything in one process on one event loop, with the embedded ClickHouse."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.work import listen_option, observed, until_signal

if TYPE_CHECKING:
    from rater.config import Config

__all__ = ["up"]

log = logging.getLogger(__name__)


@click.command()
@click.option("--with-kafka", is_flag=True, help="Start a Kafka on this machine, too, at kafka.bootstrap.")
@listen_option
@click.pass_context
def up(context: click.Context, with_kafka: bool, listen: str | None) -> None:
    """Run worker, sink and, if section collect is set, the collector in one process.

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
    from prometheus_client import CollectorRegistry

    from rater.kafka import create_topics
    from rater.services import collector_service, laptop_kafka, run_together, sink_service, worker_service

    async with AsyncExitStack() as stack:
        if with_kafka:
            await stack.enter_async_context(laptop_kafka(config))
        for name in await create_topics(config.settings.kafka):
            log.info("created topic %s", name)
        registry = CollectorRegistry()
        services = [worker_service(config, registry), await stack.enter_async_context(sink_service(config, registry))]
        if config.settings.collect is not None:
            services.append(collector_service(config, registry))
        await run_together(config.settings.observe, services, registry, stop)
