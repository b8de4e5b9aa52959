"""Groups samples that come in any order by scope, metric and period, in an amount of memory that is always the same.

Groups grow in memory until they fill it; then all of them are written to disk, sorted by their keys, as one run of a
merge sort. Neither the number of samples nor that of groups matters; one group must fit into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from types import TracebackType

import msgspec

from collectors.replay.runs import FAN_IN, Entry, Key, Run, Runs
from rater.model.codec import encode_msgpack
from rater.model.usage import Sample

__all__ = ["Group", "Key", "Spool"]

_SERIES_WEIGHT = 4  # a series with its labels takes the memory of about four samples
_key_of = itemgetter(0)


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


_decode = msgspec.msgpack.Decoder(Group).decode


class Spool:
    """`add` samples, `finish`, then read the `groups`. To be closed, or used with `with`."""

    def __init__(self, period_seconds: int, memory_samples: int = 300_000, fan_in: int = FAN_IN) -> None:
        """`memory_samples`: how many samples stay in memory, about 200 bytes each."""
        self._period = period_seconds
        self._memory = memory_samples
        self._weight = 0
        self._open: dict[Key, _Open] = {}
        self._runs = Runs(fan_in)
        self._digest = hashlib.blake2b(digest_size=16)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()
        self._runs.close()

    def add(self, scope_id: str, metric: str, series: bytes, begin: int, end: int, qty: Decimal) -> None:
        """Take a sample; it belongs to the period in which it begins. Raises OSError if the disk is full."""
        key = Key(begin - begin % self._period, scope_id, metric)
        group = self._open.get(key)
        if group is None:
            group = self._open[key] = _Open()
            self._weight += _SERIES_WEIGHT
        number = group.numbers.get(series)
        if number is None:
            number = group.numbers[series] = len(group.numbers)
            self._weight += _SERIES_WEIGHT
        group.samples.append(Sample(number, begin, end, qty))
        self._weight += 1
        if self._weight > self._memory:
            self._spill()

    def _spill(self) -> None:
        run = Run()
        for key in sorted(self._open):
            group = self._open.pop(key)
            chunk = encode_msgpack(Group(list(group.numbers), group.samples))
            self._digest.update(repr(key).encode() + chunk)
            run.write((key, chunk))
        self._weight = 0
        self._runs.add(run)

    def finish(self) -> bytes:
        """Ends the taking; gives a digest of all samples and their order. Raises OSError if the disk is full."""
        self._spill()
        return self._digest.digest()

    def groups(self) -> Iterator[tuple[Key, Group]]:
        """Every group in order of its key, its samples sorted by series and time. Not before `finish`."""
        for key, entries in groupby(self._runs.entries(), key=_key_of):
            yield key, _joined(entries)


def _joined(entries: Iterable[Entry]) -> Group:
    """The chunks of one group as one; series are numbered in the order in which they were met first."""
    numbers: dict[bytes, int] = {}
    samples: list[Sample] = []
    for _, chunk in entries:
        group = _decode(chunk)
        new = [numbers.setdefault(series, len(numbers)) for series in group.series]
        if new == list(range(len(new))):
            samples += group.samples
        else:
            samples += [Sample(new[s.series], s.begin, s.end, s.qty) for s in group.samples]
    samples.sort(key=lambda sample: (sample.series, sample.begin))
    return Group(list(numbers), samples)
