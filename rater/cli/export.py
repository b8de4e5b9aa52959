"""`rater export`: lines, frames or gaps as JSON lines, CSV or Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import click

from rater.cli.app import session
from rater.cli.output import progress
from rater.cli.times import chosen_span, span_options
from rater.model.errors import RaterError

__all__ = ["ExportFileError", "export"]


class ExportFileError(RaterError):
    """The file of an export cannot be written."""


@click.command()
@click.argument("what", type=click.Choice(["lines", "frames", "gaps"]))
@click.option(
    "--out",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    default="jsonl",
    show_default=True,
    help="How to write them.",
)
@click.option("--file", "target", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
@span_options
@click.pass_context
def export(
    context: click.Context,
    what: str,
    form: str,
    target: Path | None,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
) -> None:
    """Write lines, frames or gaps, newest revisions only, by scope and period.

    Numbers are plain decimal text, exact. A file appears under its name only when it is complete.

    \b
    Examples:
      rater export lines --month 2026-01 --out parquet --file lines.parquet
      rater export lines --scope projA --out jsonl | head
      rater export gaps --out csv --file gaps.csv
    """
    from rater.reports import ExportRequest, Selection, open_view

    request = ExportRequest(what, form, Selection(scope_id, *chosen_span(month, begin, end)))  # type: ignore[arg-type]  # click checked the choices
    if target is None and form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: give --file")
    with open_view(session(context).config.settings.store) as view:
        if target is None:
            view.export(request, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with progress(f"export of {what}", "rows") as advance:
                _into_file(target, lambda opened: view.export(request, opened, lambda n, of: advance(n, of or 0)))


def _into_file(target: Path, write: Callable[[BinaryIO], None]) -> None:
    partial = target.with_name(f"{target.name}.part")
    try:
        with partial.open("wb") as opened:
            write(opened)
        partial.replace(target)
    except OSError as fault:
        raise ExportFileError(f"{target} cannot be written: {fault.strerror}") from fault
    finally:
        partial.unlink(missing_ok=True)
