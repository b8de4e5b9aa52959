"""Watches a child: its time, the size of its result, its end. Reads nothing of what it says but the length."""

from __future__ import annotations

import os
import select
import signal
import time

from rater.sandbox.wire import HEADER, Setup

__all__ = ["GoneError", "Watch", "wait_for"]

_IN = 0
_TRACE_LIMIT = 16384
_TRACE_SECONDS = 0.5  # for faulthandler to write where a script was
_END_SECONDS = 0.2  # for a process that closed its result to end
_CHUNK = 2**20


class GoneError(Exception):
    """The worker is gone."""


class Watch:
    """Gives a child its frame and reads what it says, until it said all, ended, or took too long."""

    def __init__(self, setup: Setup, child: int, job_out: int, result_in: int, trace_in: int, job: bytes) -> None:
        self.started = time.monotonic()
        self._child = child
        self.late = False
        self.overflow = False
        self.ended = False
        """It closed its result: its end follows."""
        self.trace = bytearray()
        self._setup = setup
        self._result_in = result_in
        self._trace_in = trace_in
        self._job_out = job_out
        self._job = memoryview(job)
        self._received = bytearray()
        self._deadline = self.started + setup.wall_seconds
        self._poll = select.poll()
        self._poll.register(result_in, select.POLLIN)
        self._poll.register(trace_in, select.POLLIN)
        self._poll.register(job_out, select.POLLOUT)
        os.set_blocking(job_out, False)
        self._poll.register(_IN, 0)  # hung up when the worker is gone

    def wait(self) -> None:
        """Returns when there is nothing more to wait for; raises GoneError."""
        while not self._complete():
            left = self._deadline - time.monotonic()
            if left <= 0 and not self._overdue():
                return
            for descriptor, _ in self._poll.poll(max(left, 0.001) * 1000):
                if descriptor == _IN:
                    os.kill(self._child, signal.SIGKILL)
                    raise GoneError
                if descriptor == self._job_out:
                    self._give()
                elif descriptor == self._trace_in:
                    self._hear()
                elif not self._read():
                    self.ended = not self.overflow
                    return

    def _overdue(self) -> bool:
        """At the first time asks where the script is; False if there is no more time."""
        if self.late or self.trace:
            return False
        self.late = True
        os.kill(self._child, signal.SIGALRM)
        self._deadline = time.monotonic() + _TRACE_SECONDS
        return True

    def _give(self) -> None:
        try:
            self._job = self._job[os.write(self._job_out, self._job[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it ended: its result says so too
            self._job = self._job[:0]
        if not self._job:
            self._poll.unregister(self._job_out)

    def _hear(self) -> None:
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


def wait_for(child: int, *, by_itself: bool) -> tuple[int, float, bool]:
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
