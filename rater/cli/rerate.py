"""`rater rerate`: closed frames rated again, from stored usage and by the rules of now."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from rater.cli.app import session
from rater.cli.rework_options import perform, request_of, rework_options, stored_maker

__all__ = ["rerate"]


@click.command()
@rework_options
@click.pass_context
def rerate(context: click.Context, /, **chosen: Any) -> int:
    """Rate closed frames again: stored usage, the rules of now that were valid then.

    Readers see the old revision of a frame until the new one is whole. Each frame leaves a record: who, why, what
    changed (`rater rework list`). Exit status 1 if a frame was refused, abandoned or had to be left as it is.

    \b
    Examples:
      rater rerate --scope projA --month 2026-01 --reason "price of volumes corrected"
      rater rerate --all --from 2026-01-05 --to 2026-01-06 --reason "tariff 2" --dry-run
    """
    config = session(context).config
    return perform(config, request_of("rerate", chosen), partial(stored_maker, config))
