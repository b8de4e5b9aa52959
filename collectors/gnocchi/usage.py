"""The usage questions of one period: CloudKitty's, with one question for many scopes, and resources that several had
divided between them.

A resource that changes within the period (it moved, it was resized) is asked for without history and divided by its
revisions here: asked with history and for one scope, Gnocchi gives the whole of it to whoever had it last, and has no
difference (`rate:`) for a revision that begins within the period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from collectors.bounded import remembered
from collectors.errors import SourceAwayError, SourceError
from collectors.gnocchi.answer import Group
from collectors.gnocchi.api import GnocchiApi, instant_text
from collectors.gnocchi.args import GnocchiArgs, operation
from collectors.gnocchi.evidence import Book, GnocchiEvidence
from collectors.gnocchi.items import Item, Key, Reading, divided, grouped, latest_revisions, reading, split_keys
from collectors.gnocchi.judgement import Judged, granularity_of
from collectors.gnocchi.resources import not_long_ended
from collectors.metrics_yml import Metric
from collectors.settings import CollectorSettings
from rater.model.interval import Interval

__all__ = ["Plan", "Usage"]

_LEAST_AT_ONCE = 20
_IDS_AT_ONCE = 200

_Found: TypeAlias = dict[str, list[Group] | SourceError]
"""What was answered by scope, or why not."""


class Plan(NamedTuple):
    """How a metric is asked for."""

    args: GnocchiArgs
    reading: Reading
    like_cloudkitty: bool
    divided: dict[str, dict[Key, list[Interval]]]
    """Who had which resource when, of those that are asked for by id."""
    without: list[str]
    """Resources that the other questions leave out."""
    moved: dict[str, list[str]]
    """Resources that came or went within the period, by scope."""
    chunks: dict[str, tuple[str, ...]]
    """The scopes that share a question, by each of them."""

    def remark(self, scope_id: str) -> str:
        """What a note has to say of the numbers of a scope."""
        moved = self.moved.get(scope_id, []) if self.like_cloudkitty else []
        return f"moved, and billed twice in part as CloudKitty does: {', '.join(moved[:5])}" if moved else ""


class Usage:
    """The usage of one period. Scopes that are known to be asked share their questions."""

    def __init__(
        self,
        api: GnocchiApi,
        settings: CollectorSettings,
        evidence: GnocchiEvidence,
        book: Book,
        period: Interval,
        scopes: Mapping[str, Sequence[str]],
    ) -> None:
        """`scopes` that will be asked, by the internal key of the metric; others are asked one by one."""
        self._api = api
        self._settings = settings
        self._evidence = evidence
        self._book = book
        self._period = period
        self._scopes = scopes
        self._plans: dict[str, asyncio.Future[Plan]] = {}
        self._asked: dict[tuple[str, tuple[str, ...]], asyncio.Task[_Found]] = {}
        self._divided: dict[str, asyncio.Future[list[Item]]] = {}

    async def close(self) -> None:
        """Gives up questions that nobody waits for any more."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def items(self, scope_id: str, metric: Metric, judged: Judged) -> list[Item]:
        """What the scope is billed, before conversion. Raises SourceError."""
        plan = await self.plan(metric, judged)
        found = grouped(await self._groups(scope_id, metric, plan), plan.reading)
        if plan.divided:
            at = plan.reading.names.index(self._settings.scope_key)
            found += [item for item in await self._shares(metric, plan) if item.key[at] == scope_id]
        if not plan.args.use_all_resource_revisions:
            return latest_revisions(found, plan.reading, like_cloudkitty=plan.like_cloudkitty)
        return found

    async def plan(self, metric: Metric, judged: Judged) -> Plan:
        """How the metric is asked for; found out once. Raises SourceError."""
        key = metric.internal_key
        if key not in self._plans:
            self._plans[key] = remembered(self._make(metric, judged))
        return await asyncio.shield(self._plans[key])

    # --- the plan

    async def _make(self, metric: Metric, judged: Judged) -> Plan:
        args = metric.extra_args
        assert isinstance(args, GnocchiArgs), "metrics.yml was read for Gnocchi"
        settings, scope_key = self._settings.gnocchi, self._settings.scope_key
        read = reading(metric, args, scope_key, self._period, settings.granules, settings.combine)
        like_cloudkitty = self._settings.numbers == "cloudkitty" and (
            settings.granules == "first" or self._is_whole(args, judged)
        )
        living = [one for one in await self._evidence.resources(args.resource_type) if one.metric_ids(metric.metric)]
        splits = {one.resource_id: split_keys(one, read) for one in living if len(one.shares(self._period)) > 1}
        at = read.names.index(scope_key)
        moved: dict[str, list[str]] = {}
        for resource_id, spans in splits.items():
            owners = {str(key[at]) for key in spans}
            for scope_id in owners if len(owners) > 1 else ():
                moved.setdefault(scope_id, []).append(resource_id)
        barred = set(judged.barred)
        by_id = {} if like_cloudkitty else {one: spans for one, spans in splits.items() if one not in barred}
        counts: dict[str, int] = {}
        for one in living:
            for scope_id in {str(piece.attributes.get(scope_key)) for piece in one.pieces(self._period)}:
                counts[scope_id] = counts.get(scope_id, 0) + 1
        alone = set(moved) if like_cloudkitty else set()
        chunks = _chunks(self._scopes.get(metric.internal_key, ()), counts, alone, self._book.at_once)
        return Plan(args, read, like_cloudkitty, by_id, sorted({*barred, *by_id}), moved, chunks)

    def _is_whole(self, args: GnocchiArgs, judged: Judged) -> bool:
        """Whether one granule is the period, so that there is nothing to put together."""
        length = self._period.end - self._period.begin
        if args.force_granularity:
            return args.force_granularity == length
        found = (granularity_of(policy, args) for policy in judged.policies.values())
        return all(one is None or one.granularity == length for one in found)

    # --- questions

    async def _groups(self, scope_id: str, metric: Metric, plan: Plan) -> list[Group]:
        """The groups of a scope, its own question's or its share of one that many have. Raises SourceError."""
        chunk = plan.chunks.get(scope_id, (scope_id,))
        if len(chunk) == 1:
            return await self._ask(metric, plan, chunk)
        place = (metric.internal_key, chunk)
        if place not in self._asked:
            self._asked[place] = asyncio.create_task(self._ask_all(metric, plan, chunk))
        found = (await asyncio.shield(self._asked[place]))[scope_id]
        if isinstance(found, SourceError):
            raise found
        return found

    async def _ask_all(self, metric: Metric, plan: Plan, scopes: tuple[str, ...]) -> _Found:
        """Each has an answer or an error: nobody may be there any more who would take one that is raised."""
        try:
            return await self._ask_halves(metric, plan, scopes)
        except SourceAwayError as away:
            return dict.fromkeys(scopes, away)

    async def _ask_halves(self, metric: Metric, plan: Plan, scopes: tuple[str, ...]) -> _Found:
        """All of them at once; halves, if that is too much for the source. Raises SourceAwayError."""
        try:
            return self._by_scope(await self._ask(metric, plan, scopes), scopes)
        except SourceAwayError:
            raise
        except SourceError as failure:
            if len(scopes) == 1:
                return {scopes[0]: failure}
        self._book.at_once = max(_LEAST_AT_ONCE, self._book.at_once // 2)
        middle = len(scopes) // 2
        first = await self._ask_halves(metric, plan, scopes[:middle])
        return first | await self._ask_halves(metric, plan, scopes[middle:])

    def _by_scope(self, groups: list[Group], scopes: tuple[str, ...]) -> _Found:
        lists: dict[str, list[Group]] = {scope_id: [] for scope_id in scopes}
        for group in groups:
            scope_id = group.group.get(self._settings.scope_key)
            if scope_id not in lists:
                raise SourceError(f"Gnocchi answers for scope {str(scope_id)[:100]!r}, which was not asked for")
            lists[scope_id].append(group)
        return {**lists}

    async def _ask(self, metric: Metric, plan: Plan, scopes: tuple[str, ...]) -> list[Group]:
        """CloudKitty's question, for one scope or more. Raises SourceError."""
        scope_key = self._settings.scope_key
        wanted = [{"=": {scope_key: scope_id}} for scope_id in scopes]
        search = [_of_type(plan.args), wanted[0] if len(wanted) == 1 else {"or": wanted}]
        if not plan.like_cloudkitty:  # which reads every resource there ever was
            search.append(not_long_ended(self._period))
        if plan.without:
            search.append({"not": {"in": {"id": plan.without}}})
        groupby = [("groupby", name) for name in plan.reading.names]
        return await self._aggregates(metric, plan, {"and": search}, [("use_history", "true"), *groupby])

    async def _shares(self, metric: Metric, plan: Plan) -> list[Item]:
        """The items of resources that several groups had; asked once for all scopes. Raises SourceError."""
        key = metric.internal_key
        if key not in self._divided:
            self._divided[key] = remembered(self._divide(metric, plan))
        return await asyncio.shield(self._divided[key])

    async def _divide(self, metric: Metric, plan: Plan) -> list[Item]:
        ids = sorted(plan.divided)
        chunks = [ids[at : at + _IDS_AT_ONCE] for at in range(0, len(ids), _IDS_AT_ONCE)]
        searches = ({"and": [_of_type(plan.args), {"in": {"id": chunk}}]} for chunk in chunks)
        answers = await asyncio.gather(
            *(self._aggregates(metric, plan, search, [("groupby", "id")]) for search in searches)
        )
        return [item for groups in answers for item in divided(groups, plan.divided, plan.reading)]

    async def _aggregates(
        self, metric: Metric, plan: Plan, search: dict[str, Any], more: Sequence[tuple[str, str]]
    ) -> list[Group]:
        args = plan.args
        begin = self._period.begin - (args.force_granularity if args.is_rate_of_groups else 0)
        parameters = [("start", instant_text(begin)), ("stop", instant_text(self._period.end)), *more]
        if args.force_granularity:
            parameters.append(("granularity", str(args.force_granularity)))
        question = {
            "operations": operation(metric.metric, args), "resource_type": args.resource_type, "search": search
        }  # fmt: skip
        return await self._api.groups(question, parameters)


def _of_type(args: GnocchiArgs) -> dict[str, Any]:
    return {"=": {"type": args.resource_type}}


def _chunks(
    scopes: Sequence[str], counts: Mapping[str, int], alone: set[str], at_once: int
) -> dict[str, tuple[str, ...]]:
    """Scopes that share a question, so many that it does not ask for too many resources."""
    chunks: list[list[str]] = []
    weight = at_once
    for scope_id in scopes:
        own = 1 + counts.get(scope_id, 0)
        if scope_id in alone:
            chunks.insert(0, [scope_id])
            continue
        if not chunks or weight + own > at_once:
            chunks.append([])
            weight = 0
        chunks[-1].append(scope_id)
        weight += own
    return {scope_id: tuple(chunk) for chunk in chunks for scope_id in chunk}
