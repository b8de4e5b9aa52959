"""The process of one frame: takes its limits, compiles and runs the scripts, writes one result, ends.

Scripts can reach all of this, as they can all of Python: what holds them is the kernel, and that nobody believes
what comes out of here before having checked it.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import mmap
import os
import resource
import signal
import sys
from io import TextIOWrapper
from types import CodeType
from typing import Any

import msgspec

from rater.sandbox.inside import confine, seccomp
from rater.sandbox.inside.frame import BadFrameError, Frame, OutRow, Usage, out_points
from rater.sandbox.inside.preload import Closed
from rater.sandbox.wire import HEADER, MAX_REASON, Fault, Setup, WireJob, script_file

__all__ = ["Child"]

_JOB, _PRINTED, _ERRORS, _RESULT, _TRACE = range(5)
_CHUNK = 2**20
_KIB = 1024
_RECURSION = 1000
_decode_job = msgspec.msgpack.Decoder(WireJob).decode
_encode = msgspec.msgpack.Encoder().encode


class _StoppedError(Exception):
    """A script failed: the result says which and why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class _Prepared:
    """A job, decoded, and the dict for its first script."""

    def __init__(self, job: WireJob, frame: Frame) -> None:
        self.job = job
        self.frame = frame
        self.before = frame.sources()
        self.data = frame.data()


