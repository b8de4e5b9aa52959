"""Several Prometheus servers that scrape the same targets: one answer per metric and period, never two added.

The answer is that of the replica that saw most, for all scopes alike, so that they still share their questions. One
that is away or answers in part is passed over, and said to be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from collectors.bounded import remembered
from collectors.errors import NotSettledError, SourceAwayError, SourceError
from collectors.evidence import MetricEvidence
from collectors.metrics_yml import Metric
from collectors.source import Answer
from rater.model.interval import seconds, subtract

__all__ = ["Replica", "ReplicaSession", "Standing"]

log = logging.getLogger(__name__)

_SHOWN_FAULT = 300
_AWAY_SECONDS = 30.0  # one that is away is not asked for so long: each question might take ten seconds to fail

_TOLD_SECONDS = 300.0


class Standing:
    """Which replicas failed lately, over all periods; told to the log, each now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._away: dict[str, tuple[float, str]] = {}
        self._has_recovered = False

    def failed(self, url: str, fault: SourceError) -> None:
        """It gave no answer, or not a whole one."""
        if isinstance(fault, NotSettledError):
            return
        if isinstance(fault, SourceAwayError):
            self._away[url] = (self._clock() + _AWAY_SECONDS, str(fault))
        if self._clock() >= self._told.get(url, 0.0):
            self._told[url] = self._clock() + _TOLD_SECONDS
            log.warning("%s is passed over while other replicas answer: %s", url, fault)

    def answered(self, url: str) -> None:
        """It gave a whole answer."""
        if self._away.pop(url, None):
            self._told.pop(url, None)
            self._has_recovered = True
            log.info("%s answers again", url)

    def has_recovered(self) -> bool:
        """Whether one that was away has answered since this was last asked."""
        found, self._has_recovered = self._has_recovered, False
        return found

    def away(self, url: str) -> str:
        """Why it need not be asked just now; empty if it may be."""
        until, reason = self._away.get(url, (0.0, ""))
        return reason if self._clock() < until else ""


class Replica(Protocol):
    """One period as one server shows it; `PrometheusSession` is one."""

    url: str

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        """Which scopes will be asked for."""

    async def close(self) -> None:
        """Nothing more is asked."""

    async def evidence(self, metric: Metric) -> MetricEvidence:
        """What is known of a metric. Raises SourceError, NotSettledError."""

    async def answer(self, scope_id: str, metric: Metric, evidence: MetricEvidence) -> Answer:
        """The usage of a scope, with what the evidence says of it. Raises SourceError."""

    async def shows_nothing(self, scope_id: str, metric: Metric) -> bool:
        """Whether it has no usage of the scope. Raises SourceError."""


class _Ranked(NamedTuple):
    """The replicas that have evidence of a metric, the one that saw most first; and why the others have none."""

    seen: list[tuple[Replica, MetricEvidence]]
    passed: list[str]


