"""Starts one broker process and waits until it serves, and ends it.

Both the class archive's training run (`install.py`) and `LaptopKafka` start their brokers here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from deploy.local.kafka import java, settings
from deploy.local.kafka.errors import LaptopKafkaError

LOG_NAME = "kafka.log"

_DIE_WITH_PARENT = Path(__file__).with_name("_die_with_parent.py")
_POLL_SECONDS = 0.05
_STARTED = "Kafka Server started"  # KafkaRaftServer says so after the last listener has opened
_PORT_ATTEMPTS = 5  # two losses of a free port in a row have not been seen
_PORTS = range(20_000, 32_000)  # outgoing connections begin at 32 768 on Linux, at 49 152 on macOS
_LOG_LIMIT_BYTES = 16 * 1024 * 1024  # a laptop's log after months; read from the end anyway
_TAIL_LINES = 15
_CAUSES = {
    "Failed to acquire lock on file": "another broker uses this data directory; stop it or choose another directory",
    "No space left on device": "the disk is full",
    "OutOfMemoryError": "the heap is too small; give LaptopKafka a larger heap_mb",
}


class Plan(msgspec.Struct, frozen=True):
    """What to start: a broker of the jars in `jars` on `data_dir`, which is copied from `formatted` when new."""

    java: java.Java
    jars: Path
    formatted: Path
    data_dir: Path
    heap_mb: int
    jvm_options: list[str]
    advertised_port: int | None = None
    """Where clients are sent to; None: to the broker's own port."""
    more: dict[str, str] = {}
    """Settings that stand over ours."""

    @property
    def log_file(self) -> Path:
        """What the broker and its JVM print."""
        return self.data_dir / LOG_NAME


class Started(msgspec.Struct, frozen=True):
    """A broker that serves on `port`."""

    process: subprocess.Popen[bytes]
    port: int


def launch(plan: Plan, port: int | None, timeout: float) -> Started:
    """Starts the broker and waits at most `timeout` seconds until it serves; without `port` on a free one.

    Raises LaptopKafkaError, and leaves no process, when the port is in use, the broker exits or is not ready in time.
    """
    deadline = time.monotonic() + timeout
    _prepare(plan)
    for _ in range(_PORT_ATTEMPTS):
        if port is not None:
            _require_free(port)
        chosen = port or free_port()
        settings.write_server_properties(plan.data_dir, chosen, free_port(), plan.advertised_port, plan.more)
        process, log_begin = _spawn(plan)
        try:
            exit_code = _wait_until_started(process, plan.log_file, log_begin, deadline)
        except BaseException:  # Ctrl-C included: whoever stops waiting must not leave a broker behind
            process.kill()
            process.wait()
            raise
        if exit_code is None:
            return Started(process, chosen)
        said = _log_since(plan.log_file, log_begin)
        if "Address already in use" not in said:
            raise LaptopKafkaError(f"Kafka exited while it started (exit {exit_code}): {explain(plan.log_file, said)}")
    raise LaptopKafkaError(f"Kafka found its ports taken {_PORT_ATTEMPTS} times: {explain(plan.log_file, said)}")


def terminate(process: subprocess.Popen[bytes], limit: float) -> None:
    """SIGTERM, and SIGKILL after `limit` seconds; returns when the process is gone. A stopped one is woken first."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def explain(log_file: Path, said: str | None = None) -> str:
    """The likely cause, where the log is, and its last lines; `said` is the part of the log to look at."""
    if said is None:
        said = _log_since(log_file, 0)
    cause = next((f"{cause}. " for sign, cause in _CAUSES.items() if sign in said), "")
    tail = "".join(f"\n  {line}" for line in said.splitlines()[-_TAIL_LINES:])
    return f"{cause}Its log is {log_file}, which ends:{tail or ' (empty)'}"


def free_port() -> int:
    """A port of 127.0.0.1 that is free now; another process may take it before the broker does.

    Below those that systems give to outgoing connections: while a broker is down, a client that tries again and again
    would sooner or later be given the broker's port for its own end, connect to itself, and take the port away.
    """
    for port in [*random.sample(_PORTS, _PORT_ATTEMPTS), 0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise LaptopKafkaError("no port of 127.0.0.1 is free")


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        # as Java does: connections of the last broker that linger in TIME_WAIT are no hindrance
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise LaptopKafkaError(
                    f"port {port} of 127.0.0.1 is in use: stop the program that listens there, or choose another port"
                ) from error
            raise LaptopKafkaError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error


def _prepare(plan: Plan) -> None:
    """Makes the data directory if it is new, empties its directory for temporary files, limits its log."""
    data = plan.data_dir / settings.TOPIC_DATA
    temporary = plan.data_dir / "tmp"
    plan.data_dir.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        aside = plan.data_dir / f"{settings.TOPIC_DATA}.new"
        shutil.rmtree(aside, ignore_errors=True)  # of a start that was killed
        shutil.copytree(plan.formatted, aside)
        aside.rename(data)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if plan.log_file.exists() and plan.log_file.stat().st_size > _LOG_LIMIT_BYTES:
        plan.log_file.rename(plan.log_file.with_suffix(".log.1"))


def _spawn(plan: Plan) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where in the log file its part begins."""
    broker = java.command(
        plan.java, plan.jars, "kafka.Kafka", [settings.SERVER_PROPERTIES], plan.heap_mb, plan.jvm_options
    )
    parent = os.getpid()
    command = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(parent), *broker]
    with plan.log_file.open("ab") as log:
        begin = log.tell()
        process = (
            _spawner(parent)
            .submit(
                subprocess.Popen,
                command,
                cwd=plan.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole process group; the broker is stopped by us, in order
                start_new_session=True,
                # fewer malloc arenas: the JVM's threads hold less memory outside the heap
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},
            )
            .result()
        )
    return process, begin


@functools.cache
def _spawner(_process_id: int) -> ThreadPoolExecutor:
    """The one thread of this process that starts brokers; it lives as long as the process.

    The kernel takes the end of the *thread* that started a child for the death of its parent, so a broker started from
    a worker thread would die with that. Keyed by process id: a fork has no threads of its parent.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="laptop-kafka")


def _wait_until_started(
    process: subprocess.Popen[bytes], log_file: Path, log_begin: int, deadline: float
) -> int | None:
    """None when the broker serves, its exit code when it ended.

    It reads the log and does not try to connect: the log cannot be that of another program which has taken the port.
    """
    while True:
        exit_code = process.poll()
        if exit_code is not None:
            return exit_code
        if _STARTED in _log_since(log_file, log_begin):
            return None
        if time.monotonic() > deadline:
            said = explain(log_file, _log_since(log_file, log_begin))
            raise LaptopKafkaError(f"Kafka was not ready in time: {said}")
        time.sleep(_POLL_SECONDS)


def _log_since(log_file: Path, begin: int) -> str:
    with log_file.open("rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace")
