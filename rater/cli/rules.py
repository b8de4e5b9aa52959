"""`rater rules`: the rule document against the rule book, as plan, as text, as history."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.documents import RulesFileError, read_document
from rater.cli.output import confirm
from rater.cli.rules_log import rules_log
from rater.cli.work import run

if TYPE_CHECKING:
    from rater.rating import Diff

__all__ = ["RulesFileError", "apply_document", "read_document", "rules"]

_file = click.argument("file", type=click.Path(path_type=Path))
_COLORS = {"+": "green", "-": "red", "~": "yellow"}


@click.group()
def rules() -> None:
    """Apply, export, check and compare rating rules.

    A rule document (YAML or JSON) holds all rules of an installation; `apply` makes the installation follow it.

    \b
    Examples:
      rater rules check rules.yaml
      rater rules apply rules.yaml --dry-run
      rater rules apply rules.yaml --reason "prices of 2026"
      rater rules export > rules.yaml
    """


@rules.command("apply")
@_file
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before applying.")
@click.option("--author", help="Who changes the rules. Default: your user name.")
@click.option("--reason", default="", help="Why; kept in the history.")
@click.pass_context
def rules_apply(context: click.Context, file: Path, dry_run: bool, yes: bool, author: str | None, reason: str) -> int:
    """Make the rules what FILE says; prints the plan first.

    All of it applies or nothing. If somebody else changes the rules at the same moment, nothing is applied: run it
    again.

    \b
    Examples:
      rater rules apply rules.yaml
      rater rules apply rules.yaml --yes --author ci --reason "commit 1a2b3c"
    """
    from rater.rating import plan
    from rater.stream.rules_log import read_rules

    document = read_document(file)
    kafka = session(context).config.settings.kafka
    diff = plan(run(read_rules(kafka)), document)
    _print_plan(diff)
    if not diff or dry_run:
        return exits.OK
    if not yes and not confirm("apply?"):
        raise RulesFileError("the rules were not changed: nobody said yes (--yes answers for you)")
    version = apply_document(context, diff, author or getpass.getuser(), reason)
    click.echo(f"applied: the rules are at version {version}")
    return exits.OK


def apply_document(context: click.Context, diff: Diff, author: str, reason: str) -> int:
    """Appends a plan as one event; the version of the rule book after it. Raises RuleConflictError."""
    from rater.stream.rules_log import append_event

    kafka = session(context).config.settings.kafka
    return run(append_event(kafka, diff.event(author, reason, int(time.time())))).version


def _print_plan(diff: Diff) -> None:
    if not diff:
        click.echo("no changes: the rules are what the document says")
        return
    for entry in diff.entries:
        change = " -> ".join(filter(None, (entry.before, entry.after)))
        click.secho(f"{entry.sign} {entry.what} {entry.place}  {change}".rstrip(), fg=_COLORS[entry.sign])
    counts = diff.counts
    click.echo(f"{counts['+']} to add, {counts['~']} to change, {counts['-']} to remove")


@rules.command("export")
@click.option("--file", "target", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
@click.pass_context
def rules_export(context: click.Context, target: Path | None) -> None:
    """Print the rules as a document: applied to an empty installation it gives the same prices.

    \b
    Example:
      rater rules export --file rules.yaml
    """
    from rater.rating import export
    from rater.stream.rules_log import read_rules

    text = export(run(read_rules(session(context).config.settings.kafka)))
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise RulesFileError(f"{target} cannot be written: {fault.strerror}") from fault


@rules.command("check")
@_file
def rules_check(file: Path) -> None:
    """Report every fault of a rule document with line and path; needs no Kafka. Exit status 1 if there is one.

    \b
    Example:
      rater rules check rules.yaml
    """
    document = read_document(file)
    click.echo(f"{file}: {len(document.hashmap.services)} services, no faults")


@rules.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def rules_diff(before: Path, after: Path) -> None:
    """Print what leads from one rule document to another; needs no Kafka.

    \b
    Example:
      rater rules diff rules-2025.yaml rules-2026.yaml
    """
    from rater.rating import RuleBook, plan

    book = RuleBook.empty()
    first = plan(book, read_document(before))
    if first:
        book, _ = book.apply(first.event("diff", "", 0))
    _print_plan(plan(book, read_document(after)))


rules.add_command(rules_log)
