"""`rater reprocess`: closed frames collected again from the source, then rated again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rater.cli.app import session
from rater.cli.rework_options import Make, perform, request_of, rework_options

if TYPE_CHECKING:
    from rater.config import Config
    from rater.rework import Wanted

__all__ = ["reprocess"]


@click.command()
@rework_options
@click.option("--accept-less", is_flag=True, help="Also take answers that prove less than what is rated now.")
@click.pass_context
def reprocess(context: click.Context, /, accept_less: bool, **chosen: Any) -> int:
    """Ask the source of section collect again for closed frames, and rate them again.

    A frame is left as it is, and that is said, if the source gives no answer or proves less of it than what is rated:
    an outage now must not make a good hour worse. Usage of other sources and pushed samples are taken from the store.
    Exit status 1 if a frame was refused, abandoned or left.

    \b
    Examples:
      rater reprocess --scope projA --from 2026-01-05T09:00 --to 2026-01-05T12:00 --reason "exporter was repaired"
      rater reprocess --all --month 2026-01 --reason "history was restored" --dry-run
    """
    config = session(context).config
    return perform(config, request_of("reprocess", chosen), partial(_asking, config, accept_less))


@asynccontextmanager
async def _asking(config: Config, accept_less: bool, wanted: Wanted) -> AsyncIterator[Make]:
    from collectors.service import open_source
    from rater.rework import Asking
    from rater.services import collect_settings

    collect, settings = collect_settings(config), config.settings
    async with open_source(collect, settings.metrics_conf, settings.engine.period) as (source, metrics):
        asking = Asking(
            source, collect.source_name, metrics, wanted, config.catalog, time.time, accept_less=accept_less
        )
        yield asking.make
