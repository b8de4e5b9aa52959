"""When the targets of Prometheus answered, around one period: asked once per job, however many metrics it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cached_property
from statistics import median_low

from collectors.bounded import remembered
from collectors.errors import SourceError
from collectors.evidence import Sight, Target, dark_intervals, interval_of, lost_scrapes
from collectors.prometheus.api import Item, PrometheusApi
from collectors.prometheus.promql import among, selector
from collectors.settings import CompletenessSettings
from rater.model.interval import Interval

__all__ = ["Scrapes"]

_MARGIN = 600.0  # seconds looked at before and after the period, enough for scrapes every 200 s
_LONGEST_STEP = 60
_FEW = 50  # targets that are named one by one in a query; of more, only their jobs are


class _Window:
    """The `up` samples of one job by target: all, the successful ones, and the distance at which they come.

    A target may have two series, as pairs of Prometheus write them: each has its own distance, together they say more.
    """

    def __init__(self, items: Iterable[Item], labels: list[str]) -> None:
        self.seen: dict[Target, list[float]] = {}
        self.successes: dict[Target, list[float]] = {}
        self.intervals: dict[Target, float] = {}
        self._spans: dict[Target, list[tuple[float, float]]] = {}
        for item in items:
            target = tuple(item.metric.get(label, "") for label in labels)
            if item.values:
                self._spans.setdefault(target, []).append((item.values[0][0], item.values[-1][0]))
            self.seen.setdefault(target, []).extend(at for at, _ in item.values)
            self.successes.setdefault(target, []).extend(at for at, value in item.values if value == "1")
            interval = interval_of([at for at, _ in item.values])
            if interval is not None:
                self.intervals[target] = min(interval, self.intervals.get(target, interval))
        for samples in (*self.seen.values(), *self.successes.values()):
            samples.sort()

    def copies(self, target: Target, period: Interval) -> int:
        """How many of its series there were at the same time within the period."""
        spans = [span for span in self._spans.get(target, []) if span[0] < period.end and span[1] > period.begin]
        return max((sum(1 for begin, end in spans if begin <= first <= end) for first, _ in spans), default=1)

    @cached_property
    def typical(self) -> float | None:
        """The interval of most targets."""
        return median_low(self.intervals.values()) if self.intervals else None


class Scrapes:
    """`up` around one period."""

    def __init__(self, api: PrometheusApi, settings: CompletenessSettings, period: Interval, now: float) -> None:
        self._api = api
        self._settings = settings
        self._period = period
        self._now = now
        self._jobs: dict[str, asyncio.Future[tuple[_Window, float]]] = {}

    async def sights(self, targets: set[Target]) -> dict[Target, Sight]:
        """When each target answered. Those that have no `up` within the lookback are left out.

        Raises SourceError, also if the scrapes are too far apart for the period.
        """
        windows: dict[str, tuple[_Window, float]] = {}
        for job in sorted({target[0] for target in targets}):
            windows[job] = await self._window(job)
        intervals = {target: self._interval(windows[target[0]][0], target) for target in targets}
        unclear = {target for target in targets if self._begins_dark(*windows[target[0]], target, intervals[target])}
        earlier = await self._last_successes(unclear, min(intervals[target] for target in unclear)) if unclear else {}
        found: dict[Target, Sight] = {}
        for target in targets:
            window, margin = windows[target[0]]
            known_before = target not in unclear or target in earlier
            if window.seen.get(target) or known_before:
                found[target] = self._sight(
                    target, window, margin, intervals[target], earlier.get(target), known_before
                )
        return found

    def until(self, margin: float = _MARGIN) -> float:
        """How far is looked beyond the end of the period."""
        return min(self._now, self._period.end + margin)

    # --- asking

    async def _window(self, job: str) -> tuple[_Window, float]:
        """The samples of one job, and how many seconds before and after the period they reach."""
        future = self._jobs.get(job)
        if future is None:
            future = self._jobs[job] = remembered(self._ask_window(job))
        return await asyncio.shield(future)

    async def _ask_window(self, job: str) -> tuple[_Window, float]:
        margin = _MARGIN
        while True:
            window = await self._ask_up(job, margin)
            interval = self._settings.scrape_interval or window.typical or 0.0
            if interval * self._settings.slack > self._period.end - self._period.begin:
                raise SourceError(
                    f"targets of {job!r} are scraped every {interval:g} s: too seldom to see a gap in a period of "
                    f"{self._period.end - self._period.begin} s"
                )
            needed = (self._settings.slack + 0.5) * interval  # so that a gap across the border of the period is seen
            if margin >= needed:
                return window, margin
            margin = 2 * needed

    async def _ask_up(self, job: str, margin: float) -> _Window:
        until = self.until(margin)
        length = until - self._period.begin + margin
        chosen = selector(self._settings.up, [among(self._settings.target_labels[0], [job])])
        return _Window(
            await self._api.query(f"{chosen}[{round(length * 1000)}ms]", until), self._settings.target_labels
        )

    async def _last_successes(self, targets: set[Target], interval: float) -> dict[Target, float]:
        """The last success of each target within the lookback before the window; 0 if it never had one, but `up`."""
        chosen = self.selected(self._settings.up, targets)
        moment = f"timestamp({chosen}) * ({chosen} == bool 1)"  # the sample's own time where it was successful, else 0
        step = max(1, min(_LONGEST_STEP, int(interval)))
        query = f"max_over_time(({moment})[{self._settings.lookback}s:{step}s])"
        items = await self._api.query(query, self._period.begin - _MARGIN + 1)
        found: dict[Target, float] = {}
        for item in items:
            target = tuple(item.metric.get(label, "") for label in self._settings.target_labels)
            if target in targets and item.value is not None:
                found[target] = max(found.get(target, 0.0), float(item.value[1]))
        return found

    async def any_success_since(self, targets: Iterable[Target], instant: float) -> bool:
        """Whether any of the targets has answered between `instant` and now."""
        if self._now - instant < 1:
            return False
        chosen = self.selected(self._settings.up, targets)
        items = await self._api.query(f"max(max_over_time({chosen}[{int(self._now - instant)}s]))", self._now)
        return any(item.value is not None and item.value[1] == "1" for item in items)

    def selected(self, metric: str, targets: Iterable[Target]) -> str:
        """A selector that has these targets among its own; precise where they are few."""
        chosen = list(targets)
        labels = self._settings.target_labels if len(chosen) <= _FEW else self._settings.target_labels[:1]
        matchers = [among(label, {target[n] for target in chosen}) for n, label in enumerate(labels)]
        return selector(metric, matchers)

    # --- judging

    def _interval(self, window: _Window, target: Target) -> float:
        if self._settings.scrape_interval:
            return float(self._settings.scrape_interval)
        known = [one for one in (window.intervals.get(target), window.typical) if one is not None]
        return min(known, default=float(_LONGEST_STEP))

    def _since(self, margin: float) -> float:
        return self._period.begin - margin

    def _begins_dark(self, window: _Window, margin: float, target: Target, interval: float) -> bool:
        successes = window.successes.get(target, [])
        return not successes or successes[0] - self._since(margin) > self._settings.slack * interval

    def _sight(
        self, target: Target, window: _Window, margin: float, interval: float, earlier: float | None, known: bool
    ) -> Sight:
        """`earlier`: its last success before the window if it was asked for; `known`: it had `up` before."""
        successes = window.successes.get(target, [])
        if earlier:
            successes = [earlier, *(at for at in successes if at > earlier)]
        slack = self._settings.slack
        dark = dark_intervals(successes, interval, slack, self._since(margin), self.until(margin))
        if earlier or not known:
            dark = [part for part in dark if part.begin > 0]
        seen = window.seen.get(target, [])
        return Sight(
            target=target,
            interval=interval,
            dark=dark,
            first=0 if known else round(successes[0]) if successes else round(self.until(margin)),
            last_seen=seen[-1] if seen else 0.0,
            lost=lost_scrapes(successes, interval, slack, self._period),
            copies=window.copies(target, self._period),
        )
