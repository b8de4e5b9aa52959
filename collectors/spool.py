"""Groups samples that come in any order by scope, metric and period, within a bounded amount of memory.

Groups stay in memory while they fit; then all of them move to one temporary file, which has no name and vanishes with
the process. A file that is roughly in order of time is read back in few pieces.
"""

from __future__ import annotations

import tempfile
from decimal import Decimal
from types import TracebackType
from typing import NamedTuple

import msgspec

from rater.model.codec import encode_msgpack
from rater.model.usage import Sample

__all__ = ["Group", "Key", "Spool"]

_SERIES_WEIGHT = 4  # a series with its labels takes the memory of about four samples


class Key(NamedTuple):
    """What samples are grouped by, in the order in which they are published."""

    period_begin: int
    scope_id: str
    metric: str


class Group(msgspec.Struct, gc=False):
    """Samples of one key; they name their series by its place in `series`, canonical labels."""

    series: list[bytes]
    samples: list[Sample]


class _Open:
    """A group that grows."""

    __slots__ = ("numbers", "samples")

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.samples: list[Sample] = []


class _Chunk(NamedTuple):
    offset: int
    length: int


_decode = msgspec.msgpack.Decoder(Group).decode


class Spool:
    """`add` samples, then `take` them group by group. To be closed, or used with `with`."""

    def __init__(self, period_seconds: int, memory_samples: int = 300_000) -> None:
        """`memory_samples`: how many samples stay in memory, about 200 bytes each."""
        self._period = period_seconds
        self._memory = memory_samples
        self._weight = 0
        self._open: dict[Key, _Open] = {}
        self._chunks: dict[Key, list[_Chunk]] = {}
        self._file = tempfile.TemporaryFile(prefix="rater-replay-")  # noqa: SIM115 - close() does
        self._end = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._file.close()
        self._open.clear()
        self._chunks.clear()

    def add(self, scope_id: str, metric: str, series: bytes, begin: int, end: int, qty: Decimal) -> None:
        """Take a sample; it belongs to the period in which it begins. Raises OSError if the disk is full."""
        key = Key(begin - begin % self._period, scope_id, metric)
        group = self._open.get(key)
        if group is None:
            group = self._open[key] = _Open()
        number = group.numbers.get(series)
        if number is None:
            number = group.numbers[series] = len(group.numbers)
            self._weight += _SERIES_WEIGHT
        group.samples.append(Sample(number, begin, end, qty))
        self._weight += 1
        if self._weight > self._memory:
            self._spill()

    def _spill(self) -> None:
        for key in sorted(self._open):
            group = self._open[key]
            chunk = encode_msgpack(Group(list(group.numbers), group.samples))
            self._file.write(chunk)
            self._chunks.setdefault(key, []).append(_Chunk(self._end, len(chunk)))
            self._end += len(chunk)
        self._open.clear()
        self._weight = 0

    def held(self) -> set[Key]:
        """Of which keys there are samples."""
        return self._open.keys() | self._chunks.keys()

    def take(self, key: Key) -> Group:
        """All samples of a key, sorted by series and time. The spool forgets them."""
        groups = [self._read(chunk) for chunk in self._chunks.pop(key, [])]
        rest = self._open.pop(key, None)
        if rest is not None:
            groups.append(Group(list(rest.numbers), rest.samples))
        numbers: dict[bytes, int] = {}
        samples: list[Sample] = []
        for group in groups:
            new = [numbers.setdefault(series, len(numbers)) for series in group.series]
            if new == list(range(len(new))):
                samples += group.samples
            else:
                samples += [Sample(new[s.series], s.begin, s.end, s.qty) for s in group.samples]
        samples.sort(key=lambda sample: (sample.series, sample.begin))
        return Group(list(numbers), samples)

    def _read(self, chunk: _Chunk) -> Group:
        self._file.seek(chunk.offset)
        return _decode(self._file.read(chunk.length))