class Child:
    """One use: `main` ends the process."""

    def __init__(
        self,
        setup: Setup,
        zygote: int,
        filter_: bytes | None,
        progress: mmap.mmap,
        streams: tuple[TextIOWrapper, TextIOWrapper],
        address_space: int | None,
    ) -> None:
        self._setup = setup
        self._zygote = zygote
        self._filter = filter_
        self._progress = progress
        self._streams = streams
        self._space = address_space

    def main(self, job: int, printed: int, result: int, trace: int) -> None:
        """Waits for the job, runs it and ends the process, whatever happens."""
        try:
            confine.die_with(self._zygote)
            self._descriptors(job, printed, result, trace)
            self._limits()
            self._write(self._run(self._prepare(_read_job())))
        finally:
            os._exit(1)  # by a way that no script can have blocked; a result that was written counts all the same

    def _descriptors(self, job: int, printed: int, result: int, trace: int) -> None:
        # numbers from 100 up first: none of them is the place that another has to go to
        ends = (job, printed, printed, result, trace)
        for place, descriptor in enumerate(ends):
            os.dup2(descriptor, 100 + place)
        for place in range(len(ends)):
            os.dup2(100 + place, place)
        os.closerange(len(ends), 1024)
        sys.stdin = sys.__stdin__ = None  # type: ignore[misc]  # as Python itself does without descriptor 0
        sys.stdout = sys.__stdout__ = self._streams[0]  # type: ignore[misc]  # no others are there
        sys.stderr = sys.__stderr__ = self._streams[1]  # type: ignore[misc]

    def _limits(self) -> None:
        faulthandler.enable(_TRACE, all_threads=False)
        for number in (signal.SIGXCPU, signal.SIGALRM):
            faulthandler.register(number, _TRACE, all_threads=False, chain=False)
        sys.meta_path.append(Closed)
        sys.path.clear()
        confine.limit(self._setup.cpu_seconds, self._setup.output_bytes)

    def _prepare(self, encoded: bytes) -> _Prepared:
        """Builds the frame before the limit on memory counts, and gives up everything after."""
        gc.disable()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        job = _decode_job(encoded)
        prepared = _Prepared(job, Frame(job.period_begin, job.period_end, job.usage or []))
        grown = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) * _KIB
        gc.freeze()
        gc.enable()
        if self._space is not None:  # what the frame takes, once more: reading it back makes another of it
            confine.limit_memory(self._space + 2 * grown + self._setup.memory_bytes)
        if self._filter is not None:
            seccomp.install(self._filter)
        return prepared

    def _run(self, prepared: _Prepared) -> Fault | tuple[str, list[tuple[str, list[OutRow]]]]:
        job, frame, data = prepared.job, prepared.frame, prepared.data
        ballast: list[bytes] = [bytes(2**20)]  # given back when memory is short, to say so
        at = 0
        try:
            codes = []
            for at, (name, text) in enumerate(job.scripts):
                codes.append(self._compile(at, name, text))
            after = job.usage or []
            for at, code in enumerate(codes if job.usage is not None else []):
                if at:
                    frame = Frame(job.period_begin, job.period_end, after)
                    data = frame.data()
                after = self._run_script(at, job.scripts[at][0], code, frame, data)
            return "done", out_points(prepared.before, after)  # `Done`
        except _StoppedError as stopped:
            return stopped.fault
        except MemoryError:
            ballast.clear()
            return Fault(at, 0, self._memory())

    def _compile(self, at: int, name: str, text: str) -> CodeType:
        self._progress[:4] = HEADER.pack(at + 1)
        try:
            return compile(text, script_file(name), "exec", dont_inherit=True)
        except SyntaxError as error:
            raise _StoppedError(Fault(at, error.lineno or 0, _cut(f"does not compile: {error.msg}"))) from None
        except MemoryError:
            raise _StoppedError(
                Fault(at, 0, "does not compile: it is nested too deeply, or takes too much memory")
            ) from None
        except (ValueError, RecursionError, OverflowError) as error:
            raise _StoppedError(Fault(at, 0, _cut(f"does not compile: {error}"))) from None

    def _run_script(self, at: int, name: str, code: CodeType, frame: Frame, data: dict[str, Any]) -> Usage:
        self._progress[:4] = HEADER.pack(at + 1)
        ballast = [bytes(2**20)]
        context: dict[str, Any] = {"data": data}
        try:
            exec(code, context)  # noqa: S102 - what this process is for
            sys.setrecursionlimit(_RECURSION)
            after = frame.read(context["data"])
            self._flush()
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too: a script may raise anything
            ballast.clear()
            sys.setrecursionlimit(_RECURSION)
            line = _line(error, script_file(name))
            error.__traceback__ = None
            context.clear()
            raise _StoppedError(Fault(at, line, self._reason(error))) from None
        return after

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, BadFrameError):
            return _cut(str(error))
        if isinstance(error, MemoryError):
            return self._memory()
        try:
            text = str(error)
        except BaseException:  # noqa: BLE001 - a text of the script's own making
            text = "(its text cannot be read)"
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            reason = f"prints more than {self._setup.output_bytes // _KIB} KiB (scripts.output_kib)"
        elif isinstance(error, OSError) and error.errno == errno.EPERM:
            reason = (
                f"{_cut(reason, 300)}: scripts compute only, files, network, processes and signals are closed to them"
            )
        elif isinstance(error, SystemExit):
            reason = f"ends the process ({reason})"
        return _cut(reason)

    def _memory(self) -> str:
        return f"takes more than {self._setup.memory_bytes // 2**20} MiB of memory (scripts.memory_mib)"

    def _write(self, result: object) -> None:
        message = _encode(result)
        if len(message) > self._setup.result_bytes:
            limit = self._setup.result_bytes // 2**20
            last = HEADER.unpack(self._progress[:4])[0] - 1
            reason = f"gives back {len(message) / 2**20:.1f} MiB: {limit} MiB are taken (scripts.result_mib)"
            message = _encode(Fault(last, 0, reason))
        rest = memoryview(HEADER.pack(len(message)) + message)
        while rest:
            rest = rest[os.write(_RESULT, rest) :]


def _read_job() -> bytes:
    """The whole job; ends the process if there is none any more."""
    (length,) = HEADER.unpack(_read_exactly(HEADER.size))
    job = _read_exactly(length)
    os.close(_JOB)
    return job


def _read_exactly(length: int) -> bytes:
    chunks: list[bytes] = []
    while length:
        chunk = os.read(_JOB, min(length, _CHUNK))
        if not chunk:
            os._exit(1)
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def _line(error: BaseException, file: str) -> int:
    """Line of the deepest frame inside the script."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _cut(text: str, length: int = 4 * MAX_REASON) -> str:
    text = text[:length].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= length else f"{text[: length - 3]}..."
