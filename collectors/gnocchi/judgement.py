"""What Gnocchi's own lists prove of one metric in one period: the rules of EVIDENCE.md, as arithmetic.

Pure functions and values; `collectors.gnocchi.evidence` asks the questions. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil

import msgspec

from collectors.evidence import MetricEvidence, Verdict, shown
from collectors.gnocchi.answer import Definition, Policy
from collectors.gnocchi.args import GnocchiArgs
from collectors.gnocchi.darkness import Pace, dark, missing_by_scope
from collectors.gnocchi.resources import Resource
from collectors.times import iso
from rater.model.interval import Interval, clip, union

__all__ = ["Judged", "Measured", "Wanted", "Watched", "granularity_of", "judge", "policy_fault", "seen_span"]

_MOST_NAMED = 5  # resources that a note names
_DARK = "not measured"


class Measured(msgspec.Struct, frozen=True):
    """What is known of the points of one metric of one resource."""

    metric_id: str
    policy: Policy
    pace: Pace
    points: dict[int, float]
    """By the begin of a granule: how many measures it has; 1 where the policy does not count."""
    bundles: int = 0
    """That wait for metricd."""


class Watched(msgspec.Struct, frozen=True):
    """A resource that lived in the period, and what is known of its metrics."""

    resource: Resource
    metrics: list[Measured]
    """Those that are billed."""
    proof: list[Measured]
    """Those whose points count as proof: the same, or those of a sibling metric."""
    off: list[Interval] = []
    """When it was off by a metric of its state."""


class Wanted(msgspec.Struct, frozen=True):
    """The granules for which a resource has measures, so that each has to have a value."""

    resource: Resource
    begins: frozenset[int]
    length: int


class Judged(msgspec.Struct, frozen=True):
    """What is proven of a metric, by scope, and what an answer has to be compared with.

    It is kept for as long as the period is asked about, so it holds no points.
    """

    evidence: MetricEvidence
    count: int = 0
    """Resources that lived and have the metric."""
    owned: dict[str, int] = {}
    """How many of them each scope had."""
    wanted: list[Wanted] = []
    barred: list[str] = []
    """Resources that Gnocchi cannot answer for: one of them would spoil the answer for all."""
    unsettled: dict[str, frozenset[str]] = {}
    """Scopes of which measures are still being processed: the metrics that wait for that."""
    weak: frozenset[str] = frozenset()
    """Scopes of which a part of the period may be missing without a sign."""
    policies: dict[str, Policy] = {}
    """By name, of all of them."""
    interval: float | None = None
    """Seconds between two measures of the slowest; None if none has two."""
    seen_at: int | None = None
    is_coarse: bool = False
    """Whether any has granules as long as the period."""

    def of(self, scope_id: str) -> Verdict:
        """What is proven for one scope, used or not."""
        verdict = self.evidence.of(scope_id)
        note = f"{self.owned.get(scope_id, 0)} of {verdict.note}" if self.count else verdict.note
        return Verdict(verdict.covers, "weak" if scope_id in self.weak else verdict.proof, note[:2000])


class Reasons:
    """Why something is missing or doubtful, by scope; a few resources are named, the others counted."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[str]]] = {}

    def add(self, scopes: Iterable[str], why: str, detail: str) -> None:
        """Note a reason with what it is about."""
        for scope_id in scopes:
            self._found.setdefault(scope_id, {}).setdefault(why, []).append(detail)

    def texts(self) -> dict[str, list[str]]:
        """All of them, by scope."""
        return {
            scope_id: [f"{why}: {_some(details)}" for why, details in of_scope.items()]
            for scope_id, of_scope in self._found.items()
        }


def _some(details: Sequence[str]) -> str:
    more = f" and {len(details) - _MOST_NAMED} more" if len(details) > _MOST_NAMED else ""
    return f"{', '.join(details[:_MOST_NAMED])}{more}"


def granularity_of(policy: Policy, args: GnocchiArgs) -> Definition | None:
    """The one granularity that is asked for; None if the policy has not, or has several where any is asked for."""
    if args.force_granularity:
        return policy.has(float(args.force_granularity))
    return policy.definitions[0] if len(policy.definitions) == 1 else None


def policy_fault(policy: Policy, args: GnocchiArgs, methods: Iterable[str], period_seconds: int) -> str:
    """Why metrics of this policy cannot be billed as the metric is defined, in words; empty if they can."""
    lacking = sorted(set(methods) - policy.methods)
    if lacking:
        return f"archive policy {policy.name!r} has no {' and no '.join(lacking)}"
    definition = granularity_of(policy, args)
    if definition is None and args.force_granularity:
        return f"archive policy {policy.name!r} has no granularity of {args.force_granularity} s"
    if definition is None:
        return f"archive policy {policy.name!r} has several granularities, which force_granularity 0 would add up"
    if definition.granularity > period_seconds:
        return f"archive policy {policy.name!r} has granules of {definition.granularity:g} s, longer than the period"
    return ""


