"""Asks Gnocchi what it has to prove of a period: who lived, which of their metrics are kept how, when they had points.

Resources and their revisions are asked once per period and resource type, points once per period and metric, never per
scope. Each question must get a whole answer, else there is no evidence at all (SourceError).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from collectors.bounded import remembered
from collectors.errors import NotSettledError, SourceError
from collectors.evidence import MetricEvidence
from collectors.gnocchi.answer import Policy
from collectors.gnocchi.api import GnocchiApi, Row
from collectors.gnocchi.args import GnocchiArgs, needed_methods
from collectors.gnocchi.darkness import DEFAULT_INTERVAL, Pace, off_spans, pace_of
from collectors.gnocchi.judgement import Judged, Measured, Watched, judge, seen_span
from collectors.gnocchi.resources import Resource, life_search, resources_of, whole_search
from collectors.metrics_yml import Metric
from collectors.settings import CollectorSettings, EvidenceSettings
from rater.model.interval import Interval

__all__ = ["Book", "GnocchiEvidence"]

SORT = ("revision_start", "id")  # a list of revisions can be paged by them
SETTLE = 120
_MOST_REMEMBERED = 500_000
_FEW = 20


class Book:
    """What is remembered for as long as the source lives: the archive policies of metrics, which never change; how long
    after a period it is of no use to ask; how much can be asked at once."""

    def __init__(self, api: GnocchiApi) -> None:
        self.intervals: dict[str, float] = {}
        """Seconds between two measures that have to be waited for, by public name."""
        self.waiting: dict[tuple[str, int], dict[str, frozenset[str]]] = {}
        """The metrics that were not processed when last asked, by scope; for a public name and a period."""
        self.at_once = 300
        """Resources, and scopes, in one question: Gnocchi takes some 5 ms for each, one after the other. Less, if it
        was too much."""
        self._api = api
        self._names: dict[str, str] = {}
        self._alone = asyncio.Lock()

    async def of(self, name: str, metric_ids: Iterable[str]) -> dict[str, Policy]:
        """The policies of metrics that all have one name, by their ids. Raises SourceError."""
        wanted = list(metric_ids)
        async with self._alone:
            unknown = [metric_id for metric_id in wanted if metric_id not in self._names]
            if len(self._names) > _MOST_REMEMBERED:
                self._names.clear()
                unknown = wanted
            if len(unknown) > _FEW:
                self._names |= await self._api.policies_of(name)
            else:  # the list has all that ever were
                for metric_id in unknown:
                    self._names[metric_id] = await self._api.policy_of(metric_id)
        policies = await self._api.policies()  # a policy's definition may be changed
        found = {}
        for metric_id in wanted:
            policy = policies.get(self._names.get(metric_id, ""))
            if policy is None:
                raise SourceError(f"Gnocchi does not show how {name!r} of id {metric_id} is kept, which a resource has")
            found[metric_id] = policy
        return found


class GnocchiEvidence:
    """The evidence of one period, as it is at `now` (seconds since the epoch)."""

    def __init__(self, api: GnocchiApi, book: Book, settings: CollectorSettings, period: Interval, now: float) -> None:
        self._api = api
        self._book = book
        self._settings = settings.completeness
        self._scope_key = settings.scope_key
        self._period = period
        self._now = now
        self._judged: dict[str, asyncio.Future[Judged]] = {}
        self._lives: dict[str, asyncio.Future[list[Resource]]] = {}
        self._rows: dict[str, asyncio.Future[list[Row]]] = {}
        self._backlog: asyncio.Future[dict[str, int]] | None = None

    async def settled(self, metric: Metric, scope_id: str) -> Judged:
        """What is known of a metric, once metricd has brought in what there is of a scope; for a period at most.

        Raises SourceError, NotSettledError if it is too early to know.
        """
        patience = self._period.end + (self._period.end - self._period.begin)
        place = (metric.name, self._period.begin)
        waiting = self._book.waiting.get(place, {}).get(scope_id, frozenset())
        if waiting and self._now < patience and not waiting.isdisjoint(await self._waits()):
            raise NotSettledError(_waiting(waiting))  # before all is asked again to find the same
        judged = await self.of(metric)
        if judged.unsettled and self._now < patience:
            self._book.waiting[place] = judged.unsettled
        else:
            self._book.waiting.pop(place, None)
        if scope_id in judged.unsettled and self._now < patience:
            raise NotSettledError(_waiting(judged.unsettled[scope_id]))
        return judged

    async def of(self, metric: Metric) -> Judged:
        """What is known of a metric; asked once. Raises SourceError, NotSettledError if it is too early to know."""
        future = self._judged.get(metric.name)
        if future is None:
            future = self._judged[metric.name] = remembered(self._gather(metric))
        return await asyncio.shield(future)

    async def resources(self, resource_type: str) -> list[Resource]:
        """Who lived in the period, all scopes together; asked once. Raises SourceError."""
        future = self._lives.get(resource_type)
        if future is None:
            future = self._lives[resource_type] = remembered(self._list(resource_type))
        return await asyncio.shield(future)

    async def current(self, resource_type: str) -> list[Row]:
        """The resources as they are now, which CloudKitty takes metadata from; asked once. Raises SourceError."""
        future = self._rows.get(resource_type)
        if future is None:
            length = self._period.end - self._period.begin
            search = whole_search(Interval(self._period.begin - length, self._period.end + length))
            job = self._api.rows(resource_type, search, history=False, sort=("id",))
            future = self._rows[resource_type] = remembered(job)
        return await asyncio.shield(future)

    async def _waits(self) -> dict[str, int]:
        """The bundles of measures that wait for metricd, by metric; asked once. Raises SourceError."""
        self._backlog = self._backlog or remembered(self._api.backlog())
        return await asyncio.shield(self._backlog)

    async def _list(self, resource_type: str) -> list[Resource]:
        rows = await self._api.rows(resource_type, life_search(self._period), history=True, sort=SORT)
        try:
            return [found for found in resources_of(rows) if found.lives(self._period)]
        except (KeyError, TypeError, ValueError) as fault:
            raise SourceError(
                f"Gnocchi shows a resource of type {resource_type} that cannot be read: {fault!r}"
            ) from None

    async def _gather(self, metric: Metric) -> Judged:
        args = metric.extra_args
        assert isinstance(args, GnocchiArgs), "metrics.yml was read for Gnocchi"
        if self._settings.mode == "off":
            return Judged(MetricEvidence(self._period, "no evidence was asked for (completeness.mode off)", weak=True))
        settings = self._settings.metrics.get(metric.name, EvidenceSettings())
        self._check_age(self._book.intervals.get(metric.name, 0.0))
        await self._waits()  # before the points: what does not wait is in them
        everyone = await self.resources(args.resource_type)
        living = [one for one in everyone if one.metric_ids(metric.metric)]
        without = [one for one in everyone if not one.metric_ids(metric.metric)]
        watched = await self._watched(living, metric.metric, settings)
        paces = (found.pace for one in watched for found in one.proof)
        interval = max(map(self._wait_of, paces), default=float(settings.interval or DEFAULT_INTERVAL))
        self._book.intervals[metric.name] = interval
        self._check_age(interval)
        state = settings.state
        by_attribute = (state.attribute, state.off) if state is not None and state.attribute else None
        methods = needed_methods(metric.metric, args)
        return judge(watched, args, methods, self._scope_key, self._period, self._now, by_attribute, without)

    def _check_age(self, interval: float) -> None:
        """Some time has to pass after the end of a period: measures come, and metricd takes them in."""
        length = self._period.end - self._period.begin
        settle = self._settings.settle if self._settings.settle is not None else min(SETTLE + 2 * interval, length)
        if self._now < self._period.end + settle:
            raise NotSettledError(f"the period is over for less than {settle:g} s")

    def _wait_of(self, pace: Pace) -> float:
        """An interval to wait for; granules as long as the period do not tell how often is measured."""
        coarse = pace.granularity >= self._period.end - self._period.begin
        return DEFAULT_INTERVAL if coarse else pace.interval

    # --- points

    async def _watched(self, living: Sequence[Resource], name: str, settings: EvidenceSettings) -> list[Watched]:
        """The resources with what is known of the points of their metrics. Raises SourceError."""
        own = await self._measured(living, name, settings)
        proof = await self._measured(living, settings.evidence, settings) if settings.evidence else own
        state = settings.state
        states = await self._states(living, state.metric) if state is not None and state.metric else {}
        found = []
        for resource in living:
            metrics = [own[metric_id] for metric_id in resource.metric_ids(name)]
            proving = [proof[metric_id] for metric_id in resource.metric_ids(settings.evidence or name)] or metrics
            off: list[Interval] = []
            for metric_id in resource.metric_ids(state.metric) if state is not None and state.metric else ():
                measured = states[metric_id]
                assert state is not None, "it was asked for"
                wanted = [float(value) for value in state.off]
                off += off_spans(sorted(measured.points.items()), wanted, measured.pace)
            found.append(Watched(resource, metrics, proving, off))
        return found

    async def _states(self, living: Sequence[Resource], name: str) -> dict[str, Measured]:
        """The values of a metric that says whether a resource is on."""
        return await self._measured(living, name, EvidenceSettings(), values=True)

    async def _measured(
        self, living: Sequence[Resource], name: str, settings: EvidenceSettings, *, values: bool = False
    ) -> dict[str, Measured]:
        """What is known of the points of all metrics of a name, by their ids. Raises SourceError."""
        by_name: dict[str, list[str]] = {}
        for resource in living:
            for metric_id in resource.metric_ids(name):
                exact = next(one for one, known in resource.metrics.items() if known == metric_id)
                by_name.setdefault(exact, []).append(metric_id)
        policies: dict[str, Policy] = {}
        for exact, metric_ids in sorted(by_name.items()):
            policies |= await self._book.of(exact, metric_ids)
        by_policy: dict[Policy, list[str]] = {}
        for metric_id, policy in policies.items():
            by_policy.setdefault(policy, []).append(metric_id)
        found: dict[str, Measured] = {}
        for policy, metric_ids in by_policy.items():
            found |= await self._of_policy(policy, metric_ids, settings, values=values)
        return found

    async def _of_policy(
        self, policy: Policy, metric_ids: Sequence[str], settings: EvidenceSettings, *, values: bool
    ) -> dict[str, Measured]:
        margin = 2 * (self._period.end - self._period.begin)
        definition = policy.finest(self._now - self._period.begin + margin)
        seen = seen_span(self._period, self._now, definition.granularity)
        method = _state_method(policy) if values else policy.marker
        points = await self._api.points(metric_ids, method, definition.granularity, seen.begin, seen.end)
        backlog = await self._waits()
        known = {metric_id: {point.begin: point.value for point in of_one} for metric_id, of_one in points.items()}
        begins = (sorted(of_one) for of_one in known.values())
        pace = pace_of(begins, definition.granularity, self._settings.slack, settings.interval)
        if not values and method != "count":
            known = {metric_id: dict.fromkeys(of_one, 1.0) for metric_id, of_one in known.items()}
        return {
            metric_id: Measured(metric_id, policy, pace, of_one, backlog.get(metric_id, 0))
            for metric_id, of_one in known.items()
        }


def _waiting(metric_ids: Iterable[str]) -> str:
    listed = sorted(metric_ids)
    return f"metricd has not processed all measures of {len(listed)} metrics, such as {listed[0]}"


def _state_method(policy: Policy) -> str:
    """The method that says most exactly what the state was."""
    return next((method for method in ("last", "max", "mean", "min") if method in policy.methods), policy.marker)
