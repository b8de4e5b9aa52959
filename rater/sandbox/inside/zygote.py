"""The process that stands ready with everything loaded, and forks a child for each frame. It runs no script itself.

It watches the child's time and the size of its result, ends it whatever happens, and hands its words on unread.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import select
import signal
import sys
import tempfile
import threading
import time

import msgspec

from rater.sandbox.inside import confine, seccomp
from rater.sandbox.inside.child import Child
from rater.sandbox.inside.preload import preload
from rater.sandbox.wire import HEADER, MAX_JOB, Ending, Ready, Setup

__all__ = ["main"]

_IN, _OUT = 0, 1
_TRACE_LIMIT = 16384
_TRACE_SECONDS = 0.5  # for faulthandler to write where a script was
_END_SECONDS = 0.2  # for a process that closed its result to end
_PIPE_BYTES = 2**20
_CHUNK = 2**20
_KEPT: list[object] = []  # time zones: in memory as long as somebody holds them


class _GoneError(Exception):
    """The worker is gone."""


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
        _send(msgspec.msgpack.encode(forker.run(_receive())))
        forker.reap()


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
            raise _GoneError
        chunks.append(chunk)
        length -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _send(message: bytes) -> None:
    rest = memoryview(HEADER.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(_OUT, rest) :]


class _Forker:
    """Forks, watches, ends."""

    def __init__(self, setup: Setup, statm: int | None, *, filtered: bool) -> None:
        self._setup = setup
        self._statm = statm
        self._filter = seccomp.program(os.uname().machine) if filtered else None
        self._progress = mmap.mmap(-1, mmap.PAGESIZE)  # shared with the child: the script it is at
        self._dead: int | None = None

    def run(self, job: bytes) -> Ending:
        """Everything about one frame. `reap` has to be called before the next one."""
        self._progress[:] = bytes(mmap.PAGESIZE)  # all of it: nothing is to be read that an earlier script left there
        result_in, result_out = os.pipe()
        trace_in, trace_out = os.pipe()
        printed = _file()
        _widen(result_in)
        space = confine.memory(self._statm)
        zygote = os.getpid()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            Child(self._setup, zygote, self._filter, self._progress, space).main(job, printed, result_out, trace_out)
            os._exit(1)  # `main` does not come back
        os.close(result_out)
        os.close(trace_out)
        watch = _Watch(self._setup, child, result_in, trace_in, started)
        watch.wait()
        ending = self._ending(watch, printed)
        for descriptor in (result_in, trace_in, printed):
            os.close(descriptor)
        return ending

    def _ending(self, watch: _Watch, printed: int) -> Ending:
        result = watch.result()
        status, cpu, mute = 0, 0.0, False
        if result is not None:
            os.kill(watch.child, signal.SIGKILL)  # it is not to go on
            self._dead = watch.child
        else:
            status, cpu, mute = _wait_for(watch.child, by_itself=watch.ended)
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
            printed=os.pread(printed, self._setup.output_bytes, 0),
            result=result,
        )

    def reap(self) -> None:
        """Waits for the child that was killed: after the answer went out, since it may take its time."""
        if self._dead is not None:
            os.waitpid(self._dead, 0)
        self._dead = None


def _wait_for(child: int, *, by_itself: bool) -> tuple[int, float, bool]:
    """How a child ended, with its processor time; killed at once, or if it does not end by itself: then True."""
    deadline = time.monotonic() + (_END_SECONDS if by_itself else 0)
    while True:
        number, code, used = os.wait4(child, os.WNOHANG)
        if number == 0 and time.monotonic() < deadline:
            time.sleep(_END_SECONDS / 20)
            continue
        if number == 0:
            os.kill(child, signal.SIGKILL)
            _, code, used = os.wait4(child, 0)
        return os.waitstatus_to_exitcode(code), used.ru_utime + used.ru_stime, by_itself and number == 0


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


class _Watch:
    """Reads what a child says until it said all, ended, or took too long."""

    def __init__(self, setup: Setup, child: int, result_in: int, trace_in: int, started: float) -> None:
        self.child = child
        self.started = started
        self.late = False
        self.overflow = False
        self.ended = False
        """It closed its result: its end follows."""
        self.trace = bytearray()
        self._setup = setup
        self._result_in = result_in
        self._trace_in = trace_in
        self._received = bytearray()
        self._deadline = started + setup.wall_seconds
        self._poll = select.poll()
        self._poll.register(result_in, select.POLLIN)
        self._poll.register(trace_in, select.POLLIN)
        self._poll.register(_IN, 0)  # hung up when the worker is gone

    def wait(self) -> None:
        """Returns when there is nothing more to wait for; raises _GoneError."""
        while not self._complete():
            left = self._deadline - time.monotonic()
            if left <= 0 and not self._overdue():
                return
            for descriptor, event in self._poll.poll(max(left, 0.001) * 1000):
                if descriptor == _IN:
                    os.kill(self.child, signal.SIGKILL)
                    raise _GoneError
                if descriptor == self._trace_in:
                    self._hear(event)
                elif not self._read():
                    self.ended = not self.overflow
                    return

    def _overdue(self) -> bool:
        """At the first time asks where the script is; False if there is no more time."""
        if self.late or self.trace:
            return False
        self.late = True
        os.kill(self.child, signal.SIGALRM)
        self._deadline = time.monotonic() + _TRACE_SECONDS
        return True

    def _hear(self, event: int) -> None:
        """faulthandler writes only when all is over: the rest of its words, and no more time."""
        said = os.read(self._trace_in, _TRACE_LIMIT)
        if not said:
            self._poll.unregister(self._trace_in)
        elif len(self.trace) < _TRACE_LIMIT:
            self.trace += said
            self._deadline = min(self._deadline, time.monotonic() + _TRACE_SECONDS / 10)

    def _read(self) -> bool:
        said = os.read(self._result_in, _CHUNK)
        self._received += said
        if len(self._received) > self._setup.result_bytes + HEADER.size:
            self.overflow = True
        return bool(said) and not self.overflow

    def _complete(self) -> bool:
        """The whole result is here. Read from it is nothing but its length."""
        if self.late or len(self._received) < HEADER.size:
            return False
        (length,) = HEADER.unpack_from(self._received)
        if length > self._setup.result_bytes:
            self.overflow = True
            return True
        return len(self._received) >= HEADER.size + int(length)

    def result(self) -> bytes | None:
        """The result, if it came whole, in time and not too large."""
        if self.overflow or not self._complete():
            return None
        (length,) = HEADER.unpack_from(self._received)
        return bytes(self._received[HEADER.size : HEADER.size + length])

    def drain(self) -> None:
        """What faulthandler wrote before the child ended."""
        os.set_blocking(self._trace_in, False)
        try:
            self.trace += os.read(self._trace_in, _TRACE_LIMIT)
        except BlockingIOError:
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main(sys.argv[1])
    except (_GoneError, BrokenPipeError):
        sys.exit(0)
