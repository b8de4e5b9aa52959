"""One question for many scopes: for a thousand of them and twenty metrics some hundred, in place of twenty thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from collectors.errors import SourceAwayError, SourceError
from collectors.metrics_yml import Metric
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.promql import PrometheusArgs, each_scope_alone, usage_query
from rater.model.interval import Interval

__all__ = ["Batches"]

SCOPES_AT_ONCE = 200  # a matcher of 200 ids of 36 characters is 8 kB: Prometheus parses it in a millisecond
MOST_FAILURES = 16  # in a row: the way from a chunk down to one scope that always fails has 9
Found: TypeAlias = dict[str, list[Item] | SourceError]
"""What was answered by scope, or why not."""


class Batches:
    """The usage queries of one period. Scopes that are known to be asked share their questions."""

    def __init__(
        self, api: PrometheusApi, scope_key: str, period: Interval, scopes: Mapping[str, Sequence[str]]
    ) -> None:
        """`scopes` that will be asked, by the internal key of the metric; others are asked one by one."""
        self._api = api
        self._scope_key = scope_key
        self._period = period
        self._chunks = {
            (key, scope_id): chunk
            for key, of_metric in scopes.items()
            for begin in range(0, len(of_metric), SCOPES_AT_ONCE)
            for chunk in [tuple(of_metric[begin : begin + SCOPES_AT_ONCE])]
            for scope_id in chunk
        }
        self._asked: dict[tuple[str, tuple[str, ...]], asyncio.Task[Found]] = {}

    async def items(self, scope_id: str, metric: Metric) -> list[Item]:
        """What the metric's query gives for the scope. Raises SourceError."""
        args = metric.extra_args
        assert isinstance(args, PrometheusArgs), "metrics.yml was read for Prometheus"
        chunk = self._chunks.get((metric.internal_key, scope_id), ())
        if len(chunk) < 2 or not each_scope_alone(args):
            return await self._query(metric, args, (scope_id,))
        place = (metric.internal_key, chunk)
        if place not in self._asked:
            self._asked[place] = asyncio.create_task(self._ask_all(metric, args, chunk))
        found = (await asyncio.shield(self._asked[place]))[scope_id]
        if isinstance(found, SourceError):
            raise found
        return found

    async def close(self) -> None:
        """Gives up questions that nobody waits for any more."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _ask_all(self, metric: Metric, args: PrometheusArgs, scopes: tuple[str, ...]) -> Found:
        """Each has an answer or an error: nobody may be there any more who would take one that is raised."""
        try:
            return await self._ask(metric, args, scopes)
        except SourceAwayError as away:
            return dict.fromkeys(scopes, away)

    async def _ask(self, metric: Metric, args: PrometheusArgs, scopes: tuple[str, ...]) -> Found:
        """All of them at once; halves, if that is too much for the source. Raises SourceAwayError.

        After some failures in a row those that are left share the last one: each may have cost the whole timeout.
        """
        found: Found = {}
        left, failures = [scopes], 0
        while left:
            asked = left.pop()
            try:
                found |= self._by_scope(await self._query(metric, args, asked), asked)
                failures = 0
            except SourceAwayError:
                raise
            except SourceError as failure:
                failures += 1
                if failures >= MOST_FAILURES:
                    return found | {scope_id: failure for few in (asked, *left) for scope_id in few}
                if len(asked) == 1:
                    found[asked[0]] = failure
                else:
                    left += [asked[len(asked) // 2 :], asked[: len(asked) // 2]]
        return found

    def _by_scope(self, items: list[Item], scopes: tuple[str, ...]) -> Found:
        lists: dict[str, list[Item]] = {scope_id: [] for scope_id in scopes}
        for item in items:
            lists[item.metric.get(self._scope_key, "")].append(item)
        return {**lists}

    async def _query(self, metric: Metric, args: PrometheusArgs, scopes: tuple[str, ...]) -> list[Item]:
        length = self._period.end - self._period.begin
        return await self._api.query(usage_query(metric, args, self._scope_key, scopes, length), self._period.end)
