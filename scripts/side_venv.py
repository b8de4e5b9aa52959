"""Installs a program that tests start, and whose dependencies are not ours, into a venv of its own in `.cache`.

`make tools` runs this with the project's Python: `side_venv.py NAME DIRECTORY LOCK`, by hash. A stamp remembers what
it was made from, so that an unchanged one costs a few milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 500  # for the installation: a slow mirror is no reason to hang


def main(name: str, directory: str, lock_file: str) -> int:
    """0 when `directory` holds what the lock says; 1, with the installer's words, when it could not be made."""
    venv, lock = ROOT / directory, ROOT / lock_file
    stamp = venv / "made-from.json"
    python = venv / "bin" / "python"
    wanted = {
        "python": sys.version.split()[0],
        "place": str(venv),  # a venv names its own place in its scripts
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest(),
    }
    if _stamp(stamp) != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
            uv = str(Path(sys.executable).with_name("uv"))
            command = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(lock)]
            subprocess.run(command, check=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(
                f"error: {name} could not be installed into {venv}: {error}. uv says above why; it needs the "
                "network, or the mirror that its configuration names\n"
            )
            return 1
        stamp.write_text(json.dumps(wanted))
    print(f"{name}: {python}")
    return 0


def _stamp(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_text())
    except (FileNotFoundError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
