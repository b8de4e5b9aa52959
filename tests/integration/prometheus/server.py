"""A real Prometheus on a free port of the loopback, filled with samples of the past."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FETCHED = ROOT / ".cache" / "prometheus" / "bin"
_LISTENING = re.compile(r'msg="Listening on".* address=127\.0\.0\.1:(\d+)')  # version 3 names its component between
_START_SECONDS = 60


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; fetched as `make tools` does it if it is not there."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{FETCHED}"
    found = shutil.which(name, path=path)
    if found is None:
        subprocess.run([sys.executable, str(ROOT / "scripts" / "prometheus.py")], check=True)
        found = shutil.which(name, path=path)
    assert found is not None, f"{name} is not installed: run `make tools`"
    return found


class LaptopPrometheus:
    """One server. Used with `with`; samples can be back-filled at any time, which restarts it if it runs."""

    def __init__(
        self, directory: Path, *flags: str, config: str = "global: {scrape_interval: 1m}\n", retention: str = "100y"
    ) -> None:
        """`flags` more than those that every server here has; `config`: its prometheus.yml."""
        self.directory = directory
        self._flags = (f"--storage.tsdb.retention.time={retention}", *flags)
        self._data = directory / "data"
        self._log = directory / "prometheus.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        """Where it listens, and will again when it is started again; 0: on a free port."""
        self._data.mkdir(parents=True)
        (directory / "prometheus.yml").write_text(config)

    @property
    def url(self) -> str:
        """What a client is configured with."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    @property
    def running(self) -> bool:
        """Whether its process exists."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> LaptopPrometheus:
        self.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start on `port` and wait until it answers."""
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={self.directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._data}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self._flags,
                ],
                stdout=log,
                stderr=log,
            )
        give_up_at = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, f"Prometheus ended:\n{self._log.read_text()}"
            assert time.monotonic() < give_up_at, f"Prometheus does not answer:\n{self._log.read_text()}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        found = _LISTENING.search(self._log.read_text())
        if found is None:
            return False
        self.port = int(found.group(1))
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> None:
        """Stop and wait for it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def backfill(self, lines: Iterable[str]) -> None:
        """Add samples, as lines of OpenMetrics without the closing `# EOF`."""
        text = self.directory / "backfill.om"
        text.write_text("\n".join([*lines, "# EOF", ""]))
        subprocess.run(
            [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(self._data)],
            check=True,
            capture_output=True,
        )
        text.unlink()
        if self._process is not None:
            self.stop()
            self.start()
