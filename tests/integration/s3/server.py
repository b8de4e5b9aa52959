"""A store that speaks S3, as a process of its own: moto's server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PYTHON = Path(__file__).parents[3] / ".cache" / "moto" / "bin" / "python"


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an empty store, which is gone after the block."""
    assert PYTHON.exists(), "moto is not installed: make tools"
    command = [str(PYTHON), "-W", "ignore", "-u", "-c", "from moto.server import main; main()", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            found = None
            while found is None:
                line = server.stderr.readline()
                assert line, "moto has ended"
                found = re.search(r"http://127\.0\.0\.1:\d+", line)
            yield found[0]
        finally:
            server.kill()
