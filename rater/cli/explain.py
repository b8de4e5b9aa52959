"""`rater explain`: why the lines of a frame cost what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rater.cli import exits
from rater.cli.app import session
from rater.cli.output import Column, instant, printable, remark, table
from rater.cli.times import Instant
from rater.cli.trying import NoRulesError, book_reader, script_runner, third_party_modules
from rater.model.errors import RaterError

if TYPE_CHECKING:
    from rater.config import Config
    from rater.rating import RuleBook
    from rater.reports import View
    from rater.trial import FrameExplained, LineExplained, Sampled, StoredFrame, WithoutPrice

__all__ = ["ExplainError", "explain"]

LIMIT = 10
SHOWN_SAMPLES = 12

_LINES = [
    Column("line_id", "Line"),
    Column("metric", "Metric"),
    Column("labels", "Labels", prose=True),
    Column("qty", "Quantity", right=True),
    Column("unit", "Unit"),
    Column("price", "Price", right=True),
]


class ExplainError(RaterError):
    """There is nothing to explain: no such frame or line."""


@click.command()
@click.option("--scope", "scope_id", required=True, help="The scope: project, tenant, namespace.")
@click.option("--period", "period_begin", type=Instant(), required=True, help="The begin of the period (UTC).")
@click.option("--line", "line_id", help="Only this line: its id, or enough of its begin.")
@click.option("--metric", help="Only what is of this metric.")
@click.option("--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="Explain at most so many.")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    help="Explain by this rule document, instead of the version in topic rules.",
)
@click.option(
    "--out",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write the result. json: one object per line, the first one is the frame.",
)
@click.pass_context
def explain(
    context: click.Context,
    scope_id: str,
    period_begin: int,
    line_id: str | None,
    metric: str | None,
    limit: int,
    rules_file: Path | None,
    out: str,
) -> int:
    """Show every step from samples to price: the collections, the rules that matched, and those that were beaten.

    The whole frame is rated again by the rules that it was rated by, and each price is compared with the stored one:
    exit status 1 if one differs. Of a frame with more than --limit lines, the lines are listed: choose one of them.

    \b
    Examples:
      rater explain --scope projA --period 2026-01-05T09:00
      rater explain --scope projA --period 2026-01-05T09:00 --line 3f9c
      rater explain --scope projA --period 2026-01-05T09:00 --metric instance --out json
    """
    from rater.reports import open_view

    config = session(context).config
    book_at = book_reader(config, rules_file)
    with open_view(config.settings.store) as view:
        stored = _frame(view, config, book_at, scope_id, period_begin)
        if rules_file is not None:
            book_at = _one_version(book_at(0), stored.frame.rule_version, book_reader(config))
        found = _explained(view, config, book_at, stored)
    lines = _chosen(found, line_id, metric)
    without = [point for point in found.without_price if line_id is None and metric in (None, point.metric)]
    if out == "json":
        _print_json(found, lines[:limit], without[:limit])
    else:
        _print_text(found, lines, without, limit)
    if len(lines) > limit:
        remark(f"{len(lines)} lines, all of them proven: choose with --line ID or --metric, or raise --limit")
    return exits.OK


def _frame(
    view: View, config: Config, book_at: Callable[[int], RuleBook], scope_id: str, period_begin: int
) -> StoredFrame:
    from rater.trial import StoredFrames, keeps_points

    period = config.settings.engine.period
    if period_begin % period:
        raise click.UsageError(f"{instant(period_begin)} does not begin a period of {period} s")
    frames = StoredFrames(view, config.engine_context(), lambda version: keeps_points(book_at(version)), samples=True)
    found = next(frames.read(scope_id, period_begin, period_begin + 1), None)
    if found is None:
        raise ExplainError(
            f"there is no frame of scope {scope_id!r} at {instant(period_begin)} UTC: see "
            f"`rater frames list --scope {scope_id}`"
        )
    return found


def _one_version(book: RuleBook, version: int, book_at: Callable[[int], RuleBook]) -> Callable[[int], RuleBook]:
    """Gives `book` at its version, and others from topic rules: a document says nothing about them."""

    def read(asked: int) -> RuleBook:
        if asked == version:
            return book
        try:
            return book_at(asked)
        except NoRulesError as fault:
            raise NoRulesError(
                "what was used before in the month, which graduated prices depend on, cannot be proven: earlier frames "
                f"were rated by version {asked} of the rules, the document of --rules is version {version}, and topic "
                f"rules cannot be read: {fault.__cause__}"
            ) from fault

    return read


def _explained(view: View, config: Config, book_at: Callable[[int], RuleBook], stored: StoredFrame) -> FrameExplained:
    from rater.rating import Chain
    from rater.trial import Explainer, versions_before

    books = [book_at(stored.frame.rule_version)] if stored.lines or stored.frame.quarantined else []
    if books and Chain(books[0]).has_tiers:
        books += [book_at(version) for version in versions_before(view, stored.frame)]
    with script_runner(config, *books) as scripts:
        explainer = Explainer(view, config.engine_context(), book_at, scripts, third_party_modules(*books))
        return explainer.explain(stored)


def _chosen(found: FrameExplained, line_id: str | None, metric: str | None) -> list[LineExplained]:
    """The lines that were asked for. Raises ExplainError if none is that one, or several are."""
    lines = [line for line in found.lines if metric in (None, line.metric)]
    if line_id is None:
        return lines
    same = [line for line in lines if line.line_id.startswith(line_id.lower())]
    if len(same) != 1:
        many = f"begin so: {', '.join(line.line_id for line in same[:5])}" if same else "are others"
        raise ExplainError(f"no line is {line_id!r} alone: {len(same) or len(lines)} lines of the frame {many}")
    return same


# --- JSON


def _print_json(found: FrameExplained, lines: Sequence[LineExplained], without: Sequence[WithoutPrice]) -> None:
    encode = msgspec.json.Encoder().encode
    for entry in (_head(found), *lines, *without):
        click.echo(encode(entry).decode())


def _head(found: FrameExplained) -> dict[str, Any]:
    from rater.trial.pricing import iso

    frame = found.frame
    return {
        "kind": "frame",
        "scope_id": frame.scope_id,
        "period_begin": iso(frame.period_begin),
        "period_end": iso(frame.period_end),
        "revision": frame.revision,
        "status": frame.status.value,
        "rule_version": frame.rule_version,
        "lines": len(found.lines),
        "without_price": len(found.without_price),
        "dropped": found.dropped,
        "note": found.note,
    }


# --- text


def _print_text(
    found: FrameExplained, lines: Sequence[LineExplained], without: Sequence[WithoutPrice], limit: int
) -> None:
    for text in _frame_text(found):
        click.echo(printable(text))
    if len(lines) > limit:
        table(_LINES, [(x.line_id, x.metric, _labels(x), x.qty, x.unit, x.price) for x in lines])
    else:
        for line in lines:
            for text in _line_text(line):
                click.echo(printable(text))
    for point in without[:limit]:
        for text in _without_text(point):
            click.echo(printable(text))
    if len(without) > limit:
        remark(f"and {len(without) - limit} more without a price: raise --limit")


def _frame_text(found: FrameExplained) -> Iterator[str]:
    frame = found.frame
    yield (
        f"{frame.scope_id}, {instant(frame.period_begin)} to {instant(frame.period_end)} UTC: {frame.status.value}, "
        f"revision {frame.revision}, rules version {frame.rule_version}, {len(found.lines)} lines"
    )
    for gap in frame.gaps:
        yield f"gap: {gap.metric} from {gap.source}: {instant(gap.begin)} to {instant(gap.end)} UTC: {gap.reason}"
    if found.note:
        yield found.note
    if found.dropped:
        yield f"{len(found.dropped)} points were dropped by modules"


def _labels(line: LineExplained) -> str:
    return ", ".join(f"{name}={value}" for name, value in {**line.metadata, **line.groupby}.items())


def _line_text(line: LineExplained) -> Iterator[str]:
    from rater.rating.explanation import explanation_text

    yield ""
    yield f"line {line.line_id}"
    if line.samples:
        yield f"  quantity {line.aggregation} of {len(line.samples)} samples:"
        yield from _sample_texts(line.samples)
    for point in line.points:
        yield from explanation_text(point, "  ").split("\n")
    if len(line.points) > 1:
        yield f"  {len(line.points)} points with the same labels, added up"
    yield f"  stored: quantity {line.qty} {line.unit}, price {line.price}, the same"


def _sample_texts(samples: Sequence[Sampled]) -> Iterator[str]:
    collection = ""
    for sample in samples[:SHOWN_SAMPLES]:
        if sample.collection_id != collection:
            collection = sample.collection_id
            yield f"    from {sample.source}, collection {collection}, attempt {sample.attempt}"
        yield f"      {sample.begin} to {sample.end}: {sample.qty}"
    if len(samples) > SHOWN_SAMPLES:
        yield f"      and {len(samples) - SHOWN_SAMPLES} more (--out json has all)"


def _without_text(point: WithoutPrice) -> Iterator[str]:
    from rater.rating.explanation import explanation_text

    origin = f" from {point.source}" if point.source else ""
    yield ""
    yield f"without a price: {point.metric}{origin}, value {point.value}: {point.reason}"
    yield from _sample_texts(point.samples)
    if point.steps is not None:
        yield from explanation_text(point.steps, "  ").split("\n")
