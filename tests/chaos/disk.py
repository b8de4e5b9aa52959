"""A disk for the broker of a chaos run, which can be full: a tmpfs where we may mount one, else a limit of files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

MIB = 1024 * 1024
SIZE = 1024 * MIB
SLACK = 128 * 1024


class Disk(Protocol):
    """Full or not."""

    how: str

    def fill(self, broker_pid: int) -> None:
        """From now on almost nothing can be written."""

    def free(self) -> None:
        """There is room again, for a broker that is started then."""

    def remove(self) -> None:
        """The run is over."""


class Tmpfs:
    """A file system of our own. Full: its size is cut to what is used."""

    how = "tmpfs cut to what is used"

    def __init__(self, directory: Path) -> None:
        """Raises CalledProcessError where nothing may be mounted."""
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self._mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs")

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self._directory)], check=True, capture_output=True)

    def fill(self, broker_pid: int) -> None:
        status = os.statvfs(self._directory)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        self._mount("-o", f"remount,size={used + SLACK}")

    def free(self) -> None:
        self._mount("-o", f"remount,size={SIZE}")

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self._directory)], check=False, capture_output=True)


class FileLimit:
    """The broker's files may not grow beyond a size: what a quota does to it, without being root."""

    how = "limit of the broker's file sizes (no tmpfs: not root)"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)

    def fill(self, broker_pid: int) -> None:
        assert sys.platform == "linux", "prlimit is Linux's"
        resource.prlimit(broker_pid, resource.RLIMIT_FSIZE, (SLACK, SLACK))

    def free(self) -> None:
        """A broker that is started anew has no limit."""

    def remove(self) -> None:
        """Nothing was mounted."""


def small_disk(directory: Path) -> Disk:
    """A tmpfs at `directory`, which must not exist; without the right to mount one, the next best."""
    if os.geteuid() == 0:
        with suppress(subprocess.CalledProcessError, FileNotFoundError):  # root of a container that may not mount
            return Tmpfs(directory)
    return FileLimit(directory)


__all__ = ["Disk", "small_disk"]
