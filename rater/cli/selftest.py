"""`rater selftest`: usage goes in, comes out rated, and a hole in it is found, on a running installation."""

from __future__ import annotations

import click

from rater.cli.app import session
from rater.cli.work import run

__all__ = ["selftest"]


@click.command()
@click.option("--scope-prefix", default="selftest-", show_default=True, help="How the name of the scope begins.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=120.0, show_default=True, help="When to give up, in seconds."
)
@click.option("--metric", default="rater.selftest", show_default=True, help="A metric that is declared and free.")
@click.pass_context
def selftest(context: click.Context, scope_prefix: str, seconds: float, metric: str) -> None:
    """Publish usage, find it rated and free, find the gap that it has on purpose, and fill it.

    Needs workers and a sink that run. Uses a scope and a source of its own, and leaves no gap open. The metric has to
    be declared in the settings of all services: metrics: {rater.selftest: {unit: unit}}.

    \b
    Example:
      rater selftest --seconds 240
    """
    from rater.selftest import run_selftest

    run(run_selftest(session(context).config, scope_prefix, seconds, lambda text: click.echo(f"ok   {text}"), metric))
