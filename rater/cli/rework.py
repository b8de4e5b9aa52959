"""`rater rework`: what was rated again, by whom, why, and what it changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.output import Cell, Column, Moment, exact_sum, out_option, remark, rows
from rater.cli.times import chosen_span, span_options

if TYPE_CHECKING:
    from rater.model.rated import MetricTotal
    from rater.store import ReworkRow

__all__ = ["rework"]

_ROWS = [
    Column("scope_id", "Scope"),
    Column("period_begin", "Period (UTC)"),
    Column("kind", "What", wide=False),
    Column("outcome", "Outcome"),
    Column("base_revision", "Rev.", right=True),
    Column("revision", "to", right=True),
    Column("rule_version_before", "Rules", right=True, wide=False),
    Column("rule_version_after", "to", right=True, wide=False),
    Column("before", "Price", right=True, wide=False),
    Column("after", "is now", right=True, wide=False),
    Column("difference", "Difference", right=True),
    Column("author", "By"),
    Column("raised_at", "at (UTC)"),
    Column("requested", "Why", prose=True),
    Column("reason", "Result", prose=True),
    Column("rework_id", "Id", wide=False),
]


@click.group()
def rework() -> None:
    """Show what was rated again: `rater rerate`, `rater reprocess`, and usage that came too late.

    \b
    Example:
      rater rework list --scope projA --month 2026-01
    """


@rework.command("list")
@span_options
@click.option("--id", "rework_id", help="Only this rework.")
@out_option
@click.pass_context
def rework_list(
    context: click.Context,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
    rework_id: str | None,
    out: str,
) -> None:
    """List the records of reworks, one for each frame, by scope and period. JSON and CSV say more than the table.

    \b
    Examples:
      rater rework list --month 2026-01
      rater rework list --scope projA --out csv
    """
    from rater.reports import ReworkRequest, open_view

    asked = ReworkRequest(scope_id, *chosen_span(month, begin, end), rework_id)
    with open_view(session(context).config.settings.store) as view:
        if not rows(out, _ROWS, map(_row, view.reworks(asked))):
            remark("nothing was rated again")


def _row(found: ReworkRow) -> tuple[Cell, ...]:
    from rater.store import plain_text

    def price(totals: Iterable[MetricTotal]) -> str:
        return plain_text(exact_sum(total.price for total in totals))

    difference = exact_sum([*(t.price for t in found.after), *(t.price.copy_negate() for t in found.before)])
    return (
        found.scope_id,
        Moment(found.period_begin),
        found.kind,
        found.outcome,
        found.base_revision,
        found.revision,
        found.rule_version_before,
        found.rule_version_after,
        price(found.before),
        price(found.after),
        plain_text(difference),
        found.author,
        Moment(found.raised_at),
        found.requested,
        found.reason,
        found.rework_id,
    )
