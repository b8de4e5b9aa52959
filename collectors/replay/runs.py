"""Sorted pieces of a larger sort on disk: written once in order of their keys, read back side by side.

A file of usage that is larger than memory is sorted in such runs (`spool.py`). They lie in temporary files without a
name, which vanish with the process.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from operator import itemgetter
from struct import Struct
from typing import NamedTuple, TypeAlias

import msgspec

__all__ = ["Entry", "Key", "Run", "Runs", "merged"]

FAN_IN = 32  # runs that become one: 64 KiB of buffer each, and 3 levels hold 32 768 runs, ten billion samples
_BUFFER = 64 * 1024
_LENGTHS = Struct("<II")


class Key(NamedTuple):
    """What samples are grouped by, in the order in which they are published."""

    period_begin: int
    scope_id: str
    metric: str


Entry: TypeAlias = tuple[Key, bytes]
_key_of = itemgetter(0)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, str]).decode


class Run:
    """Entries in order of their keys, of which several may be equal. Raises OSError if the disk is full."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="rater-replay-", buffering=_BUFFER)  # noqa: SIM115 - close() does

    def write(self, entry: Entry) -> None:
        """Put an entry behind the others."""
        key, chunk = entry
        name = _encode(key)
        self._file.write(_LENGTHS.pack(len(name), len(chunk)) + name + chunk)

    def entries(self) -> Iterator[Entry]:
        """What was written, from the beginning."""
        self._file.seek(0)
        read = self._file.read
        while lengths := read(_LENGTHS.size):
            of_name, of_chunk = _LENGTHS.unpack(lengths)
            yield Key(*_decode(read(of_name))), read(of_chunk)

    def close(self) -> None:
        """Forget everything."""
        self._file.close()


def merged(runs: Iterable[Run]) -> Iterator[Entry]:
    """The entries of several runs in order of their keys; those of equal keys in the order of the runs."""
    return heapq.merge(*(run.entries() for run in runs), key=_key_of)


class Runs:
    """Runs by age; each time as many of one level are there as can be merged, they become one of the next level."""

    def __init__(self, fan_in: int = FAN_IN) -> None:
        self._fan_in = fan_in
        self._levels: list[list[Run]] = []

    def add(self, run: Run) -> None:
        """Take the newest run. Raises OSError if the disk is full."""
        level = 0
        while True:
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(run)
            if len(self._levels[level]) < self._fan_in:
                return
            run = self._merge(level)
            level += 1

    def _merge(self, level: int) -> Run:
        whole = Run()
        for entry in merged(self._levels[level]):
            whole.write(entry)
        for part in self._levels[level]:
            part.close()
        self._levels[level] = []
        return whole

    def entries(self) -> Iterator[Entry]:
        """The entries of all runs in order of their keys; those of equal keys oldest first."""
        return merged(run for level in reversed(self._levels) for run in level)

    def close(self) -> None:
        """Forget everything."""
        for level in self._levels:
            for run in level:
                run.close()
        self._levels = []
