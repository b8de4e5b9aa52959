"""Compressed files: which way one is packed, and its bytes as they were before."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import BinaryIO, cast

import pyarrow as pa

__all__ = ["PACKED", "STREAM_FAULTS", "Rewound", "packing_of", "unpacked"]

PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
STREAM_FAULTS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What reading damaged bytes may raise."""

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"))
_BUFFER = 1024 * 1024


class Rewound(io.RawIOBase):
    """A stream of which some bytes were read already, from its beginning."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        """It can be read, and nothing else."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is 3.12
        """As of any raw stream."""
        if not self._head:
            read = self._rest.read(len(buffer))
        else:
            read, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(read)] = read
        return len(read)


def packing_of(name: str, head: bytes) -> str:
    """How a file is packed by its name, else by its first bytes; empty if it is not."""
    for suffix, packing in PACKED.items():
        if name.lower().endswith(suffix):
            return packing
    return next((packing for magic, packing in _MAGIC if head.startswith(magic)), "")


def unpacked(stream: BinaryIO, packing: str) -> BinaryIO:
    """The bytes before they were packed. Where they are damaged or end early, reading raises one of `STREAM_FAULTS`."""
    match packing:
        case "gzip":
            return cast(BinaryIO, gzip.open(stream))
        case "bz2":
            return cast(BinaryIO, bz2.open(stream))
        case "xz":
            return cast(BinaryIO, lzma.open(stream))
        case "zstd":
            return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"), _BUFFER)
        case _:
            return io.BufferedReader(cast(io.RawIOBase, stream), _BUFFER)
