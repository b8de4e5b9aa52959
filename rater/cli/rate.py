"""`rater rate`: price a usage file by a rule document, without a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import Advance, progress, remark
from rater.cli.trying import book_of_file, script_runner, third_party_modules

if TYPE_CHECKING:
    from rater.trial import Refused

__all__ = ["rate"]

SHOWN_FAULTS = 20


@click.command()
@click.option("--rules", "rules_file", required=True, type=click.Path(path_type=Path), help="A rule document.")
@click.option(
    "--out",
    type=click.Choice(["json", "csv", "table"]),
    default="json",
    show_default=True,
    help="How to write the result. json: the lines of the input, each with its price.",
)
@click.option("--explain", is_flag=True, help="Add every step that leads to each price.")
@click.argument("usage")
@click.pass_context
def rate(context: click.Context, rules_file: Path, out: str, explain: bool, usage: str) -> int:
    """Price the samples of a USAGE file (JSON lines, CSV, Parquet; .gz, .zst; - is standard input) by a rule document.

    Needs no Kafka and no store, touches nothing, and prices with the code of the worker: each sample as one point, in
    the order of the file. Totals go to stderr. Exit status 1 if a line could not be read or a point has no price, 2 for
    a faulty rule document.

    \b
    Examples:
      rater rate --rules rules.yaml usage.jsonl
      rater rate --rules rules.yaml --out table --explain usage.jsonl
      zcat usage.jsonl.gz | rater rate --rules rules.yaml - > priced.jsonl
    """
    from rater.cli.rate_forms import WRITERS, print_totals
    from rater.trial import FileTotals, Pricer, price_file

    book = book_of_file(rules_file, usage)
    config = session(context).config
    totals = FileTotals()
    refused: list[Refused] = []

    def refuse(line: Refused) -> None:
        if len(refused) < SHOWN_FAULTS:
            refused.append(line)

    try:
        with script_runner(config, book) as scripts, _watched(usage) as watch:
            modules = third_party_modules(book)
            pricer = Pricer(book, scripts, modules, config.settings.engine.period, explain=explain)
            WRITERS[out](price_file(usage, pricer, totals, refuse, watch), explain)
    finally:
        sys.stdout.flush()
        for line in refused:
            remark(f"{usage}:{line.line}: {line.reason}")
    if totals.refused > len(refused):
        remark(f"{usage}: and {totals.refused - len(refused)} more lines that cannot be read")
    if not print_totals(totals):
        remark(f"{usage}: no samples")
    return exits.FAILED if totals.refused or totals.failed else exits.OK


@contextmanager
def _watched(usage: str) -> Iterator[Advance]:
    """A bar, unless it would be drawn into the result."""
    if sys.stdout.isatty():
        yield _nobody
        return
    with progress(f"rating {usage}", "bytes") as advance:
        yield advance


def _nobody(done: int, total: int) -> None:
    """Is told how far the work is."""
