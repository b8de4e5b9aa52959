"""The second half of a replay: numbers its collections and publishes those that do not lie in the topic yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple, Protocol

from collectors.bounded import run_all
from collectors.parts import CollectionDraft, encode_parts
from collectors.plans import PlanBook
from collectors.replay.drafts import drafts
from collectors.replay.intake import Intake
from collectors.replay.journal import Done, ReplayRun, collection_id
from collectors.replay.pace import Pace
from collectors.replay.words import ReplayOptions, ReplayProgress, Watcher
from rater.model.interval import Interval
from rater.model.rated import RejectedHeaders
from rater.model.usage import ScopePlan

__all__ = ["Posting", "ReplayLog"]

_PLANNED_SECONDS = 86_400  # what is planned at once
_AT_ONCE = 64  # collections that wait for the broker at the same time


class ReplayLog(Protocol):
    """Where a replay publishes: a `Publisher`, or a list in tests. Every call returns when it is confirmed."""

    async def send(self, scope_id: str, records: Sequence[bytes]) -> None:
        """Publish encoded records of a scope. Raises PublishError."""

    async def plan(self, plan: ScopePlan) -> None:
        """Publish what is expected of a scope. Raises PublishError."""

    async def reject(self, value: bytes, headers: RejectedHeaders) -> None:
        """Publish a refused line, whole, to `rejected`. Raises PublishError."""


class _Numbered(NamedTuple):
    """A collection to publish, encoded, and its place in the replay."""

    number: int
    draft: CollectionDraft
    records: list[bytes]
    last: bool


class Posting:
    """The second half of a replay: publishes what was read and is not there yet."""

    def __init__(
        self,
        intake: Intake,
        log: ReplayLog,
        plans: PlanBook,
        options: ReplayOptions,
        run: ReplayRun,
        done: Done,
        watcher: Watcher | None,
    ) -> None:
        self._intake = intake
        self._log = log
        self._plans = plans
        self._options = options
        self._run = run
        self._done = done
        self._watcher = watcher
        self._pace = Pace(options.rate)
        self._published = 0

    async def publish(self) -> int:
        """Publishes every collection, the last one when all else was confirmed; returns how many there are.

        Each day is planned just before its collections: a frame that is planned and still empty closes as missing
        after `engine.settle`, and a long file takes longer than that.
        """
        span = self._intake.expected.span()
        planned = span.begin
        count = 0
        held: list[_Numbered] = []
        for day, of_day in groupby(self._numbered(), lambda each: each.draft.begin // _PLANNED_SECONDS):
            planned = await self._plan(Interval(planned, (day + 1) * _PLANNED_SECONDS))
            count += await run_all((partial(self._deliver, each) for each in _all_but_last(of_day, held)), _AT_ONCE)
        await self._plan(Interval(planned, span.end))
        rejections = (partial(self._log.reject, each.raw, each.headers()) for each in self._intake.refusals())
        await run_all(rejections, _AT_ONCE)
        for each in held:
            await self._deliver(each)
        return count + len(held)

    def _numbered(self) -> Iterator[_Numbered]:
        """Every collection with its name and its sequence numbers: the same ones each time the replay goes on."""
        sequences: dict[str, int] = {}
        options, run = self._options, self._run
        for number, draft, last in _lasting(drafts(self._intake, options.source, options.period_seconds, run.attempt)):
            first = sequences.get(draft.scope_id, 0)
            name = collection_id(run, number, last=last)
            records = encode_parts(draft, name, run.producer_id, first)
            sequences[draft.scope_id] = first + len(records)
            yield _Numbered(number, draft, records, last)

    async def _deliver(self, each: _Numbered) -> None:
        """Publishes the parts of a collection that are not there yet."""
        if not self._done.is_whole(each.number):
            there = self._done.parts_of(each.number)
            await self._pace.take(max(1, len(each.draft.samples)))
            await self._log.send(
                each.draft.scope_id, [record for part, record in enumerate(each.records) if part not in there]
            )
        self._published += len(each.draft.samples)
        if self._watcher:
            samples = self._intake.samples
            self._watcher(ReplayProgress("publishing", self._published, samples, samples))

    async def _plan(self, stretch: Interval) -> int:
        """Plans all that is expected for a stretch; returns where the stretch ends."""
        expected = self._intake.expected
        end = min(stretch.end, expected.span().end)
        if stretch.begin < end:
            within = Interval(stretch.begin, end)
            await run_all((partial(self._plan_scope, scope_id, within) for scope_id in expected.scopes()), _AT_ONCE)
        return max(stretch.begin, end)

    async def _plan_scope(self, scope_id: str, within: Interval) -> None:
        for plan in self._intake.expected.plans(self._plans, self._options.source, scope_id, within):
            await self._log.plan(plan)


def _lasting(found: Iterable[CollectionDraft]) -> Iterator[tuple[int, CollectionDraft, bool]]:
    """Each collection with its number, and whether it is the last."""
    number = 0
    held: CollectionDraft | None = None
    for draft in found:
        if held is not None:
            yield number, held, False
            number += 1
        held = draft
    if held is not None:
        yield number, held, True


def _all_but_last(found: Iterable[_Numbered], last: list[_Numbered]) -> Iterator[_Numbered]:
    for each in found:
        if each.last:
            last.append(each)
        else:
            yield each
