"""`rater report`: a scope's month as totals by metric, or the holes that forbid it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.output import Cell, Column, Moment, instant, out_option, remark, rows
from rater.cli.times import Instant, chosen_span

if TYPE_CHECKING:
    from rater.engine import EngineSettings
    from rater.reports import Report

__all__ = ["due_by", "print_report", "report"]

_ROWS = [
    Column("scope_id", "Scope", wide=False),
    Column("from", "From (UTC)", wide=False),
    Column("to", "to", wide=False),
    Column("metric", "Metric"),
    Column("quantity", "Quantity", right=True),
    Column("unit", "Unit"),
    Column("lines", "Lines", right=True),
    Column("price", "Price", right=True),
]


@click.command()
@click.option("--scope", "scope_id", required=True, help="The scope: project, tenant, namespace.")
@click.option("--month", metavar="YYYY-MM", help="The billing month, UTC.")
@click.option("--from", "begin", type=Instant(), help="Instead of --month: from this period's begin (UTC) …")
@click.option("--to", "end", type=Instant(), help="… to this period's begin, without it.")
@out_option
@click.pass_context
def report(
    context: click.Context, scope_id: str, month: str | None, begin: int | None, end: int | None, out: str
) -> None:
    """Print what a scope used and what it costs, by metric.

    Refused with exit status 3 while a frame of that time is missing, partial, failed or not there yet; every hole is
    then named on stderr, to the minute, and nothing is printed on stdout.

    \b
    Examples:
      rater report --scope projA --month 2026-01
      rater report --scope projA --month 2026-01 --out csv > projA.csv
      rater report --scope projA --from 2026-01-05 --to 2026-01-12
    """
    from rater.model.interval import Interval
    from rater.reports import open_view, report_of

    first, last = chosen_span(month, begin, end)
    settings = session(context).config.settings
    if first is None or last is None or first >= last:
        raise click.UsageError("give --month, or --from and a later --to")
    if first % settings.engine.period or last % settings.engine.period:
        raise click.UsageError(f"--from and --to must begin a period of {settings.engine.period} s")
    with open_view(settings.store) as view:
        print_report(report_of(view, scope_id, Interval(first, last), due_by(last, settings.engine)), out)


def due_by(end: int, engine: EngineSettings) -> int:
    """By when frames must be there: all of a time that is over; of a running one those whose grace is over, too.

    So a month is refused until its last hours are closed, and the running month is reported as far as it is.
    """
    now = int(time.time())
    return end if end <= now else now - (engine.wait_periods + 1) * engine.period - engine.settle


def print_report(found: Report, out: str = "table", tell: Callable[[str], None] = remark) -> None:
    """Writes a report to stdout, and by `tell` (to stderr) what its figures rest on."""
    title = f"{found.scope_id}: {instant(found.begin)} to {instant(found.end)} UTC" if out == "table" else ""
    rows(out, _ROWS, _cells(found), title)
    if found.frames:
        _tell_frames(found, tell)
    if found.posted:
        tell(
            f"{sum(row.lines for row in found.posted)} lines were posted through the API with their price, and not "
            f"rated: {', '.join(row.metric for row in found.posted)}"
        )


def _tell_frames(found: Report, tell: Callable[[str], None]) -> None:
    for hole in found.accepted:
        tell(f"not in the figures: {hole.text(found.scope_id)}")
    complete = "all complete but for what was accepted" if found.accepted else "all complete"
    tell(
        f"{found.frames} frames from {instant(found.known_begin)} to {instant(found.known_end)} UTC, {complete}: "
        f"{found.empty_frames - found.inactive_frames} of them empty (nothing was used), "
        f"{found.weak_frames} with weak proof, {found.revised_frames} revised; "
        f"rules {', '.join(map(str, found.rule_versions))}"
    )
    if found.inactive_frames:
        tell(
            f"not in the figures: {found.inactive_frames} period(s) in which the scope was switched off and that stay "
            "unbilled (`rater frames list` shows them as closed by inactive)"
        )
    for row in found.metrics:
        if row.qty and not row.price:
            tell(
                f"{row.metric} is used and nothing is charged for it: no rule matches, or the price is 0 "
                "(`rater explain` says which)"
            )
    if found.known_end < found.end:
        tell(f"nothing is known after {instant(found.known_end)} UTC: these are the figures up to then")


def _cells(found: Report) -> list[tuple[Cell, ...]]:
    from rater.store import plain_text

    head = (found.scope_id, Moment(found.begin), Moment(found.end))
    lines: list[tuple[Cell, ...]] = [
        (*head, row.metric, plain_text(row.qty), row.unit, row.lines, plain_text(row.price)) for row in found.metrics
    ]
    lines += [
        (*head, f"{row.metric} (posted)", plain_text(row.qty), row.unit, row.lines, plain_text(row.price))
        for row in found.posted
    ]
    total = sum(row.lines for row in (*found.metrics, *found.posted))
    return [*lines, (*head, "total", None, None, total, plain_text(found.price))]