def judge(
    watched: Sequence[Watched], args: GnocchiArgs, methods: Sequence[str], scope_key: str, period: Interval, now: float,
    state: tuple[str, Sequence[object]] | None = None, without: Sequence[Resource] = (),
) -> Judged:  # fmt: skip
    """What is missing, by scope and to the granularity. `methods` are those that the question needs of a policy.

    `state` is an attribute of resources and the values of it that mean off; `without` are the resources that lived and
    have no such metric.
    """
    found = _Findings(scope_key, period)
    for one in watched:
        pieces = one.resource.pieces(period)
        for holes, why in _holes(one, args, methods, period, now):
            off = [*one.off, *(piece.span for piece in pieces if state and piece.attributes.get(state[0]) in state[1])]
            found.miss(one.resource, missing_by_scope(holes, pieces, scope_key, off if why == _DARK else ()), why)
        found.watch(one, args, methods)
    for resource in without:
        found.lack(resource, alone=not watched)
    return found.judged(watched, args)


class _Findings:
    """What is found of one resource after the other."""

    def __init__(self, scope_key: str, period: Interval) -> None:
        self._scope_key = scope_key
        self._period = period
        self._length = period.end - period.begin
        self._missing: dict[str, list[Interval]] = {}
        self._owned: dict[str, int] = {}
        self._unsettled: dict[str, frozenset[str]] = {}
        self._weak: set[str] = set()
        self._reasons = Reasons()
        self._barred: list[str] = []

    def miss(self, resource: Resource, parts_of: dict[str, list[Interval]], why: str) -> None:
        """A resource is missing for those who had it."""
        for scope_id, parts in parts_of.items():
            self._missing.setdefault(scope_id, []).extend(parts)
            self._reasons.add([scope_id], why, f"{resource.resource_id} {shown(parts, 3)}")

    def watch(self, one: Watched, args: GnocchiArgs, methods: Sequence[str]) -> None:
        """Whose a resource was, whether it can be asked for, and what is doubtful about it."""
        scopes = _scopes(one.resource, self._scope_key, self._period)
        waiting = frozenset(found.metric_id for found in (*one.metrics, *one.proof) if _waits(found, self._period))
        for scope_id in scopes:
            self._owned[scope_id] = self._owned.get(scope_id, 0) + 1
            if waiting:
                self._unsettled[scope_id] = self._unsettled.get(scope_id, frozenset()) | waiting
        if any(policy_fault(found.policy, args, methods, self._length) for found in one.metrics):
            self._barred.append(one.resource.resource_id)
        if _is_coarse(one, self._length):
            self._weak |= scopes
        _suspect(one, args, self._period, scopes, self._reasons)

    def lack(self, resource: Resource, *, alone: bool) -> None:
        """A resource has no such metric; `alone`: nor has any other, so it may have another name now."""
        scopes = _scopes(resource, self._scope_key, self._period)
        self._reasons.add(scopes, "without this metric", resource.resource_id)
        if alone:
            self._weak |= scopes

    def judged(self, watched: Sequence[Watched], args: GnocchiArgs) -> Judged:
        """All of it."""
        missing_of = {scope_id: union(parts) for scope_id, parts in self._missing.items()}
        barred = set(self._barred)
        wanted = (_wanted(one, args, self._period) for one in watched if one.resource.resource_id not in barred)
        proofs = [found for one in watched for found in one.proof]
        return Judged(
            MetricEvidence(self._period, _summary(watched), missing_of=missing_of, reasons_of=self._reasons.texts()),
            count=len(watched),
            owned=self._owned,
            wanted=[one for one in wanted if one is not None],
            barred=self._barred,
            unsettled=self._unsettled,
            weak=frozenset(self._weak),
            policies={found.policy.name: found.policy for one in watched for found in one.metrics},
            interval=max((found.pace.interval for found in proofs if found.points), default=None),
            seen_at=max((point for found in proofs for point in found.points), default=None),
            is_coarse=any(_is_coarse(one, self._length) for one in watched),
        )


def _scopes(resource: Resource, scope_key: str, period: Interval) -> set[str]:
    """Who had it in the period."""
    named = (piece.attributes.get(scope_key) for piece in resource.pieces(period))
    return {scope_id for scope_id in named if isinstance(scope_id, str) and scope_id}


def _is_coarse(one: Watched, length: int) -> bool:
    return any(found.pace.granularity >= length for found in one.proof)


