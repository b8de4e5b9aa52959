"""`rater frames diff`: two revisions of a frame side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rater.cli.app import session
from rater.cli.output import Cell, Column, exact_sum, instant, out_option, remark, rows
from rater.cli.times import Instant
from rater.cli.work import run
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.config import Config
    from rater.reports import View
    from rater.rework import LinePair, Revision

__all__ = ["NoRevisionError", "frames_diff"]

_FACTS = [Column("what", "What"), Column("before", "before", prose=True), Column("after", "after", prose=True)]
_LINES = [
    Column("metric", "Metric"),
    Column("labels", "Labels", prose=True),
    Column("unit", "Unit"),
    Column("qty_before", "Quantity", right=True),
    Column("qty_after", "after", right=True),
    Column("price_before", "Price", right=True),
    Column("price_after", "after", right=True),
    Column("difference", "Difference", right=True),
    Column("line_id", "Id", wide=False),
]


class NoRevisionError(RaterError):
    """A revision that never was, or is not to be had any more."""


@click.command("diff")
@click.option("--scope", "scope_id", required=True, help="The scope.")
@click.option("--period", "period_begin", type=Instant(), required=True, help="The begin of the period (UTC).")
@click.option("--revision", "numbers", type=click.IntRange(min=0), multiple=True, help="Which; give it twice.")
@click.option("--all", "every", is_flag=True, help="Also the lines that are the same in both.")
@out_option
@click.pass_context
def frames_diff(
    context: click.Context, scope_id: str, period_begin: int, numbers: tuple[int, ...], every: bool, out: str
) -> None:
    """Show two revisions of a frame side by side: what it says of itself, and every line that differs.

    Without --revision the newest and the one before it. A replaced revision is read from the store while its lines are
    there (an hour), then from topic rated (7 days). CSV has the lines only.

    \b
    Examples:
      rater frames diff --scope projA --period 2026-01-05T09:00
      rater frames diff --scope projA --period 2026-01-05T09:00 --revision 0 --revision 2 --out json
    """
    config = session(context).config
    period = config.settings.engine.period
    if period_begin % period:
        raise click.UsageError(f"{instant(period_begin)} does not begin a period of {period} s")
    if len(numbers) not in (0, 2) or len(set(numbers)) != len(numbers):
        raise click.UsageError("give --revision twice, with two numbers, or not at all")
    before, after = _revisions(config, scope_id, period_begin, numbers)
    _print(before, after, every, out)


def _revisions(config: Config, scope_id: str, period_begin: int, numbers: tuple[int, ...]) -> tuple[Revision, Revision]:
    """The two revisions. Raises NoRevisionError, StoreError."""
    from rater.reports import Selection, open_view

    with open_view(config.settings.store) as view:
        newest = next(iter(view.frames(Selection(scope_id, period_begin, period_begin + 1))), None)
        if newest is None:
            raise NoRevisionError(
                f"there is no frame of scope {scope_id!r} at {instant(period_begin)} UTC: see "
                f"`rater frames list --scope {scope_id}`"
            )
        if not numbers and not newest.revision:
            raise NoRevisionError("the frame has one revision only, number 0: there is nothing to compare it with")
        wanted = sorted(numbers) or [newest.revision - 1, newest.revision]
        if wanted[-1] > newest.revision:
            raise NoRevisionError(f"the newest revision of the frame is {newest.revision}, there is no {wanted[-1]}")
        found = {number: _stored(view, scope_id, period_begin, number) for number in wanted}
    absent = [number for number, revision in found.items() if revision is None]
    if absent:
        found.update(_published(config, scope_id, period_begin, absent))
    before, after = (found[number] for number in wanted)
    assert before is not None, "_published raises"
    assert after is not None, "_published raises"
    return before, after


def _stored(view: View, scope_id: str, period_begin: int, number: int) -> Revision | None:
    from rater.reports import RevisionRequest
    from rater.rework import revision_of_rows

    asked = RevisionRequest(scope_id, period_begin, number)
    frame = view.frame_at(asked)
    return None if frame is None else revision_of_rows(frame, view.lines_at(asked))


def _published(config: Config, scope_id: str, period_begin: int, absent: list[int]) -> dict[int, Revision]:
    """Revisions that topic `rated` still has. Raises NoRevisionError if one is not there."""
    from rater.rework import revision_of_topic
    from rater.stream.rework_log import read_revisions

    names = ", ".join(map(str, absent))
    gone = f"revision {names} is not in the store any more: its lines are deleted an hour after they were replaced"
    try:
        parts = run(read_revisions(config.settings.kafka, scope_id, period_begin, absent))
    except RaterError as fault:
        raise NoRevisionError(f"{gone}; and topic rated, which keeps 7 days, cannot be read: {fault}") from fault
    missing = [number for number in absent if number not in parts]
    if missing:
        raise NoRevisionError(
            f"{gone}; and topic rated, which keeps 7 days, does not have {', '.join(map(str, missing))}: it is not to "
            "be had any more. `rater rework list` still has the totals of reworks, before and after"
        )
    return {number: revision_of_topic(found) for number, found in parts.items()}


def _print(before: Revision, after: Revision, every: bool, out: str) -> None:
    from rater.rework import compare, facts

    if out != "csv":
        said = dict(facts(before)), dict(facts(after))
        names = dict.fromkeys([*said[0], *said[1]])
        differing = [(name, said[0].get(name, ""), said[1].get(name, "")) for name in names]
        title = f"revision {before.number} ({before.origin}) and {after.number} ({after.origin})"
        rows(out, _FACTS, [row for row in differing if every or row[1] != row[2]], title)
    pairs = compare(before, after)
    shown = [pair for pair in pairs if every or pair.is_changed]
    rows(out, _LINES, map(_line, shown))
    remark(f"{sum(pair.is_changed for pair in pairs)} of {len(pairs)} lines differ")


def _line(pair: LinePair) -> tuple[Cell, ...]:
    from rater.store import plain_text

    before, after, either = pair.before, pair.after, pair.either
    difference = exact_sum([*([after.price] if after else []), *([before.price.copy_negate()] if before else [])])
    return (
        either.metric,
        ", ".join(f"{name}={value}" for name, value in {**either.metadata, **either.groupby}.items()),
        either.unit,
        None if before is None else plain_text(before.qty),
        None if after is None else plain_text(after.qty),
        None if before is None else plain_text(before.price),
        None if after is None else plain_text(after.price),
        plain_text(difference),
        pair.line_id,
    )
