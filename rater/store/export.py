"""Lines, frames, gaps and costs in FOCUS' columns as files: JSON lines, CSV or Parquet, in constant memory.

The values are the same in each form. Numbers are exact: plain text without exponent and without trailing zeros in JSON
lines and CSV, decimal256(76, 38) in Parquet. Times are ISO 8601 in UTC with a `Z`, or timestamps of seconds in UTC.
Labels and other nested values are objects in JSON lines, their JSON text in CSV, maps and structs in Parquet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import chain, islice
from time import gmtime, strftime
from typing import IO, Any, Literal, Protocol, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rater.model.labels import label_text
from rater.model.rated import FrameStatus, MetricCoverage, QuarantinedPoint
from rater.store import _export_schemas as schemas
from rater.store.client import Store
from rater.store.focus import FOCUS, focus_rows
from rater.store.posting import posted_columns, posted_count
from rater.store.queries import counts, frames, gaps, line_columns
from rater.store.rows import FrameRow, LineRow, plain_text

__all__ = [
    "ExportForm",
    "ExportWhat",
    "Progress",
    "export_focus",
    "export_frames",
    "export_gaps",
    "export_lines",
    "line_chunks",
    "write_export",
]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Told after each block: rows written so far, and how many there are, if that is known."""

ExportForm: TypeAlias = Literal["jsonl", "csv", "parquet"]
ExportWhat: TypeAlias = Literal["lines", "frames", "gaps", "focus"]
Block: TypeAlias = list[Sequence[Any]]

ROWS_PER_BLOCK = 500
_json = msgspec.json.Encoder().encode


def write_export(
    store: Store,
    what: ExportWhat,
    out: ExportForm,
    target: IO[bytes],
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    progress: Progress | None = None,
) -> int:
    """`export_lines`, `export_frames`, `export_gaps` or `export_focus`, chosen by name."""
    exports: dict[ExportWhat, Callable[..., int]] = {
        "lines": export_lines,
        "frames": export_frames,
        "gaps": export_gaps,
        "focus": export_focus,
    }
    export = exports[what]
    return export(store, out, target, scope_id, begin, end, progress=progress)


def export_lines(
    store: Store,
    out: ExportForm,
    target: IO[bytes],
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    *,
    progress: Progress | None = None,
) -> int:
    """Writes the lines that `queries.lines` answers, and after them those that were posted; how many.

    Posted ones have revision and rule version 0. `target` needs no more than `write` and `flush`.

    Raises StoreError, and OSError if the target cannot be written.
    """
    total = counts(store, scope_id, begin, end)[1] + posted_count(store, scope_id, begin, end)
    blocks = chain(line_columns(store, scope_id, begin, end), posted_columns(store, scope_id, begin, end))
    return _export(blocks, schemas.LINES, out, target, total, progress)


def line_chunks(out: ExportForm, pages: Iterable[Sequence[LineRow]]) -> Iterator[bytes]:
    """The bytes of an export of these lines as they come, never empty; without the last ones it is no whole file."""
    gathered = io.BytesIO()
    writer = _WRITERS[out](gathered, schemas.LINES)
    for page in pages:
        if page:
            writer.write(list(zip(*map(_line_values, page), strict=True)))
        yield from _taken(gathered)
    writer.close()
    yield from _taken(gathered)


def _taken(gathered: io.BytesIO) -> Iterator[bytes]:
    if gathered.tell():
        yield gathered.getvalue()
        gathered.seek(0)
        gathered.truncate()


def export_frames(
    store: Store,
    out: ExportForm,
    target: IO[bytes],
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    *,
    status: FrameStatus | Collection[FrameStatus] | None = None,
    progress: Progress | None = None,
) -> int:
    """Writes the frames that `queries.frames` answers; how many. Otherwise as `export_lines`."""
    total = counts(store, scope_id, begin, end)[0] if status is None else None
    rows = map(_frame_values, frames(store, scope_id, begin, end, status))
    return _export(_blocks(rows), schemas.FRAMES, out, target, total, progress)


def export_gaps(
    store: Store,
    out: ExportForm,
    target: IO[bytes],
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    *,
    open_only: bool = False,
    progress: Progress | None = None,
) -> int:
    """Writes the gaps that `queries.gaps` answers; how many. Otherwise as `export_lines`."""
    rows = map(msgspec.structs.astuple, gaps(store, scope_id, begin, end, open_only=open_only))
    return _export(_blocks(rows), schemas.GAPS, out, target, None, progress)


def export_focus(
    store: Store,
    out: ExportForm,
    target: IO[bytes],
    scope_id: str | None = None,
    begin: int | None = None,
    end: int | None = None,
    *,
    progress: Progress | None = None,
) -> int:
    """Writes lines in the columns of FOCUS; how many. Otherwise as `export_lines`.

    Whether all of that time is there is for whoever asks to find out: a period without lines has no row.
    """
    total = counts(store, scope_id, begin, end)[1] + posted_count(store, scope_id, begin, end)
    return _export(_blocks(focus_rows(store, scope_id, begin, end)), FOCUS, out, target, total, progress)


def _export(
    blocks: Iterable[Block],
    schema: pa.Schema,
    out: ExportForm,
    target: IO[bytes],
    total: int | None,
    progress: Progress | None,
) -> int:
    written = 0
    writer = _WRITERS[out](target, schema)
    for block in blocks:
        if block and len(block[0]):
            writer.write(block)
            written += len(block[0])
            if progress:
                progress(written, total)
    writer.close()
    target.flush()
    return written


