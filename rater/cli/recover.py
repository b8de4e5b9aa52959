"""`rater recover`: what is left of each partition's state, and the pointer set anew after a confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import Cell, Column, Moment, confirm, out_option, remark, rows
from rater.cli.work import run

if TYPE_CHECKING:
    from rater.stream.recover import Remains

__all__ = ["recover"]

_COLUMNS = [
    Column("partition", "Partition", right=True),
    Column("usage_begin", "usage from", right=True),
    Column("usage_end", "to", right=True),
    Column("committed_offset", "Committed", right=True),
    Column("snapshots", "Snapshots", right=True),
    Column("newest_offset", "Newest at", right=True),
    Column("newest_written_at", "written"),
    Column("trouble", "Trouble", prose=True),
]


@click.command()
@click.option("--repair", is_flag=True, help="Set the pointer of each partition in trouble to its newest snapshot.")
@click.option("--partition", "partitions", type=int, multiple=True, help="Only this partition; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask before repairing.")
@out_option
@click.pass_context
def recover(context: click.Context, repair: bool, partitions: tuple[int, ...], yes: bool, out: str) -> int:
    """Show what a worker would start from, partition by partition; repair what it refuses to start from.

    A repair needs all workers stopped. Frames that were closed after the snapshot are decided again, so their
    revisions may come twice with other content.

    \b
    Examples:
      rater recover
      rater recover --repair --partition 3
    """
    from rater.stream.recover import inspect

    config = session(context).config
    remains = run(inspect(config.settings.kafka, config.settings.engine))
    chosen = [one for one in remains if not partitions or one.partition in partitions]
    rows(out, _COLUMNS, map(_row, chosen))
    troubled = [one for one in chosen if one.trouble]
    if not troubled:
        remark("every partition can be restored")
        return exits.OK
    if not repair:
        remark(f"{len(troubled)} partition(s) in trouble: `rater recover --repair` sets them right")
        return exits.FAILED
    return _repair(context, troubled, yes)


def _row(one: Remains) -> tuple[Cell, ...]:
    newest = one.snapshots[0] if one.snapshots else None
    return (
        one.partition,
        one.usage_begin,
        one.usage_end,
        one.committed_offset if one.committed_offset >= 0 else None,
        len(one.snapshots),
        newest.next_offset if newest else None,
        Moment(newest.written_ms // 1000) if newest else None,
        one.trouble,
    )


def _repair(context: click.Context, troubled: list[Remains], yes: bool) -> int:
    from rater.stream.recover import RecoverError, repair

    kafka = session(context).config.settings.kafka
    status = exits.OK
    for one in troubled:
        proposal = one.proposal
        if proposal is None:
            remark(f"partition {one.partition}: no usable snapshot is left; its usage has to be collected again")
            status = exits.FAILED
            continue
        offset = proposal.next_offset
        question = f"partition {one.partition}: go on from offset {offset} ({one.usage_end - offset} records again)?"
        if not yes and not confirm(question):
            raise RecoverError(f"partition {one.partition} was not repaired: nobody said yes (--yes answers for you)")
        run(repair(kafka, one.partition, proposal))
        click.echo(f"partition {one.partition}: goes on from offset {offset}")
    return status
