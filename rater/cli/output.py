"""How the commands write: results to stdout as table, JSON or CSV; progress and remarks to stderr."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any, TextIO, TypeAlias

import click
import msgspec

__all__ = [
    "Advance",
    "Cell",
    "Column",
    "Moment",
    "confirm",
    "exact_sum",
    "instant",
    "out_option",
    "progress",
    "remark",
    "rows",
    "table",
]


class Moment(int):
    """Seconds since the epoch in a cell: a table shows them as `2026-01-06 09:10`, JSON and CSV as ISO 8601."""


Cell: TypeAlias = str | int | Moment | None
Advance: TypeAlias = Callable[[int, int], None]
"""Called with what is done and the total, 0 if that is unknown."""

PLAIN_WIDTH = 180  # columns of a table that goes into a pipe or a file
PLAIN_SECONDS = 5.0  # between two lines of progress that goes there

out_option = click.option(
    "--out",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to write the result. json: one object per line.",
)


class Column(msgspec.Struct, frozen=True):
    """A column of a result: `key` in JSON and CSV, `title` in a table."""

    key: str
    title: str
    right: bool = False
    wide: bool = True
    """False: left out of tables, for want of room."""
    prose: bool = False
    """True: may be broken into lines in tables."""


def rows(form: str, columns: Sequence[Column], found: Iterable[Sequence[Cell]], title: str = "") -> int:
    """Writes rows to stdout as `table`, `json` or `csv`; returns how many there were."""
    if form == "table":
        listed = list(found)
        shown = [number for number, column in enumerate(columns) if column.wide]
        if listed:
            table([columns[n] for n in shown], [[row[n] for n in shown] for row in listed], title)
        return len(listed)
    count = 0
    writer = csv.writer(sys.stdout)
    if form == "csv":
        writer.writerow([column.key for column in columns])
    for row in found:
        count += 1
        if form == "csv":
            writer.writerow(["" if cell is None else str(_plain(cell)) for cell in row])
        else:
            entry = {column.key: _plain(cell) for column, cell in zip(columns, row, strict=True)}
            sys.stdout.write(msgspec.json.encode(entry).decode() + "\n")
    return count


def _plain(cell: Cell) -> Cell:
    if isinstance(cell, Moment):
        return datetime.fromtimestamp(cell, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return cell


def _shown(cell: Cell) -> str:
    if isinstance(cell, Moment):
        return instant(cell)
    return "" if cell is None else printable(str(cell))


def printable(text: str) -> str:
    """Text from elsewhere for a terminal: what would move the cursor or change colours becomes a blank."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def table(
    columns: Sequence[Column], found: Iterable[Sequence[Cell]], title: str = "", file: TextIO | None = None
) -> None:
    """A table for people, on stdout or `file`."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    stream = file or sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else PLAIN_WIDTH, highlight=False)
    drawn = Table(
        title=Text(title) if title else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    texts = [[_shown(cell) for cell in row] for row in found]
    for number, column in enumerate(columns):
        # a number or name that is shortened or broken cannot be read or copied: rather a table wider than the terminal
        whole = max(map(cell_len, (column.title, *(row[number] for row in texts))))
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.prose,
            min_width=None if column.prose else whole,
        )
    for row in texts:
        drawn.add_row(*map(Text, row))
    console.width = max(console.width, Measurement.get(console, console.options.update(width=1000), drawn).minimum)
    console.print(drawn)


def remark(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    click.echo(text, err=True)


def instant(seconds: int) -> str:
    """`2026-01-06 09:10` for seconds since the epoch, UTC; with seconds where they are not zero."""
    form = "%Y-%m-%d %H:%M:%S" if seconds % 60 else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """The sum without rounding: of numbers with at most 38 decimals and 1e30."""
    with localcontext(prec=200):
        return sum(amounts, Decimal(0))


def confirm(question: str) -> bool:
    """Asks on stderr; no if nobody can answer."""
    return sys.stdin.isatty() and click.confirm(question, err=True)


@contextmanager
def progress(what: str, unit: str = "") -> Iterator[Advance]:
    """A bar on stderr for long work if that is a terminal, else a line every few seconds."""
    bar = _bar if sys.stderr.isatty() else _lines
    with bar(what, unit) as advance:
        yield advance


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}")]
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None, count="")

        def advance(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total or None, count=_count(done, total, unit))

        yield advance


@contextmanager
def _lines(what: str, unit: str) -> Iterator[Advance]:
    last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            remark(f"{what}: {_count(done, total, unit)}")

    yield advance


def _count(done: int, total: int, unit: str) -> str:
    text = f"{done:,} of {total:,}" if total else f"{done:,}"
    return f"{text} {unit}".rstrip().replace(",", " ")
