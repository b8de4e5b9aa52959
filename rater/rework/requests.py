"""What was asked for through the API, as the fold of topic `requests`: every reader comes to the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from rater.model.codec import decoder
from rater.model.requests import (
    FramesAsked,
    FramesOver,
    RequestKind,
    RequestRecord,
    ScopeAdded,
    ScopeOutcome,
    ScopeSwitched,
    SwitchesSent,
)
from rater.model.switches import SwitchBook
from rater.model.usage import ScopeSwitch

__all__ = ["RequestBook", "Task", "TaskKey", "decode_request"]

TaskKey: TypeAlias = tuple[str, str]
"""Request and scope."""

decode_request = decoder(RequestRecord, "request")


class Task(msgspec.Struct, frozen=True):
    """What was asked for of one scope. `[begin, end)` bounds the begins of periods."""

    request_id: str
    scope_id: str
    kind: RequestKind
    begin: int
    end: int
    author: str
    reason: str
    asked_at: int
    outcome: ScopeOutcome | None = None
    """None: it is not over."""

    @property
    def key(self) -> TaskKey:
        """Which one it is."""
        return self.request_id, self.scope_id


class RequestBook:
    """All tasks in the order in which they were asked for, added scopes, switches. Changed by `take` alone."""

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, Task] = {}
        self.added: dict[str, ScopeAdded] = {}
        self.switches = SwitchBook()
        self._sent = 0
        self._refused: dict[str, str] = {}
        self._open: dict[str, dict[TaskKey, None]] = {}

    def take(self, record: RequestRecord, recorded_at: int) -> None:
        """The next record of the log, and the broker's time of it in seconds since the epoch."""
        match record:
            case FramesAsked():
                self._ask(record)
            case FramesOver():
                for outcome in record.outcomes:
                    self._end((record.request_id, outcome.scope_id), outcome)
            case ScopeAdded():
                self.added[record.scope_id] = record
            case ScopeSwitched():
                self.switches.take(record, recorded_at)
            case SwitchesSent():
                self._sent = max(self._sent, record.count)

    def refusal(self, request_id: str) -> str:
        """Why a request came to nothing; empty if it did not."""
        return self._refused.get(request_id, "")

    def overlap(self, scopes: Iterable[str], begin: int, end: int) -> Task | None:
        """A task that is not over and asks for some of these frames."""
        for scope_id in scopes:
            for key in self._open.get(scope_id, ()):
                task = self.tasks[key]
                if task.begin < end and begin < task.end:
                    return task
        return None

    def open_tasks(self) -> list[Task]:
        """Those that are not over, as they were asked for."""
        return [task for task in self.tasks.values() if task.outcome is None]

    def unsent(self) -> list[ScopeSwitch]:
        """The switches that topic `usage` may not have yet, in order."""
        return self.switches.switches[self._sent :]

    def _ask(self, asked: FramesAsked) -> None:
        if asked.request_id in self._refused or (asked.request_id, asked.scopes[0]) in self.tasks:
            return
        other = self.overlap(asked.scopes, asked.begin, asked.end) if asked.kind == "reprocess" else None
        if other is not None:
            self._refused[asked.request_id] = (
                f"{other.kind} {other.request_id} of scope {other.scope_id!r} is under way"
            )
            return
        for scope_id in dict.fromkeys(asked.scopes):
            task = Task(
                asked.request_id,
                scope_id,
                asked.kind,
                asked.begin,
                asked.end,
                asked.author,
                asked.reason,
                asked.asked_at,
            )
            self.tasks[task.key] = task
            self._open.setdefault(scope_id, {})[task.key] = None

    def _end(self, key: TaskKey, outcome: ScopeOutcome) -> None:
        task = self.tasks.get(key)
        if task is None or task.outcome is not None:
            return
        self.tasks[key] = msgspec.structs.replace(task, outcome=outcome)
        of_scope = self._open[task.scope_id]
        del of_scope[key]
        if not of_scope:
            del self._open[task.scope_id]
