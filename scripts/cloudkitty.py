"""Installs the real CloudKitty into `.cache/cloudkitty`: `make tools` runs this with the project's Python.

It has a venv of its own, made from tests/conformance/cloudkitty.lock by hash, since its dependencies are not ours. A
stamp remembers what it was made from, so that an unchanged one costs a few milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".cache" / "cloudkitty"
LOCK = ROOT / "tests" / "conformance" / "cloudkitty.lock"
STAMP = VENV / "made-from.json"
SECONDS = 500  # for the installation: a slow mirror is no reason to hang


def main() -> int:
    """0 when `.cache/cloudkitty` holds what the lock says; 1, with the installer's words, when it could not be made."""
    python = VENV / "bin" / "python"
    wanted = {
        "python": sys.version.split()[0],
        "place": str(VENV),  # a venv names its own place in its scripts
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
    }
    if _stamp() != wanted:
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=True)
            uv = str(Path(sys.executable).with_name("uv"))
            command = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(LOCK)]
            subprocess.run(command, check=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(
                f"error: CloudKitty could not be installed into {VENV}: {error}. uv says above why; it needs the "
                "network, or the mirror that its configuration names\n"
            )
            return 1
        STAMP.write_text(json.dumps(wanted))
    print(f"CloudKitty: {python}")
    return 0


def _stamp() -> object:
    try:
        return json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
