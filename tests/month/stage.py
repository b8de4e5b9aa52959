"""What the month runs on: a Kafka, `rater worker` and `rater sink` as processes, and the commands an operator gives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import deploy.local.kafka
from deploy.local.kafka import LaptopKafka
from rater.config import Config, load_config
from tests.month.content import METRICS, PUSHER, WAIT_PERIODS
from tests.month.recollect import METRICS_YML

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 600
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
RULES = Path(__file__).with_name("rules.yaml")

_SETTINGS = """\
kafka: {{bootstrap: "{bootstrap}", partitions: 4}}
store: {{dsn: "chdb://clickhouse"}}
engine: {{wait_periods: {wait}, settle: {settle}, expect: {{cloud: planned, pusher: planned}}}}
worker: {{checkpoint_interval: {checkpoint}}}
metrics_conf: metrics.yml
metrics:
"""


class Cost(NamedTuple):
    """What a process has used so far: its greatest resident memory in bytes, its CPU-seconds."""

    peak_rss: int
    cpu: float


class Service:
    """`rater NAME` as a process that does not outlive this one."""

    def __init__(self, name: str, log: Path, config: Path) -> None:
        self.name = log.stem
        self._log = log
        guard = Path(deploy.local.kafka.__file__).with_name("_die_with_parent.py")
        command = [sys.executable, "-m", "rater", "--config", str(config), name]
        with log.open("wb") as opened:
            self._process = subprocess.Popen(
                [sys.executable, str(guard), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
                cwd=ROOT,
                env=ENVIRONMENT,
            )

    def check(self) -> None:
        """Fails if it has ended."""
        assert self._process.poll() is None, f"{self.name} ended: {self._tail()}"

    def wait_ready(self) -> None:
        """Until its health page says that it is."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.check()
            found = re.search(r"health on (http://\S+)/readyz", self._log.read_text())
            if found:
                try:
                    urllib.request.urlopen(f"{found[1]}/readyz", timeout=10).close()
                except urllib.error.HTTPError as early:
                    early.close()
                else:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{self.name} was never ready: {self._tail()}")

    def cost(self) -> Cost:
        """So far."""
        return cost_of(self._process.pid)

    def end(self) -> None:
        """In order."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        assert status == 0, self._tail()

    def kill(self) -> None:
        """If it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])


def cost_of(pid: int) -> Cost:
    """Of a process that runs (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert peak
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cost(int(peak[1]) * 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


class Stage(NamedTuple):
    """Everything runs."""

    directory: Path
    config: Config
    kafka: LaptopKafka
    services: list[Service]

    def check(self) -> None:
        """Fails if a part has ended."""
        for service in self.services:
            service.check()

    def rater(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """A command as an operator gives it, with the exit status that it must have."""
        done = subprocess.run(
            [sys.executable, "-m", "rater", "--config", str(self.directory / "rater.yaml"), *arguments],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == status, f"rater {' '.join(arguments)}: {done.returncode}\n{done.stderr[-4000:]}"
        return done


@contextmanager
def open_stage(directory: Path, workers: int, settle: int, checkpoint: float) -> Iterator[Stage]:
    """Starts all in `directory`; ends all. Whoever ends out of order fails the run."""
    with ExitStack() as stack:
        kafka = stack.enter_context(LaptopKafka(directory / "kafka", heap_mb=512))
        (directory / "metrics.yml").write_text(METRICS_YML)
        settings = _SETTINGS.format(bootstrap=kafka.bootstrap, wait=WAIT_PERIODS, settle=settle, checkpoint=checkpoint)
        (directory / "rater.yaml").write_text(settings + "".join(map(_properties, METRICS)))
        stage = Stage(directory, load_config(directory / "rater.yaml", {}), kafka, [])
        stage.rater("topics", "create")
        stage.rater("rules", "apply", str(RULES), "--yes", "--reason", "prices of the month")
        for number in range(workers):
            stage.services.append(Service("worker", directory / f"worker-{number}.log", directory / "rater.yaml"))
            stack.callback(stage.services[-1].kill)
        stage.services.append(Service("sink", directory / "sink.log", directory / "rater.yaml"))
        stack.callback(stage.services[-1].kill)
        for service in stage.services:
            service.wait_ready()
        yield stage
        for service in stage.services:
            service.end()


def _properties(metric: tuple[str, ...]) -> str:
    name, unit, aggregation, source, *_ = metric
    more = ", proof: samples" if source == PUSHER else ""
    return f"  {name}: {{unit: {unit}, aggregation: {aggregation}{more}}}\n"