class ReplicaSession:
    """One period, asked at several replicas. A `SharingSession`."""

    def __init__(self, replicas: Sequence[Replica], standing: Standing) -> None:
        """At least one replica; of those that saw equally much the first answers."""
        self._replicas = replicas
        self._standing = standing
        self._asked: Mapping[str, Sequence[str]] = {}
        self._found: dict[str, asyncio.Future[_Ranked]] = {}

    def expect(self, asked: Mapping[str, Sequence[str]]) -> None:
        """Which scopes will be asked for."""
        self._asked = asked
        for replica in self._replicas:
            replica.expect(asked)

    async def close(self) -> None:
        """Nothing more is asked."""
        for replica in self._replicas:
            await replica.close()

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        """The answer of the replica that saw most and answers. Raises SourceError, SourceAwayError if all are away."""
        ranked = await self._ranked(metric)
        passed = list(ranked.passed)
        faults: list[SourceError] = []
        candidates = [pair for pair in ranked.seen if not self._standing.away(pair[0].url)] or ranked.seen
        passed += [self._asleep(one) for one, _ in ranked.seen if one not in [awake for awake, _ in candidates]]
        for place, (replica, evidence) in enumerate(candidates):
            try:
                answer = await replica.answer(scope_id, metric, evidence)
            except SourceError as fault:
                self._standing.failed(replica.url, fault)
                faults.append(fault)
                passed.append(_said(replica.url, fault))
                continue
            if not (answer.series or answer.quarantined):
                answer = await self._as_zero(answer, evidence, candidates[place + 1 :], scope_id, metric)
            note = "; ".join([f"answered by {replica.url}", answer.note, *passed])
            return msgspec.structs.replace(answer, note=note[:2000])
        raise _no_answer(passed, faults)

    # --- which of them answers

    async def _ranked(self, metric: Metric) -> _Ranked:
        future = self._found.get(metric.name)
        if future is None:
            future = self._found[metric.name] = remembered(self._rank(metric))
        return await asyncio.shield(future)

    async def _rank(self, metric: Metric) -> _Ranked:
        """Asks all replicas for their evidence. Raises SourceError if none has any, or if a better one may follow."""
        found = await asyncio.gather(*(self._evidence(replica, metric) for replica in self._waking()))
        seen = [(one, what) for one, what in found if isinstance(what, MetricEvidence)]
        faults = [(one, what) for one, what in found if isinstance(what, SourceError)]
        passed = [_said(one.url, fault) for one, fault in faults]
        passed += [self._asleep(one) for one in self._replicas if one not in [asked for asked, _ in found]]
        if not seen:
            raise _no_answer(passed, [fault for _, fault in faults])
        scopes = self._asked.get(metric.internal_key) or {"", *(s for _, what in seen for s in what.missing_of)}
        seen.sort(key=lambda pair: _rank_of(pair[1], scopes), reverse=True)
        best = seen[0][1]
        unsettled = [fault for _, fault in faults if isinstance(fault, NotSettledError)]
        if unsettled and any(seconds(best.seen(scope_id)) < _length(best) for scope_id in scopes):
            raise unsettled[0]  # it may yet show what the others lack
        return _Ranked(seen, passed)

    def _asleep(self, replica: Replica) -> str:
        return _said(replica.url, self._standing.away(replica.url) or "it was away just now")

    def _waking(self) -> Sequence[Replica]:
        """Those that are not known to be away; all of them if there is no other."""
        return [one for one in self._replicas if not self._standing.away(one.url)] or self._replicas

    async def _evidence(self, replica: Replica, metric: Metric) -> tuple[Replica, MetricEvidence | SourceError]:
        try:
            evidence = await replica.evidence(metric)
        except SourceError as fault:
            self._standing.failed(replica.url, fault)
            return replica, fault
        self._standing.answered(replica.url)
        return replica, evidence

    # --- nothing at all

    async def _as_zero(
        self,
        answer: Answer,
        evidence: MetricEvidence,
        others: Sequence[tuple[Replica, MetricEvidence]],
        scope_id: str,
        metric: Metric,
    ) -> Answer:
        """Where several replicas show nothing of a scope, what any of them saw proves that nothing was used.

        No numbers are put together by it: there are none.
        """
        for replica, other in others:
            if seconds(evidence.seen(scope_id)) == _length(evidence):
                break
            if not subtract(other.seen(scope_id), evidence.seen(scope_id)):
                continue
            try:
                shows_nothing = await replica.shows_nothing(scope_id, metric)
            except SourceError as fault:
                self._standing.failed(replica.url, fault)
                continue
            if shows_nothing:
                evidence = evidence.beside(other, scope_id)
                verdict = evidence.of(scope_id)
                note = f"{answer.note}; {replica.url} looked as well and has nothing of this scope either"
                answer = msgspec.structs.replace(answer, covers=verdict.covers, proof=verdict.proof, note=note)
        return answer


def _length(evidence: MetricEvidence) -> int:
    return evidence.period.end - evidence.period.begin


def _rank_of(evidence: MetricEvidence, scopes: Sequence[str] | set[str]) -> tuple[int, bool, int]:
    """How much was seen: seconds over all scopes; then what is not weak, then who lost the fewest scrapes."""
    everyone = seconds(evidence.seen(""))
    single = [scope_id for scope_id in scopes if evidence.missing_of.get(scope_id)]
    seen = everyone * (len(scopes) - len(single)) + sum(seconds(evidence.seen(scope_id)) for scope_id in single)
    return seen, not evidence.weak, -evidence.lost


def _said(url: str, fault: SourceError | str) -> str:
    return f"{url} passed over: {fault}"[:_SHOWN_FAULT]


def _no_answer(passed: list[str], faults: list[SourceError]) -> SourceError:
    """What is raised when no replica answered: away if all are, not settled if any may answer later."""
    text = "; ".join(passed)[:2000]
    if any(isinstance(fault, NotSettledError) for fault in faults):
        return NotSettledError(text)
    away = [fault for fault in faults if isinstance(fault, SourceAwayError)]
    if len(away) == len(faults):
        return SourceAwayError(text, min((fault.retry_after for fault in away), default=0.0))
    return SourceError(text)
