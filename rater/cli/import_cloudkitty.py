"""`rater rules import-cloudkitty`: the rules of a running CloudKitty as a rule document."""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from rater.cli import exits
from rater.model.errors import RaterError

__all__ = ["ImportFileError", "import_cloudkitty", "time_zone"]


class ImportFileError(RaterError):
    """The document cannot be written."""


def time_zone(_context: click.Context, _parameter: click.Parameter, name: str) -> tzinfo:
    """A time zone by its name. Raises BadParameter."""
    if name == "UTC":
        return UTC  # there even where no time zones are installed
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise click.BadParameter(f"{name!r} is no time zone: give a name like Europe/Vienna") from None


@click.command("import-cloudkitty")
@click.option(
    "--endpoint", metavar="URL", help="CloudKitty's API where it asks for no authentication; no cloud is asked."
)
@click.option("--os-cloud", metavar="NAME", envvar="OS_CLOUD", help="Entry of clouds.yaml. Default: OS_* variables.")
@click.option(
    "--server-timezone",
    metavar="NAME",
    default="UTC",
    show_default=True,
    callback=time_zone,
    help="Local time of CloudKitty's server: its API gives times without offset.",
)
@click.option(
    "--resolve",
    type=click.Choice(["last-wins"]),
    help="Of rules that are valid at the same time for the same thing keep those that CloudKitty goes by.",
)
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="File. Default: stdout.")
def import_cloudkitty(
    endpoint: str | None, os_cloud: str | None, server_timezone: tzinfo, resolve: str | None, target: Path | None
) -> int:
    """Write the rules of a running CloudKitty as a rule document.

    Reads services, fields, groups, mappings, thresholds, scripts and modules through CloudKitty's API and changes
    nothing there. Credentials come from clouds.yaml or OS_* variables, as for `openstack`; role admin is needed. What
    a document cannot hold is listed, all at once, and nothing is written. Needs the extra: pip install
    'rater[openstack]'.

    \b
    Examples:
      rater rules import-cloudkitty --os-cloud prod --server-timezone Europe/Vienna --to rules.yaml
      rater rules import-cloudkitty --endpoint http://127.0.0.1:8889 --resolve last-wins > rules.yaml
    """
    from rater.cloudkitty import convert, read_rules
    from rater.rating import export

    imported = convert(read_rules(endpoint, os_cloud), server_timezone, last_wins=resolve is not None)
    for problem in imported.resolved:
        click.echo(f"resolved: {problem.text}: the last one counts", err=True)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    text = export(imported.book)
    if target is None:
        click.echo(text, nl=False)
    else:
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as fault:
            raise ImportFileError(f"{target} cannot be written: {fault.strerror}") from fault
    book = imported.book
    click.echo(
        f"{len(book.services)} services, {len(book.fields)} fields, {len(book.groups)} groups, {len(book.mappings)} "
        f"mappings, {len(book.thresholds)} thresholds, {len(book.scripts)} scripts",
        err=True,
    )
    return exits.OK
