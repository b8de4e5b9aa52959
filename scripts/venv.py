"""Makes and refreshes `.venv` from requirements-dev.lock: `make .venv` runs this with the system's Python.

Everything is installed by hash, the project itself last, editable and built with the locked setuptools. A stamp
in `.venv` remembers what it was made from, so that an unchanged one costs a few milliseconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements-dev.lock"
STAMP = VENV / "made-from.json"


def main() -> int:
    """0 when `.venv` holds what the lock says; 1, with pip's own words above, when it could not be made."""
    wanted = _made_from()
    with _alone():
        made = _stamp()
        if made == wanted and (VENV / "bin" / "rater").exists():
            return 0
        try:
            _make(clear=_is_unusable(made, wanted))
        except subprocess.CalledProcessError as failed:
            sys.stderr.write(
                f"error: .venv could not be made: `python {' '.join(failed.cmd[1:4])}` exited {failed.returncode} and "
                "says above why. pip needs the network, or the mirror that its configuration names\n"
            )
            return 1
        STAMP.write_text(json.dumps(wanted))
    return 0


def _made_from() -> dict[str, str]:
    """What `.venv` depends on. Of pyproject.toml only what installing reads: a changed lint rule costs nothing."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = [pyproject["build-system"], pyproject["project"], pyproject["tool"]["setuptools"]]
    return {
        "python": sys.version.split()[0],
        "place": str(VENV),  # its scripts name their interpreter by full path
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256(json.dumps(installed, sort_keys=True).encode()).hexdigest(),
    }


def _stamp() -> dict[str, str] | None:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return stamp


def _is_unusable(made: dict[str, str] | None, wanted: dict[str, str]) -> bool:
    """True if packages must not be installed on top: another Python, another place, or nothing there that runs."""
    if made is not None:
        return any(made.get(key) != wanted[key] for key in ("python", "place"))
    try:
        probe = [str(VENV / "bin" / "python"), "-c", "import sys; print(sys.version.split()[0])"]
        found = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return True
    return found != wanted["python"]


def _make(*, clear: bool) -> None:
    if clear:
        print(f"making .venv with Python {sys.version.split()[0]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    print(f"installing {LOCK.name} into .venv", flush=True)
    _pip("--require-hashes", "-r", str(LOCK))
    _pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))


def _pip(*arguments: str) -> None:
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


@contextmanager
def _alone() -> Iterator[None]:
    """Two `make` in two terminals wait for each other instead of installing over each other."""
    guard = ROOT / ".cache" / "venv.lock"
    guard.parent.mkdir(exist_ok=True)
    with guard.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
