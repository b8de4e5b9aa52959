"""Usage files as tables, CSV and Parquet: the columns of a sample, labels as columns `groupby.KEY`, `metadata.KEY`.

A table holds samples only; what it covers is told by `--covers`. An empty cell or null means that the value is absent.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, BinaryIO, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collectors.errors import ReplayError
from collectors.replay.usage_file import UsageLine, Used, used
from rater.model.errors import RejectedError

__all__ = ["Row", "csv_rows", "parquet_count", "parquet_rows"]

_COLUMNS = ("scope_id", "metric", "begin", "end", "qty", "unit")
_REQUIRED = ("scope_id", "metric", "begin", "qty")
_LABELS = ("groupby", "metadata")
_ROWS_AT_ONCE = 5000
_PAGES_BYTES = 1024 * 1024  # of a column at once, since row groups may be as large as the file


class Row(Protocol):
    """A row of a table; `number` is the line of the file (CSV) or the row (Parquet), from 1."""

    number: int

    def raw(self) -> bytes:
        """The row as it is written to `rejected`."""

    def item(self) -> Used:
        """The sample. Raises RejectedError with the reason."""


class _CsvRow:
    def __init__(self, number: int, text: bytes, columns: list[str], cells: list[str], fault: str = "") -> None:
        self.number = number
        self._text = text
        self._columns = columns
        self._cells = cells
        self._fault = fault

    def raw(self) -> bytes:
        return self._text.strip()

    def item(self) -> Used:
        if self._fault:
            raise RejectedError(self._fault)
        if len(self._cells) != len(self._columns):
            raise RejectedError(f"the row has {len(self._cells)} cells, the header has {len(self._columns)}")
        return _sample({name: cell for name, cell in zip(self._columns, self._cells, strict=True) if cell != ""})


class _ParquetRow:
    def __init__(self, number: int, names: list[str], cells: Iterable[Any]) -> None:
        self.number = number
        self._cells = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}

    def raw(self) -> bytes:
        return msgspec.json.encode(self._cells, enc_hook=str)

    def item(self) -> Used:
        return _sample(self._cells)


def csv_rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """The rows of a CSV file with a header, in UTF-8. Raises ReplayError for columns that are missing or unknown."""
    taken = _Taken(lines)
    reader = csv.reader(taken, strict=True)
    header: list[str] | None = None
    while True:
        fault = ""
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as problem:
            fault = f"this is no row of CSV: {problem}"
        text = taken.take()
        if header is None:
            header = _checked_columns(cells, name)
        elif fault or cells:
            yield _CsvRow(taken.number, text, header, cells, fault or taken.fault())


class _Taken:
    """Gives lines as text and remembers their bytes until the row is complete."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.number = 0
        self._lines = iter(lines)
        self._held: list[bytes] = []
        self._fault = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._held.append(line)
        try:
            return line.decode()
        except UnicodeDecodeError as fault:
            self._fault = f"this is no text in UTF-8: {fault.reason}"
            return line.decode(errors="replace")

    def take(self) -> bytes:
        """The bytes since the last call."""
        text = b"".join(self._held)
        self._held.clear()
        return text

    def fault(self) -> str:
        """What was wrong with the bytes since the last call."""
        fault, self._fault = self._fault, ""
        return fault


def parquet_count(stream: BinaryIO) -> int:
    """How many rows a Parquet file says it has."""
    return int(pq.read_metadata(stream).num_rows)


def parquet_rows(stream: BinaryIO, name: str) -> Iterator[Row]:
    """The rows of a Parquet file. Raises ReplayError for columns that are missing or unknown."""
    file = pq.ParquetFile(stream, buffer_size=_PAGES_BYTES, pre_buffer=False)
    names = _checked_columns(file.schema_arrow.names, name)
    number = 0
    for batch in file.iter_batches(_ROWS_AT_ONCE):
        columns = [_plain(column).to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            yield _ParquetRow(number, names, cells)


def _plain(column: Any) -> Any:
    """Timestamps as text: read as such they cost a tenth. UTC if they have a zone, without offset if they have none."""
    if not pa.types.is_timestamp(column.type):
        return column
    utc = column.cast(pa.int64()).cast(pa.timestamp(column.type.unit)).cast(pa.string())
    return utc if column.type.tz is None else pc.binary_join_element_wise(utc, "Z", "")


def _checked_columns(columns: list[str], name: str) -> list[str]:
    unknown = [column for column in columns if column not in _COLUMNS and not _is_label(column)]
    missing = [column for column in _REQUIRED if column not in columns]
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    faults = [
        f"{what} {', '.join(map(repr, names))}"
        for what, names in (("unknown:", unknown), ("missing:", missing), ("more than once:", repeated))
        if names
    ]
    if faults:
        raise ReplayError(
            f"{name}: columns {'; '.join(faults)}. A table has the columns {', '.join(_COLUMNS)}, groupby.KEY and "
            "metadata.KEY"
        )
    return columns


def _is_label(column: str) -> bool:
    kind, point, key = column.partition(".")
    return bool(point and key) and kind in _LABELS


def _sample(cells: dict[str, Any]) -> Used:
    line: dict[str, Any] = {"groupby": {}, "metadata": {}}
    for name, cell in cells.items():
        if name in _COLUMNS:
            line[name] = cell
        else:
            kind, _, key = name.partition(".")
            line[kind][key] = cell
    try:
        if "qty" in line:
            line["qty"] = Decimal(str(line["qty"]))  # of a float its shortest text, as everywhere
        return used(msgspec.convert(line, UsageLine))
    except InvalidOperation:
        raise RejectedError(f"qty {str(line['qty'])[:50]!r} is no decimal number") from None
    except msgspec.ValidationError as fault:
        raise RejectedError(f"this is no sample: {fault}") from None
