"""Keeps a release for the upgrade tests: `make upgrade-previous REV=v0.1.0` after it was made, before the next one.

Builds the wheel of that commit and has it write a state; both go to tests/upgrade/previous in place of what is there,
since a clone without history has to be able to run the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "tests" / "upgrade" / "previous"
KEEP_STATE = ROOT / "tests" / "upgrade" / "keep_state.py"
LARGEST = 1024 * 1024  # bytes of a wheel that a clone is burdened with


def main(revision: str) -> int:
    """0 when wheel and state are there; 1 with the reason."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            wheel = _wheel(revision, Path(directory))
            version = wheel.name.split("-")[1]
            state = _state(wheel, version, Path(directory))
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"error: {' '.join(map(str, error.cmd[:4]))} ended with {error.returncode}, see above\n")
            return 1
        if wheel.stat().st_size > LARGEST:
            sys.stderr.write(f"error: the wheel has more than {LARGEST} bytes: leave data out of it\n")
            return 1
        for old in (*KEPT.glob("rater-*.whl"), *KEPT.glob("state-*")):
            old.unlink()
        (KEPT / wheel.name).write_bytes(wheel.read_bytes())
        (KEPT / state.name).write_bytes(state.read_bytes())
    print(f"{KEPT.relative_to(ROOT)}: {wheel.name}, {state.name} of {revision}; say so in its README.md")
    return 0


def _wheel(revision: str, directory: Path) -> Path:
    """Of the files of that commit, dated by it: built again it is the same."""
    archive, source, built = directory / "source.tar", directory / "source", directory / "built"
    subprocess.run(["git", "-C", str(ROOT), "archive", "--output", str(archive), revision], check=True)
    asked = ["git", "-C", str(ROOT), "show", "--no-patch", "--format=%ct", f"{revision}^{{commit}}"]
    dated = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    with tarfile.open(archive) as files:
        files.extractall(source, filter="data")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "-w", str(built), str(source)], check=True, env={**os.environ, "SOURCE_DATE_EPOCH": dated}
    )
    (wheel,) = built.glob("rater-*.whl")
    return wheel


def _state(wheel: Path, version: str, directory: Path) -> Path:
    release, state = directory / "release", directory / f"state-{version}.msgpack.gz"
    with zipfile.ZipFile(wheel) as files:
        files.extractall(release)
    environment = {**os.environ, "PYTHONPATH": str(release)}
    subprocess.run([sys.executable, str(KEEP_STATE), str(state), version], check=True, cwd=directory, env=environment)
    return state


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
