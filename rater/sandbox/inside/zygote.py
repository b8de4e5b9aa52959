"""The process that stands ready with everything loaded, and forks a child for each frame. It runs no script itself.

It forks the next child before it is needed, hands it the frame, and hands its words on unread.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from io import TextIOWrapper
from typing import NamedTuple

import msgspec

from rater.sandbox.inside import confine, seccomp
from rater.sandbox.inside.child import Child
from rater.sandbox.inside.preload import preload
from rater.sandbox.inside.watch import GoneError, Watch, wait_for
from rater.sandbox.wire import HEADER, MAX_JOB, Ending, Ready, Setup

__all__ = ["main"]

_IN, _OUT = 0, 1
_TRACE_LIMIT = 16384
_PIPE_BYTES = 2**20
_CHUNK = 2**20
_KEPT: list[object] = []  # time zones: in memory as long as somebody holds them


def main(directory: str) -> None:
    """Answers Setup, then one job after the other, until the worker goes away."""
    setup = msgspec.msgpack.decode(_receive(), type=Setup)
    _KEPT.extend(preload(setup.modules))
    statm = os.open("/proc/self/statm", os.O_RDONLY) if os.path.exists("/proc/self/statm") else None  # noqa: PTH110 - no pathlib here
    threads = threading.active_count()
    for name in set(os.environ) - {"TZ"}:
        del os.environ[name]  # Python sets LC_CTYPE by itself
    layers = confine.confine_zygote(directory)
    fault = _fault(setup, threads, layers)
    _send(msgspec.msgpack.encode(Ready(layers, fault)))
    forker = _Forker(setup, statm, filtered="seccomp" in layers)
    gc.collect()
    gc.freeze()
    while True:
        forker.prepare()
        _send(msgspec.msgpack.encode(forker.run(_receive())))


def _fault(setup: Setup, threads: int, layers: list[str]) -> str:
    if threads > 1:
        return "a module of scripts.modules starts threads as it is loaded: scripts cannot run beside them"
    missing = confine.probe()
    if not missing:
        layers.append("seccomp")
    elif setup.confine:
        return missing
    return ""


def _receive() -> bytes:
    header = _read_exactly(HEADER.size)
    (length,) = HEADER.unpack(header)
    assert length <= MAX_JOB, "the worker sends no longer job"
    return _read_exactly(length)


def _read_exactly(length: int) -> bytes:
    chunks: list[bytes] = []
    while length:
        chunk = os.read(_IN, min(length, _CHUNK))
        if not chunk:
            raise GoneError
        chunks.append(chunk)
        length -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _send(message: bytes) -> None:
    rest = memoryview(HEADER.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(_OUT, rest) :]


class _Spare(NamedTuple):
    """A child that waits for its frame, and our ends of its pipes."""

    number: int
    job: int
    result: int
    trace: int
    printed: int

    def close(self) -> None:
        for descriptor in self[1:]:
            os.close(descriptor)


class _Forker:
    """Forks a child ahead of its frame, and has it watched."""

    def __init__(self, setup: Setup, statm: int | None, *, filtered: bool) -> None:
        self._setup = setup
        self._statm = statm
        self._filter = seccomp.program(platform.machine()) if filtered else None
        self._progress = mmap.mmap(-1, mmap.PAGESIZE)  # shared with the child: the script it is at
        self._streams = _stream(1), _stream(2)  # for the children, which put another file there
        self._spare: _Spare | None = None
        self._dead: int | None = None

    def prepare(self) -> None:
        """Forks the next child: while the worker reads the last result, not when it waits for the next."""
        if self._dead is not None:
            os.waitpid(self._dead, 0)
            self._dead = None
        self._spare = self._fork()

    def run(self, job: bytes) -> Ending:
        """Everything about one frame, by the child that `prepare` forked."""
        spare = self._spare
        if spare is None or os.waitpid(spare.number, os.WNOHANG)[0]:  # it was ended from outside as it waited
            if spare is not None:
                spare.close()
            spare = self._fork()
        self._spare = None
        watch = Watch(self._setup, spare.number, spare.job, spare.result, spare.trace, HEADER.pack(len(job)) + job)
        watch.wait()
        ending = self._ending(watch, spare)
        spare.close()
        return ending

    def _fork(self) -> _Spare:
        self._progress[:] = bytes(mmap.PAGESIZE)  # all of it: nothing is to be read that an earlier script left there
        job_in, job_out = os.pipe()
        result_in, result_out = os.pipe()
        trace_in, trace_out = os.pipe()
        printed = _file()
        for pipe in (result_in, job_in):
            _widen(pipe)
        space = confine.memory(self._statm)
        zygote = os.getpid()
        child = os.fork()
        if child == 0:
            Child(self._setup, zygote, self._filter, self._progress, self._streams, space).main(
                job_in, printed, result_out, trace_out
            )
            os._exit(1)  # `main` does not come back
        for descriptor in (job_in, result_out, trace_out):
            os.close(descriptor)
        return _Spare(child, job_out, result_in, trace_in, printed)

    def _ending(self, watch: Watch, spare: _Spare) -> Ending:
        result = watch.result()
        status, cpu, mute = 0, 0.0, False
        if result is not None:
            os.kill(spare.number, signal.SIGKILL)  # it is not to go on
            self._dead = spare.number
        else:
            status, cpu, mute = wait_for(spare.number, by_itself=watch.ended)
            watch.drain()
        return Ending(
            status=status,
            script=HEADER.unpack(self._progress[:4])[0] - 1,
            cpu=cpu,
            wall=time.monotonic() - watch.started,
            late=watch.late,
            overflow=watch.overflow,
            mute=mute,
            trace=bytes(watch.trace[:_TRACE_LIMIT]),
            printed=os.pread(spare.printed, self._setup.output_bytes, 0),
            result=result,
        )


def _stream(descriptor: int) -> TextIOWrapper:
    return open(descriptor, "w", 1, "utf-8", "backslashreplace", closefd=False)


def _file() -> int:
    """A file without a name, for what scripts print: the limit on file sizes bounds it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("printed")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _widen(pipe: int) -> None:
    if sys.platform == "linux":
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:  # more than an ordinary user may have: slower, no less right
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main(sys.argv[1])
    except (GoneError, BrokenPipeError):
        sys.exit(0)
