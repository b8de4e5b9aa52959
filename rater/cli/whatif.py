"""`rater whatif`: what stored usage would cost by other rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import Cell, Column, out_option, progress, remark, rows
from rater.cli.times import chosen_span, span_options
from rater.cli.trying import NoRulesError, book_of_file, book_reader, script_runner, third_party_modules
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.config import Config
    from rater.reports import View
    from rater.trial import Comparison, WhatIf

__all__ = ["NoUsageError", "whatif"]

_ROWS = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("lines", "Lines", right=True),
    Column("changed", "Changed", right=True),
    Column("old_price", "Price", right=True),
    Column("new_price", "would be", right=True),
    Column("difference", "Difference", right=True),
    Column("percent", "%", right=True),
    Column("newly_without_price", "Newly unpriced", right=True),
    Column("newly_with_price", "Newly priced", right=True),
]


class NoUsageError(RaterError):
    """Nothing is stored of what was asked for."""


@click.command()
@click.option("--rules", "rules_file", required=True, type=click.Path(path_type=Path), help="The other rules.")
@span_options
@out_option
@click.pass_context
def whatif(
    context: click.Context,
    rules_file: Path,
    scope_id: str | None,
    month: str | None,
    begin: int | None,
    end: int | None,
    out: str,
) -> int:
    """Rate stored usage again by other rules, and print what would change, the biggest difference first.

    Touches nothing: the old price is the stored one, the new one is not kept. Exit status 1 if a frame cannot be
    compared, since its usage is not stored any more, or would fail.

    \b
    Examples:
      rater whatif --rules new.yaml --month 2026-01
      rater whatif --rules new.yaml --from 2026-01-01 --to 2026-02-01 --scope projA --out csv
    """
    from rater.rating import Chain
    from rater.reports import open_view
    from rater.trial import StoredFrames, WhatIf

    first, last = chosen_span(month, begin, end)
    book = book_of_file(rules_file)
    config = session(context).config
    chain = Chain(book, third_party_modules(book))
    with open_view(config.settings.store) as view, script_runner(config, book) as scripts:
        work = WhatIf(StoredFrames(view, config.engine_context(), _keeps(config)), chain, scripts)
        _compare(work, view, scope_id, first or 0, last, config.settings.engine.period)
    _print(work.found, out)
    if chain.has_tiers:
        remark("graduated prices count from the begin of each month, as if these rules had held since then")
    return exits.FAILED if work.found.unknown or work.found.failed else exits.OK


def _keeps(config: Config) -> Callable[[int], bool]:
    """Whether lines of a rule version prove their points; if the rules cannot be read, samples are read instead."""
    from rater.trial import keeps_points

    book_at = book_reader(config)
    known: dict[int, bool] = {}

    def keeps(version: int) -> bool:
        if version not in known:
            try:
                known[version] = keeps_points(book_at(version))
            except NoRulesError:
                if not known:
                    remark("topic rules cannot be read: going through all samples, which takes longer")
                known[version] = False
        return known[version]

    return keeps


def _compare(work: WhatIf, view: View, scope_id: str | None, begin: int, end: int | None, period: int) -> None:
    """Goes through the scopes. Raises NoUsageError, StoreError."""
    spans = [
        (scope.scope_id, max(begin, scope.begin), scope.end if end is None else min(end, scope.end))
        for scope in view.scopes()
        if scope_id in (None, scope.scope_id)
    ]
    spans = [(scope, first, last) for scope, first, last in spans if first < last]
    if not spans:
        raise NoUsageError("there are no frames of that scope and time: see `rater frames list`")
    total = sum(-(-(last - first) // period) for _, first, last in spans)
    done = 0
    with progress("what if", "frames") as advance:
        for scope, first, last in spans:
            for one in work.scope(scope, first, last):
                done += one
                advance(done, total)


def _print(found: Comparison, out: str) -> None:
    from rater.rating.explanation import number_of

    listed: list[tuple[Cell, ...]] = [
        (
            entry.scope_id,
            entry.metric,
            entry.lines,
            entry.changed,
            number_of(entry.old),
            number_of(entry.new),
            number_of(entry.difference),
            None if entry.percent is None else number_of(entry.percent),
            entry.newly_unrated,
            entry.newly_rated,
        )
        for entry in found.biggest_first()
    ]
    rows(out, _ROWS, listed)
    total = found.total()
    share = "" if total.percent is None else f" ({number_of(total.percent)} %)"
    remark(
        f"{found.frames} frames, {total.lines} lines, {total.changed} of them change: {number_of(total.old)} -> "
        f"{number_of(total.new)}, difference {number_of(total.difference)}{share}; {total.newly_unrated} points newly "
        f"without price, {total.newly_rated} newly with one"
    )
    for fault in found.faults:
        remark(fault)
    if found.unknown or found.failed:
        remark(
            f"{found.unknown} frames could not be compared and are in neither sum; {found.failed} would fail and cost "
            "nothing"
        )
