"""The real CloudKitty as a process beside the tests: what it answers to questions about prices."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".cache" / "cloudkitty" / "bin" / "python"
DRIVER = Path(__file__).with_name("cloudkitty_driver.py")

Json = dict[str, Any]


class CloudKitty:
    """A running driver; see cloudkitty_driver.py for what can be asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, op: str, **request: Any) -> Json:
        """One question, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **request}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the driver has ended with status {self._process.wait(10)}: it says above why"
        answer: Json = json.loads(line)
        return answer


@contextlib.contextmanager
def cloudkitty(database: Path | None = None, zone: str = "") -> Iterator[CloudKitty]:
    """CloudKitty with an empty database, in memory unless a file is named; ended with the block.

    `zone` is its server's local time, such as Europe/Vienna; default: that of this machine.
    """
    assert PYTHON.exists(), "CloudKitty is not installed: make tools"
    command = [str(PYTHON), "-W", "ignore", str(DRIVER), *(["--database", str(database)] if database else [])]
    own = {**os.environ, **({"TZ": zone} if zone else {})}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own) as process:
        try:
            yield CloudKitty(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
