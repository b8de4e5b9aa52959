"""`rater token`: tokens of our own, of which the file of the service has the digest alone."""

from __future__ import annotations

import json
import re
import secrets
from typing import get_args

import click

from rater.api.credentials import TokenRole, token_digest

__all__ = ["token"]

_BYTES = 32


@click.group()
def token() -> None:
    """Make tokens for api.token_file.

    \b
    Example:
      rater token new gateway --scope projA --source gateway >> tokens.yaml
    """


@token.command()
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(get_args(TokenRole)), help="Repeatable; default push."
)
@click.option("--scope", "scopes", multiple=True, help="A scope that it is limited to; repeatable.")
@click.option("--source", "sources", multiple=True, help="A source that it may push as; repeatable.")
def new(name: str, roles: tuple[str, ...], scopes: tuple[str, ...], sources: tuple[str, ...]) -> None:
    """Make a token for NAME: its entry for the file to standard output, the token itself, this once, to standard error.

    \b
    Examples:
      rater token new gateway --scope projA --source gateway >> tokens.yaml
      rater token new ann --role reader --scope projA
    """
    if not re.fullmatch(r"\S{1,100}", name):
        raise click.BadParameter("give a name of at most 100 characters without blanks", param_hint="NAME")
    if "reader" in roles and not scopes:
        raise click.UsageError("role reader sees its scopes: name them with --scope")
    made = secrets.token_urlsafe(_BYTES)
    entry = {"name": name, "sha256": token_digest(made), "roles": list(roles) or ["push"]}
    entry |= {key: list(values) for key, values in (("scopes", scopes), ("sources", sources)) if values}
    click.echo(f"- {json.dumps(entry)}")  # which is YAML, too
    click.echo(f"the token of {name}, which is shown this once: {made}", err=True)
