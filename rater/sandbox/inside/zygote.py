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
from rater.sandbox.inside.buffer import Buffer
from rater.sandbox.inside.child import Child
from rater.sandbox.inside.preload import preload
from rater.sandbox.inside.watch import GoneError, Watch, wait_for
from rater.sandbox.wire import HEADER, MAX_JOB, Parting, Ready, Setup

__all__ = ["main"]

_IN, _OUT = 0, 1
_PIPE_BYTES = 2**20
_CHUNK = 2**20
_KEPT: list[object] = []  # time zones: in memory as long as somebody holds them


def main(directory: str) -> None:
    """Answers Setup, then one job after the other, until the worker goes away."""
    setup = msgspec.msgpack.decode(_read_exactly(_length()), type=Setup)
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
        forker.run(_length())


def _fault(setup: Setup, threads: int, layers: list[str]) -> str:
    if threads > 1:
        return "a module of scripts.modules starts threads as it is loaded: scripts cannot run beside them"
    missing = confine.probe()
    if not missing:
        layers.append("seccomp")
    elif setup.confine:
        return missing
    return ""


def _length() -> int:
    (length,) = HEADER.unpack(_read_exactly(HEADER.size))
    assert length <= MAX_JOB, "the worker sends no longer job"
    return int(length)


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
    """A child that waits for its frame, our ends of its pipes, and the page in which it says which script it is at."""

    number: int
    job: int
    result: int
    trace: int
    printed: int
    progress: mmap.mmap

    def close(self) -> None:
        for descriptor in (self.job, self.result, self.trace, self.printed):
            os.close(descriptor)
        self.progress.close()


class _Forker:
    """Forks a child ahead of its frame, and has it watched."""

    def __init__(self, setup: Setup, statm: int | None, *, filtered: bool) -> None:
        self._setup = setup
        self._statm = statm
        self._filter = seccomp.program(platform.machine()) if filtered else None
        self._streams = _stream(1), _stream(2)  # for the children, which put another file there
        self._spare: _Spare | None = None

    def prepare(self) -> None:
        """Forks the next child if there is none that lives."""
        if self._spare is not None and os.waitpid(self._spare.number, os.WNOHANG)[0]:  # it was ended from outside
            self._spare.close()
            self._spare = None
        if self._spare is None:
            self._spare = self._fork(None)

    def run(self, length: int) -> None:
        """Everything about one frame of that many bytes, by the child that `prepare` forked."""
        job = Buffer(length)
        while job.filled < length:
            if not job.fill(_IN):
                raise GoneError
        self.prepare()
        spare = self._spare
        assert spare is not None, "it was forked"
        watch = Watch(self._setup, spare.number, spare.job, spare.result, spare.trace)
        watch.give(job)
        # The next child: now, while this one computes, and before anything of what it says is in memory here.
        self._spare = self._fork(spare.progress)
        watch.wait()
        self._answer(watch, spare)
        watch.close()
        spare.close()

    def _fork(self, other: mmap.mmap | None) -> _Spare:
        """`other` is shared with the child that runs: the new one must not have it."""
        progress = mmap.mmap(-1, mmap.PAGESIZE)
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
            if other is not None:
                other.close()
            Child(self._setup, zygote, self._filter, progress, self._streams, space).main(
                job_in, printed, result_out, trace_out
            )
            os._exit(1)  # `main` does not come back
        for descriptor in (job_in, result_out, trace_out):
            os.close(descriptor)
        return _Spare(child, job_out, result_in, trace_in, printed, progress)

    def _answer(self, watch: Watch, spare: _Spare) -> None:
        """Ends the child and hands on what it said."""
        status, cpu, mute = 0, 0.0, False
        if watch.complete:
            os.kill(spare.number, signal.SIGKILL)  # it is not to go on
        else:
            status, cpu, mute = wait_for(spare.number, by_itself=watch.ended)
            watch.drain()
        printed = Buffer(min(os.fstat(spare.printed).st_size, self._setup.output_bytes))
        os.lseek(spare.printed, 0, os.SEEK_SET)
        while printed.filled < printed.size and printed.fill(spare.printed):
            pass
        parting = Parting(
            status=status,
            script=HEADER.unpack(spare.progress[: HEADER.size])[0] - 1,
            cpu=cpu,
            wall=time.monotonic() - watch.started,
            late=watch.late,
            overflow=watch.overflow,
            mute=mute,
            trace=watch.trace.filled,
            printed=printed.filled,
            result=watch.result.size if watch.result is not None and watch.complete else -1,
        )
        _send(msgspec.msgpack.encode(parting))
        for buffer in (watch.trace, printed, watch.result if watch.complete else None):
            while buffer is not None and not buffer.empty(_OUT):
                pass
        printed.close()
        if watch.complete:
            os.waitpid(spare.number, 0)  # after the answer, since its end takes its time


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
