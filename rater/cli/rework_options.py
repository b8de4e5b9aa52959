"""What `rater rerate` and `rater reprocess` share: their options, the work, and how its result is shown."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import click

from rater.cli import exits
from rater.cli.output import Cell, Column, exact_sum, instant, out_option, progress, remark, rows
from rater.cli.times import Instant, chosen_span
from rater.cli.work import run
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.config import Config
    from rater.model.rated import Alert, MetricTotal
    from rater.model.usage import ReworkKind
    from rater.reports import View
    from rater.rework import Bracket, Finished, FrameKey, Left, Material, Runner, Wanted

__all__ = [
    "Make",
    "Request",
    "ReworkOverlapError",
    "perform",
    "request_of",
    "rework_options",
    "span_of",
    "stored_maker",
]

F = TypeVar("F", bound=Callable[..., Any])
Make: TypeAlias = "Callable[[Material], Awaitable[Bracket | Left]]"
Maker: TypeAlias = "Callable[[Wanted], AbstractAsyncContextManager[Make]]"

SHOWN_REMARKS = 20
SHOWN_RUNS = 200  # lines on stderr; a run is neighbouring frames of a scope with the same reason
_DIFFERENCES = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("unit", "Unit"),
    Column("frames", "Frames", right=True),
    Column("before", "Price", right=True),
    Column("after", "is now", right=True),
    Column("difference", "Difference", right=True),
]
_PLANNED = [
    Column("scope_id", "Scope"),
    Column("frames", "Frames", right=True),
    Column("samples", "Samples", right=True),
    Column("left", "Left as they are", right=True),
]


class ReworkOverlapError(RaterError):
    """A rework of one of the frames is under way."""


class Request(NamedTuple):
    """What was asked for on the command line."""

    kind: ReworkKind
    scopes: tuple[str, ...]
    """Empty: all."""
    begin: int
    end: int
    reason: str
    author: str
    dry_run: bool
    out: str
    takes_late: bool


def rework_options(command: F) -> F:
    """Adds what both commands ask for."""
    for option in (
        out_option,
        click.option("--dry-run", is_flag=True, help="Only say which frames would be sent, and which would be left."),
        click.option("--take-late", is_flag=True, help="Rate stored pushes too that a frame was not made of."),
        click.option("--author", help="Who decides this. Default: your user name."),
        click.option("--reason", required=True, help="Why; kept with the record of each frame."),
        click.option("--to", "end", type=Instant(), help="Periods that begin before this time (UTC)."),
        click.option("--from", "begin", type=Instant(), help="Periods that begin at this time (UTC) or later."),
        click.option("--month", metavar="YYYY-MM", help="Instead of --from and --to: a month, UTC."),
        click.option("--all", "every", is_flag=True, help="All scopes."),
        click.option("--scope", "scopes", multiple=True, help="This scope; repeatable."),
    ):
        command = option(command)
    return command


def request_of(kind: ReworkKind, chosen: dict[str, Any]) -> Request:
    """The request that the options make. Raises UsageError."""
    begin, end = chosen_span(chosen["month"], chosen["begin"], chosen["end"])
    if begin is None or end is None:
        raise click.UsageError("give --from and --to, or --month: what is rated again must be bounded")
    if bool(chosen["scopes"]) == chosen["every"]:
        raise click.UsageError("give either --scope, once or more often, or --all")
    if not chosen["reason"].strip():
        raise click.UsageError("--reason must say why: it is what the record will tell later")
    author = chosen["author"] or getpass.getuser()
    return Request(
        kind,
        chosen["scopes"],
        begin,
        end,
        chosen["reason"],
        author,
        chosen["dry_run"],
        chosen["out"],
        chosen["take_late"],
    )


def span_of(view: View, request: Request) -> list[tuple[str, int, int]]:
    """Scope, begin and end of what there are frames of. Raises ReworkError, StoreError."""
    from rater.rework import ReworkError

    known = {scope.scope_id: scope for scope in view.scopes()}
    unknown = sorted(set(request.scopes) - known.keys())
    if unknown:
        raise ReworkError(f"there are no frames of {', '.join(map(repr, unknown))}: see `rater frames list`")
    spans = [
        (scope_id, max(request.begin, scope.begin), min(request.end, scope.end))
        for scope_id, scope in sorted(known.items())
        if not request.scopes or scope_id in request.scopes
    ]
    spans = [span for span in spans if span[1] < span[2]]
    if not spans:
        raise ReworkError("there are no frames of that scope and time: see `rater frames list`")
    return spans


def perform(config: Config, request: Request, maker: Maker) -> int:
    """Does what was asked for, prints what came of it, and returns the exit status."""
    from rater.reports import open_view
    from rater.rework import Wanted

    wanted = Wanted(uuid.uuid4().hex, request.kind, request.author, request.reason, request.takes_late)
    with open_view(config.settings.store) as view, ThreadPoolExecutor(1, "rework") as thread:
        spans = span_of(view, request)
        if request.dry_run:
            return run(_plan(view, config, wanted, spans, maker, request.out))
        runners: list[Runner] = []
        try:
            finished = run(_work(view, thread, config, wanted, spans, maker, runners))
        except (KeyboardInterrupt, RaterError):
            _tell_broken_off(wanted, runners)
            raise
    return _show(finished, wanted, request.out, config.settings.engine.period)


def _tell_broken_off(wanted: Wanted, runners: Iterable[Runner]) -> None:
    """What stands and what to do, if anything was sent before a rework broke off."""
    for runner in runners:
        answered, sent = len(runner.answers), len(runner.answers) + len(runner.unanswered)
        if sent:
            remark(
                f"rework {wanted.rework_id} broke off: {sent} frames were sent, {answered} of them are answered, and "
                "that stands. The others are rated yet, or given up after 15 minutes and left as they are; "
                f"`rater rework list --id {wanted.rework_id}` shows what was done. To go on, ask again for the same: "
                "of frames that were done, nothing changes"
            )


def _materials(view: View, config: Config, spans: Iterable[tuple[str, int, int]]) -> Iterable[Material]:
    from rater.rework import materials

    period = config.settings.engine.period
    for scope_id, begin, end in spans:
        yield from materials(view, scope_id, -(-begin // period) * period, end, period)


async def _work(
    view: View,
    thread: ThreadPoolExecutor,
    config: Config,
    wanted: Wanted,
    spans: Sequence[tuple[str, int, int]],
    maker: Maker,
    runners: list[Runner],
) -> Finished:
    """`runners` gets the one that sends, so that what it did is known even if it breaks off."""
    from rater.rework import Runner, run_rework
    from rater.stream.rework_log import open_rework_log

    period = config.settings.engine.period
    await _refuse_overlaps(config, spans)

    def again(key: FrameKey) -> Iterable[Material]:
        return _materials(view, config, [(key[0], key[1], key[1] + 1)])

    total = sum(-(-(end - begin) // period) for _, begin, end in spans)
    with progress("rating again", "frames") as advance:
        async with open_rework_log(config.settings.kafka) as log, maker(wanted) as make:
            runner = Runner(wanted, log, on_answer=lambda count: advance(count, total))
            runners.append(runner)
            return await run_rework(view, thread, runner, wanted, _materials(view, config, spans), again, make)


async def _refuse_overlaps(config: Config, spans: Sequence[tuple[str, int, int]]) -> None:
    """Raises ReworkOverlapError if one of the frames is being reworked: the engine would refuse it later."""
    from rater.stream.rework_log import open_reworks

    bounds = {scope_id: (begin, end) for scope_id, begin, end in spans}
    for other in await open_reworks(config.settings.kafka, bounds):
        begin, end = bounds[other.scope_id]
        if begin <= other.period_begin < end:
            raise ReworkOverlapError(
                f"rework {other.rework_id} of {other.author} ({other.reason}) is under way for {other.scope_id} "
                f"{instant(other.period_begin)} since {instant(other.begun_at)} UTC: wait for its end, or for 15 "
                "minutes if it broke down, and ask again; nothing was changed"
            )


async def _plan(
    view: View, config: Config, wanted: Wanted, spans: Sequence[tuple[str, int, int]], maker: Maker, out: str
) -> int:
    from rater.rework import Left

    counted: dict[str, list[int]] = {}
    left: list[Left] = []
    remarks: dict[str, int] = {}
    async with maker(wanted) as make:
        for material in _materials(view, config, spans):
            made = await make(material)
            counts = counted.setdefault(material.frame.scope_id, [0, 0, 0])
            if isinstance(made, Left):
                left.append(made)
                counts[2] += 1
                continue
            counts[0] += 1
            counts[1] += made.samples
            for text in made.remarks:
                remarks[text] = remarks.get(text, 0) + 1
    rows(out, _PLANNED, [(scope_id, *counts) for scope_id, counts in sorted(counted.items())])
    _show_left(left, remarks, config.settings.engine.period)
    remark("nothing was sent: --dry-run")
    return exits.FAILED if left else exits.OK


def _show_left(left: Iterable[Left], remarks: dict[str, int], period: int) -> None:
    _show_runs("left as it is", [(one.scope_id, one.period_begin, one.reason) for one in left], period)
    for text, count in sorted(remarks.items())[:SHOWN_REMARKS]:
        remark(f"in {count} frame(s): {text}")


def _show_runs(what: str, frames: Iterable[tuple[str, int, str]], period: int) -> None:
    """A line for each frame, neighbours with the same reason in one: scope, begin of the period, reason."""
    runs: list[tuple[str, int, int, str]] = []
    for scope_id, begin, reason in sorted(frames):
        if runs and (runs[-1][0], runs[-1][2], runs[-1][3]) == (scope_id, begin, reason):
            runs[-1] = scope_id, runs[-1][1], begin + period, reason
        else:
            runs.append((scope_id, begin, begin + period, reason))
    for scope_id, begin, end, reason in runs[:SHOWN_RUNS]:
        count = (end - begin) // period
        span = instant(begin) if count == 1 else f"{instant(begin)} to {instant(end)} ({count} frames)"
        remark(f"{what}: {scope_id} {span}{f': {reason}' if reason else ''}")
    rest = sum((end - begin) // period for _, begin, end, _ in runs[SHOWN_RUNS:])
    if rest:
        remark(f"{what}: and {rest} more frames; ask for less time or fewer scopes to see them")


def _show(finished: Finished, wanted: Wanted, out: str, period: int) -> int:
    """Prints the difference in price per scope and metric, and what became of the frames."""
    from rater.model.rated import AlertKind

    done = finished.of_kind(AlertKind.REWORK_DONE)
    rows(out, _DIFFERENCES, _differences(done))
    changed = [alert for alert in done if alert.rework and alert.rework.revision > alert.rework.base_revision]
    refused, abandoned = finished.of_kind(AlertKind.REWORK_REFUSED), finished.of_kind(AlertKind.REWORK_ABANDONED)
    counts = {
        "done": len(changed),
        "unchanged": len(done) - len(changed),
        "refused": len(refused),
        "abandoned": len(abandoned),
        "without an answer": len(finished.unanswered),
        "left as they are": len(finished.left),
    }
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "done")
    remark(f"rework {wanted.rework_id}: {said}")
    for what, alerts in (("refused", refused), ("abandoned", abandoned)):
        _show_runs(what, [(alert.scope_id, alert.period_begin, alert.reason) for alert in alerts], period)
    _show_left(finished.left, finished.remarks, period)
    if finished.unanswered:
        _show_runs("no answer", [(*key, "") for key in finished.unanswered], period)
        remark("no answer came: is a worker running? What was sent stays in topic usage: see `rater rework list` later")
    if not finished.stored:
        remark("the sink has not stored all of it yet: reports may still show what was before")
    return exits.OK if finished.went_well else exits.FAILED


def _differences(done: Iterable[Alert]) -> list[tuple[Cell, ...]]:
    from rater.store import plain_text

    amounts: dict[tuple[str, str, str], tuple[list[Decimal], list[Decimal], set[int]]] = {}

    def add(alert: Alert, totals: Iterable[MetricTotal], which: int) -> None:
        for total in totals:
            entry = amounts.setdefault((alert.scope_id, total.metric, total.unit), ([], [], set()))
            (entry[0] if which == 0 else entry[1]).append(total.price)
            entry[2].add(alert.period_begin)

    for alert in done:
        if alert.rework is not None:
            add(alert, alert.rework.before, 0)
            add(alert, alert.rework.after, 1)
    found: list[tuple[Cell, ...]] = []
    for key, (before, after, frames) in sorted(amounts.items()):
        old, new = exact_sum(before), exact_sum(after)
        difference = exact_sum([new, old.copy_negate()])
        found.append((*key, len(frames), plain_text(old), plain_text(new), plain_text(difference)))
    return found


@asynccontextmanager
async def stored_maker(config: Config, wanted: Wanted) -> AsyncIterator[Make]:
    """Makes what is sent from stored usage alone."""
    from rater.rework import bracket_of

    async def make(material: Material) -> Bracket | Left:
        return bracket_of(material, wanted, config.catalog)

    yield make
