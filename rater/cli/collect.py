"""`rater collect`: fetch usage from a source, replay it from files, or see whether a source can answer at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.collect_check import collect_check
from rater.cli.import_settings import import_settings
from rater.cli.replay import collect_replay
from rater.cli.work import listen_option, observed, until_signal

if TYPE_CHECKING:
    from rater.config import Config

__all__ = ["collect"]


@click.group()
def collect() -> None:
    """Fetch usage from a source, or replay it from files.

    \b
    Examples:
      rater collect check
      rater collect run
      rater collect replay usage-2026-01.jsonl.gz --covers 2026-01-01/2026-02-01
    """


@collect.command("run")
@listen_option
@click.pass_context
def collect_run(context: click.Context, listen: str | None) -> None:
    """Collect what is due from the source of section collect, until Ctrl-C or SIGTERM.

    What was missed while no collector ran is collected first, oldest first.

    \b
    Example:
      rater collect run
    """
    config = observed(session(context).config, listen)
    until_signal(lambda stop: _collect(config, stop))


async def _collect(config: Config, stop: asyncio.Event) -> None:
    from rater.metrics import process_registry
    from rater.services import collector_service, run_together
    from rater.tracing import open_tracing

    registry = process_registry()
    with open_tracing(config.settings.observe.tracing, "collect") as tracing:
        await run_together(config.settings.observe, [collector_service(config, registry, tracing)], registry, stop)


collect.add_command(collect_check)
collect.add_command(collect_replay)
collect.add_command(import_settings)
