"""Puts PostgreSQL where the tests of OpenStack's parts find it: `make tools` runs this.

Takes what PATH or Debian's own place already has; else unpacks Debian's package, and the libraries that it needs and
are not there, below `.cache/postgresql`, without installing them: no service is started and only root's `apt-get
update`, needed on a machine that never did it, touches the system.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("initdb", "postgres")
PLACE = Path(__file__).resolve().parent.parent / ".cache" / "postgresql"
SECONDS = 240  # for one call of apt-get, which waits for slow mirrors and for other calls of itself

_HELP = (
    "error: tests need PostgreSQL (the programs initdb and postgres); apt-get could not fetch it here. "
    "Install it: `apt-get install postgresql` on Debian and Ubuntu, `brew install postgresql` on macOS\n"
)


def main() -> int:
    """0 when both programs are there, else 1 with a message that says what to install."""
    if programs() is None:
        try:
            _unpack()
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"{_last_words(error)}\n{_HELP}")
            return 1
    found = programs()
    if found is None:
        sys.stderr.write(_HELP)
        return 1
    print(f"PostgreSQL: {found}")
    return 0


def programs() -> Path | None:
    """The directory with the programs of one version; None if there is none."""
    path = os.environ.get("PATH", "")
    on_path = [Path(found).resolve().parent for found in [shutil.which(PROGRAMS[1], path=path)] if found]
    for directory in [*on_path, *_versions(Path("/usr/lib/postgresql")), *_versions(PLACE / "usr/lib/postgresql")]:
        if all((directory / program).exists() for program in PROGRAMS):
            return directory
    return None


def libraries() -> str:
    """What LD_LIBRARY_PATH has to be for them; empty where the system has all."""
    found = (directory for lib in ("usr/lib", "lib") for directory in (PLACE / lib).glob("*-linux-*"))
    return os.pathsep.join(str(directory) for directory in found)


def _versions(place: Path) -> list[Path]:
    numbered = [found for found in place.glob("*/bin") if found.parent.name.isdecimal()]
    return sorted(numbered, key=lambda found: -int(found.parent.name))


def _unpack() -> None:
    PLACE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE.parent) as scratch:
        try:
            _download(scratch)
        except subprocess.CalledProcessError:
            if os.geteuid() != 0:
                raise
            _call("apt-get", "update", cwd=scratch)  # a fresh machine has no list of packages yet
            _download(scratch)
        content = Path(scratch) / "content"
        for package in sorted(Path(scratch).glob("*.deb")):
            _call("dpkg-deb", "--extract", package.name, content.name, cwd=scratch)
        shutil.rmtree(PLACE, ignore_errors=True)
        content.rename(PLACE)  # whole or not at all


def _download(scratch: str) -> None:
    said = _call("apt-get", "install", "--simulate", "--no-install-recommends", "postgresql", cwd=scratch)
    missing = re.findall(r"^Inst (\S+)", said, re.MULTILINE)
    needed = [name for name in missing if re.fullmatch(r"postgresql-\d+|lib.*(?<!-perl)(?<!-dev)", name)]
    _call("apt-get", "download", *needed, cwd=scratch)


def _call(*command: str, cwd: str) -> str:
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=SECONDS)
    return done.stdout


def _last_words(error: Exception) -> str:
    said = (getattr(error, "stderr", None) or "").strip()
    return f"{error}\n{said}" if said else str(error)


if __name__ == "__main__":
    sys.exit(main())
