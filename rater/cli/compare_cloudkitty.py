"""`rater compare-cloudkitty`: what CloudKitty and rater say that each scope and metric costs, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from decimal import Decimal, DecimalException
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rater.cli import exits
from rater.cli.app import session
from rater.cli.compare_reasons import Holes, reached_text
from rater.cli.compare_sides import CLOUDKITTY_TOKEN, RATER_TOKEN, Services, services_of, sides
from rater.cli.import_cloudkitty import time_zone
from rater.cli.output import Cell, Column, Moment, exact_sum, instant, out_option, progress, remark, rows
from rater.cli.times import Instant
from rater.cli.work import run
from rater.model.interval import Interval

if TYPE_CHECKING:
    from rater.cloudkitty import Compared, Sums, Tolerance, Wanted
    from rater.config import Config

__all__ = ["compare_cloudkitty", "spans_of"]

MAX_REACHED = 50  # scopes of which both are asked how far they are
_ROWS = [
    Column("from", "From (UTC)"),
    Column("to", "to", wide=False),
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("verdict", "Verdict"),
    Column("cloudkitty_qty", "CloudKitty: qty", right=True),
    Column("rater_qty", "rater: qty", right=True),
    Column("qty_difference", "Difference", right=True, wide=False),
    Column("qty_relative", "relative", right=True),
    Column("cloudkitty_rate", "CloudKitty: price", right=True),
    Column("rater_rate", "rater: price", right=True),
    Column("rate_difference", "Difference", right=True),
    Column("rate_relative", "relative", right=True),
    Column("reason", "What is known", prose=True),
]


class _Amount(click.ParamType):
    """A number that is not negative."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """As it is written."""
        try:
            number = Decimal(str(value))
        except DecimalException:
            number = Decimal("NaN")
        if not number.is_finite() or number < 0 or abs(number.adjusted()) > 30:
            self.fail(f"{value!r}: give a number such as 0.01 or 1e-9", param, ctx)
        return number


@click.command("compare-cloudkitty")
@click.option("--cloudkitty", "theirs", metavar="URL", help="CloudKitty's API. Default: that of the catalogue.")
@click.option("--rater", "ours", metavar="URL", help="Our API. Default: api.listen of rater.yaml.")
@click.option(
    "--cloudkitty-auth",
    type=click.Choice(["none", "token", "keystone"]),
    help="How CloudKitty is asked. Default: none with --cloudkitty, else keystone.",
)
@click.option(
    "--rater-auth",
    type=click.Choice(["none", "token", "keystone"]),
    default="none",
    show_default=True,
    help="How rater is asked.",
)
@click.option(
    "--cloudkitty-token-file", metavar="FILE", help=f"The token for CloudKitty. Default: variable {CLOUDKITTY_TOKEN}."
)
@click.option("--rater-token-file", metavar="FILE", help=f"The token for rater. Default: variable {RATER_TOKEN}.")
@click.option("--os-cloud", metavar="NAME", envvar="OS_CLOUD", help="For keystone: entry of clouds.yaml, else OS_*.")
@click.option(
    "--ca-file", metavar="FILE", default="", help="Certificates that are believed, PEM. Default: the system's."
)
@click.option(
    "--timeout", type=click.FloatRange(1, 3600), default=120, show_default=True, help="Seconds for an answer."
)
@click.option("--month", metavar="YYYY-MM", help="A month, in --server-timezone.")
@click.option("--from", "begin", type=Instant(), help="Instead of --month: periods that begin at this time (UTC) …")
@click.option("--to", "end", type=Instant(), help="… or later, and before this one.")
@click.option("--by", type=click.Choice(["all", "day"]), default="all", show_default=True, help="day: each day alone.")
@click.option(
    "--server-timezone",
    "zone",
    metavar="NAME",
    default="UTC",
    show_default=True,
    callback=time_zone,
    help="Local time of CloudKitty's server: its months and days.",
)
@click.option("--scope", "scopes", multiple=True, help="Only this scope; repeatable.")
@click.option("--metric", "metrics", multiple=True, help="Only this metric (type, service); repeatable.")
@click.option("--scope-key", metavar="NAME", help="The attribute that names the scope. Default: that of rater.yaml.")
@click.option(
    "--relative", type=_Amount(), help="Differences up to this part of the larger amount are none. Default: 1e-9."
)
@click.option(
    "--absolute", type=_Amount(), help="Differences up to this are none. Default: 0; 0.000005 where API v1 is asked."
)
@click.option("--all", "every", is_flag=True, help="Also list what is equal.")
@out_option
@click.pass_context
def compare_cloudkitty(context: click.Context, /, out: str, every: bool, **options: Any) -> int:
    """Compare the totals of a running CloudKitty with ours, for each scope and metric.

    Reads both through the same REST API (v2/summary, else v1/report/summary) and changes nothing. Exit status 1 if
    something differs by more than the tolerance, which allows for CloudKitty's floating point
    (docs/migrate-from-cloudkitty.md derives it). Where this machine reads our store, holes in our frames that explain
    a difference are named. Tokens come from files or variables, Keystone's credentials from clouds.yaml or OS_*.

    \b
    Examples:
      rater compare-cloudkitty --cloudkitty http://ck:8889 --rater http://127.0.0.1:8889 --month 2026-01
      rater compare-cloudkitty --os-cloud prod --rater https://rater:8889 --rater-auth token \\
          --rater-token-file token --month 2026-01 --by day --out csv > differences.csv
    """
    config = session(context).config
    spans = spans_of(options["month"], options["begin"], options["end"], options["by"], options["zone"])
    wanted = _wanted(config, options)
    comparison = _Comparison(services_of(config, options), wanted, options["relative"], options["absolute"])
    with Holes(config.settings.store) as holes:
        rows(out, _ROWS, (row for span in spans for row in comparison.rows(span, holes, every=every)))
    comparison.tell()
    return exits.FAILED if comparison.different else exits.OK


def spans_of(month: str | None, begin: int | None, end: int | None, by: str, zone: tzinfo) -> list[Interval]:
    """The times to compare, one after the other. Raises UsageError."""
    from rater.cloudkitty import days_of, local_month
    from rater.reports import MonthError

    if month is not None:
        if begin is not None or end is not None:
            raise click.UsageError("give either --month, or --from and --to")
        try:
            span = local_month(month, zone)
        except MonthError as fault:
            raise click.BadParameter(str(fault), param_hint="'--month'") from None
    elif begin is None or end is None:
        raise click.UsageError("give --month, or --from and --to")
    elif begin >= end:
        raise click.UsageError(f"--from {instant(begin)} is not before --to {instant(end)}: no time lies between them")
    else:
        span = Interval(begin, end)
    return days_of(span, zone) if by == "day" else [span]


def _wanted(config: Config, options: dict[str, Any]) -> Wanted:
    from rater.cloudkitty import Wanted

    api, collect = config.settings.api, config.settings.collect
    answered = api.cloudkitty.scope_key if api and api.cloudkitty else ""
    scope_key = options["scope_key"] or answered or (collect.scope_key if collect else "project_id")
    return Wanted(scope_key, tuple(options["scopes"]), tuple(options["metrics"]))


class _Read(NamedTuple):
    """Both sides over one time; `reached` is how far each has rated a scope that differs."""

    theirs: Sums
    ours: Sums
    tolerance: Tolerance
    compared: list[Compared]
    reached: dict[str, str]


class _Comparison:
    """Compares one time after the other, and counts."""

    def __init__(self, services: Services, wanted: Wanted, relative: Decimal | None, absolute: Decimal | None) -> None:
        self._services = services
        self._wanted = wanted
        self._tolerance = relative, absolute
        self.different = 0
        self._groups = 0
        self._totals = [Decimal(0), Decimal(0)]
        self._versions: set[tuple[int, int]] = set()
        self._used: Tolerance | None = None

    def rows(self, span: Interval, holes: Holes, *, every: bool) -> Iterator[tuple[Cell, ...]]:
        """The rows of one time, with what is known of why they differ. Raises CloudKittyError."""
        read = run(self._read(span))
        self._used = read.tolerance
        self._versions.add((read.theirs.version, read.ours.version))
        self._groups += len(read.compared)
        for number, sums in enumerate((read.theirs, read.ours)):
            self._totals[number] = exact_sum([self._totals[number], *(row.rate for row in sums.rows.values())])
        for one in read.compared:
            if one.is_equal:
                if every:
                    yield _cells(span, one, "")
                continue
            self.different += 1
            known = (holes.text(*one.group, span), read.reached.get(one.group.scope_id, ""))
            yield _cells(span, one, "; ".join(filter(None, known)))

    async def _read(self, span: Interval) -> _Read:
        from rater.cloudkitty import compare, read_both, read_reached, tolerance_of

        async with sides(self._services) as (their_side, our_side):
            with progress("compare", "groups") as advance:
                theirs, ours = await read_both(their_side, our_side, span, self._wanted, advance)
            tolerance = tolerance_of(theirs, ours, *self._tolerance)
            compared = list(compare(theirs, ours, tolerance))
            reached: dict[str, str] = {}
            for scope_id in dict.fromkeys(one.group.scope_id for one in compared if not one.is_equal):
                if len(reached) == MAX_REACHED:
                    break
                told = [await read_reached(side, scope_id, self._wanted.scope_key) for side in (their_side, our_side)]
                reached[scope_id] = reached_text(told[0], told[1], span.end)
        return _Read(theirs, ours, tolerance, compared, reached)

    def tell(self) -> None:
        """What was compared, on stderr."""
        from rater.reports import plain_text

        theirs, ours = self._totals
        difference = exact_sum([ours, -theirs])
        remark(
            f"{self._groups} scopes and metrics compared, {self.different} differ; price of all together: CloudKitty "
            f"{plain_text(theirs)}, rater {plain_text(ours)}, difference {plain_text(difference)}"
        )
        if self._used is not None:
            relative, absolute = (bound.normalize() for bound in (self._used.relative, self._used.absolute))
            remark(f"tolerance: {relative:g} of the larger amount, or {absolute:g}")
        if any(1 in versions for versions in self._versions):
            remark("one side has no v2/summary: only prices are compared, by v1/report/summary with 5 decimals")
        if not self._groups:
            remark("neither side has anything of that time: check the scopes, the metrics and --scope-key")


def _cells(span: Interval, one: Compared, reason: str) -> tuple[Cell, ...]:
    theirs, ours = one.theirs, one.ours
    verdict = "equal" if one.is_equal else "differs" if one.where == "both" else one.where
    return (
        Moment(span.begin),
        Moment(span.end),
        *one.group,
        verdict,
        _plain(theirs.qty if theirs else None),
        _plain(ours.qty if ours else None),
        _plain(one.qty),
        _percent(one.relative_qty),
        _plain(theirs.rate if theirs else None),
        _plain(ours.rate if ours else None),
        _plain(one.rate),
        _percent(one.relative_rate),
        reason,
    )


def _plain(amount: Decimal | None) -> str | None:
    from rater.reports import plain_text

    return None if amount is None else plain_text(amount)


def _percent(part: Decimal | None) -> str | None:
    return None if part is None else f"{part:.4g}"
