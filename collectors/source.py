"""What a source and a scope fetcher have to be, and how they are found: by entry point, so that others can add theirs.

A source answers for one scope, one metric and one period, and says itself which part of the period its answer proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Literal, Protocol, cast, runtime_checkable

import msgspec

from collectors.errors import SettingsError
from collectors.metrics_yml import Metric
from collectors.settings import CollectorSettings
from rater.model.document import Node, Problems
from rater.model.interval import Interval
from rater.model.usage import QuarantinedItem, Sample, Series

__all__ = [
    "Answer",
    "CountingSource",
    "FetcherFactory",
    "PeriodSession",
    "RecoveringSource",
    "ScopeFetcher",
    "SharingSession",
    "Source",
    "SourceContext",
    "SourceFactory",
    "fetcher_factory",
    "source_factory",
]


class Answer(msgspec.Struct, frozen=True):
    """What a source answered for one scope, one metric and one period, and what of the period that proves."""

    covers: list[Interval]
    proof: Literal["proven", "weak"] = "proven"
    series: list[Series] = []
    samples: list[Sample] = []
    quarantined: list[QuarantinedItem] = []
    note: str = ""
    """In words: why an empty answer is a true zero, or why something is missing."""
    skipped: int = 0
    """Points that the metric's `skip_datapoints_expression` left out; sources need not look at it themselves."""


class SourceContext(msgspec.Struct, frozen=True):
    """What a source or a fetcher is built from."""

    settings: CollectorSettings
    period_seconds: int
    metrics: tuple[Metric, ...] = ()


class PeriodSession(Protocol):
    """One period as the source shows it now. What is asked once per period and not per scope stays in here."""

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        """The answer. Raises SourceError (SourceAwayError, NotSettledError) if there is none or not a whole one."""


@runtime_checkable
class SharingSession(PeriodSession, Protocol):
    """A session that can ask one question for many scopes, if it knows of them."""

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        """Which scopes will be asked for, by internal key of the metric; told once, before the first is."""

    async def close(self) -> None:
        """Nothing more is asked."""


class Source(Protocol):
    """Where usage can be asked for."""

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        """Whether the source can answer at all what it will be asked, as far back as `reach_seconds`.

        Returns remarks for the operator. Raises UnfitSourceError, or another SourceError if it cannot be asked now.
        """

    async def oldest(self, now: int) -> int:
        """Before this instant the source has nothing any more; 0 if it cannot tell."""

    def session(self, period: Interval, now: int) -> PeriodSession:
        """A session for a period that is over."""

    async def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class CountingSource(Protocol):
    """A source that counts what it sends."""

    @property
    def queries(self) -> int:
        """Requests since the start."""


@runtime_checkable
class RecoveringSource(Protocol):
    """A source of several parts, of which some may be away while the others answer."""

    def has_recovered(self) -> bool:
        """Whether a part that was away has answered since this was last asked: it may have what the others lacked."""


class ScopeFetcher(Protocol):
    """Who knows which scopes there are."""

    async def fetch(self, now: int, since: int) -> set[str]:
        """The ids of all scopes that there were at any time from `since` to `now`. Raises SourceError.

        Who can only say which there are now says those: a scope that came and went between two calls is not found then.
        """

    async def close(self) -> None:
        """Let go of connections."""


class SourceFactory(Protocol):
    """What an entry point of group `rater.sources` names."""

    def read_extra_args(self, problems: Problems, node: Node | None) -> object:
        """Check `extra_args` of a metric; what it returns stands in `Metric.extra_args`."""

    def build(self, context: SourceContext) -> Source:
        """A source. Raises SettingsError."""


class FetcherFactory(Protocol):
    """What an entry point of group `rater.fetchers` names."""

    def __call__(self, context: SourceContext) -> ScopeFetcher:
        """A fetcher. Raises SettingsError."""


def source_factory(name: str) -> SourceFactory:
    """The source of that name. Raises SettingsError if nobody provides it."""
    return cast(SourceFactory, _load("rater.sources", "collect.source", name))


def fetcher_factory(name: str) -> FetcherFactory:
    """The fetcher of that name. Raises SettingsError if nobody provides it."""
    return cast(FetcherFactory, _load("rater.fetchers", "collect.fetcher", name))


def _load(group: str, key: str, name: str) -> object:
    found = entry_points(group=group)
    if name not in found.names:
        raise SettingsError(f"{key} is {name!r}: installed are {', '.join(sorted(found.names)) or 'none'}")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as fault:
        raise SettingsError(f"{key} {name!r} cannot be loaded from {found[name].value}: {fault}") from fault
