"""Addresses of Unix sockets, which hold about 100 bytes, for directories whose paths are longer than that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rater.model.errors import RaterError

__all__ = ["SocketPathError", "socket_address"]

MAX_BYTES = 100  # the smallest limit among systems is 104
_DESCRIPTORS = Path("/proc/self/fd")


class SocketPathError(RaterError):
    """The path of a socket is too long for this system."""


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address for `path` that is short enough, valid inside the block. Raises SocketPathError, OSError."""
    if len(os.fsencode(path)) <= MAX_BYTES:
        yield str(path)
        return
    if not _DESCRIPTORS.is_dir():
        raise SocketPathError(f"the path {path} is too long for a socket: put the store into a shorter directory")
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{_DESCRIPTORS}/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
