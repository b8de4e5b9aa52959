"""Does what topic `requests` asks for: closed frames are collected and rated again, whoever is killed meanwhile.

It keeps nothing. What is to be done stands in the topic, what was done in table `reworks`, by the request's own id; the
engine takes a frame that is sent a second time by the same rework as begun anew. So a successor sends what has no
answer yet, and nothing is lost or counted twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import Protocol, TypeAlias

import msgspec

from rater.log_fields import of
from rater.model.codec import encode_msgpack
from rater.model.metric import Catalog
from rater.model.rated import AlertKind
from rater.model.requests import ScopeOutcome
from rater.model.usage import ScopeSwitch
from rater.reports import ReworkRequest, View
from rater.rework.brackets import bracket_of
from rater.rework.follower import Follower
from rater.rework.material import materials
from rater.rework.requests import Task
from rater.rework.run import Finished, ReworkLog, Runner, run_rework
from rater.rework.values import Bracket, FrameKey, Left, Material, Wanted

__all__ = ["Make", "TaskFollower", "Tasks"]

log = logging.getLogger(__name__)

Make: TypeAlias = Callable[[Material], Awaitable[Bracket | Left]]
Opening: TypeAlias = Callable[[Wanted], AbstractAsyncContextManager[Make | None]]
"""Opens the source for one rework; None: there is none to ask."""

POLL_SECONDS = 1.0
PAUSES = (5.0, 30.0, 60.0, 120.0, 300.0, 300.0, 300.0)
"""Before what had no answer is tried again: together longer than the 15 minutes after which others are given up."""
LONG_PERIODS = 20 * 168  # a task of more asks first how far its scopes reach, which takes seconds
TOLD = 3  # reasons in an outcome


class Tasks(Protocol):
    """Topic `requests` as the follower uses it."""

    def is_ours(self) -> bool:
        """Whether this process is to do them, and no other."""

    async def waiting(self, seconds: float) -> list[Task]:
        """The tasks that are not over, if they are ours; waits this long for records. Raises RaterError."""

    async def over(self, request_id: str, outcomes: Iterable[ScopeOutcome]) -> None:
        """Says what became of tasks of a request. Raises RaterError."""

    def unsent(self) -> list[ScopeSwitch]:
        """The switches of scopes that topic `usage` may not have yet, if it is ours to send them."""

    async def sent(self, count: int) -> None:
        """Says that topic `usage` has so many more of them. Raises RaterError."""


class TaskFollower(Follower[Tasks]):
    """Does the tasks one request after the other until it is stopped. `red` says why it cannot; empty if it can."""

    def __init__(
        self,
        view: View,
        catalog: Catalog,
        period_seconds: int,
        open_tasks: Callable[[], AbstractAsyncContextManager[Tasks]],
        open_log: Callable[[], AbstractAsyncContextManager[ReworkLog]],
        open_source: Opening,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """What is opened is opened anew after trouble with it."""
        super().__init__("rater-tasks", "requests wait", open_tasks)
        self._view = view
        self._catalog = catalog
        self._period = period_seconds
        self._open_log = open_log
        self._open_source = open_source
        self._pauses = pauses
        self.waiting = 0
        """Scopes of requests that are not over, if they are to be done here."""

    async def _follow(self, tasks: Tasks) -> None:
        """One request after the other; switches of scopes do not wait for them."""
        working: asyncio.Task[None] | None = None
        try:
            while True:
                waiting = await tasks.waiting(POLL_SECONDS)
                self.waiting = len(waiting)
                await self._send_switches(tasks)
                if working is not None and working.done():
                    working.result()
                    working = None  # what it has done is read first
                elif working is None and waiting:
                    _, request = next(groupby(waiting, key=lambda task: task.request_id))
                    working = asyncio.create_task(self._do(list(request), tasks))
        finally:
            if working is not None:
                working.cancel()
                await asyncio.wait({working})

    def _forget(self) -> None:
        """Nothing is kept but in the topic."""

    async def _send_switches(self, tasks: Tasks) -> None:
        """Into topic `usage`, in order. One that is sent twice counts once: it has a number."""
        unsent = tasks.unsent()
        if not unsent:
            return
        async with self._open_log() as usage:
            for switch in unsent:
                await usage.send(switch.scope_id, [encode_msgpack(switch)])
        await tasks.sent(len(unsent))

    async def _do(self, request: list[Task], tasks: Tasks) -> None:
        outcomes = await self._perform(request, tasks)
        if outcomes is None:
            return
        for outcome in outcomes:
            told = of(scope_id=outcome.scope_id)
            log.info("request %s, scope %s: %s", request[0].request_id, outcome.scope_id, outcome, extra=told)
        await tasks.over(request[0].request_id, outcomes)

    async def _perform(self, request: list[Task], tasks: Tasks) -> list[ScopeOutcome] | None:
        """Has the frames of all scopes of a request rated again. None: it went to another process meanwhile."""
        found, done = Finished(), set[FrameKey]()
        for pause in (*self._pauses, None):
            found = await self._try(request, done, is_last=pause is None)
            later = _to_be_tried_again(found)
            if not later or pause is None:
                break
            log.info("request %s: %d frames are tried again in %.0f s", request[0].request_id, len(later), pause)
            await asyncio.sleep(pause)
            if not tasks.is_ours():
                return None
        stored = await self._in_thread(lambda: self._stored_outcomes(request[0].request_id))
        outcomes = stored | {key: "done" for key in done if stored.get(key) not in _GOOD}
        return [_outcome(task.scope_id, outcomes, found) for task in request]

    async def _try(self, request: list[Task], done: set[FrameKey], *, is_last: bool) -> Finished:
        """Sends what is not done yet; `done` gets what is found to be."""
        first = request[0]
        async with self._open_log() as rework_log:
            has_source = Wanted(first.request_id, "reprocess", first.author, first.reason)
            async with self._open_source(has_source) as ask:
                wanted = has_source if ask else Wanted(first.request_id, "rerate", first.author, first.reason)

                async def make(material: Material) -> Bracket | Left:
                    return await self._make(material, wanted, ask, is_last=is_last)

                return await run_rework(
                    self._view,
                    self._thread,
                    Runner(wanted, rework_log),
                    wanted,
                    self._materials(request, done),
                    lambda key: materials(self._view, key[0], key[1], key[1] + 1, self._period),
                    make,
                )

    async def _make(self, material: Material, wanted: Wanted, ask: Make | None, *, is_last: bool) -> Bracket | Left:
        """What the source says now; what it said then, if it cannot say it again: the rules of now count for both."""
        asked = await ask(material) if ask else None
        if isinstance(asked, Bracket) or (asked is not None and asked.may_pass and not is_last):
            return asked
        made = bracket_of(material, wanted, self._catalog)
        if isinstance(asked, Left):
            if isinstance(made, Left):
                return Left(*_key(made), f"{asked.reason}; {made.reason}")
            return Bracket(
                made.begun, made.lines, made.collections, [*made.remarks, f"not collected again: {asked.reason}"]
            )
        return made

    def _materials(self, request: list[Task], done: set[FrameKey]) -> Iterator[Material]:
        """The frames that are not done yet, in order of time for each scope. In the thread."""
        request_id = request[0].request_id
        done.update(key for key, outcome in self._stored_outcomes(request_id).items() if outcome in _GOOD)
        for task in self._within_known(request):
            begin = -(-task.begin // self._period) * self._period
            for material in materials(self._view, task.scope_id, begin, task.end, self._period):
                if material.frame.rework_id == request_id:
                    done.add(material.key)  # table `reworks` comes from another topic, and later
                elif material.key not in done:
                    yield material

    def _within_known(self, request: list[Task]) -> list[Task]:
        """The same without time in which a scope has no frame: a reset may be to 1970, and every week is a question."""
        if all(task.end - task.begin <= LONG_PERIODS * self._period for task in request):
            return request
        known = {scope.scope_id: scope for scope in self._view.scopes()}
        return [
            msgspec.structs.replace(task, begin=max(task.begin, scope.begin), end=min(task.end, scope.end))
            for task in request
            if (scope := known.get(task.scope_id)) is not None
        ]

    def _stored_outcomes(self, request_id: str) -> dict[FrameKey, str]:
        rows = self._view.reworks(ReworkRequest(rework_id=request_id))
        return {(row.scope_id, row.period_begin): row.outcome for row in rows}


_GOOD = ("done", "unchanged")


def _key(left: Left) -> FrameKey:
    return left.scope_id, left.period_begin


def _to_be_tried_again(found: Finished) -> list[FrameKey]:
    """Frames that another rework, an outage or a dead worker kept from being rated."""
    passing = [_key(left) for left in found.left if left.may_pass]
    bad = [key for key, alert in found.answers.items() if alert.kind is not AlertKind.REWORK_DONE]
    return sorted({*passing, *bad, *found.unanswered})


def _outcome(scope_id: str, stored: dict[FrameKey, str], found: Finished) -> ScopeOutcome:
    """By table `reworks`, and by what the last attempt says of what is not there."""
    of_scope = {key: outcome for key, outcome in stored.items() if key[0] == scope_id}
    for key, alert in found.answers.items():
        if key[0] == scope_id and key not in of_scope and alert.kind is AlertKind.REWORK_DONE and alert.rework:
            of_scope[key] = "done" if alert.rework.revision > alert.rework.base_revision else "unchanged"
    reasons = {_key(left): left.reason for left in found.left if left.scope_id == scope_id}
    for key, alert in found.answers.items():
        if key[0] == scope_id and alert.kind is not AlertKind.REWORK_DONE:
            reasons[key] = f"{alert.kind.value}: {alert.reason}"
    reasons.update((key, "no answer came: is a worker running?") for key in found.unanswered if key[0] == scope_id)
    reasons = {key: reason for key, reason in reasons.items() if of_scope.get(key) not in _GOOD}
    counts = list(of_scope.values())
    told = [*dict.fromkeys(reasons.values()), *found.remarks]
    more = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
    text = "; ".join(reason[:500] for reason in told[:TOLD]) + more
    return ScopeOutcome(scope_id, counts.count("done"), counts.count("unchanged"), len(reasons), text)
