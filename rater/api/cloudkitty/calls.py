"""What a handler gets and gives, and what it may ask: requests and answers without HTTP around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from rater.api.cloudkitty.faults import ApiFaultError
from rater.api.cloudkitty.requests import Requests
from rater.api.cloudkitty.unconfirmed import Unconfirmed
from rater.api.identity import Identity
from rater.api.policy import Policy
from rater.model.rules import Change
from rater.rating import Failed, Rated, RatingFrame, RuleBook
from rater.reports import Attribute, Condition, Kind, View

__all__ = ["Answer", "Backend", "Call", "Decide", "Handler", "MetricInfo", "ModuleInfo", "Post", "Route", "RuleWriter"]

P = ParamSpec("P")
T = TypeVar("T")


class Call(msgspec.Struct, frozen=True):
    """A request that somebody who is known has sent."""

    identity: Identity
    path: Mapping[str, str]
    """What stands in the path where the route has a name."""
    query: Sequence[tuple[str, str]]
    body: bytes
    now: datetime
    """In the time zone of the settings."""
    url: str = ""
    """What was asked for, whole, but for the query."""
    headers: Mapping[str, str] = {}
    """Their names in any case."""


class Answer(msgspec.Struct, frozen=True):
    """What becomes a response: `value` as JSON, or `chunks` of JSON one after the other."""

    value: Any = None
    status: int = 200
    chunks: Iterator[bytes] | None = None
    headers: Mapping[str, str] = {}
    empty: bool = False
    """No body at all: of 204 in any case."""
    before: Any = None
    """For the audit log: what a request that writes found there. No secrets, no usage."""
    after: Any = None
    """What it made of it; None: `value`."""


class MetricInfo(msgspec.Struct, frozen=True):
    """What /v1/info tells of a metric."""

    metric_id: str
    metadata: tuple[str, ...]
    unit: str


class ModuleInfo(msgspec.Struct, frozen=True):
    """What is known of a rating module beside its switch and priority."""

    name: str
    description: str | None
    hot_config: bool


Decide: TypeAlias = Callable[[RuleBook], tuple[Change, ...]]
"""The changes that a request makes of the newest rule book, none if it is so already. Pure, and asked again if somebody
else was faster. Raises what the request is refused with."""


class RuleWriter(Protocol):
    """Writes to the rule book."""

    async def __call__(self, author: str, reason: str, now: int, decide: Decide) -> RuleBook:
        """The book with the change in it, confirmed by Kafka. Raises ApiFaultError 409, 503, and what `decide` raises.

        `now`: the time of the change, seconds since the epoch, UTC.
        """


Post: TypeAlias = Callable[[Sequence[tuple[bytes, bytes]]], Awaitable[None]]
"""Writes records (key, msgpack value) to topic `usage`; returns when the broker has confirmed each. Raises
ApiFaultError 503, after which any of them may be there.
"""


async def _nobody_writes(records: Sequence[tuple[bytes, bytes]]) -> None:
    raise ApiFaultError(503, "this service writes no usage")


class Backend(msgspec.Struct, frozen=True):
    """What handlers may ask."""

    view: View
    read: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Runs something that asks `view`, in a thread. Raises ApiFaultError 503 if the store is away."""
    book: Callable[[], Awaitable[RuleBook]]
    """The rule book, with everything that was written before. Raises ApiFaultError 503."""
    write_rules: RuleWriter
    quote: Callable[[RuleBook, RatingFrame], Awaitable[Rated | Failed]]
    """Rates a frame with these rules, as everybody does. Raises ApiFaultError 503."""
    exact_numbers: bool
    """Costs and levels that come as JSON numbers are read as decimals, and not as CloudKitty's binary floats."""
    requests: Requests
    period: int
    """Seconds."""
    policy: Policy
    zone: ZoneInfo
    scope_key: str
    collector: str
    fetcher: str
    metrics: tuple[MetricInfo, ...]
    metrics_conf: Mapping[str, Any]
    """metrics.yml, as plain values."""
    modules: tuple[ModuleInfo, ...]
    post: Post = _nobody_writes
    unconfirmed: Unconfirmed = msgspec.field(default_factory=Unconfirmed)
    """Posts of which Kafka has not said whether it has them."""

    def attribute(self, name: str) -> Attribute:
        """What CloudKitty's name of an attribute stands for."""
        if name == self.scope_key:
            return Attribute(Kind.SCOPE)
        kind = _KINDS.get(name)
        return Attribute(Kind.LABEL, name) if kind is None else Attribute(kind)

    def scopes_are(self, scopes: tuple[str, ...] | None) -> tuple[Condition, ...]:
        """The condition that a point is of these scopes; none for None."""
        return () if scopes is None else (Condition(Attribute(Kind.SCOPE), scopes),)


_KINDS = {
    "type": Kind.METRIC,
    "time": Kind.PERIOD,
    "day_of_the_year": Kind.DAY,
    "week_of_the_year": Kind.WEEK,
    "month": Kind.MONTH,
    "year": Kind.YEAR,
}

Handler: TypeAlias = Callable[[Backend, Call], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True):
    """A path below /v1 or /v2; `{name}` stands for one segment."""

    path: str
    handler: Handler
    method: str = "GET"
