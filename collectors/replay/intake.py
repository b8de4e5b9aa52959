"""The first half of a replay: reads usage files, admits or refuses each line, and keeps what the second half needs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from types import TracebackType

import msgspec

from collectors.errors import ReplayError
from collectors.replay.claims import Claims, Name
from collectors.replay.expected import Expected
from collectors.replay.spool import Spool
from collectors.replay.usage_file import ALL, Covered, Used
from collectors.replay.usage_inputs import Form, UsageInput
from collectors.replay.usage_reader import Line, OpenFile, open_input
from collectors.times import iso
from rater.model.codec import encode_msgpack
from rater.model.errors import RejectedError
from rater.model.interval import Interval, period_of
from rater.model.metric import Catalog
from rater.model.rated import RejectedHeaders

__all__ = ["Intake", "LineFault", "Refusal"]

MAX_PERIODS = 20_000  # as the worker's limit for one record: two years of hours
_MAX_SHOWN = 100


class LineFault(msgspec.Struct, frozen=True):
    """Why a line was refused; `line` is the row, of a Parquet file."""

    line: int
    reason: str
    file: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """A refused line, whole."""

    file: str
    form: str
    number: int
    reason: str
    raw: bytes

    def headers(self) -> RejectedHeaders:
        """What is written beside it in topic `rejected`."""
        return RejectedHeaders(
            self.reason, origin_content_type=self.form, origin_file=self.file, origin_line=self.number
        )


_decode_refusal = msgspec.msgpack.Decoder(Refusal).decode


class _File:
    """What was found so far in the file that is being read."""

    def __init__(self, number: int, file: OpenFile) -> None:
        self.number = number
        self.name = file.name
        self.form = file.content_type
        self.scopes: set[str] = set()
        self.metrics: set[str] = set()
        self.lines = 0
        self.samples = 0
        self.faults: list[LineFault] = []
        self._first = self._last_begin = self._last_end = -1

    def take(self, begin: int, end: int) -> None:
        """Note a sample."""
        self.samples += 1
        self._first = begin if self._first < 0 else min(self._first, begin)
        self._last_begin = max(self._last_begin, begin)
        self._last_end = max(self._last_end, end)

    def names(self) -> list[Name]:
        """All its scopes with all its metrics."""
        return [(scope_id, metric) for scope_id in self.scopes for metric in self.metrics]

    def span(self, covered: Interval | None, period_seconds: int) -> Interval:
        """From its first to its last instant; a last sample without length stands for its period."""
        spans = [covered] if covered else []
        if self.samples:
            ends_open = self._last_begin >= self._last_end
            end = period_of(self._last_begin, period_seconds).end if ends_open else 0
            spans.append(Interval(self._first, max(self._last_end, end)))
        return Interval(min(span.begin for span in spans), max(span.end for span in spans))


class Intake:
    """What files hold: their samples go to the spool, their claims, names, spans and refused lines stay here."""

    def __init__(self, spool: Spool, claims: Claims, source: str, catalog: Catalog | None, period_seconds: int) -> None:
        self.spool = spool
        self.claims = claims
        self.expected = Expected()
        self.samples = 0
        self.refused = 0
        self._files = 0
        self.faults: list[LineFault] = []
        self.remarks: list[str] = []
        self._units: dict[str, str | None] = {}
        self._scopes: set[str] = set()
        self._source = source
        self._catalog = catalog
        self._period = period_seconds
        self._digest = hashlib.blake2b(digest_size=16)
        self._refusals = tempfile.TemporaryFile(prefix="rater-replay-")  # noqa: SIM115 - __exit__ closes it

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refusals.close()

    @property
    def scopes(self) -> set[str]:
        """The scopes that the files name."""
        return self._scopes

    @property
    def units(self) -> dict[str, str]:
        """The metrics that the files name, with their units."""
        return {metric: unit or "undefined" for metric, unit in self._units.items()}

    def read(self, source: UsageInput, form: Form | None, lines_per_step: int) -> Iterator[int]:
        """Read a file; gives how many bytes of it are done every few lines. Raises ReplayError if nothing is of use."""
        with open_input(source, form) as file:
            self._files += 1
            found = _File(self._files, file)
            for count, line in enumerate(file.lines(), start=1):
                found.lines = count
                self._take(line, found)
                if count % lines_per_step == 0:
                    yield file.position()
            yield file.total_bytes or file.position()
            self._end_file(found, is_table=file.form != "jsonl")

    def finish(self) -> str:
        """Ends the reading; gives a digest of all that is to be published. Raises ReplayError if that is nothing."""
        everywhere = self.claims.everywhere
        if not self._scopes or not self._units:
            raise ReplayError(f"the files name no scope and metric, so nothing was published{self._shown(self.faults)}")
        if everywhere:
            names = [(scope_id, metric) for scope_id in self._scopes for metric in self._units]
            self.expected.note(names, Interval(everywhere[0].begin, everywhere[-1].end))
        self._check_span("the files together reach", self.expected.span())
        self._digest.update(self.spool.finish())
        self._digest.update(repr((self.samples, sorted(self.units.items()), everywhere)).encode())
        return self._digest.hexdigest()[:16]

    def _end_file(self, found: _File, *, is_table: bool) -> None:
        if is_table and not found.lines:
            self.remarks.append(f"{found.name} holds a header and no rows")
            return
        if not found.scopes or not found.metrics:
            shown = self._shown(found.faults) or ": empty"
            raise ReplayError(f"{found.name} names no scope and metric, so nothing was published{shown}")
        names = found.names()
        span = found.span(self.claims.span_of_file(), self._period)
        self._check_span(f"{found.name} reaches", span)
        self.expected.note(names, span)
        self.claims.end_file(names)
        self._scopes |= found.scopes

    def _shown(self, faults: list[LineFault]) -> str:
        return "".join(f"\n  line {fault.line}: {fault.reason}" for fault in faults[:5])

    def _take(self, line: Line, found: _File) -> None:
        fault = line.fault
        if line.item is not None:
            try:
                self._admit(line.item, found)
            except RejectedError as refusal:
                fault = str(refusal)
        if fault:
            self.refused += 1
            shown = LineFault(line.number, fault, found.name)
            for faults in (self.faults, found.faults):
                if len(faults) < _MAX_SHOWN:
                    faults.append(shown)
            record = encode_msgpack(Refusal(found.name, found.form, line.number, fault, line.raw))
            self._digest.update(repr((found.number, line.number, line.raw)).encode())
            self._refusals.write(len(record).to_bytes(8) + record)

    def _admit(self, item: Used | Covered, found: _File) -> None:
        if isinstance(item, Used):
            self._check_unit(item.metric, item.unit)
            self.spool.add(item.scope_id, item.metric, item.series, item.begin, item.end, item.qty)
            self.samples += 1
            found.scopes.add(item.scope_id)
            found.metrics.add(item.metric)
            found.take(item.begin, item.end)
            return
        if item.source is not None and item.source != self._source:
            raise RejectedError(
                f"covers what source {item.source!r} answered, but this file is replayed as {self._source!r}: give the "
                "replay that name, or take `source` out"
            )
        if item.metric != ALL:
            self._check_unit(item.metric, None)
            found.metrics.add(item.metric)
        if item.scope_id != ALL:
            found.scopes.add(item.scope_id)
        self._digest.update(repr((found.number, item)).encode())
        self.claims.add(item.scope_id, item.metric, Interval(item.begin, item.end))

    def _check_unit(self, metric: str, unit: str | None) -> None:
        """Refuses what the worker would refuse: an undeclared metric, another unit than the metric's."""
        known = self._units.get(metric)
        if known is None and self._catalog is not None:
            spec = self._catalog.get(metric)
            if spec is None:
                raise RejectedError(f"metric {metric!r} is unknown: declare it in metrics.yml")
            known = spec.unit
        if known is not None and unit is not None and unit != known:
            declared = "declared in" if self._catalog else "named earlier with unit"
            raise RejectedError(f"unit is {unit!r}, metric {metric!r} is {declared} {known!r}")
        self._units[metric] = known or unit

    def _check_span(self, who: str, span: Interval) -> None:
        """Raises ReplayError if it is longer than a worker takes as one plan."""
        if (span.end - span.begin) // self._period >= MAX_PERIODS:
            raise ReplayError(
                f"{who} from {iso(span.begin)} to {iso(span.end)}, more than {MAX_PERIODS} periods: is a time wrong? "
                "Nothing was published"
            )

    def refusals(self) -> Iterator[Refusal]:
        """Every refused line, in order."""
        self._refusals.seek(0)
        while size := self._refusals.read(8):
            yield _decode_refusal(self._refusals.read(int.from_bytes(size)))
