"""The file of the audit log: lines that are on the disk before anybody is told what they say.

Lines that come together are written and synced together, so a burst of writes waits for few syncs. The file may be
renamed at any time, as logrotate does: the next line begins a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path

from rater.model.errors import RaterError

__all__ = ["AuditFile", "AuditFileError"]

log = logging.getLogger(__name__)


class AuditFileError(RaterError):
    """The file of the audit log cannot be written."""


class AuditFile:
    """Appends lines; several processes may share the file. `fault` says why it cannot, empty while it can."""

    def __init__(self, path: str) -> None:
        """Raises AuditFileError."""
        self._path = Path(path)
        self._descriptor = -1
        self._lock = asyncio.Lock()
        self._waiting: list[bytes] = []  # after a fault also those that are not on the disk yet: few, `mended` is asked
        self._added = self._written = 0
        self.fault = ""
        try:
            self._opened()
        except OSError as fault:
            raise AuditFileError(
                f"api.audit_file {path} cannot be written: {fault.strerror}: give a file in a directory that this user "
                "may write to, or take the key out"
            ) from fault

    async def append(self, line: bytes) -> None:
        """Returns when the line is on the disk, or `fault` says why it is not."""
        self._waiting.append(line + b"\n")
        self._added += 1
        # shielded: a request that is given up leaves no line between memory and disk
        await asyncio.shield(self._flush(self._added))

    async def mended(self) -> bool:
        """Whether lines can be written; after a fault that is tried, with the lines of then."""
        if self.fault:
            await asyncio.shield(self._flush(self._added))
        return not self.fault

    async def close(self) -> None:
        """Writes what waits, and closes the file."""
        await self._flush(self._added)
        if self._descriptor >= 0:
            os.close(self._descriptor)

    async def _flush(self, number: int) -> None:
        async with self._lock:
            if self._written >= number:
                return  # went with the lines of somebody else
            lines, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append, b"".join(lines))
            except OSError as fault:
                self._waiting = lines + self._waiting
                self.fault = f"the audit log {self._path} cannot be written: {fault.strerror}"
                log.error("%s: every write is refused until it can", self.fault)  # noqa: TRY400  the text says it all
                return
            self._written += len(lines)
            self.fault = ""

    def _append(self, data: bytes) -> None:
        """In a thread. Writes all of it or raises OSError; what a fault left there is ended by the next attempt."""
        self._opened()
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def _opened(self) -> None:
        """Opens the file that the path names now, if that is not the one that is open. Raises OSError."""
        if self._descriptor >= 0:
            with suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)) and not self.fault:
                    return
            os.close(self._descriptor)
            self._descriptor = -1
        is_new = not self._path.exists()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # a line that broke off must not swallow the next one
        if is_new:  # the name has to be on the disk as well
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
