"""`rater rules modules`: which rating modules there are, where they come from, and which of them rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.output import Cell, Column, out_option, rows
from rater.cli.work import run

if TYPE_CHECKING:
    from rater.rating import RuleBook

__all__ = ["rules_modules"]

_COLUMNS = [
    Column("module", "Module"),
    Column("state", "State"),
    Column("priority", "Priority", right=True),
    Column("origin", "From"),
    Column("fault", "Fault", prose=True),
]


@click.command("modules")
@click.option(
    "--installed", is_flag=True, help="Only what this machine has, without what the rules say; needs no Kafka."
)
@out_option
@click.pass_context
def rules_modules(context: click.Context, installed: bool, out: str) -> None:
    """List the rating modules: on or off, priority, where they come from. The highest priority rates first.

    \b
    Examples:
      rater rules modules
      rater rules modules --installed --out json
    """
    from rater.stream.rules_log import read_rules

    book = None if installed else run(read_rules(session(context).config.settings.kafka))
    rows(out, _COLUMNS, _rows(book))


def _rows(book: RuleBook | None) -> list[tuple[Cell, ...]]:
    """In the order in which they rate; those that are off, or of which nothing is known, last."""
    from rater.modules import list_modules
    from rater.rating import BUILT_IN

    found = [(name, "built in", "") for name in BUILT_IN]
    found += [(module.name, f"{module.package} ({module.place})", module.fault) for module in list_modules()]
    if book is None:
        return [(name, None, None, origin, fault or None) for name, origin, fault in sorted(found)]
    for name in set(book.modules) - {name for name, _, _ in found}:
        found.append((name, "", "it is not installed here: its frames fail while it is on"))
    found.sort(key=lambda row: (not book.module(row[0]).enabled, -book.module(row[0]).priority, row[0]))
    return [
        (name, "on" if book.module(name).enabled else "off", book.module(name).priority, origin, fault or None)
        for name, origin, fault in found
    ]