def _wanted(one: Watched, args: GnocchiArgs, period: Interval) -> Wanted | None:
    """The granules of the question in which something was measured that has a value if it is a number."""
    begins: set[int] = set()
    length = 0
    for found in one.metrics:
        definition = granularity_of(found.policy, args)
        if definition is None or definition.granularity < 1:
            continue
        length = round(definition.granularity)
        counted = {point - point % length for point in found.points if period.begin <= point < period.end}
        begins.update(begin for begin in counted if _has_value(found, args, begin, length, period))
    return Wanted(one.resource, frozenset(begins), length) if begins else None


def _has_value(found: Measured, args: GnocchiArgs, begin: int, length: int, period: Interval) -> bool:
    """Whether numbers in the granule would have made a value of it."""
    before = [point for point in found.points if point < begin]
    if args.is_rate_of_groups:  # a difference to the granule before, as far back as is asked
        return any(point >= period.begin - length for point in before)
    inside = sum(count for point, count in found.points.items() if begin <= point < begin + length)
    text = f"{args.aggregation_method} {args.custom_query}"
    if "rate" in text:  # a difference to the measure before
        return bool(before) or inside > 1
    return "std" not in text or inside > 1


def _holes(
    one: Watched, args: GnocchiArgs, methods: Sequence[str], period: Interval, now: float
) -> Iterable[tuple[list[Interval], str]]:
    """What of the period is missing of a resource, and why; parts may overlap."""
    resource = one.resource
    life = (resource.started_at, resource.ended_at)
    seen = _seen(period, now, (found.pace for found in one.proof))
    for found in one.metrics:
        fault = policy_fault(found.policy, args, methods, period.end - period.begin)
        if fault:
            yield [period], fault
            continue
        definition = granularity_of(found.policy, args)
        assert definition is not None, "the policy has no fault"
        oldest = min(now, resource.ended_at) - definition.timespan
        if oldest > period.begin:
            yield [Interval(period.begin, min(period.end, ceil(oldest)))], f"nothing is kept before {iso(int(oldest))}"
        if args.is_rate_of_groups and _lacks_first_granule(found, definition.granularity, resource, period):
            yield [period], "the granule before the period is missing, so there is no difference to it"
    for found in one.proof:
        points = sorted(found.points)
        holes = dark(points, life, found.pace, seen, period)
        if holes:
            yield holes, _DARK
        if _waits(found, period):
            begin = round(points[-1] + found.pace.interval) if points else period.begin
            yield clip([Interval(begin, period.end)], period) if begin < period.end else [], "waits for metricd"


def _seen(period: Interval, now: float, paces: Iterable[Pace]) -> Interval:
    """What is looked at for a period: enough on both sides to see how long it was dark."""
    return seen_span(period, now, max((pace.granularity for pace in paces), default=0.0))


def seen_span(period: Interval, now: float, granularity: float) -> Interval:
    """What has to be asked for to judge a period by granules so long."""
    margin = max(period.end - period.begin, ceil(4 * granularity))
    return Interval(period.begin - margin, max(period.end, min(int(now), period.end + margin)))


def _lacks_first_granule(found: Measured, granularity: float, resource: Resource, period: Interval) -> bool:
    """Whether a difference over the period cannot be taken although there are measures, and it is not just new."""
    first = period.begin - granularity
    inside = any(period.begin <= point < period.end for point in found.points)
    before = any(first <= point < period.begin for point in found.points)
    return inside and not before and resource.started_at < first


def _waits(found: Measured, period: Interval) -> bool:
    """Whether measures of the period may be among those that are not processed: none after its end was."""
    return found.bundles > 0 and not any(point >= period.end for point in found.points)


def _suspect(one: Watched, args: GnocchiArgs, period: Interval, scopes: Iterable[str], reasons: Reasons) -> None:
    """A rate after a gap: Gnocchi's first difference spans all of the gap, so the hour is too high."""
    if not args.aggregation_method.startswith("rate:"):
        return
    for found in one.metrics:
        points = sorted(found.points)
        for last, following in pairwise(points):
            if following - last > found.pace.reach and period.begin <= following < period.end:
                since = iso(last)
                reasons.add(
                    scopes, "suspicion: the rate spans the gap before it", f"{one.resource.resource_id} {since}"
                )


def _summary(watched: Sequence[Watched]) -> str:
    if not watched:
        return "no resource with this metric lived in the period"
    intervals = sorted({found.pace.interval for one in watched for found in one.proof})
    every = f", measured every {intervals[0]:g} s" if len(intervals) == 1 else ""
    return f"{len(watched)} resource{'s' if len(watched) > 1 else ''} with this metric{every}"
