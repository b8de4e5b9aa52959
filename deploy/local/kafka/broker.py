"""`LaptopKafka`: one Apache Kafka broker on this machine, to start, stop, kill, pause and start again.

It serves `make kafka`, the demo and the tests alike; it listens on 127.0.0.1 only and ends with the process that
started it.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.kafka import launch
from deploy.local.kafka.errors import LaptopKafkaError
from deploy.local.kafka.install import install, plan

DEFAULT_HEAP_MB = 256
"""Enough for the tests and 8 MiB messages; the process took 165 MB idle and 235 MB after 400 MB of messages."""


class LaptopKafka:
    """One broker (KRaft, node and controller in one) with its own data directory.

    `data_dir` is made if it is missing; what topics hold survives `stop` and `kill`. Without `port` the first start
    takes a free one and later starts keep it. `heap_mb` bounds the Java heap, in MiB. `advertised_port` is where
    clients are sent to in place of the broker's own port: that of a proxy. `settings` of the broker stand over ours, as
    tests of access rules need them; it listens on 127.0.0.1 whatever they say.

    Not for several threads at once. Calls block: from a coroutine use `asyncio.to_thread`.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        heap_mb: int = DEFAULT_HEAP_MB,
        advertised_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.heap_mb = heap_mb
        self.advertised_port = advertised_port
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT`; raises LaptopKafkaError while no port is known, which is before the first start."""
        if self.port is None:
            raise LaptopKafkaError(f"the Kafka in {self.data_dir} has no port yet: start it first")
        return f"127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        """Where the broker and its JVM log."""
        return self.data_dir / launch.LOG_NAME

    @property
    def pid(self) -> int:
        """Process id of the broker; raises LaptopKafkaError when it does not run."""
        return self._running_process().pid

    @property
    def running(self) -> bool:
        """Whether the broker's process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Starts the broker, after `install()`, and returns when clients can connect.

        `timeout` in seconds does not count the installation. Raises LaptopKafkaError when the broker already runs, its
        port is in use, it exits (with the last lines of its log) or is not ready in time; then no process is left.
        """
        if self.running:
            raise LaptopKafkaError(f"the Kafka in {self.data_dir} already runs on {self.bootstrap}: stop it first")
        to_start = plan(install(), self.data_dir, self.heap_mb, self.advertised_port, self._settings)
        started = launch.launch(to_start, self.port, timeout)
        self._process, self.port = started.process, started.port

    def stop(self, limit: float = 20.0) -> None:
        """Ends the broker in order, by force after `limit` seconds; nothing happens if it does not run."""
        if self._process is not None:
            launch.terminate(self._process, limit)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone. Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay, answers do not come. Raises LaptopKafkaError when it does not run."""
        self._running_process().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, the end of a pause. Raises LaptopKafkaError when it does not run."""
        self._running_process().send_signal(signal.SIGCONT)

    def why_it_ended(self) -> str:
        """For a broker that ended unasked: its exit code, the likely cause, the last lines of its log."""
        assert self._process is not None, "it was started"
        return f"Kafka ended (exit {self._process.poll()}): {launch.explain(self.log_file)}"

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise LaptopKafkaError(f"the Kafka in {self.data_dir} does not run: start it first")
        return self._process

    def __enter__(self) -> Self:
        """Starts it, unless it runs already."""
        if not self.running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()
