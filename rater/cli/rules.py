"""`rater rules`: the rule document against the rule book, as plan, as text, as history."""

from __future__ import annotations

import getpass
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.documents import RulesFileError, read_document
from rater.cli.output import confirm, progress
from rater.cli.rules_log import rules_log
from rater.cli.rules_modules import rules_modules
from rater.cli.work import run

if TYPE_CHECKING:
    from rater.kafka import KafkaSettings
    from rater.rating import Diff, RuleDocument

__all__ = ["RulesFileError", "apply_plan", "read_document", "rules"]

EVENT_BYTES = 4 * 1024 * 1024 - 4096  # of an event: what a record of topic `rules` may have, less its frame and headers
LATER = {"import-cloudkitty": "rater.cli.import_cloudkitty:import_cloudkitty"}
"""Name of a command to where it stands, loaded when it is called: it needs libraries that not all have."""

_file = click.argument("file", type=click.Path(path_type=Path))
_COLORS = {"+": "green", "-": "red", "~": "yellow"}


class _Rules(click.Group):
    """The commands here, and those that are loaded when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *LATER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        module, _, function = LATER[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), function)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Rules)
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
@click.option(
    "--expect-version", type=click.IntRange(min=0), help="Change nothing if the rules are at another version."
)
@click.option("--author", help="Who changes the rules. Default: your user name.")
@click.option("--reason", default="", help="Why; kept in the history.")
@click.pass_context
def rules_apply(
    context: click.Context,
    file: Path,
    dry_run: bool,
    yes: bool,
    expect_version: int | None,
    author: str | None,
    reason: str,
) -> int:
    """Make the rules what FILE says; prints the plan first.

    All of it applies or nothing, unless the plan is larger than one record of 4 MiB. If somebody else changes the rules
    at the same moment, the error says what was applied: run it again, and it makes a new plan.

    \b
    Examples:
      rater rules apply rules.yaml
      rater rules apply - --yes < rules.yaml
      rater rules apply rules.yaml --yes --author ci --reason "commit 1a2b3c" --expect-version 17
    """
    from rater.rating import plan
    from rater.stream.rules_log import read_rules

    document = read_document(file)
    kafka = session(context).config.settings.kafka
    book = run(read_rules(kafka))
    if expect_version is not None and book.version != expect_version:
        raise RulesFileError(
            f"the rules were not changed: they are at version {book.version}, and not {expect_version} as "
            "--expect-version says; see `rater rules log`"
        )
    diff = plan(book, document)
    _print_plan(diff)
    if not diff or dry_run:
        return exits.OK
    if not yes and str(file) == "-":
        raise RulesFileError(
            "the rules were not changed: nobody said yes, and nobody can be asked where the document is standard "
            "input: add --yes (--dry-run prints the plan alone)"
        )
    if not yes and not confirm("apply?"):
        raise RulesFileError("the rules were not changed: nobody said yes (--yes answers for you)")
    version = apply_plan(kafka, diff, author or _user(), reason)
    click.echo(f"applied: the rules are at version {version}")
    return exits.OK


def apply_plan(kafka: KafkaSettings, diff: Diff, author: str, reason: str, event_bytes: int = EVENT_BYTES) -> int:
    """Appends a plan; the version of the rule book after it. Raises RuleConflictError, ChangeTooLargeError."""
    from rater.stream.rules_log import append_events

    events = diff.events(author, reason, int(time.time()), event_bytes)
    if len(events) == 1:
        return run(append_events(kafka, events)).version
    with progress("applying", "events") as advance:
        return run(append_events(kafka, events, advance)).version


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        raise click.UsageError("this user has no name: say with --author who changes the rules") from None


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
@click.option("--rule-version", type=click.IntRange(min=0), help="The rules as they were at this version.")
@click.pass_context
def rules_export(context: click.Context, target: Path | None, rule_version: int | None) -> None:
    """Print the rules as a document: applied to an empty installation it gives the same prices.

    \b
    Examples:
      rater rules export --file rules.yaml
      rater rules export --rule-version 17 | rater rules apply - --yes     # go back
    """
    from rater.rating import export
    from rater.stream.rules_log import read_rules

    text = export(run(read_rules(session(context).config.settings.kafka, rule_version)))
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise RulesFileError(f"{target} cannot be written: {fault.strerror}") from fault


@rules.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def rules_check(files: tuple[Path, ...]) -> None:
    """Report every fault of rule documents with line and path; needs no Kafka. Exit status 1 if there is one.

    \b
    Examples:
      rater rules check rules.yaml
      rater rules check regions/*.yaml
    """
    from rater.model.document import DocumentError

    faults = []
    for file in files:
        try:
            click.echo(f"{file}: {_contents(read_document(file))}, no faults")
        except (DocumentError, RulesFileError) as fault:
            faults.append(str(fault))
    if faults:
        raise RulesFileError("\n".join(faults))


def _contents(document: RuleDocument) -> str:
    """What there is in a document: `4 services, 1 field, 2 mappings, 1 script (rebate)`; no mention of what is not."""
    services = document.hashmap.services
    fields = [field for service in services for field in service.fields]
    counts = {
        "service": len(services),
        "field": len(fields),
        "mapping": sum(len(service.mappings) for service in services) + sum(len(field.mappings) for field in fields),
        "threshold": sum(len(service.thresholds) for service in services)
        + sum(len(field.thresholds) for field in fields),
        "service with tiers": sum(service.tiers is not None for service in services),
        "script": len(document.pyscripts.scripts),
    }
    parts = [f"{count} {_plural(what, count)}" for what, count in counts.items() if count]
    if scripts := [script.name for script in document.pyscripts.scripts]:
        parts[-1] += f" ({', '.join(scripts)})"
    return ", ".join(parts) or "no rules"


def _plural(what: str, count: int) -> str:
    first, *rest = what.split(" ")
    return what if count == 1 else " ".join([f"{first}s", *rest])


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
rules.add_command(rules_modules)
