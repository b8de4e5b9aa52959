"""Puts Prometheus and promtool where the tests find them: `make tools` runs this, and `make` adds the place to PATH.

Takes what PATH already has; else unpacks Debian's package below `.cache/prometheus`, without installing it: no
service is started and only root's `apt-get update`, needed on a machine that never did it, touches the system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("prometheus", "promtool")
PLACE = Path(__file__).resolve().parent.parent / ".cache" / "prometheus" / "bin"
SECONDS = 240  # for one call of apt-get, which waits for slow mirrors and for other calls of itself

_HELP = (
    "error: the tests need Prometheus (the programs prometheus and promtool on PATH); apt-get could not fetch it here. "
    "Install it: `apt-get install prometheus` on Debian and Ubuntu, `brew install prometheus` on macOS\n"
)


def main() -> int:
    """0 when both programs are on PATH or in PLACE, else 1 with a message that says what to install."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{PLACE}"
    if not _found(path):
        try:
            _unpack()
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"{_last_words(error)}\n{_HELP}")
            return 1
    if not _found(path):
        sys.stderr.write(_HELP)
        return 1
    print(f"Prometheus: {shutil.which(PROGRAMS[0], path=path)}")
    return 0


def _found(path: str) -> bool:
    return all(shutil.which(program, path=path) for program in PROGRAMS)


def _unpack() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE.parent) as scratch:
        try:
            _call("apt-get", "download", "prometheus", cwd=scratch)
        except subprocess.CalledProcessError:
            if os.geteuid() != 0:
                raise
            _call("apt-get", "update", cwd=scratch)  # a fresh machine has no list of packages yet
            _call("apt-get", "download", "prometheus", cwd=scratch)
        (package,) = Path(scratch).glob("prometheus_*.deb")
        _call("dpkg-deb", "--extract", package.name, "content", cwd=scratch)
        for program in PROGRAMS:
            (Path(scratch) / "content" / "usr" / "bin" / program).replace(PLACE / program)


def _call(*command: str, cwd: str) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=SECONDS)


def _last_words(error: Exception) -> str:
    said = (getattr(error, "stderr", None) or "").strip()
    return f"{error}\n{said}" if said else str(error)


if __name__ == "__main__":
    sys.exit(main())
