"""Takes single programs out of packages of Debian, without installing them.

No service is started, and only root's `apt-get update`, needed on a machine that never did it, touches the system.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

SECONDS = 240  # for one call of apt-get, which waits for slow mirrors and for other calls of itself


def take(package: str, programs: tuple[str, ...], place: Path) -> None:
    """Puts the programs of the package into `place`; raises what `subprocess.run` raises if that cannot be done."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        try:
            _call("apt-get", "download", package, cwd=scratch)
        except subprocess.CalledProcessError:
            if os.geteuid() != 0:
                raise
            _call("apt-get", "update", cwd=scratch)  # a fresh machine has no list of packages yet
            _call("apt-get", "download", package, cwd=scratch)
        (found,) = Path(scratch).glob(f"{package}_*.deb")
        _call("dpkg-deb", "--extract", found.name, "content", cwd=scratch)
        for program in programs:
            (Path(scratch) / "content" / "usr" / "bin" / program).replace(place / program)


def last_words(error: Exception) -> str:
    """What an exception of `take` says, with what apt-get said."""
    said = (getattr(error, "stderr", None) or "").strip()
    return f"{error}\n{said}" if said else str(error)


def _call(*command: str, cwd: str) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=SECONDS)
