"""How `rater rate` writes priced samples: JSON lines, CSV or pages of a table, none of them kept in memory."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import click
import msgspec

from rater.cli.output import Cell, Column, Moment, printable, table
from rater.model.labels import label_text
from rater.rating.explanation import explanation_text, number_of
from rater.trial import FileTotals, Priced
from rater.trial.pricing import iso

__all__ = ["WRITERS", "print_totals"]

PAGE = 1_000  # rows of a table
LINES_AT_ONCE = 1_000

_encode = msgspec.json.Encoder().encode
_CSV = (
    "scope_id",
    "metric",
    "begin",
    "end",
    "qty",
    "unit",
    "groupby",
    "metadata",
    "price",
    "error",
    "dropped",
    "added",
)
_ROWS = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("begin", "Begin (UTC)"),
    Column("qty", "Quantity", right=True),
    Column("unit", "Unit"),
    Column("labels", "Labels", prose=True),
    Column("price", "Price", right=True),
    Column("remark", "Remark", prose=True),
]
_TOTALS = [
    Column("scope_id", "Scope"),
    Column("metric", "Metric"),
    Column("points", "Points", right=True),
    Column("qty", "Quantity", right=True),
    Column("unit", "Unit"),
    Column("price", "Price", right=True),
    Column("failed", "Without price", right=True),
]


def print_totals(totals: FileTotals) -> bool:
    """Writes the sums per scope and metric to stderr; False if there are none."""
    found: list[tuple[Cell, ...]] = [
        (key.scope_id, key.metric, total.points, number_of(total.qty), key.unit, number_of(total.price), total.failed)
        for key, total in sorted(totals.by_key.items())
    ]
    if found:
        table(_TOTALS, found, file=sys.stderr)
    return bool(found)


def _blocks(found: Iterable[Priced], size: int) -> Iterator[list[Priced]]:
    remaining = iter(found)
    while block := list(islice(remaining, size)):
        yield block


def _write_json(found: Iterable[Priced]) -> None:
    for block in _blocks(found, LINES_AT_ONCE):
        sys.stdout.buffer.write(b"".join([_json_line(priced) for priced in block]))


def _json_line(priced: Priced) -> bytes:
    """The sample's own line with what became of it at its end; written anew where a module changed it."""
    raw = priced.sample.raw
    if not raw or priced.changed:
        raw = _encode(_sample(priced))
    if priced.error:
        end = b',"error":' + _encode(priced.error)
    elif priced.dropped:
        end = b',"dropped":true'
    else:
        end = b',"price":"' + number_of(priced.point.price).encode() + b'"'
    if priced.added:
        end += b',"added":true'
    if priced.because is not None:
        end += b',"because":' + _encode(priced.because.steps)
    return raw[:-1] + end + b"}\n"


def _sample(priced: Priced) -> dict[str, Any]:
    point = priced.point
    return {
        "scope_id": priced.sample.scope_id,
        "metric": point.metric,
        "begin": iso(priced.sample.begin),
        "end": iso(priced.sample.end),
        "qty": number_of(point.qty),
        "unit": point.unit,
        "groupby": point.groupby,
        "metadata": point.metadata,
    }


def _price_text(priced: Priced) -> str:
    return "" if priced.error or priced.dropped else number_of(priced.point.price)


def _write_csv(found: Iterable[Priced]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    first = True
    for block in _blocks(found, LINES_AT_ONCE):
        if first:
            writer.writerow([*_CSV, "because"] if block[0].because is not None else _CSV)
            first = False
        writer.writerows(map(_csv_row, block))
        sys.stdout.buffer.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()
    if first:
        sys.stdout.buffer.write((",".join(_CSV) + "\n").encode())


def _csv_row(priced: Priced) -> list[str]:
    sample = _sample(priced)
    row = [
        *(sample[name] for name in _CSV[:6]),
        *(_encode(sample[name]).decode() for name in ("groupby", "metadata")),
        _price_text(priced),
        priced.error,
        "true" if priced.dropped else "",
        "true" if priced.added else "",
    ]
    return row if priced.because is None else [*row, _encode(priced.because.steps).decode()]


def _write_table(found: Iterable[Priced]) -> None:
    """Pages of a table; with explanations, these instead of rows."""
    for block in _blocks(found, PAGE):
        if block[0].because is None:
            table(_ROWS, map(_table_row, block))
            continue
        for priced in block:
            place = f"{priced.sample.scope_id} {iso(priced.sample.begin)}"
            said = explanation_text(priced.because) if priced.because is not None else f"no price: {priced.error}"
            click.echo("\n".join(map(printable, f"{place} {said}\n".split("\n"))))


def _table_row(priced: Priced) -> tuple[Cell, ...]:
    point = priced.point
    labels = {**point.metadata, **point.groupby}
    marks = [word for word, holds in (("dropped", priced.dropped), ("added", priced.added)) if holds]
    return (
        priced.sample.scope_id,
        point.metric,
        Moment(priced.sample.begin),
        number_of(point.qty),
        point.unit,
        ", ".join(f"{name}={label_text(value)}" for name, value in labels.items()),
        _price_text(priced),
        "; ".join([*marks, *([priced.error] if priced.error else [])]),
    )


WRITERS: dict[str, Callable[[Iterable[Priced]], None]] = {
    "json": _write_json,
    "csv": _write_csv,
    "table": _write_table,
}
"""By the name of the form: writes all samples to stdout."""
