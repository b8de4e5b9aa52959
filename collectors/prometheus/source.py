"""The source Prometheus: CloudKitty's questions, one sample per resource and period, and proof of what they saw."""

from __future__ import annotations

import asyncio
from functools import partial

from collectors.checking import Advance, Judge, SourceFacts, start_remarks
from collectors.errors import SourceAwayError
from collectors.prometheus.api import PrometheusApi, servers
from collectors.prometheus.check import examine, retention_of
from collectors.prometheus.promql import read_extra_args
from collectors.prometheus.replicas import ReplicaSession, Standing
from collectors.prometheus.session import PrometheusSession
from collectors.source import PeriodSession, Source, SourceContext
from rater.model.document import Node, Problems
from rater.model.interval import Interval

__all__ = ["Factory", "PrometheusSource"]


class PrometheusSource:
    """One Prometheus, or what speaks its API; or several that scrape the same targets."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if a setting is missing or a file of credentials cannot be read."""
        self._settings = context.settings
        self._metrics = context.metrics
        self._replicas = servers(context.settings.prometheus, context.settings.concurrency)
        self._period = context.period_seconds
        self._standing = Standing()
        self._versions: dict[str, str] = {}
        self._asking_versions = asyncio.Lock()  # many scopes want to know it at once

    async def close(self) -> None:
        """Close the connections."""
        for api in self._replicas:
            await api.close()

    @property
    def queries(self) -> int:
        """Requests sent so far, to all replicas."""
        return sum(api.queries for api in self._replicas)

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        """What `examine` finds, without what takes longer: whether each metric is there as it is needed, and kept.

        Returns remarks. Raises UnfitSourceError with everything that is wrong, SourceError if it cannot be asked.
        """
        facts = await self.examine(now, reach_seconds, lambda _done, _total: None, deep=False)
        return start_remarks(Judge(self._settings, self._metrics, self._period).findings(facts))

    async def examine(self, now: int, reach_seconds: int, advance: Advance, *, deep: bool) -> SourceFacts:
        """What the servers say of themselves and of each metric. An `ExaminedSource`."""
        self._versions.clear()  # they may have been updated since
        return await examine(
            self._replicas, self._settings, self._metrics, self._period, now, reach_seconds, advance, deep=deep
        )

    async def oldest(self, now: int) -> int:
        """The instant from which on the server keeps samples, or one of its replicas; 0 if none can tell."""
        found: list[int | None] = []
        away: list[SourceAwayError] = []
        for api in self._replicas:
            try:
                found.append(await retention_of(api))
            except SourceAwayError as fault:
                away.append(fault)
        if not found:
            raise away[0]
        return 0 if None in found else max(0, now - max(one for one in found if one is not None))

    def has_recovered(self) -> bool:
        """Whether a replica that was away answers again. A `RecoveringSource`."""
        return self._standing.has_recovered()

    def session(self, period: Interval, now: int) -> PeriodSession:
        """A session for a period that is over."""
        sessions = [
            PrometheusSession(api, self._settings, period, now, partial(self._version, api)) for api in self._replicas
        ]
        return sessions[0] if len(sessions) == 1 else ReplicaSession(sessions, self._standing)

    async def _version(self, api: PrometheusApi) -> str:
        """What the server says it is, for the note of each collection; empty if it does not say. Asked once."""
        if api.url not in self._versions:
            async with self._asking_versions:
                if api.url not in self._versions:
                    found = await api.look_up("status/buildinfo", {})
                    version = found.get("version") if isinstance(found, dict) else None
                    self._versions[api.url] = f"Prometheus {version}"[:100] if version else ""
        return self._versions[api.url]


class Factory:
    """The entry point `prometheus` of group `rater.sources`."""

    @staticmethod
    def read_extra_args(problems: Problems, node: Node | None) -> object:
        """The `extra_args` of a metric."""
        return read_extra_args(problems, node)

    @staticmethod
    def build(context: SourceContext) -> Source:
        """The source. Raises SettingsError."""
        return PrometheusSource(context)
