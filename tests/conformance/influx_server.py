"""A real InfluxDB, CloudKitty's default storage, as a process beside the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FETCHED = ROOT / ".cache" / "prometheus" / "bin"
PATIENCE_SECONDS = 30
CONFIG = """\
bind-address = "127.0.0.1:0"
reporting-disabled = true
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


def program() -> str | None:
    """Where influxd is; None where the system has no package of it."""
    return shutil.which("influxd", path=f"{os.environ.get('PATH', '')}{os.pathsep}{FETCHED}")


@contextlib.contextmanager
def influxdb(directory: Path, port: int, database: str) -> Iterator[None]:
    """Runs InfluxDB 1 on this port, with an empty database; ended with the block."""
    found = program()
    assert found, "influxd is not there: make tools"
    (directory / "influxdb.conf").write_text(CONFIG.format(directory=directory, port=port))
    with (directory / "influxdb.log").open("w") as log:
        process = subprocess.Popen([found, "-config", str(directory / "influxdb.conf")], stdout=log, stderr=log)
    try:
        ends = time.monotonic() + PATIENCE_SECONDS
        query = urllib.parse.urlencode({"q": f'CREATE DATABASE "{database}"'}).encode()
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/query", query, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                said = (directory / "influxdb.log").read_text()
                assert process.poll() is None, said
                assert time.monotonic() < ends, said
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
