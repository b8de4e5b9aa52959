"""Audits the store from time to time in the process that holds it, and tells metrics and log what is broken."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry, Counter, Gauge

from rater.audit.auditor import PAUSE_SECONDS, Auditor, AuditView
from rater.audit.facts import Setup
from rater.audit.settings import AuditSettings
from rater.audit.violation import Invariant, Violation
from rater.log_fields import Fields, of
from rater.model.errors import RaterError
from rater.reports import AuditRequest
from rater.store import StoreError
from rater.store.health import MAX_VIOLATIONS, AuditRow, StoredViolation

__all__ = ["IN_STORE", "AuditTimer"]

log = logging.getLogger(__name__)

MOST_REMEMBERED = 10_000  # violations that are not logged again; then all of them are once more
IN_STORE = (
    Invariant.EVERY_SAMPLE_ONCE,
    Invariant.QUANTITIES_ADD_UP,
    Invariant.BEST_REVISION_IS_TRUTH,
    Invariant.ONE_PAYLOAD,
    Invariant.PERIODS_ACCOUNTED,
    Invariant.NO_FRAME_MISSING,
    Invariant.GAPS_ALERTED_ONCE,
    Invariant.TOTALS_ARE_SUMS,
    Invariant.FRAMES_HAVE_THEIR_LINES,
    Invariant.PRICES_FOLLOW_RULES,
)
"""What can be checked without the topics."""


class _StoppedError(RaterError):
    """The service ends while an audit runs."""


class AuditTimer:
    """Runs audits until it is stopped. Trouble with one is logged and counted; it holds nothing else up.

    The first comes one interval after the start, when the sink has caught up with what came while it was down.
    """

    def __init__(
        self,
        view: AuditView,
        setup: Setup,
        settings: AuditSettings,
        registry: CollectorRegistry,
        *,
        usage_stored: bool,
        keep: Callable[[AuditRow], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        """`keep` puts a finished audit where others find it; what it raises as StoreError only goes to the log."""
        self._keep = keep
        self._view = view
        self._setup = setup
        self._settings = settings
        self._usage_stored = usage_stored
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        self._told: set[object] = set()
        self._since = int(clock())
        self._metrics = _Metrics(registry)

    async def run(self, stop: asyncio.Event) -> None:
        """Audits once per interval until `stop`; returns at once after it, also while an audit runs."""
        if not self._settings.interval:
            await stop.wait()
            return
        with ThreadPoolExecutor(1, "rater-audit") as thread:
            while not await _stopped_within(stop, self._settings.interval):
                work = asyncio.get_running_loop().run_in_executor(thread, self.audit)
                watch = asyncio.create_task(self._watch(stop))
                try:
                    await work
                finally:
                    watch.cancel()
                    if not work.done():  # the service is cancelled: the thread must not hold it up
                        self._stopping.set()

    async def _watch(self, stop: asyncio.Event) -> None:
        """Tells the thread when it has to end."""
        await stop.wait()
        self._stopping.set()

    def audit(self) -> None:
        """One audit, in a thread."""
        began = self._clock()
        request = AuditRequest(closed_from=max(1, self._since - self._settings.look_back))
        auditor = Auditor(self._view, self._setup, self._pause, usage_stored=self._usage_stored)
        try:
            found = list(auditor.run(request, self._advance))
        except _StoppedError:
            return
        except StoreError as fault:
            self._metrics.failures.inc()
            log.warning("the audit did not come to its end, the next one makes up for it: %s", fault)
            return
        self._since = int(began)
        self._tell(found)
        seconds = self._clock() - began
        self._metrics.set(found, auditor, began, seconds)
        counts = auditor.counts
        row = AuditRow(
            began_at=int(began),
            seconds=seconds,
            closed_from=request.closed_from,
            frames=counts.frames,
            waiting_samples=counts.waiting,
            unchecked=dict(counts.unchecked),
            violation_count=len(found),
            violations=[_stored(violation) for violation in found[:MAX_VIOLATIONS]],
        )
        try:
            self._keep(row)
        except StoreError as fault:
            log.warning("the audit's result could not be kept: %s", fault)

    def _tell(self, found: list[Violation]) -> None:
        if len(self._told) > MOST_REMEMBERED:
            self._told.clear()
        for violation in found:
            if violation.identity not in self._told:
                self._told.add(violation.identity)
                told = Fields(invariant=violation.invariant.value, scope_id=violation.scope_id)
                if violation.period_begin >= 0:
                    told["period_begin"] = violation.period_begin
                log.warning("audit: %s", violation.place(), extra=of(**told))

    def _pause(self) -> None:
        self._stopping.wait(self._pause_seconds)
        self._advance(0, 0)

    def _advance(self, _done: int, _total: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError("the service ends")


def _stored(violation: Violation) -> StoredViolation:
    rows = [row.text() for row in violation.rows]
    where = (violation.invariant.value, violation.scope_id, violation.period_begin, violation.metric)
    return StoredViolation(*where, violation.expected, violation.found, rows)


class _Metrics:
    """What Prometheus is told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.violations = Gauge(
            "rater_audit_violations", "Broken invariants in the last audit", ["invariant"], registry=registry
        )
        for invariant in IN_STORE:
            self.violations.labels(invariant.value).set(0)
        self.last = Gauge(
            "rater_audit_last_run_timestamp_seconds",
            "When the last whole audit began, 0: none yet",
            registry=registry,
        )
        self.duration = Gauge("rater_audit_duration_seconds", "How long the last whole audit took", registry=registry)
        self.frames = Counter("rater_audit_frames", "Frames that audits looked at", registry=registry)
        self.failures = Counter("rater_audit_failures", "Audits that the store broke off", registry=registry)
        self.waiting = Gauge(
            "rater_audit_waiting_samples", "Samples that came late and wait for a rework", registry=registry
        )
        self.unchecked = Gauge(
            "rater_audit_unchecked_frames",
            "Frames of the last audit that could not be compared in every respect",
            ["reason"],
            registry=registry,
        )

    def set(self, found: list[Violation], auditor: Auditor, began: float, seconds: float) -> None:
        """After a whole audit."""
        for invariant in IN_STORE:
            self.violations.labels(invariant.value).set(sum(one.invariant is invariant for one in found))
        counts = auditor.counts
        self.last.set(began)
        self.duration.set(seconds)
        self.frames.inc(counts.frames)
        self.waiting.set(counts.waiting)
        self.unchecked.clear()
        for reason, frames in counts.unchecked.items():
            self.unchecked.labels(reason).set(frames)


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
