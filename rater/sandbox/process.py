"""A zygote as the worker sees it: a process with one pipe in and one out, and nothing else of the worker's.

It is started with an empty environment in an empty directory that is removed again before the first script runs.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from rater.sandbox.errors import SandboxError
from rater.sandbox.settings import SandboxSettings
from rater.sandbox.wire import HEADER, Ending, Parting, Ready, Setup

__all__ = ["Zygote"]

_START_SECONDS = 60.0
_MORE_SECONDS = 15.0  # beyond the wall time: for a zygote that is slow, not hung
_MIB = 2**20
_CHUNK = 2**20
# Hashes are the same in every process, so that a script that goes over a set does it in the same order everywhere.
# Local time is UTC; scripts see `TZ`, and nothing else, in `os.environ`.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC0"}
_ENDED = "the process that runs scripts ended by itself"
_INSIDE = (
    "import sys; sys.path[:] = sys.argv[2:]; import runpy; "
    "runpy.run_module('rater.sandbox.inside.zygote', run_name='__main__')"
)


class Zygote:
    """A running process. Its methods raise SandboxError if it breaks off or is silent for too long; then it is gone."""

    def __init__(self, settings: SandboxSettings, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)
        self._patience = settings.wall_seconds + _MORE_SECONDS
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - what Python says if it cannot even start
        try:
            directory = Path(tempfile.mkdtemp(prefix="rater-scripts-"))
            try:
                directory.chmod(0o500)
                self._process = _start(str(directory), self._said)
                self.ready = self._begin(settings)
            finally:
                directory.rmdir()  # the process keeps it, as a directory in which nothing can be made
        except BaseException:
            self._said.close()
            raise

    def _begin(self, settings: SandboxSettings) -> Ready:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None, "both are pipes"
            os.set_blocking(pipe.fileno(), False)
        setup = Setup(
            modules=list(self.modules),
            cpu_seconds=settings.cpu_seconds,
            wall_seconds=settings.wall_seconds,
            memory_bytes=settings.memory_mib * _MIB,
            output_bytes=settings.output_kib * 1024,
            result_bytes=settings.result_mib * _MIB,
            confine=settings.containment == "required",
        )
        with self._broken_off():
            answer = self._exchange(msgspec.msgpack.encode(setup), time.monotonic() + _START_SECONDS)
            return msgspec.msgpack.decode(answer, type=Ready)

    def run(self, job: bytes) -> Ending:
        """Has one frame rated by a child."""
        deadline = time.monotonic() + self._patience
        with self._broken_off():
            parting = msgspec.msgpack.decode(self._exchange(job, deadline), type=Parting)
            trace, printed = self._read(parting.trace, deadline), self._read(parting.printed, deadline)
            result = self._read(parting.result, deadline) if parting.result >= 0 else None
        return Ending(parting, trace, printed, result)

    @contextmanager
    def _broken_off(self) -> Iterator[None]:
        """Kills what does not answer as it must, and says so."""
        try:
            yield
        except (SandboxError, OSError, msgspec.DecodeError) as fault:
            self.kill()
            raise SandboxError(f"{fault}{self._last_words()}") from fault

    def _exchange(self, message: bytes, deadline: float) -> bytes:
        self._write(HEADER.pack(len(message)) + message, deadline)
        (length,) = HEADER.unpack(self._read(HEADER.size, deadline))
        return self._read(length, deadline)

    def _write(self, message: bytes, deadline: float) -> None:
        assert self._process.stdin is not None, "it is a pipe"
        descriptor = self._process.stdin.fileno()
        rest = memoryview(message)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest[:_CHUNK]) :]
            except BlockingIOError:
                _wait(descriptor, select.POLLOUT, deadline)
            except BrokenPipeError:
                raise SandboxError(_ENDED) from None

    def _read(self, length: int, deadline: float) -> bytes:
        assert self._process.stdout is not None, "it is a pipe"
        descriptor = self._process.stdout.fileno()
        chunks: list[bytes] = []
        while length:
            try:
                chunk = os.read(descriptor, min(length, _CHUNK))
            except BlockingIOError:
                _wait(descriptor, select.POLLIN, deadline)
                continue
            if not chunk:
                raise SandboxError(_ENDED)
            chunks.append(chunk)
            length -= len(chunk)
        return b"".join(chunks)

    def _last_words(self) -> str:
        if self._said.closed:
            return ""
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - 2000))
        said = self._said.read().decode(errors="replace").strip()
        self._said.close()
        return f": {said.splitlines()[-1]}" if said else ""

    @property
    def process_id(self) -> int:
        """Its number, which is that of its group too."""
        return self._process.pid

    def interrupt(self) -> None:
        """Ends it and its child; whoever waits for an answer gets SandboxError. For any thread."""
        if self._process.returncode is None:  # else its number may be somebody else's by now
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Ends it and the child it may have, and waits for that."""
        self.interrupt()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        """As `kill`, and forgets what it said."""
        self.kill()
        self._said.close()


def _start(directory: str, said: IO[bytes]) -> subprocess.Popen[bytes]:
    path = [str(Path(entry).absolute()) for entry in sys.path]  # what is found here is found there, in that order
    home = str(Path(__file__).absolute().parents[2])  # of rater, which may be found here by other means
    return subprocess.Popen(  # noqa: S603 - this Python, with arguments of ours alone
        [sys.executable, "-S", "-P", "-s", "-c", _INSIDE, directory, *path, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env=_ENVIRONMENT,
        cwd=directory,
        bufsize=0,
        start_new_session=True,
    )


def _wait(descriptor: int, event: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(descriptor, event)
    if left <= 0 or not poll.poll(left * 1000):
        raise SandboxError("the process that runs scripts does not answer")
