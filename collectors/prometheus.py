"""The source Prometheus: CloudKitty's questions, one sample per resource and period, and proof of what they saw."""

from __future__ import annotations

import re
from functools import partial

from collectors.errors import SourceAwayError, UnfitSourceError
from collectors.prom_api import PrometheusApi, servers
from collectors.prom_replicas import ReplicaSession, Standing
from collectors.prom_session import PrometheusSession
from collectors.promql import is_metric_name, read_extra_args
from collectors.source import PeriodSession, Source, SourceContext
from rater.model.document import Node, Problems
from rater.model.interval import Interval

__all__ = ["Factory", "PrometheusSource"]

_DURATION = re.compile(r"(\d+)(ms|y|w|d|h|m|s)")
_SECONDS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0}


class PrometheusSource:
    """One Prometheus, or what speaks its API; or several that scrape the same targets."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if a setting is missing or a file of credentials cannot be read."""
        self._settings = context.settings
        self._metrics = context.metrics
        self._replicas = servers(context.settings.prometheus, context.settings.concurrency)
        self._api = self._replicas[0]
        self._standing = Standing()
        self._versions: dict[str, str] = {}

    async def close(self) -> None:
        """Close the connections."""
        for api in self._replicas:
            await api.close()

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        """Whether each expected metric exists and retention reaches back far enough, as far as the server can tell.

        Returns remarks. Raises UnfitSourceError with everything that is wrong, SourceError if it cannot be asked.
        """
        self._versions.clear()  # it may have been updated since
        faults = [f"metric {m.metric!r} is no name of a metric" for m in self._metrics if not is_metric_name(m.metric)]
        remarks = []
        for name in sorted({m.metric for m in self._metrics if is_metric_name(m.metric)}):
            if await self._has(name):
                continue
            text = f"metric {name!r} does not exist on {self._api.url}"
            public = [m.name for m in self._metrics if m.metric == name]
            if all(self._is_expected(other) for other in public):
                faults.append(
                    f"{text}: check its name, or set collect.completeness.metrics.{public[0]}.expected to false if it "
                    "may be missing"
                )
            else:
                remarks.append(text)
        retention = await self._retention(self._api)
        if retention is not None and retention < reach_seconds:
            faults.append(
                f"{self._api.url} keeps {retention} s, but periods are collected and corrected up to {reach_seconds} s "
                "later: keep more there, or lower engine.wait or engine.late_horizon"
            )
        if faults:
            raise UnfitSourceError("\n".join(faults))
        return remarks

    async def oldest(self, now: int) -> int:
        """The instant from which on the server keeps samples, or one of its replicas; 0 if none can tell."""
        found: list[int | None] = []
        away: list[SourceAwayError] = []
        for api in self._replicas:
            try:
                found.append(await self._retention(api))
            except SourceAwayError as fault:
                away.append(fault)
        if not found:
            raise away[0]
        return 0 if None in found else max(0, now - max(one for one in found if one is not None))

    def session(self, period: Interval, now: int) -> PeriodSession:
        """A session for a period that is over."""
        sessions = [
            PrometheusSession(api, self._settings, period, now, partial(self._version, api)) for api in self._replicas
        ]
        return sessions[0] if len(sessions) == 1 else ReplicaSession(sessions, self._standing)

    def _is_expected(self, name: str) -> bool:
        settings = self._settings.completeness.metrics.get(name)
        return settings is None or settings.expected

    async def _version(self, api: PrometheusApi) -> str:
        """What the server says it is, for the note of each collection; empty if it does not say. Asked once."""
        if api.url not in self._versions:
            found = await api.look_up("status/buildinfo", {})
            self._versions[api.url] = f"Prometheus {found.get('version', '')}"[:100] if isinstance(found, dict) else ""
        return self._versions[api.url]

    async def _has(self, metric: str) -> bool:
        """Whether the server has any sample of the metric, however old; true where it cannot tell."""
        found = await self._api.look_up("label/__name__/values", {"match[]": metric})
        return found is None or metric in found

    async def _retention(self, api: PrometheusApi) -> int | None:
        found = await api.look_up("status/runtimeinfo", {})
        if not isinstance(found, dict):
            return None
        parts = _DURATION.findall(str(found.get("storageRetention", "")).split(" or ")[0])
        return sum(int(number) * _SECONDS[unit] for number, unit in parts) or None


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
