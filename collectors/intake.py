"""The first half of a replay: reads a usage file, admits or refuses each line, and keeps what the second half needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType

import msgspec

from collectors.claims import Claims
from collectors.errors import ReplayError
from collectors.spool import Spool
from collectors.times import iso
from collectors.usage_file import ALL, Covered, Used
from collectors.usage_reader import Line, content_type_of, open_file
from rater.model.codec import encode_msgpack
from rater.model.errors import RejectedError
from rater.model.interval import Interval, period_of
from rater.model.metric import Catalog
from rater.model.rated import RejectedHeaders

__all__ = ["Intake", "LineFault", "Refusal"]

MAX_PERIODS = 20_000  # as the worker's limit for one record: two years of hours
_MAX_SHOWN = 100


class LineFault(msgspec.Struct, frozen=True):
    """Why a line was refused."""

    line: int
    reason: str


class Refusal(msgspec.Struct, frozen=True):
    """A refused line, whole."""

    number: int
    reason: str
    raw: bytes

    def headers(self, file: str) -> RejectedHeaders:
        """What is written beside it in topic `rejected`."""
        form = content_type_of(file)
        return RejectedHeaders(self.reason, origin_content_type=form, origin_file=file, origin_line=self.number)


_decode_refusal = msgspec.msgpack.Decoder(Refusal).decode


class Intake:
    """What a file holds: its samples go to the spool, its claims, names, span and refused lines stay here."""

    def __init__(self, path: str, spool: Spool, claims: Claims, source: str, catalog: Catalog | None) -> None:
        self.spool = spool
        self.claims = claims
        self.scopes: set[str] = set()
        self._units: dict[str, str | None] = {}
        self.samples = 0
        self.refused = 0
        self.faults: list[LineFault] = []
        self._path = path
        self._source = source
        self._catalog = catalog
        self._refusals = tempfile.TemporaryFile(prefix="rater-replay-")  # noqa: SIM115 - __exit__ closes it
        self._first = self._last_begin = self._last_end = -1

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refusals.close()

    @property
    def units(self) -> dict[str, str]:
        """The metrics that the file names, with their units."""
        return {metric: unit or "undefined" for metric, unit in self._units.items()}

    def read(self, lines_per_step: int) -> Iterator[tuple[int, int]]:
        """Read the file; gives (bytes done, bytes in all) every few lines. Raises ReplayError if nothing is of use."""
        with open_file(self._path) as file:
            for count, line in enumerate(file.lines(), start=1):
                self._take(line)
                if count % lines_per_step == 0:
                    yield file.position(), file.total_bytes
            yield file.position(), file.total_bytes
        if not self.scopes or not self._units:
            shown = "".join(f"\n  line {fault.line}: {fault.reason}" for fault in self.faults[:5])
            raise ReplayError(f"{self._path} names no scope and metric, so nothing was published: {shown or 'empty'}")

    def _take(self, line: Line) -> None:
        fault = line.fault
        if line.item is not None:
            try:
                self._admit(line.item)
            except RejectedError as refusal:
                fault = str(refusal)
        if fault:
            self.refused += 1
            if len(self.faults) < _MAX_SHOWN:
                self.faults.append(LineFault(line.number, fault))
            record = encode_msgpack(Refusal(line.number, fault, line.raw))
            self._refusals.write(len(record).to_bytes(8) + record)

    def _admit(self, item: Used | Covered) -> None:
        if isinstance(item, Used):
            self._check_unit(item.metric, item.unit)
            self.spool.add(item.scope_id, item.metric, item.series, item.begin, item.end, item.qty)
            self.scopes.add(item.scope_id)
            self.samples += 1
            self._first = item.begin if self._first < 0 else min(self._first, item.begin)
            self._last_begin = max(self._last_begin, item.begin)
            self._last_end = max(self._last_end, item.end)
            return
        if item.source is not None and item.source != self._source:
            raise RejectedError(
                f"covers what source {item.source!r} answered, but this file is replayed as {self._source!r}: give the "
                "replay that name, or take `source` out"
            )
        if item.metric != ALL:
            self._check_unit(item.metric, None)
        if item.scope_id != ALL:
            self.scopes.add(item.scope_id)
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
            declared = "declared in" if self._catalog else "named earlier in this file with unit"
            raise RejectedError(f"unit is {unit!r}, metric {metric!r} is {declared} {known!r}")
        self._units[metric] = known or unit

    def span(self, period_seconds: int) -> Interval:
        """From the first to the last instant that the file speaks of; a sample without length stands for its period.

        Raises ReplayError if that is longer than a worker takes as one plan.
        """
        spans = [self.claims.span()]
        if self.samples:
            end = max(self._last_end, period_of(self._last_begin, period_seconds).end if self._ends_open else 0)
            spans.append(Interval(self._first, end))
        known = [span for span in spans if span is not None]
        whole = Interval(min(span.begin for span in known), max(span.end for span in known))
        if (whole.end - whole.begin) // period_seconds >= MAX_PERIODS:
            raise ReplayError(
                f"{self._path} reaches from {iso(whole.begin)} to {iso(whole.end)}, more than {MAX_PERIODS} periods: "
                "is a time wrong? Nothing was published"
            )
        return whole

    @property
    def _ends_open(self) -> bool:
        """Whether the last sample has no length."""
        return self._last_begin >= self._last_end

    def refusals(self) -> Iterator[Refusal]:
        """Every refused line, in order."""
        self._refusals.seek(0)
        while size := self._refusals.read(8):
            yield _decode_refusal(self._refusals.read(int.from_bytes(size)))
