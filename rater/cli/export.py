"""`rater export`: lines, frames, gaps or costs in FOCUS' columns as JSON lines, CSV or Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from rater.cli.app import session
from rater.cli.output import progress, remark
from rater.cli.report import due_by
from rater.cli.times import chosen_span, span_options
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.model.interval import Interval
    from rater.reports import View

__all__ = ["ExportFileError", "IncompleteExportError", "export"]

MOST_TOLD = 20  # holes that are named; `rater report` names those of one scope


class ExportFileError(RaterError):
    """The file of an export cannot be written."""


class IncompleteExportError(RaterError):
    """Costs are asked for of a time that is not complete."""

    exit_status = 3


@click.command()
@click.argument("what", type=click.Choice(["lines", "frames", "gaps", "focus"]))
@click.option(
    "--out",
    "form",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    default="jsonl",
    show_default=True,
    help="How to write them.",
)
@click.option("--file", "target", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
@click.option("--incomplete", is_flag=True, help="Of focus: write it although there are holes, and name them.")
@span_options
@click.pass_context
def export(
    context: click.Context,
    what: str,
    form: str,
    target: Path | None,
    incomplete: bool,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
) -> None:
    """Write lines, frames, gaps or costs, newest revisions only, by scope and period.

    Numbers are plain decimal text, exact. A file appears under its name only when it is complete.

    `focus` is lines in the columns of FOCUS, the FinOps Foundation's format for costs. Refused with exit status 3, as a
    report is, while a frame of that time is missing, partial or failed.

    \b
    Examples:
      rater export lines --month 2026-01 --out parquet --file lines.parquet
      rater export focus --month 2026-01 --out csv --file focus.csv
      rater export lines --scope projA --out jsonl | head
      rater export gaps --out csv --file gaps.csv
    """
    from rater.reports import ExportRequest, Selection, check_kept, open_view

    span = chosen_span(month, begin, end)
    if incomplete and what != "focus":
        raise click.UsageError("--incomplete belongs to focus: others write what there is")
    whole = _whole(span) if what == "focus" else None
    request = ExportRequest(what, form, Selection(scope_id, *span))  # type: ignore[arg-type]  # click checked the choices
    if target is None and form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: give --file")
    settings = session(context).config.settings
    with open_view(settings.store) as view:
        if whole is not None:
            _check(view, scope_id, whole, incomplete, due_by(whole.end, settings.engine))

        def write(opened: BinaryIO, advance: Callable[[int, int | None], None] = lambda _n, _of: None) -> None:
            view.export(request, opened, advance)
            if whole is not None:
                check_kept(view, whole)  # what was removed while it was written is not in it

        if target is None:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with progress(f"export of {what}", "rows") as advance:
                _into_file(target, lambda opened: write(opened, lambda n, of: advance(n, of or 0)))


def _whole(span: tuple[int | None, int | None]) -> Interval:
    """The time, which must have a begin and an end: without them nobody could say whether it is complete."""
    from rater.model.interval import Interval

    first, last = span
    if first is None or last is None or first >= last:
        raise click.UsageError("give --month, or --from and a later --to")
    return Interval(first, last)


def _check(
    view: View,
    scope_id: str | None,
    span: Interval,
    incomplete: bool,
    due: int,
) -> None:
    """Raises IncompleteExportError if a report of a scope would be refused, or names why with `incomplete`."""
    holes = _holes(view, scope_id, span, due)
    told = [*holes[:MOST_TOLD], *([f"… and {len(holes) - MOST_TOLD} more"] if len(holes) > MOST_TOLD else [])]
    if holes and not incomplete:
        raise IncompleteExportError(
            f"the costs are not complete, there are {len(holes)} hole(s):\n"
            + "\n".join(f"  {hole}" for hole in told)
            + "\nCollect what is missing, accept gaps with a reason (`rater gaps accept`), or write what there is with "
            "--incomplete"
        )
    for hole in told:
        remark(f"not in the costs: {hole}")


def _holes(view: View, scope_id: str | None, span: Interval, due: int) -> list[str]:
    from rater.reports import NoFramesError, ReportRefusedError, check_kept, report_of

    holes: list[str] = []
    for name in [scope.scope_id for scope in view.scopes()] if scope_id is None else [scope_id]:
        try:
            report_of(view, name, span, due)
        except ReportRefusedError as fault:
            holes += [hole.text(name) for hole in fault.holes]
        except NoFramesError:
            if scope_id is not None:
                raise
    check_kept(view, span)  # also where no scope is left
    return holes


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
