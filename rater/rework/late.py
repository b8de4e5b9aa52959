"""Has frames rated again when usage or a plan came after they had left the engine, by itself: each alert is followed.

It keeps nothing but the place in topic `alerts`: what was done for an alert is seen in the frame, which names its
collections, and in table `reworks`, whose reasons name the alerts.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from typing import Protocol

import msgspec

from rater.log_fields import of
from rater.model.codec import encode_json
from rater.model.interval import Interval, periods_of
from rater.model.metric import Catalog
from rater.model.rated import Alert, AlertKind
from rater.reports import ReworkRequest, View
from rater.rework.brackets import bracket_of
from rater.rework.follower import Follower
from rater.rework.material import materials
from rater.rework.run import ReworkLog, Runner
from rater.rework.values import FrameKey, Left, Material, Wanted
from rater.store import UsageRow

__all__ = ["AUTHOR", "LateAlerts", "LateFollower", "late_id"]

log = logging.getLogger(__name__)

AUTHOR = "rater"
"""Of reworks that nobody asked for."""
GATHER_SECONDS = 5.0  # usage comes in many parts, each with an alert; a frame should be rated again once
PAUSES = (2.0, 5.0, 15.0, 60.0, 300.0, 900.0)  # before a frame is tried again
TRIES = 12  # then, two hours later, it is left: a person is told, and `rater rerate` does it
NAMED = 40  # alerts in the reason of a record
POLL_SECONDS = 1.0


class LateAlerts(Protocol):
    """Topic `alerts` as the follower reads it."""

    async def late(self, seconds: float) -> list[Alert]:
        """The LATE_USAGE and LATE_PLAN alerts after the last call; waits this long for the first. Raises RaterError."""

    async def done(self) -> None:
        """Whatever `late` gave so far need not be given again, not even to a successor. Raises RaterError."""


class _Pending(msgspec.Struct):
    """A frame that late usage or a late plan came for."""

    alerts: dict[str, Alert] = {}
    """By alert_id."""
    tries: int = 0
    due_at: float = 0.0
    trouble: str = ""


def late_id(row: UsageRow) -> str:
    """The id of the alert that this part of a collection came too late: that of `rater.engine.alerts.late_usage`."""
    part = (row.range_begin, row.range_end, row.attempt, row.collection_id, row.part)
    text = encode_json(("late", row.scope_id, row.metric, row.source, *part))
    return blake2b(text, digest_size=16).hexdigest()


class LateFollower(Follower[LateAlerts]):
    """Follows the alerts until it is stopped. `red` says why it cannot; empty if it can."""

    def __init__(
        self,
        view: View,
        catalog: Catalog,
        period_seconds: int,
        open_alerts: Callable[[], AbstractAsyncContextManager[LateAlerts]],
        open_log: Callable[[], AbstractAsyncContextManager[ReworkLog]],
    ) -> None:
        """What is opened is opened anew after trouble with it."""
        super().__init__("rater-late", "what came late waits", open_alerts)
        self._view = view
        self._catalog = catalog
        self._period = period_seconds
        self._open_log = open_log
        self._pending: dict[FrameKey, _Pending] = {}
        self.given_up = 0
        """Frames that were left after many tries since the start."""

    @property
    def waiting(self) -> int:
        """Frames that something came late for and that are not rated again yet."""
        return len(self._pending)

    async def _follow(self, alerts: LateAlerts) -> None:
        loop = asyncio.get_running_loop()
        gathered_since = 0.0
        handed_out = False
        while True:
            found = await alerts.late(POLL_SECONDS)
            for alert in found:
                self._take(alert)
            handed_out = handed_out or bool(found)
            gathered_since = gathered_since or (loop.time() if found else 0.0)
            if found and loop.time() - gathered_since < GATHER_SECONDS:
                continue
            gathered_since = 0.0
            due = sorted(key for key, pending in self._pending.items() if pending.due_at <= loop.time())
            if due:
                await self._rate_again(due)
            if handed_out and not self._pending:
                await alerts.done()
                handed_out = False

    def _forget(self) -> None:
        self._pending.clear()

    def _take(self, alert: Alert) -> None:
        for period in periods_of(Interval(alert.begin, alert.end), self._period):
            pending = self._pending.setdefault((alert.scope_id, period.begin), _Pending())
            pending.alerts[alert.alert_id] = alert

    async def _rate_again(self, due: Iterable[FrameKey]) -> None:
        rework_id = f"late-{uuid.uuid4().hex}"
        async with self._open_log() as rework_log:
            runner = Runner(self._wanted(rework_id, "it came late"), rework_log)
            for key in due:
                trouble = await self._send(runner, key, rework_id)
                if trouble:
                    self._try_later(key, trouble)
            await runner.finish()
        for key, alert in runner.answers.items():
            if alert.kind is AlertKind.REWORK_DONE:
                self._pending.pop(key, None)
            else:
                self._try_later(key, f"{alert.kind.value}: {alert.reason}")
        for key in runner.unanswered:
            self._try_later(key, "no answer came: is a worker running?")

    def _wanted(self, rework_id: str, reason: str) -> Wanted:
        return Wanted(rework_id, "rerate", AUTHOR, reason)

    async def _send(self, runner: Runner, key: FrameKey, rework_id: str) -> str:
        """Sends the frame if it lacks something; why it cannot be sent yet, empty if it was or need not be."""
        pending = self._pending[key]
        found = await self._in_thread(lambda: self._read(key))
        if found is None:
            return "the frame is not in the store yet"
        material, told = found
        open_ids = [identity for identity in pending.alerts if identity[:12] not in told]
        usage_ids = [identity for identity in open_ids if pending.alerts[identity].kind is AlertKind.LATE_USAGE]
        there = {identity for row in material.usage if (identity := late_id(row)) in pending.alerts}
        absent = [identity for identity in usage_ids if identity not in there]
        if absent:
            return f"the usage of {len(absent)} alert(s) is not in the store yet (is `sink.usage` on?)"
        rows = [row for row in material.usage if late_id(row) in usage_ids]
        if usage_ids == open_ids and all(_holds(material, row) for row in rows):
            del self._pending[key]
            return ""
        wanted = self._wanted(rework_id, _reason(pending, open_ids))
        bracket = bracket_of(material, wanted, self._catalog, late=_samples(material, rows))
        if isinstance(bracket, Left):
            return bracket.reason
        if not await runner.send(bracket):
            return "no answer came to the frames before it: is a worker running?"
        return ""

    def _read(self, key: FrameKey) -> tuple[Material, set[str]] | None:
        """The frame, and which alerts reworks of it have followed already. In the thread."""
        scope_id, begin = key
        material = next(iter(materials(self._view, scope_id, begin, begin + 1, self._period)), None)
        if material is None:
            return None
        told: set[str] = set()
        for record in self._view.reworks(ReworkRequest(scope_id, begin, begin + 1)):
            if record.author == AUTHOR and record.outcome in ("done", "unchanged"):
                told.update(record.requested.rpartition("alerts ")[2].split(", "))
        return material, told

    def _try_later(self, key: FrameKey, trouble: str) -> None:
        pending = self._pending[key]
        told = of(scope_id=key[0], period_begin=key[1])
        if trouble != pending.trouble:
            log.info("what came late for %s in %s is tried again later: %s", *key, trouble, extra=told)
        pending.trouble = trouble
        pending.due_at = asyncio.get_running_loop().time() + PAUSES[min(pending.tries, len(PAUSES) - 1)]
        pending.tries += 1
        if pending.tries >= TRIES:
            log.error(
                "what came late for scope %s in the period from %s is not rated: %s. Rate it by hand: rater rerate",
                *key,
                trouble,
                extra=told,
            )
            self.given_up += 1
            del self._pending[key]


def _holds(material: Material, row: UsageRow) -> bool:
    """Whether the frame was rated with this collection. Of pushed samples nobody can tell: they are only counted."""
    return any(
        (entry.metric, entry.source) == (row.metric, row.source)
        and (reference.collection_id, reference.attempt) == (row.collection_id, row.attempt)
        for entry in material.frame.coverage
        for reference in entry.collections
    )


def _samples(material: Material, rows: Iterable[UsageRow]) -> Counter[tuple[str, str]]:
    """How many samples of the frame's period these rows have, by metric and source."""
    frame = material.frame
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        found[row.metric, row.source] += sum(frame.period_begin <= begin < frame.period_end for begin in row.begins)
    return found


def _reason(pending: _Pending, identities: list[str]) -> str:
    """Why the frame is rated again, for its record: what came, and the alerts by which a successor sees it was done."""
    alerts = [pending.alerts[identity] for identity in identities]
    came = [
        f"{what} came late: {_shown(of_kind)[:600]}"
        for kind, what in ((AlertKind.LATE_USAGE, "usage"), (AlertKind.LATE_PLAN, "plan"))
        if (of_kind := [alert for alert in alerts if alert.kind is kind])
    ]
    named = ", ".join(identity[:12] for identity in sorted(identities)[:NAMED])
    return f"{'; '.join(came)}; alerts {named}"


def _shown(alerts: list[Alert]) -> str:
    what = sorted({f"{alert.metric} from {alert.source}" for alert in alerts})
    return ", ".join(what[:5]) + (" and others" if len(what) > 5 else "")
