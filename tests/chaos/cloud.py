"""A small cloud for the collector of a chaos run: what Prometheus holds of it, and what must come out, by construction.

Some targets are dark now and then; these are the only gaps that may stay open. Times are whole seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import pairwise

SOURCE = "prom"
PERIOD = 60
STEP = 5
OFFSET = 2  # no scrape falls on the edge of a period
SLACK = 2.5
LEAD = 300
"""Seconds that the targets are older than what is collected."""
METRICS = ("instance", "volume")
METRICS_YML = """
metrics:
  vm: {unit: instance, alt_name: instance, groupby: [id, project_id], mutate: NUMBOOL}
  volume: {unit: GiB, groupby: [id, project_id]}
"""
SCOPES = tuple(f"tenant-{number}" for number in range(8))
DARK = ((330, 375), (560, 700), (850, 868))
DARK_EVERY, DARK_FROM = 600, 1200
"""Seconds after the cloud's begin; from DARK_FROM on the first of DARK comes again and again."""


class Cloud:
    """Scopes, their machines on two hosts and their volumes, in `[begin, end)`. The second host is dark at times."""

    def __init__(self, begin: int, end: int) -> None:
        assert begin % PERIOD == end % PERIOD == 0, "whole periods"
        self.begin = begin
        self.end = end
        again = range(DARK_FROM, end - begin, DARK_EVERY)
        spans = [*DARK, *((at + DARK[0][0], at + DARK[0][1]) for at in again)]
        self._dark = [(begin + first, begin + last) for first, last in spans]
        self._scrapes = cache(self._list_scrapes)

    def lines(self) -> Iterator[str]:
        """All samples as OpenMetrics."""
        yield "# TYPE up gauge"
        for target, instance in (("libvirt", "node-0"), ("libvirt", "node-1"), ("openstack", "exporter")):
            for at in self._scrapes(dark=instance == "node-1"):
                yield f'up{{job="{target}",instance="{instance}"}} 1 {at}'
        yield "# TYPE vm gauge"
        for number, scope in enumerate(SCOPES):
            labels = f'job="libvirt",instance="node-{number % 2}",project_id="{scope}",id="vm-{number}"'
            for at in self._scrapes(dark=number % 2 == 1):
                yield f"vm{{{labels}}} 1 {at}"
        yield "# TYPE volume gauge"
        for number, scope in enumerate(SCOPES):
            labels = f'job="openstack",instance="exporter",project_id="{scope}",id="volume-{number}"'
            for at in self._scrapes(dark=False):
                yield f"volume{{{labels}}} {self._gigabytes(number, at)} {at}"

    def quantity(self, scope: str, metric: str, period_begin: int) -> Decimal | None:
        """What the scope used of the metric in the period; None if nobody saw it."""
        number = SCOPES.index(scope)
        if metric == "volume":
            return Decimal(self._gigabytes(number, period_begin))
        seen = any(period_begin <= at < period_begin + PERIOD for at in self._scrapes(dark=number % 2 == 1))
        return Decimal(1) if seen else None

    def holes(self, scope: str, metric: str, period_begin: int) -> list[tuple[int, int]]:
        """What of the period nobody saw."""
        if metric == "volume" or SCOPES.index(scope) % 2 == 0:
            return []
        period_end = period_begin + PERIOD
        clipped = [(max(begin, period_begin), min(end, period_end)) for begin, end in self._unseen()]
        return [(begin, end) for begin, end in clipped if begin < end]

    def _list_scrapes(self, dark: bool) -> list[int]:
        at = range(self.begin - LEAD + OFFSET, self.end, STEP)
        return [one for one in at if not (dark and any(begin <= one < end for begin, end in self._dark))]

    def _unseen(self) -> list[tuple[int, int]]:
        """From a step after the last success to the next success, where they are too far apart."""
        seen = self._scrapes(dark=True)
        return [(last + STEP, following) for last, following in pairwise(seen) if following - last > SLACK * STEP]

    def _gigabytes(self, number: int, at: int) -> int:
        return 1 + (at // PERIOD + number) % 9


__all__ = ["METRICS", "METRICS_YML", "PERIOD", "SCOPES", "SOURCE", "STEP", "Cloud"]
