"""Watches a child: its time, the size of its result, its end. Reads nothing of what it says but the length."""

from __future__ import annotations

import os
import select
import signal
import time

from rater.sandbox.inside.buffer import Buffer
from rater.sandbox.wire import HEADER, Setup

__all__ = ["GoneError", "Watch", "wait_for"]

_IN = 0
_TRACE_LIMIT = 16384
_TRACE_SECONDS = 0.5  # for faulthandler to write where a script was
_END_SECONDS = 0.2  # for a process that closed its result to end


class GoneError(Exception):
    """The worker is gone."""


class Watch:
    """Gives a child its frame and reads what it says, until it said all, ended, or took too long."""

    def __init__(self, setup: Setup, child: int, job_out: int, result_in: int, trace_in: int) -> None:
        self.started = time.monotonic()
        self.late = False
        self.overflow = False
        self.ended = False
        """It closed its result: its end follows."""
        self.trace = Buffer(_TRACE_LIMIT)
        self.result: Buffer | None = None
        self._setup = setup
        self._child = child
        self._job_out = job_out
        self._result_in = result_in
        self._trace_in = trace_in
        self._deadline = self.started + setup.wall_seconds
        self._poll = select.poll()
        self._poll.register(_IN, 0)  # hung up when the worker is gone

    def close(self) -> None:
        """Gives back all memory that holds words of the child."""
        self.trace.close()
        if self.result is not None:
            self.result.close()

    @property
    def complete(self) -> bool:
        """The whole result is here, in time and not too large."""
        return self.result is not None and self.result.filled == self.result.size and not self.late

    def give(self, job: Buffer) -> None:
        """Hands the frame over and forgets it. No script runs before all of it is there."""
        os.set_blocking(self._job_out, False)
        self._poll.register(self._job_out, select.POLLOUT)
        try:
            os.write(self._job_out, HEADER.pack(job.size))
            while not job.empty(self._job_out) and time.monotonic() < self._deadline:
                self._events()
        except BrokenPipeError:  # it ended, which its result says too
            pass
        finally:
            job.close()
        self._poll.unregister(self._job_out)

    def wait(self) -> None:
        """Returns when there is nothing more to wait for; raises GoneError."""
        self._poll.register(self._result_in, select.POLLIN)
        self._poll.register(self._trace_in, select.POLLIN)
        while not self.complete:
            for descriptor in self._events():
                if descriptor == self._trace_in:
                    self._hear()
                elif not self._read():
                    self.ended = not self.overflow
                    return
            if time.monotonic() >= self._deadline and not self._overdue():
                return

    def _events(self) -> list[int]:
        left = self._deadline - time.monotonic()
        ready = [descriptor for descriptor, _ in self._poll.poll(max(left, 0.001) * 1000)]
        if _IN in ready:
            os.kill(self._child, signal.SIGKILL)
            raise GoneError
        return ready

    def _overdue(self) -> bool:
        """At the first time asks where the script is; False if there is no more time."""
        if self.late or self.trace.filled:
            return False
        self.late = True
        os.kill(self._child, signal.SIGALRM)
        self._deadline = time.monotonic() + _TRACE_SECONDS
        return True

    def _hear(self) -> None:
        """faulthandler writes only when all is over: the rest of its words, and no more time."""
        if self.trace.filled == self.trace.size or not self.trace.fill(self._trace_in):
            self._poll.unregister(self._trace_in)
        self._deadline = min(self._deadline, time.monotonic() + _TRACE_SECONDS / 10)

    def _read(self) -> bool:
        if self.result is None:
            header = os.read(self._result_in, HEADER.size)  # its few bytes come at once, or they are none of ours
            if len(header) < HEADER.size:
                return False
            (length,) = HEADER.unpack(header)
            self.overflow = length > self._setup.result_bytes
            if not self.overflow:
                self.result = Buffer(length)
            return not self.overflow
        return self.result.fill(self._result_in) > 0 or self.complete

    def drain(self) -> None:
        """What faulthandler wrote before the child ended."""
        os.set_blocking(self._trace_in, False)
        if self.trace.filled < self.trace.size:
            try:
                self.trace.fill(self._trace_in)
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
