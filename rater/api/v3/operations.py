"""What an operation of /v3 is, what its handler gets and gives, and what it may ask. There is no HTTP in it.

Each operation is declared once: routes, reading of parameters and body, access and the OpenAPI document follow.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from rater.api.faults import RefusalError
from rater.api.identity import Identity
from rater.api.policy import Policy
from rater.api.v3.jobs import Jobs
from rater.api.v3.rule_source import RuleSource
from rater.engine import EngineContext
from rater.model.usage import FrameForced, GapAccepted
from rater.rating import Module, RuleBook, ScriptRunner
from rater.reports import FramePageRequest, View

__all__ = [
    "CSV",
    "EVENTS",
    "JSON",
    "MAX_EXPORTS",
    "NDJSON",
    "YAML",
    "AlertFeed",
    "Asked",
    "Backend",
    "Control",
    "Event",
    "Handler",
    "NoParameters",
    "Operation",
    "RawBody",
    "Reply",
    "Slots",
    "Trials",
    "author_of",
    "has_frames",
    "unknown_scope",
]

JSON, YAML, NDJSON, CSV = "application/json", "application/yaml", "application/x-ndjson", "text/csv"
EVENTS = "text/event-stream"

MAX_AUTHOR = 255  # characters
MAX_EXPLANATIONS = 2
MAX_EXPORTS = 2
"""At a time: each keeps one of the few threads that ask the store busy."""
P = TypeVar("P")
B = TypeVar("B")


class NoParameters(msgspec.Struct, frozen=True):
    """Of operations without any."""


class RawBody(msgspec.Struct, frozen=True):
    """Of operations that read their body themselves: the handler gets bytes, whatever the form."""


class Asked(msgspec.Struct, Generic[P, B], frozen=True):
    """A request that somebody who is known has sent, read and found sound."""

    identity: Identity
    action: str
    """The operation's, for the policy."""
    parameters: P
    body: B
    """None where the operation has no body."""
    now: datetime
    """UTC."""
    form: str
    """The media type to answer in: one of the operation's forms, as `Accept` chooses."""
    content_type: str = JSON
    """Of the body."""


class Event(msgspec.Struct, frozen=True):
    """One server-sent event. `id` is what a client that comes back sends as Last-Event-ID."""

    data: bytes
    """One line, without a line break."""
    id: str = ""
    event: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What becomes a response: exactly one of `value`, `content`, `chunks` and `events`, or nothing at all.

    `chunks` is asked for its next one in a thread that may read the store; a fault after the first one breaks the
    connection off, so that half an answer never looks like a whole one.
    """

    value: Any = None
    """Written as JSON; of the operation's result type."""
    content: bytes | None = None
    """In the form that was asked for."""
    chunks: Iterator[bytes] | None = None
    events: AsyncIterator[Event] | None = None
    status: int | None = None
    """None: the operation's."""
    headers: Mapping[str, str] = {}
    before: Any = None
    """Of a write, for the audit log: what was there, as far as it is known."""
    after: Any = None
    """And what is there now, or was asked for."""


class AlertFeed(Protocol):
    """The alerts as they are raised."""

    async def listen(self, scopes: tuple[str, ...] | None, last_id: str) -> AsyncIterator[Event]:
        """Alerts of these scopes (None: all), from after `last_id` on, or from now on if that is empty; never ends.

        Raises RefusalError: 422 for an id that is none, 429 if there are too many listeners, 503 without Kafka.
        """


class Control(Protocol):
    """What operators say to the engine."""

    async def send(self, record: FrameForced | GapAccepted) -> None:
        """Appends it to topic `usage`, confirmed by Kafka. Raises RefusalError 503."""


class Trials(Protocol):
    """What rules are tried with: nothing that it does is kept."""

    context: EngineContext

    def scripts(self, *books: RuleBook) -> AbstractContextManager[ScriptRunner]:
        """Who runs the scripts of these books, in a process of its own."""

    def modules(self, *books: RuleBook) -> Mapping[str, Module]:
        """The modules of third parties that these books switch on."""