class _Writer(Protocol):
    def __init__(self, stream: IO[bytes], schema: pa.Schema) -> None: ...

    def write(self, block: Block) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    def __init__(self, stream: IO[bytes], schema: pa.Schema) -> None:
        self._stream, self._schema = stream, schema

    def write(self, block: Block) -> None:
        names = self._schema.names
        rows = zip(*_readable_block(block, self._schema), strict=True)
        self._stream.write(b"".join([_json(dict(zip(names, row, strict=True))) + b"\n" for row in rows]))

    def close(self) -> None:
        pass


class _Csv:
    def __init__(self, stream: IO[bytes], schema: pa.Schema) -> None:
        self._stream, self._schema = stream, schema
        self._write_rows([schema.names])

    def write(self, block: Block) -> None:
        columns = _readable_block(block, self._schema)
        for number, column in enumerate(columns):
            if pa.types.is_nested(self._schema.types[number]):
                columns[number] = [_json(value).decode() for value in column]
            elif pa.types.is_boolean(self._schema.types[number]):
                columns[number] = ["true" if value else "false" for value in column]
        self._write_rows(zip(*columns, strict=True))

    def close(self) -> None:
        pass

    def _write_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._stream.write(text.getvalue().encode())


class _Parquet:
    def __init__(self, stream: IO[bytes], schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(_Positioned(stream), schema, compression="zstd")

    def write(self, block: Block) -> None:
        arrays = [
            pa.array(column, kind)
            for column, kind in zip(_arrow_block(block, self._schema), self._schema.types, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _Positioned(io.RawIOBase):
    """A stream that knows its position, which Parquet needs and a pipe does not have."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(data)
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position


_WRITERS: dict[ExportForm, type[_Writer]] = {"jsonl": _JsonLines, "csv": _Csv, "parquet": _Parquet}


Convert: TypeAlias = Callable[[Any], Any]


def _readable_block(block: Block, schema: pa.Schema) -> Block:
    """The block with its times as text."""
    return _converted(block, [_converter(kind, _readable_leaf) for kind in schema.types])


def _arrow_block(block: Block, schema: pa.Schema) -> Block:
    """The block as pyarrow takes it."""
    return _converted(block, [_converter(kind, _arrow_leaf) for kind in schema.types])


def _converted(block: Block, converts: Sequence[Convert | None]) -> Block:
    return [
        column if convert is None else [convert(value) for value in column]
        for column, convert in zip(block, converts, strict=True)
    ]


def _readable_leaf(kind: pa.DataType) -> Convert | None:
    return _iso if pa.types.is_timestamp(kind) else None


def _arrow_leaf(kind: pa.DataType) -> Convert | None:
    if pa.types.is_decimal(kind):
        return Decimal
    if pa.types.is_map(kind):
        return lambda labels: list(labels.items())
    return None


@lru_cache(maxsize=256)
def _converter(kind: pa.DataType, leaf: Callable[[pa.DataType], Convert | None]) -> Convert | None:
    """What turns a value of this type into the one to write; None if it is that already."""
    if pa.types.is_list(kind):
        item = _converter(kind.value_type, leaf)
        return None if item is None else lambda values: [item(value) for value in values]
    if pa.types.is_struct(kind):
        fields = [(field.name, convert) for field in kind if (convert := _converter(field.type, leaf))]
        return (lambda value: value | {name: convert(value[name]) for name, convert in fields}) if fields else None
    convert = leaf(kind)
    return None if convert is None else lambda value: None if value is None else convert(value)


@lru_cache(maxsize=4096)
def _iso(instant: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(instant))


def _blocks(rows: Iterable[Sequence[Any]]) -> Iterator[Block]:
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_PER_BLOCK)):
        yield list(zip(*part, strict=True))


def _frame_values(frame: FrameRow) -> tuple[Any, ...]:
    """The frame in the order of its schema, numbers as text, times as integers."""
    return (
        frame.scope_id,
        frame.period_begin,
        frame.period_end,
        frame.revision,
        frame.status.value,
        frame.closed_by.value,
        frame.weak,
        frame.rule_version,
        frame.closed_at,
        frame.expected_until,
        frame.line_count,
        [
            {**msgspec.structs.asdict(total), "qty": plain_text(total.qty), "price": plain_text(total.price)}
            for total in frame.totals
        ],
        [_coverage_values(entry) for entry in frame.coverage],
        [msgspec.structs.asdict(gap) for gap in frame.gaps],
        [_quarantined_values(point) for point in frame.quarantined],
        frame.failure,
    )


def _line_values(line: LineRow) -> tuple[Any, ...]:
    """The line in the order of its schema, numbers as text."""
    values = msgspec.structs.astuple(line)
    return (*values[:5], plain_text(line.qty), plain_text(line.price), *values[7:])


def _coverage_values(entry: MetricCoverage) -> dict[str, Any]:
    return {
        "metric": entry.metric,
        "source": entry.source,
        "proof": entry.proof,
        "expected": [part._asdict() for part in entry.expected],
        "covered": [part._asdict() for part in entry.covered],
        "collections": [msgspec.structs.asdict(reference) for reference in entry.collections],
    }


def _quarantined_values(point: QuarantinedPoint) -> dict[str, Any]:
    values = msgspec.structs.asdict(point)
    for labels in ("groupby", "metadata"):
        values[labels] = {name: label_text(value) for name, value in values[labels].items()}
    return values
