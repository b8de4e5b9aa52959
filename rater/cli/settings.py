"""`rater config`: whether the settings are faultless, and what they are."""

from __future__ import annotations

import click

from rater.cli.app import session

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check or show the settings.

    The settings stand in rater.yaml. Every key can be overridden by a variable: RATER_, the key in capitals, `__` for
    each dot. Lists and mappings are given there as YAML in one line.

    \b
    Examples:
      rater config check
      RATER_KAFKA__BOOTSTRAP=kafka1:9092 rater config show
    """


@config.command("check")
@click.pass_context
def config_check(context: click.Context) -> None:
    """Report every fault of rater.yaml, the variables and metrics.yml at once; exit status 1 if there is one."""
    found = session(context).config
    click.echo(f"{found.path or 'no file, defaults'}: {len(found.catalog)} metrics, no faults")


@config.command("show")
@click.pass_context
def config_show(context: click.Context) -> None:
    """Print all settings as YAML, defaults included; secrets are left out."""
    from rater.config import shown
    from rater.model.document import dump

    found = session(context).config
    click.echo(f"# {found.path or 'no file, defaults'}")
    click.echo(dump(shown(found.settings)), nl=False)
