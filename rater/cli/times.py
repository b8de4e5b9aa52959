"""Options that say which time and which scope a command is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from rater.cli.output import instant
from rater.model.interval import Interval

__all__ = ["Instant", "Span", "chosen_span", "span_options"]

F = TypeVar("F", bound=Callable[..., Any])


class Instant(click.ParamType):
    """A time on the command line: `2026-01-05` or `2026-01-05T09:00`, UTC unless it has an offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds since the epoch, UTC."""
        if isinstance(value, int):
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2026-01-05T09:00 (UTC)", param, ctx)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        return int(instant.timestamp())


class Span(click.ParamType):
    """`FROM/TO`, two times."""

    name = "from/to"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Interval:
        """The interval, which must hold some time."""
        begin, separator, end = str(value).partition("/")
        if not separator:
            self.fail(f"{value!r}: write it as 2026-01-05T00:00/2026-01-06T00:00", param, ctx)
        found = Interval(Instant().convert(begin, param, ctx), Instant().convert(end, param, ctx))
        if found.begin >= found.end:
            self.fail(f"{value!r} holds no time", param, ctx)
        return found


def span_options(command: F) -> F:
    """Adds --scope, --month, --from and --to."""
    for option in (
        click.option("--to", "end", type=Instant(), help="Periods that begin before this time (UTC)."),
        click.option("--from", "begin", type=Instant(), help="Periods that begin at this time (UTC) or later."),
        click.option("--month", metavar="YYYY-MM", help="Instead of --from and --to: a month, UTC."),
        click.option("--scope", "scope_id", help="Only this scope."),
    ):
        command = option(command)
    return command


def chosen_span(month: str | None, begin: int | None, end: int | None) -> tuple[int | None, int | None]:
    """Begin and end as the options give them. Raises UsageError."""
    if month is None:
        if begin is not None and end is not None and begin >= end:
            raise click.UsageError(
                f"--from {instant(begin)} is not before --to {instant(end)}: no time lies between them"
            )
        return begin, end
    if begin is not None or end is not None:
        raise click.UsageError("give either --month, or --from and --to")
    from rater.reports import MonthError, month_interval

    try:
        span: Interval = month_interval(month)
    except MonthError as fault:
        raise click.BadParameter(str(fault), param_hint="'--month'") from None
    return span.begin, span.end
