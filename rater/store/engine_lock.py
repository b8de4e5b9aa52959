"""One process per directory of the embedded engine, said in words.

The engine has a lock of its own, but what it says of it is `Error initializing EmbeddedServer: .`; and it takes one
directory per process.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from rater.store.errors import StoreLockedError, StoreSettingsError, StoreUnavailableError

__all__ = ["lock_directory", "unlock_directory"]

LOCK_FILE = "rater.lock"

_guard = threading.Lock()
_held: dict[Path | None, int] = {}
"""How many stores of this process use the directory; None is the engine in memory. At most one key."""
_descriptor: int | None = None


def lock_directory(directory: Path | None) -> None:
    """Claims the directory for this process, creating it; counts how often.

    Raises StoreLockedError if another process has it, StoreSettingsError if this process has another one open,
    StoreUnavailableError if it cannot be created.
    """
    global _descriptor
    with _guard:
        if directory not in _held:
            if _held:
                raise StoreSettingsError(
                    f"this process already uses the embedded ClickHouse in {next(iter(_held)) or 'memory'} and can use "
                    f"no other beside it ({directory or 'memory'}): close that one first, or use a server"
                )
            _descriptor = None if directory is None else _claim(directory)
        _held[directory] = _held.get(directory, 0) + 1


def unlock_directory(directory: Path | None) -> None:
    """Gives up one claim; with the last the directory is free for other processes."""
    global _descriptor
    with _guard:
        _held[directory] -= 1
        if not _held[directory]:
            del _held[directory]
            if _descriptor is not None:
                os.close(_descriptor)
                _descriptor = None


def _claim(directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as fault:
        raise StoreUnavailableError(
            f"the directory {directory} of the embedded ClickHouse cannot be used: {fault.strerror}: "
            "correct store.dsn, or make it writable for this user"
        ) from fault
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreLockedError(
            f"the embedded ClickHouse in {directory} is in use by another process"
            f"{f' (pid {owner})' if owner else ''}: stop it, or ask that process, or use a ClickHouse server "
            "(store.dsn: http://…)"
        ) from fault
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor
