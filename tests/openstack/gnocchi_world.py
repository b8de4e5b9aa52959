"""A small cloud in Gnocchi, and a source that is asked about it: what the tests of source `gnocchi` have in common."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from collectors.errors import SourceError
from collectors.gnocchi.fetcher import GnocchiFetcher
from collectors.gnocchi.source import Factory, GnocchiSource
from collectors.metrics_yml import read
from collectors.settings import CollectorSettings
from collectors.source import Answer, SharingSession, SourceContext
from rater.model.interval import Interval
from tests.openstack.gnocchi_client import GnocchiClient

HOUR = 3600
T = int(datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp())
PERIOD = Interval(T, T + HOUR)
LATER = T + 20 * HOUR
STEP = 300
METHODS = [
    "mean", "sum", "last", "max", "min", "std", "median", "first", "count", "95pct",
    "rate:mean", "rate:sum", "rate:max", "rate:last",
]  # fmt: skip


class Cloud:
    """Resources of one type, which is of this cloud alone; every name becomes an id."""

    def __init__(self, client: GnocchiClient, *attributes: str) -> None:
        self.client = client
        self.kind = f"kind{uuid.uuid4().hex[:8]}"
        self.metric_ids: dict[str, dict[str, str]] = {}
        self._sent: dict[str, dict[str, list[tuple[int, float]]]] = {}
        client.resource_type(self.kind, *attributes)

    def policy(self, name: str, definition: Iterable[tuple[int, int]], methods: Sequence[str], **more: Any) -> str:
        """A policy of this cloud alone; the name that Gnocchi knows it by."""
        made = f"{name}-{self.kind}"
        self.client.archive_policy(made, definition, methods, **more)
        return made

    def id(self, name: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{self.kind}"))

    def name(self, resource_id: str) -> str:
        return next(name for name in self.metric_ids if self.id(name) == resource_id)

    def add(self, name: str, project: str, policies: dict[str, str], *, begin: int = T - 6 * HOUR, **more: Any) -> None:
        self.metric_ids[name] = self.client.resource(
            self.kind, self.id(name), project, begin=begin, metrics=policies, **more
        )

    def revise(self, name: str, at: int, **attributes: str) -> None:
        self.client.revise(self.kind, self.id(name), at=at, **attributes)

    def end(self, name: str, end: int, at: int | None = None) -> None:
        self.client.end(self.kind, self.id(name), end=end, at=at)

    def measure(
        self, name: str, metric: str, begin: int, end: int, value: Callable[[int], float] = lambda at: 1.0,
        step: int = STEP, without: Sequence[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        """A value every step from begin to end, but for the stretches `without`; sent by `send`."""
        points = [(at, value(at)) for at in range(begin, end, step) if not any(b <= at < e for b, e in without)]
        self._sent.setdefault(self.id(name), {}).setdefault(metric, []).extend(points)

    def send(self, *, settle: bool = True) -> None:
        sent, self._sent = self._sent, {}
        self.client.measures(sent)
        if settle:
            self.client.settle()


class Asked(NamedTuple):
    """What the source answered, by scope and public name."""

    answers: dict[tuple[str, str], Answer | SourceError]

    def of(self, scope: str, name: str) -> Answer:
        found = self.answers[scope, name]
        if isinstance(found, SourceError):
            raise found
        return found

    def covers(self, scope: str, name: str) -> list[tuple[int, int]]:
        """In seconds from the begin of the period."""
        return [(begin - T, end - T) for begin, end in self.of(scope, name).covers]

    def quantities(self, scope: str, name: str, *labels: str) -> dict[Any, str]:
        answer = self.of(scope, name)
        found = {}
        for sample in answer.samples:
            series = answer.series[sample.series]
            values = tuple({**series.groupby, **series.metadata}[label] for label in labels)
            key = values if len(labels) > 1 else values[0]
            assert key not in found
            found[key] = str(sample.qty)
        return found


def settings_of(url: str, **collect: Any) -> CollectorSettings:
    gnocchi = {"url": url, "auth": {"basic": {}}, **collect.pop("gnocchi", {})}
    return msgspec.convert({"source": "gnocchi", "gnocchi": gnocchi, **collect}, CollectorSettings)


async def ask(
    url: str, text: str, scopes: Sequence[str], *, now: int = LATER, period: Interval = PERIOD, shared: bool = True,
    **collect: Any,
) -> Asked:  # fmt: skip
    """Everything of a metrics.yml for all scopes, by one session; `shared`: they share their questions."""
    metrics = read(text, "metrics.yml", Factory.read_extra_args).metrics
    source = GnocchiSource(SourceContext(settings_of(url, **collect), HOUR, metrics))
    session = source.session(period, now)
    assert isinstance(session, SharingSession)
    if shared:
        session.expect({metric.internal_key: scopes for metric in metrics})

    async def one(scope: str, metric: Any) -> Answer | SourceError:
        try:
            return await session.collect(scope, metric)
        except SourceError as failure:
            return failure

    try:
        keys = [(scope, metric) for metric in metrics for scope in scopes]
        found = await asyncio.gather(*(one(scope, metric) for scope, metric in keys))
        return Asked({(scope, metric.name): answer for (scope, metric), answer in zip(keys, found, strict=True)})
    finally:
        await session.close()
        await source.close()


async def fetch(url: str, kinds: list[str], now: int, since: int, attribute: str = "") -> set[str]:
    """The scopes that the fetcher finds."""
    settings = settings_of(url, gnocchi_fetcher={"resource_types": kinds, "scope_attribute": attribute})
    fetcher = GnocchiFetcher(SourceContext(settings, HOUR))
    try:
        return await fetcher.fetch(now, since)
    finally:
        await fetcher.close()
