"""Runs scripts beside the caller, who asks again until the result is there: for a worker, which must not wait.

Jobs and results are known by the digest of all that a script can see; what else a frame has (scope, origins) is that of
who asks. What is kept is bounded, in count and in points: what was thrown away is run again when it is asked for again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import TracebackType

import msgspec

from rater.model.rules import Script
from rater.rating.frame import Failed, ScriptDone, ScriptJob
from rater.sandbox.endings import failure
from rater.sandbox.runner import NOT_TEXT, Attempt, Changes, Sandbox, encode_job, placed, sort_points
from rater.sandbox.settings import SandboxSettings
from rater.sandbox.wire import MAX_REASON

__all__ = ["BackgroundSandbox"]

MAX_JOBS = 10_000  # waiting, running and done
MAX_POINTS = 500_000  # of all of them together, some 300 MB; one job may be larger
KEEP_SECONDS = 600.0  # a job after it was last asked for
TRIES = 3
UNFETCHED_SECONDS = 60.0  # a result that nobody has asked for since it was there
RETRY_SECONDS = 60.0  # between two tries of a job that failed by chance


@dataclass(slots=True)
class _Entry:
    scripts: Sequence[Script]
    count: int
    """Points of the job."""
    message: bytes
    """Empty once it ran for good."""
    asked_at: float
    tries: int = 0
    waiting: bool = True
    fetched: bool = False
    done_at: float = 0.0
    attempt: Attempt | None = None

    @property
    def points(self) -> int:
        """How much it holds, in points."""
        done = self.attempt.outcome if self.attempt is not None else None
        before = self.count if self.message else 0
        return max(before, len(done.rows) if isinstance(done, Changes) else 0) + 1


class BackgroundSandbox:
    """`run` answers at once. As many frames are worked at a time as the setting `processes` says.

    A frame that failed by a limit of time, or because its process broke off, is tried again when an equal job is asked
    for a minute later or more, three times in all: the machine may have been under load.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        ran: Callable[[float, bool], None] = lambda _seconds, _failed: None,
    ) -> None:
        """`ran` is told of each job that ran how long that took, and whether it failed; in the thread it ran in."""
        settings = settings or SandboxSettings()
        self._clock = clock
        self._ran = ran
        self._sandboxes = [Sandbox(settings) for _ in range(settings.processes)]
        self._threads: list[threading.Thread] = []
        self._change = threading.Condition()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the one not asked for the longest first
        self._queue: deque[bytes] = deque()
        self._points = 0
        self._closed = False

    def __enter__(self) -> BackgroundSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything, what runs too. Later jobs are never done."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for sandbox in self._sandboxes:
            sandbox.close()
        for thread in self._threads:
            thread.join()

    def run(self, job: ScriptJob) -> ScriptDone | Failed | None:
        """The result of an equal job that was asked for before, with the objects and origins of this one's points.

        None if there is none yet: ask again.
        """
        sources = sort_points(job.frame)
        try:
            message = encode_job(job, sources)
        except UnicodeEncodeError:
            return NOT_TEXT
        key = blake2b(message, digest_size=16).digest()
        with self._change:
            now = self._clock()
            self._forget(now)
            entry = self._entries.get(key)
            if entry is None:
                self._add(key, _Entry(job.scripts, len(sources), message, now))
                return None
            entry.asked_at = now
            self._entries.move_to_end(key)
            answer = self._answer(key, entry, now)
        return None if answer is None else placed(answer, sources)

    @property
    def waiting(self) -> int:
        """How many jobs wait or run."""
        with self._change:
            return sum(entry.waiting for entry in self._entries.values())

    def wait(self, seconds: float) -> bool:
        """Waits until no job waits or runs; False if that took longer."""
        with self._change:
            return self._change.wait_for(lambda: not any(entry.waiting for entry in self._entries.values()), seconds)

    def _answer(self, key: bytes, entry: _Entry, now: float) -> Changes | Failed | None:
        if entry.attempt is None or entry.waiting:
            return None
        if entry.message and now - entry.done_at >= RETRY_SECONDS:
            entry.waiting = True
            self._enqueue(key)
            return None
        entry.fetched = True
        outcome = entry.attempt.outcome
        if isinstance(outcome, Failed) and entry.message:  # it will be tried again
            return msgspec.structs.replace(outcome, by_chance=True)
        return outcome

    def _add(self, key: bytes, entry: _Entry) -> None:
        """Takes a job, if there is room or can be made."""
        if self._closed:
            return
        if self._full(entry.points):
            self._make_room(entry.points, entry.asked_at)
        if self._full(entry.points) and self._entries:
            return
        self._entries[key] = entry
        self._points += entry.points
        self._enqueue(key)

    def _make_room(self, points: int, now: float) -> None:
        """Results go that were fetched, or that nobody seems to want. Jobs that wait stay."""
        for key in [key for key, entry in self._entries.items() if not entry.waiting]:
            if not self._full(points):
                return
            entry = self._entries[key]
            if entry.fetched or now - entry.asked_at >= UNFETCHED_SECONDS:
                self._drop(key)

    def _full(self, more: int) -> bool:
        return len(self._entries) >= MAX_JOBS or self._points + more > MAX_POINTS

    def _enqueue(self, key: bytes) -> None:
        self._queue.append(key)
        while len(self._threads) < min(len(self._sandboxes), len(self._queue)):
            sandbox = self._sandboxes[len(self._threads)]
            name = f"rater-scripts-{len(self._threads)}"
            thread = threading.Thread(target=self._work, args=(sandbox,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._change.notify()

    def _forget(self, now: float) -> None:
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if now - entry.asked_at < KEEP_SECONDS:
                return
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        self._points -= self._entries.pop(key).points

    def _work(self, sandbox: Sandbox) -> None:
        while (taken := self._take()) is not None:
            key, entry = taken
            began = self._clock()
            try:
                attempt = sandbox.attempt(entry.scripts, entry.count, entry.message)
            except Exception as fault:  # noqa: BLE001  a thread that ended would leave every later frame waiting, silently
                attempt = Attempt(failure("", 0, f"the sandbox broke: {fault!r}"[:MAX_REASON]), by_chance=True)
            self._ran(self._clock() - began, isinstance(attempt.outcome, Failed))
            with self._change:
                self._done(key, entry, attempt)

    def _take(self) -> tuple[bytes, _Entry] | None:
        """The next job that somebody still asks for; None when closed."""
        with self._change:
            while not self._closed:
                if not self._queue:
                    self._change.wait()
                    continue
                key = self._queue.popleft()
                entry = self._entries.get(key)
                if entry is not None and entry.waiting:
                    return key, entry
            return None

    def _done(self, key: bytes, entry: _Entry, attempt: Attempt) -> None:
        held = self._entries.get(key) is entry
        before = entry.points
        entry.attempt = attempt
        entry.tries += 1
        entry.done_at = self._clock()
        entry.waiting = False
        if not attempt.by_chance or entry.tries >= TRIES:
            entry.message = b""
        if held:
            self._points += entry.points - before
        self._change.notify_all()
