"""Opens usage files, plain or packed, JSON lines, CSV or Parquet, and gives them line by line."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

import msgspec

from collectors.errors import ReplayError
from collectors.replay.packing import STREAM_FAULTS, Rewound, packing_of, unpacked
from collectors.replay.usage_file import Item, parse
from collectors.replay.usage_inputs import Form, UsageInput, form_of, usage_inputs
from collectors.replay.usage_tables import Row, csv_rows, parquet_count, parquet_rows
from rater.model.codec import JSON
from rater.model.errors import RejectedError

__all__ = ["MAX_LINE_BYTES", "Line", "OpenFile", "open_file", "open_input"]

MAX_LINE_BYTES = 4 * 1024 * 1024  # what topic `rejected` takes; a sample is about 300 bytes
_HEAD_BYTES = 4096  # enough to see what a file is
_BUFFER = 1024 * 1024


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line and what it holds: an item, or the reason why it was refused. `raw` is there if it was."""

    number: int
    raw: bytes
    item: Item | None
    fault: str = ""


class OpenFile:
    """A usage file that is being read."""

    def __init__(self, source: UsageInput, form: Form, stream: BinaryIO, packed: BinaryIO) -> None:
        self.name = source.name
        self.form = form
        self.total_bytes = source.size
        self._mark = source.mark
        self._stream = stream
        self._packed = packed
        self._rows = self._row = 0

    @property
    def content_type(self) -> str:
        """Of a refused line; rows of Parquet are written as JSON."""
        return "text/csv" if self.form == "csv" else JSON

    def position(self) -> int:
        """How many of `total_bytes`, as they lie on the disk, were read; 0 where the input cannot tell (a pipe)."""
        if self._rows:
            return self.total_bytes * self._row // self._rows
        try:
            return self._packed.tell()
        except (OSError, ValueError):
            return 0

    def lines(self) -> Iterator[Line]:
        """Every line that is not empty, in order.

        Raises ReplayError if the file is damaged or empty, changes while it is read, or has columns that nobody knows.
        """
        number = 0
        try:
            before = self._mark()
            for line in self._lines():
                number = line.number
                yield line
            after = self._mark()
        except STREAM_FAULTS as fault:
            unit = "row" if self.form == "parquet" else "line"
            raise ReplayError(
                f"{self.name} is damaged after {unit} {number}: {fault}. Nothing of it was published"
            ) from fault
        if before != after:
            raise ReplayError(f"{self.name} changed while it was read. Nothing of it was published")

    def _lines(self) -> Iterator[Line]:
        match self.form:
            case "csv":
                return map(_from_row, csv_rows(self._raw_lines(), self.name))
            case "parquet":
                return self._parquet_lines()
            case _:
                return self._json_lines()

    def _parquet_lines(self) -> Iterator[Line]:
        self._rows = parquet_count(self._stream)
        for row in parquet_rows(self._stream, self.name):
            self._row = row.number
            yield _from_row(row)

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
    """Open the one file that a path names, `-` for standard input. Raises ReplayError."""
    files = usage_inputs([path]).files
    if len(files) > 1:
        raise ReplayError(f"{path} holds {len(files)} usage files: name one of them")
    with open_input(files[0]) as file:
        yield file


@contextmanager
def open_input(source: UsageInput, form: Form | None = None) -> Iterator[OpenFile]:
    """Open a file, unpacked by its name or its first bytes; so is its form found, if `form` does not tell it.

    Raises ReplayError.
    """
    with ExitStack() as held:
        try:
            packed = source.open()
            if source.name != "standard input":
                held.enter_context(packed)
            head = packed.read(_HEAD_BYTES)
        except STREAM_FAULTS as fault:
            raise ReplayError(f"{source.name} cannot be read: {_reason(fault)}") from fault
        file = _opened(source, form, packed, head, held)
        yield file


def _opened(source: UsageInput, form: Form | None, packed: BinaryIO, head: bytes, held: ExitStack) -> OpenFile:
    packing = packing_of(source.name, head)
    if packing and not head:
        raise ReplayError(f"{source.name} is empty, which no {packing} file is. Nothing of it was published")
    plain = held.enter_context(unpacked(cast(BinaryIO, Rewound(head, packed)), packing))
    form = form or form_of(source.name)
    try:
        if form is None:
            head = plain.read(_HEAD_BYTES)
            form = _seen(head)
            plain = cast(BinaryIO, io.BufferedReader(Rewound(head, plain), _BUFFER))
        if form == "parquet":
            plain = _seekable(source, plain, packed, packing, held)
    except STREAM_FAULTS as fault:
        raise ReplayError(f"{source.name} is damaged: {_reason(fault)}. Nothing of it was published") from fault
    return OpenFile(source, form, plain, packed)


def _seen(head: bytes) -> Form:
    """The form by the first bytes."""
    if head.startswith(b"PAR1"):
        return "parquet"
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
    return "csv" if b"scope_id" in first and b"," in first and not first.startswith(b"{") else "jsonl"


def _seekable(source: UsageInput, plain: BinaryIO, packed: BinaryIO, packing: str, held: ExitStack) -> BinaryIO:
    """Parquet is read from its end: what is packed or comes through a pipe is put on the disk first."""
    if not packing and source.name != "standard input":
        packed.seek(0)
        return packed
    whole = cast(BinaryIO, tempfile.TemporaryFile(prefix="rater-replay-"))  # noqa: SIM115 - `held` closes it
    held.enter_context(whole)
    shutil.copyfileobj(plain, whole, _BUFFER)
    whole.seek(0)
    return whole


def _reason(fault: BaseException) -> str:
    return getattr(fault, "strerror", None) or str(fault)


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