class Slots:
    """How many of something there may be at a time."""

    def __init__(self, count: int, what: str) -> None:
        self._count, self._what = count, what
        self._taken = 0
        self._guard = threading.Lock()  # threads give back what the event loop took

    def take(self) -> None:
        """Takes one. Raises RefusalError 429."""
        with self._guard:
            if self._taken >= self._count:
                raise RefusalError(429, f"{self._taken} {self._what} are under way already", retry_after=10)
            self._taken += 1

    def give(self) -> None:
        """Gives one back."""
        with self._guard:
            assert self._taken, "nobody has one"
            self._taken -= 1


class Backend(msgspec.Struct, frozen=True):
    """What handlers may ask. Extended by keyword: a new source of answers gets a field of its own."""

    view: View
    read: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Runs something that asks `view`, in a thread. Raises RefusalError 503 if the store is away."""
    book: Callable[[], Awaitable[RuleBook]]
    """The rule book, with everything that was written before. Raises RefusalError 503."""
    policy: Policy
    period: int
    """Seconds of a processing period."""
    rules: RuleSource
    control: Control
    alerts: AlertFeed
    trials: Trials
    jobs: Jobs = msgspec.field(default_factory=Jobs)
    explanations: Slots = msgspec.field(default_factory=lambda: Slots(MAX_EXPLANATIONS, "explanations"))
    exports: Slots = msgspec.field(default_factory=lambda: Slots(MAX_EXPORTS, "exports"))

    def seen(self, asked: Asked[Any, Any]) -> tuple[str, ...] | None:
        """The scopes that whoever asks may see by this action; None for all. Raises RefusalError 403."""
        try:
            self.policy.authorize(asked.identity, asked.action)
        except RefusalError:
            own = asked.identity.scopes
            self.policy.authorize(asked.identity, asked.action, own)
            return own
        return None

    async def scope(self, asked: Asked[Any, Any], scope_id: str) -> None:
        """Makes sure that the scope is there and may be seen.

        Raises RefusalError 403 for who may not do this at all, 404 for a scope that is unknown or somebody else's:
        the answers are the same.
        """
        scopes = self.seen(asked)
        is_own = scopes is None or scope_id in scopes
        if not is_own or not await self.read(lambda: has_frames(self.view, scope_id)):
            raise unknown_scope(scope_id)


def has_frames(view: View, scope_id: str) -> bool:
    """Whether a frame of the scope is stored. Raises StoreError."""
    return bool(view.frame_page(FramePageRequest(scope_id, 0, 2**32 - 1, 1)))


def author_of(asked: Asked[Any, Any]) -> str:
    """Who is named as the author of what is written."""
    return asked.identity.user[:MAX_AUTHOR] or "anonymous"


def unknown_scope(scope_id: str) -> RefusalError:
    """The one answer for a scope that is not there and for one that is not yours."""
    return RefusalError(404, f"no scope {scope_id!r} is known to you")


Handler: TypeAlias = Callable[[Backend, Asked[Any, Any]], Awaitable[Reply]]


class Operation(msgspec.Struct, frozen=True):
    """One method of one path."""

    method: str
    path: str
    """Below /v3, without a slash before it; `{name}` stands for one segment."""
    id: str
    """operationId."""
    summary: str
    handler: Handler
    action: str
    """What the policy is asked: a name `v3:…` in `rater.api.policy.ACTIONS`."""
    parameters: type[msgspec.Struct] = NoParameters
    """A field that the path names stands there; one with `Meta(extra={"in": "header"})` is a header by its encoded
    name; all others are of the query. A field whose type is a list may be repeated."""
    body: type[msgspec.Struct] | None = None
    result: Any = None
    """Type of `Reply.value`, or of one item of a stream; None for nothing."""
    forms: tuple[str, ...] = (JSON,)
    """Media types of the answer, the default first."""
    body_forms: tuple[str, ...] = (JSON,)
    """Media types of the body. One that is not JSON reaches the handler as bytes."""
    status: int = 200
    description: str = ""
    answers: str = ""
    """What the answer is, in a sentence."""
    refusals: tuple[int, ...] = ()
    """Statuses of refusals beside those that every operation may answer."""

    @property
    def names(self) -> frozenset[str]:
        """The names in the path."""
        return frozenset(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.method not in ("GET", "HEAD")
