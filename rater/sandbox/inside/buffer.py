"""Memory for what passes through the zygote: given back whole, so that no script finds there what others had.

A child has all the memory of the zygote, also what was freed in it. So frames and results are never objects there.
"""

from __future__ import annotations

import mmap
import os

__all__ = ["Buffer"]

_CHUNK = 2**20


class Buffer:
    """Room for `size` bytes, filled from one descriptor and emptied into another."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled = 0
        self._emptied = 0
        self._memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def close(self) -> None:
        """Gives the memory back."""
        self._memory.close()

    def fill(self, descriptor: int) -> int:
        """Reads once, as much as there is room for; 0 at the end."""
        with memoryview(self._memory) as all_, all_[self.filled : min(self.size, self.filled + _CHUNK)] as room:
            read = os.readv(descriptor, [room])
        self.filled += read
        return read

    def empty(self, descriptor: int) -> bool:
        """Writes once; True if all that was filled in is written."""
        with memoryview(self._memory) as all_, all_[self._emptied : min(self.filled, self._emptied + _CHUNK)] as rest:
            self._emptied += os.writev(descriptor, [rest])
        return self._emptied == self.filled
