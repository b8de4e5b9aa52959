"""`rater collect import-cloudkitty`: what a cloudkitty.conf says of collecting, as a part of rater.yaml."""

from __future__ import annotations

from pathlib import Path

import click

from rater.cli.output import remark

__all__ = ["import_settings"]


@click.command("import-cloudkitty")
@click.argument(
    "conf", type=click.Path(path_type=Path, dir_okay=False), default=Path("/etc/cloudkitty/cloudkitty.conf")
)
def import_settings(conf: Path) -> None:
    """Print what CONF, a cloudkitty.conf, says of collecting, as a part of rater.yaml.

    metrics.yml is read where it lies. Quantities stay what they were, to the last digit (collect.numbers: cloudkitty).
    Passwords are not taken over; what else is not is said on standard error.

    \b
    Example:
      rater collect import-cloudkitty /etc/cloudkitty/cloudkitty.conf >> rater.yaml
    """
    from rater.cloudkitty.settings import ConfError, collect_settings
    from rater.model.document import dump

    try:
        text = conf.read_text(encoding="utf-8")
    except OSError as fault:
        raise ConfError(f"{conf} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise ConfError(f"{conf} is not text in UTF-8: {fault.reason}") from fault
    found = collect_settings(text, str(conf))
    for note in found.notes:
        remark(note)
    click.echo(dump(found.settings), nl=False)
