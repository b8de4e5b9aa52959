"""Which scopes are expected to be collected, and from when on: what the fetcher names, turned into scope plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from collectors.plans import PlanBook, Stretch
from rater.model.interval import Interval, period_of
from rater.model.usage import ScopePlan

__all__ = ["Roster"]

_REPEAT_SECONDS = 86400  # plans are repeated, so that `usage` holds one of each scope whatever its retention


class Roster:
    """The scopes of one source. A scope that nobody names any more stays for `gone_after` seconds.

    An outage of what the fetcher asks makes scopes vanish all at once: while they are expected, their collections
    find out whether anything was used, so patience costs nothing and haste would be a silent hole.
    """

    def __init__(
        self, source: str, plans: PlanBook, metrics: Iterable[str], period_seconds: int, gone_after: int
    ) -> None:
        """`metrics`: the public names that are expected."""
        self.plans = plans
        self._source = source
        self._metrics = frozenset(metrics)
        self._period = period_seconds
        self._gone_after = gone_after
        self._absent_since: dict[str, int] = {}
        self._not_there: dict[str, int] = {}
        """When each scope that was named, ours or not, was last known not to be there; 0 if it always was."""
        self._published_at: dict[str, int] = {}
        self._fetched_at = 0

    def due(
        self, named: set[str], now: int, first_begin: int, is_mine: Callable[[str], bool] = lambda _: True
    ) -> list[ScopePlan]:
        """The plans of our own scopes to publish now that the fetcher has named all these; `note` each one that was.

        `first_begin`: from when on a scope is expected that was never planned and of which it is not known that an
        earlier fetch did not name it.
        """
        period = period_of(now, self._period)
        known = {scope_id: self._expected(scope_id, period.end) for scope_id in self.plans.scopes()}
        self._not_there = {scope_id: self._not_there.get(scope_id, self._fetched_at) for scope_id in named}
        plans: list[ScopePlan] = []
        for scope_id in filter(is_mine, sorted(named)):
            self._absent_since.pop(scope_id, None)
            if not known.get(scope_id):
                last_absent = self._not_there[scope_id]
                plans.append(
                    self._plan(scope_id, period_of(last_absent, self._period).begin if last_absent else first_begin)
                )
            elif known[scope_id] != self._metrics or self._is_old(scope_id, now):
                plans.append(self._plan(scope_id, period.begin))
        if named:  # naming none at all is no knowledge
            plans += self._absent({s for s, expected in known.items() if expected and is_mine(s)} - named, now)
        return plans

    def moved(self, is_mine: Callable[[str], bool]) -> None:
        """Scopes have come from other replicas or gone to them: how long these leave out others is theirs to know."""
        self._absent_since = {scope_id: since for scope_id, since in self._absent_since.items() if is_mine(scope_id)}

    def note(self, plan: ScopePlan, now: int) -> None:
        """A plan was published."""
        self.plans.take(plan)
        self._published_at[plan.scope_id] = now

    @property
    def fetched_at(self) -> int:
        """When all scopes were last known; 0 before the first time."""
        return self._fetched_at

    def fetched(self, now: int) -> None:
        """All plans that were due at `now` were published."""
        self._fetched_at = now

    def _expected(self, scope_id: str, instant: int) -> frozenset[str]:
        return self.plans.stretches(scope_id, Interval(instant, instant + 1))[0].metrics

    def _is_old(self, scope_id: str, now: int) -> bool:
        return now - self._published_at.get(scope_id, 0) >= _REPEAT_SECONDS

    def _plan(self, scope_id: str, begin: int) -> ScopePlan:
        return ScopePlan(self._source, scope_id, begin, None, sorted(self._metrics))

    def _absent(self, absent: set[str], now: int) -> list[ScopePlan]:
        """Scopes that the fetcher has left out: gone after a while, expected as before until then."""
        plans = []
        period = period_of(now, self._period)
        for scope_id in sorted(absent):
            since = self._absent_since.setdefault(scope_id, now)
            if now - since >= self._gone_after:
                plans.append(ScopePlan(self._source, scope_id, period.end, None, []))
            elif self._is_old(scope_id, now):
                plans.append(self._plan(scope_id, period.begin))
        return plans

    def active(self, scope_id: str, span: Interval) -> list[Stretch]:
        """When within `span` anything is expected of the scope."""
        return [stretch for stretch in self.plans.stretches(scope_id, span) if stretch.metrics]

    def scopes(self) -> list[str]:
        """Every scope that is or was expected."""
        return self.plans.scopes()
