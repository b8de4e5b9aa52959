"""`rater frames` and `rater gaps`: what was closed how, and what is missing in it."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.frames_diff import frames_diff
from rater.cli.output import Cell, Column, Moment, exact_sum, instant, out_option, remark, rows
from rater.cli.times import Instant, chosen_span, span_options
from rater.cli.work import run

if TYPE_CHECKING:
    from rater.reports import AcceptedGap
    from rater.store import FrameRow, GapRow

__all__ = ["frames", "gaps"]

MAX_REASON = 2000
_STATUSES = ("rated", "empty", "partial", "missing", "failed")
_FRAMES = [
    Column("scope_id", "Scope"),
    Column("period_begin", "Period (UTC)"),
    Column("period_end", "to", wide=False),
    Column("revision", "Rev.", right=True),
    Column("status", "Status"),
    Column("weak", "Weak"),
    Column("closed_by", "Closed by"),
    Column("closed_at", "at (UTC)"),
    Column("lines", "Lines", right=True),
    Column("price", "Price", right=True),
    Column("gaps", "Gaps", right=True),
    Column("quarantined", "Quarantined", right=True),
    Column("rule_version", "Rules", right=True),
    Column("failure", "Failure", prose=True),
]
_GAPS = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("source", "Source"),
    Column("begin", "From (UTC)"),
    Column("end", "to"),
    Column("state", "State"),
    Column("opened_at", "Opened (UTC)"),
    Column("resolved_at", "Resolved (UTC)"),
    Column("reason", "Reason", prose=True),
    Column("gap_id", "Id", wide=False),
]


@click.group()
def frames() -> None:
    """List frames (a scope's usage in one period), compare revisions of one, or close one by force.

    \b
    Examples:
      rater frames list --scope projA --month 2026-01
      rater frames list --status partial --status missing
      rater frames diff --scope projA --period 2026-01-05T09:00
      rater frames close --scope projA --period 2026-01-05T09:00 --reason "meter lost"
    """


@frames.command("list")
@span_options
@click.option("--status", "statuses", type=click.Choice(_STATUSES), multiple=True, help="Only these; repeatable.")
@out_option
@click.pass_context
def frames_list(
    context: click.Context,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
    statuses: tuple[str, ...],
    out: str,
) -> None:
    """List frames in their newest revision, by scope and period.

    \b
    Example:
      rater frames list --month 2026-01 --status partial --out json
    """
    from rater.model.rated import FrameStatus
    from rater.reports import Selection, open_view

    span = chosen_span(month, begin, end)
    chosen = Selection(scope_id, *span, tuple(map(FrameStatus, statuses)))
    with open_view(session(context).config.settings.store) as view:
        if not rows(out, _FRAMES, map(_frame, view.frames(chosen))):
            remark("no frames")


def _frame(frame: FrameRow) -> tuple[Cell, ...]:
    from rater.store import plain_text

    return (
        frame.scope_id,
        Moment(frame.period_begin),
        Moment(frame.period_end),
        frame.revision,
        frame.status.value,
        "weak" if frame.weak else "",
        frame.closed_by.value,
        Moment(frame.closed_at),
        frame.line_count,
        plain_text(exact_sum(total.price for total in frame.totals)),
        len(frame.gaps),
        len(frame.quarantined),
        frame.rule_version,
        frame.failure,
    )


@frames.command("close")
@click.option("--scope", "scope_id", required=True, help="The scope.")
@click.option("--period", "period_begin", type=Instant(), required=True, help="The begin of the period (UTC).")
@click.option("--author", help="Who decides this. Default: your user name.")
@click.option("--reason", required=True, help="Why; kept with the request.")
@click.pass_context
def frames_close(context: click.Context, scope_id: str, period_begin: int, author: str | None, reason: str) -> None:
    """Ask the worker to close a frame now, with whatever gaps it has.

    \b
    Example:
      rater frames close --scope projA --period 2026-01-05T09:00 --reason "meter lost"
    """
    from rater.model.usage import FrameForced
    from rater.stream.operate import force_frame

    settings = session(context).config.settings
    if period_begin % settings.engine.period:
        raise click.UsageError(f"{instant(period_begin)} does not begin a period of {settings.engine.period} s")
    run(force_frame(settings.kafka, FrameForced(scope_id, period_begin, author or getpass.getuser(), reason)))
    click.echo(f"asked to close {scope_id} {instant(period_begin)}: see `rater frames list --scope {scope_id}`")


frames.add_command(frames_diff)


@click.group(invoke_without_command=True)
@span_options
@click.option("--all", "every", is_flag=True, help="Also the gaps that were resolved.")
@out_option
@click.pass_context
def gaps(
    context: click.Context,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
    every: bool,
    out: str,
) -> None:
    """List the open gaps: which time of which metric is missing from which source, to the minute.

    \b
    Examples:
      rater gaps
      rater gaps --scope projA --month 2026-01 --all
      rater gaps accept --scope projA 0f3a… --reason "the meter was replaced"
    """
    from rater.reports import Selection, open_view

    if context.invoked_subcommand is not None:
        return
    chosen = Selection(scope_id, *chosen_span(month, begin, end), open_only=not every)
    with open_view(session(context).config.settings.store) as view:
        accepted = {gap.gap_id: gap for gap in view.accepted_gaps(chosen)}
        if not rows(out, _GAPS, (_gap(gap, accepted.get(gap.gap_id)) for gap in view.gaps(chosen))):
            remark("no gaps" if every else "no open gaps")


@gaps.command("accept")
@click.argument("gap_ids", metavar="GAP_ID...", nargs=-1, required=True)
@click.option("--scope", "scope_id", required=True, help="The scope.")
@click.option("--author", help="Who decides this. Default: your user name.")
@click.option("--reason", required=True, help="Why; reports print it.")
@click.pass_context
def gaps_accept(
    context: click.Context, gap_ids: tuple[str, ...], scope_id: str, author: str | None, reason: str
) -> None:
    """Accept open gaps: reports are made without what is missing, and name it with the reason.

    Nothing is rated for it, and collectors go on trying to fill it. `rater gaps --out json` shows the ids.

    \b
    Example:
      rater gaps accept --scope projA 0f3a5cde9c01b7aa0f3a5cde9c01b7aa --reason "the meter was replaced"
    """
    from rater.model.usage import GapAccepted
    from rater.reports import Selection, open_view
    from rater.stream.operate import accept_gaps

    settings = session(context).config.settings
    with open_view(settings.store) as view:
        found = {gap.gap_id: gap for gap in view.gaps(Selection(scope_id, open_only=True))}
    if unknown := [gap_id for gap_id in gap_ids if gap_id not in found]:
        raise click.UsageError(f"no open gap of {scope_id}: {', '.join(unknown)}: see `rater gaps --out json`")
    if not 0 < len(reason.strip()) <= MAX_REASON:
        raise click.UsageError(f"--reason must have 1 to {MAX_REASON} characters")
    who = author or getpass.getuser()
    records = [
        GapAccepted(gap_id, scope_id, gap.metric, gap.source, gap.period_begin, gap.begin, gap.end, who, reason)
        for gap_id, gap in ((gap_id, found[gap_id]) for gap_id in dict.fromkeys(gap_ids))
    ]
    run(accept_gaps(settings.kafka, records))
    click.echo(f"accepted {len(records)} gap(s) of {scope_id}: see `rater gaps --scope {scope_id}`")


def _gap(gap: GapRow, accepted: AcceptedGap | None) -> tuple[Cell, ...]:
    reason = gap.reason if accepted is None else f"{gap.reason}; accepted by {accepted.author}: {accepted.reason}"
    return (
        gap.scope_id,
        gap.metric,
        gap.source,
        Moment(gap.begin),
        Moment(gap.end),
        ("open" if accepted is None else "accepted") if gap.is_open else "resolved",
        None if gap.opened_at is None else Moment(gap.opened_at),
        None if gap.resolved_at is None else Moment(gap.resolved_at),
        reason,
        gap.gap_id,
    )
