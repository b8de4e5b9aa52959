"""Opens usage files, plain or compressed, JSON lines, CSV or Parquet by their name, and gives them line by line."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

import msgspec
import pyarrow as pa

from collectors.errors import ReplayError
from collectors.usage_file import Item, parse
from collectors.usage_tables import Row, csv_rows, parquet_rows
from rater.model.codec import JSON
from rater.model.errors import RejectedError

__all__ = ["MAX_LINE_BYTES", "Line", "OpenFile", "content_type_of", "open_file"]

MAX_LINE_BYTES = 4 * 1024 * 1024  # what topic `rejected` takes; a sample is about 300 bytes
_PACKED = (".gz", ".zst")
_STREAM_FAULTS = (OSError, EOFError, zlib.error, pa.ArrowInvalid)


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line and what it holds: an item, or the reason why it was refused. `raw` is there if it was."""

    number: int
    raw: bytes
    item: Item | None
    fault: str = ""


class OpenFile:
    """A usage file that is being read."""

    def __init__(self, name: str, stream: BinaryIO, source: BinaryIO, total_bytes: int) -> None:
        self.name = name
        self.total_bytes = total_bytes
        self._stream = stream
        self._source = source

    def position(self) -> int:
        """How many of `total_bytes`, as they lie on the disk, were read; 0 where the input cannot tell (a pipe)."""
        try:
            return self._source.tell()
        except (OSError, ValueError):
            return 0

    def lines(self) -> Iterator[Line]:
        """Every line that is not empty, in order. Raises ReplayError if the file is damaged or a column is unknown."""
        number = 0
        try:
            for line in self._lines():
                number = line.number
                yield line
        except _STREAM_FAULTS as fault:
            raise ReplayError(
                f"{self.name} is damaged after line {number}: {fault}. Nothing of it was published"
            ) from fault

    def _lines(self) -> Iterator[Line]:
        match _form(self.name):
            case ".csv":
                return map(_from_row, csv_rows(self._raw_lines(), self.name))
            case ".parquet":
                return map(_from_row, parquet_rows(self._stream, self.name))
            case _:
                return self._json_lines()

    def _json_lines(self) -> Iterator[Line]:
        for number, raw in enumerate(self._raw_lines(), start=1):
            if len(raw) > MAX_LINE_BYTES:
                yield Line(number, raw[:MAX_LINE_BYTES], None, self._too_long())
                continue
            stripped = raw.strip()
            if stripped:
                yield _from_json(number, stripped)

    def _raw_lines(self) -> Iterator[bytes]:
        """The lines as they are, without a byte order mark; of one that is too long only the beginning."""
        read = self._stream.readline
        first = read(MAX_LINE_BYTES + 1)
        if first:
            yield first.removeprefix(b"\xef\xbb\xbf")
        while raw := read(MAX_LINE_BYTES + 1):
            yield raw

    def _too_long(self) -> str:
        """Reads the rest of a line that is too long; gives the reason to refuse it."""
        size = MAX_LINE_BYTES + 1
        while rest := self._stream.readline(MAX_LINE_BYTES):
            size += len(rest)
            if rest.endswith(b"\n"):
                break
        return f"the line has {size} bytes: at most {MAX_LINE_BYTES} are taken; what stands here is its beginning"


@contextmanager
def open_file(path: str) -> Iterator[OpenFile]:
    """Open a file, decompressed by its name (`.gz`, `.zst`); `-` is standard input, JSON lines. Raises ReplayError."""
    if path == "-":
        yield OpenFile("standard input", sys.stdin.buffer, sys.stdin.buffer, 0)
        return
    try:
        source = Path(path).open("rb")  # noqa: SIM115 - closed below; a `with` would take faults of the caller for its own
        total = Path(path).stat().st_size
    except OSError as fault:
        raise ReplayError(f"{path} cannot be read: {fault.strerror}") from fault
    with source:
        if path.endswith(".gz"):
            with gzip.open(source) as unpacked:
                yield OpenFile(path, unpacked, source, total)  # type: ignore[arg-type]  # has all that is used of it
        elif path.endswith(".zst"):
            with io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")) as unpacked:
                yield OpenFile(path, unpacked, source, total)
        else:
            yield OpenFile(path, source, source, total)


def content_type_of(path: str) -> str:
    """The content type of a refused line of this file; rows of Parquet are written as JSON."""
    return "text/csv" if _form(path) == ".csv" else JSON


def _form(name: str) -> str:
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return PurePath(name).suffix.lower()


def _from_json(number: int, raw: bytes) -> Line:
    try:
        return Line(number, raw, parse(raw))
    except RejectedError as fault:
        return Line(number, raw, None, str(fault))


def _from_row(row: Row) -> Line:
    try:
        return Line(row.number, b"", row.item())
    except RejectedError as fault:
        return Line(row.number, row.raw(), None, str(fault))
