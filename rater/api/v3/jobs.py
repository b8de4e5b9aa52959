"""What-if jobs: stored usage rated by other rules, one after another, in a thread of this process and lost with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeAlias
from uuid import uuid4

import msgspec

from rater.api.faults import RefusalError
from rater.model.errors import RaterError
from rater.trial import Comparison

__all__ = ["MAX_JOBS", "MAX_SECONDS", "Job", "JobState", "Jobs", "Progress", "Wanted"]

log = logging.getLogger(__name__)

MAX_JOBS = 4
"""That run or wait; one runs at a time."""
MAX_KEPT = 20
"""That have ended: the oldest is forgotten for a new one."""
MAX_SECONDS = 3600.0
MAX_ENTRIES = 200_000
"""Scopes and metrics of a comparison, about 100 MB."""

JobState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
Progress: TypeAlias = Callable[[int, int], None]
"""Told frames done and in all. Raises _EndedError when the job has to end."""


class Wanted(msgspec.Struct, frozen=True):
    """What is compared: of a scope (None: all), of periods that begin within `[begin, end)`."""

    author: str
    scope_id: str | None
    begin: int
    end: int


class _EndedError(RaterError):
    """The job was cancelled, or has become too long or too large."""


class Job:
    """One comparison. Written by its thread, read by anybody."""

    def __init__(self, wanted: Wanted, work: Callable[[Comparison, Progress], None]) -> None:
        self.id = str(uuid4())
        self.wanted = wanted
        self.created_at = datetime.now(UTC)
        self.state: JobState = "waiting"
        self.reason = ""
        self.done_frames = self.all_frames = 0
        self.found: Comparison | None = None
        """What came of it, once it is done."""
        self._work = work
        self._cancelled = threading.Event()

    @property
    def has_ended(self) -> bool:
        """Whether nothing will become of it any more."""
        return self.state not in ("waiting", "running")

    def cancel(self) -> None:
        """Ends it at its next frame, or before it begins."""
        self._cancelled.set()
        if self.state == "waiting":
            self.state = "cancelled"

    def run(self) -> None:
        """In the thread."""
        if self._cancelled.is_set():
            self.state = "cancelled"
            return
        self.state = "running"
        until, found = time.monotonic() + MAX_SECONDS, Comparison()

        def progress(done: int, of: int) -> None:
            self.done_frames, self.all_frames = done, of
            if self._cancelled.is_set():
                raise _EndedError("it was cancelled")
            if time.monotonic() > until:
                raise _EndedError(f"it took longer than {MAX_SECONDS:g} s: compare a part of the time")
            if len(found.by_key) > MAX_ENTRIES:
                raise _EndedError(f"it has more than {MAX_ENTRIES} scopes and metrics: compare a part of them")

        try:
            self._work(found, progress)
        except (RaterError, OSError) as fault:
            self.reason = str(fault)
            self.state = "cancelled" if self._cancelled.is_set() else "failed"
        else:
            self.found, self.state = found, "done"


class Jobs:
    """The jobs of this process. All but `run` of a job is called in the event loop."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._guard = threading.Lock()
        self._is_working = False

    def add(self, wanted: Wanted, work: Callable[[Comparison, Progress], None]) -> Job:
        """A job that will run. Raises RefusalError 429."""
        with self._guard:
            open_jobs = sum(not job.has_ended for job in self._jobs.values())
            if open_jobs >= MAX_JOBS:
                raise RefusalError(429, f"{open_jobs} jobs run or wait already", retry_after=30)
            ended = [job.id for job in self._jobs.values() if job.has_ended]
            for job_id in ended[: max(0, len(ended) - MAX_KEPT + 1)]:
                del self._jobs[job_id]
            job = Job(wanted, work)
            self._jobs[job.id] = job
            if not self._is_working:
                self._is_working = True
                threading.Thread(target=self._run, name="whatif", daemon=True).start()
        return job

    def get(self, job_id: str) -> Job | None:
        """One of them."""
        return self._jobs.get(job_id)

    def forget(self, job_id: str) -> None:
        """Cancels it, and does not know it any more."""
        with self._guard:
            job = self._jobs.pop(job_id, None)
        if job is not None:
            job.cancel()

    def _run(self) -> None:
        while True:
            with self._guard:
                job = next((one for one in self._jobs.values() if one.state == "waiting"), None)
                if job is None:
                    self._is_working = False
                    return
            try:
                job.run()
            except Exception as fault:  # whatever it is, the thread goes on with the next job, and this one says so
                log.exception("job %s broke", job.id)
                job.reason, job.state = f"it broke: {type(fault).__name__}, see the log", "failed"
