"""A made-up month of usage by seed: any scope, metric and hour of it can be asked for on its own, in any order.

What happens to an answer on its way (late, repeated, lost in an outage) is drawn here too. Knows nothing of rater.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from math import ceil
from typing import NamedTuple

HOUR = 3600
DAY = 24 * HOUR
BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z
HOURS = 744
END = BEGIN + HOURS * HOUR
MONTH = "2026-01"
WAIT_PERIODS = 2  # engine.wait_periods: a frame without all of its usage may close so long after its end
LATEST = 3 * HOUR  # later than that after a frame could have closed nothing comes

CLOUD, PUSHER = "cloud", "pusher"  # a source that our collector asks, and one that pushes samples
FLAVORS = ("c1", "c2", "m1", "m4", "x9")
_LATE, _REPEATED, _IDLE = 0.01, 0.01, 0.005


class Metric(NamedTuple):
    """One metric. Quantities are random integers of `bits` bits with `decimals` of their digits after the point."""

    name: str
    unit: str
    aggregation: str
    source: str
    bits: int
    decimals: int


METRICS = (
    Metric("api.calls", "call", "count", CLOUD, 20, 0),
    Metric("cpu.time", "second", "sum", CLOUD, 38, 9),
    Metric("memory.peak", "GiB", "max", CLOUD, 30, 7),
    Metric("network.bytes", "GiB", "delta", CLOUD, 20, 6),
    Metric("queue.length", "message", "mean", CLOUD, 26, 3),
    Metric("trace.events", "event", "sum", CLOUD, 90, 41),  # more decimals than any column keeps
    Metric("volume.size", "GiB", "last", CLOUD, 24, 3),
    Metric("gpu.time", "second", "sum", PUSHER, 40, 11),
)


class Reading(NamedTuple):
    """One measured quantity of one resource, over `[begin, end)`."""

    resource: int
    flavor: str
    begin: int
    end: int
    qty: Decimal


class Outage(NamedTuple):
    """For these scopes and metrics nothing was answered of `[begin, end)`, until it is asked for again."""

    name: str
    scopes: tuple[str, ...]
    metrics: tuple[str, ...]
    begin: int
    end: int
    is_told: bool
    """Whether the collector says that the source failed; otherwise nobody says anything."""


class Fate(NamedTuple):
    """What becomes of the answer for one scope, metric and hour.

    `late`: "whole" comes late as a whole; "part" comes up to `cut` at first, and whole later; "wrong" has at first
    other quantities and one resource more. It comes `delay` seconds after the frame could have closed.
    `repeated`: "same" bytes again, or "again" as another collection of a second producer; `delay` seconds later.
    """

    late: str = ""
    repeated: str = ""
    delay: int = 0
    cut: int = 0


IN_TIME = Fate()


@dataclass(frozen=True)
class Month:
    """The month of one seed. `steps` are the readings of a resource in an hour."""

    seed: int
    scopes: tuple[str, ...]
    resources: int
    steps: int
    metrics: dict[str, Metric] = field(default_factory=lambda: {metric.name: metric for metric in METRICS})

    @classmethod
    def of(cls, samples: int, seed: int) -> Month:
        """A month with about that many readings, at least if there are a million or more."""
        scopes = min(50, max(3, samples // 400_000))
        resources = 4 if samples >= 1_000_000 else 2
        steps = samples * (1 + _IDLE) / (scopes * HOURS * len(METRICS) * resources)
        # odd, so that there are means without end
        return cls(
            seed, tuple(f"project-{number:03d}" for number in range(scopes)), resources, 2 * ceil((steps - 1) / 2) + 1
        )

    @property
    def samples_at_most(self) -> int:
        """All readings there would be if something was used in every hour."""
        return len(self.scopes) * len(METRICS) * HOURS * self.resources * self.steps

    def readings(self, scope: str, metric: str, hour: int) -> list[Reading]:
        """All readings of one scope, metric and hour of the month, resource by resource."""
        kind = self.metrics[metric]
        chance = self._chance("usage", scope, metric, hour)
        if kind.source == CLOUD and chance.random() < _IDLE:
            return []  # a true zero: nothing was used
        begin = BEGIN + hour * HOUR
        borders = [begin + HOUR * step // self.steps for step in range(self.steps + 1)]
        found = []
        for resource in range(self.resources):
            # the flavor changes once a day, in the middle of an hour: two lines of one resource in that hour
            change = 1800 + (resource * 7 + len(metric)) % 24 * HOUR
            for step in range(self.steps):
                number = chance.getrandbits(kind.bits)
                if kind.aggregation == "delta":  # a counter, which only grows
                    number += (hour * self.steps + step) << kind.bits
                since = borders[step]
                flavor = FLAVORS[(resource + (since - BEGIN + change) // DAY) % len(FLAVORS)]
                found.append(Reading(resource, flavor, since, borders[step + 1], _scaled(number, kind.decimals)))
        return found

    def fate(self, scope: str, metric: str, hour: int) -> Fate:
        """What becomes of this answer. Those that an outage touches have no other fate."""
        chance = self._chance("fate", scope, metric, hour)
        roll = chance.random()
        if roll >= _LATE + _REPEATED or self.lost(scope, metric, hour):
            return IN_TIME
        is_pushed = self.metrics[metric].source == PUSHER
        cut = BEGIN + hour * HOUR + 60 * chance.randrange(5, 56)
        delay = chance.randint(1, LATEST)
        if roll < _LATE:
            return Fate(chance.choice(("whole", "part") if is_pushed else ("whole", "part", "wrong")), "", delay, cut)
        return Fate("", "same" if is_pushed else chance.choice(("same", "again")), delay, cut)

    def lost(self, scope: str, metric: str, hour: int) -> tuple[int, int] | None:
        """What an outage takes of this hour, as `[begin, end)`."""
        begin = BEGIN + hour * HOUR
        for outage in self.outages:
            is_then = outage.begin < begin + HOUR and begin < outage.end
            if is_then and scope in outage.scopes and metric in outage.metrics:
                return max(outage.begin, begin), min(outage.end, begin + HOUR)
        return None

    @cached_property
    def outages(self) -> tuple[Outage, ...]:
        """Three, to the minute: of everybody, of one scope, and of one metric over midnight."""
        chance = self._chance("outages")
        collected = tuple(metric.name for metric in METRICS if metric.source == CLOUD)
        one_scope, one_metric = chance.choice(self.scopes), chance.choice(collected)
        everywhere = self._minute(chance, range(2, 9))
        alone = self._minute(chance, range(11, 18))
        midnight = BEGIN + DAY * chance.randrange(20, 28) - 60 * chance.randrange(11, 50)
        length = 60 * chance.randrange(71, 149)
        return (
            Outage("of all scopes", self.scopes, collected, everywhere, everywhere + 37 * 60, is_told=True),
            Outage("of one scope", (one_scope,), collected, alone, alone + 133 * 60, is_told=False),
            Outage("of one metric", self.scopes, (one_metric,), midnight, midnight + length, is_told=True),
        )

    @staticmethod
    def _minute(chance: random.Random, days: range) -> int:
        return BEGIN + DAY * chance.choice(days) + HOUR * chance.randrange(1, 20) + 60 * chance.randrange(1, 60)

    def _chance(self, *what: object) -> random.Random:
        return random.Random(repr((self.seed, *what)))

    def answers(self, hour: int) -> Iterator[tuple[str, str]]:
        """Every (scope, metric) of an hour."""
        return ((scope, metric.name) for scope in self.scopes for metric in METRICS)


def _scaled(number: int, decimals: int) -> Decimal:
    """Exact: no number here has more than the 28 digits that `decimal` computes with by default."""
    return Decimal(number).scaleb(-decimals)


def labels(scope: str, reading: Reading) -> tuple[dict[str, str], dict[str, str]]:
    """What a reading's resource is called: groupby and metadata."""
    groupby = {"project_id": scope, "resource_id": f"{scope}-{reading.resource:04d}"}
    return groupby, {"flavor": reading.flavor, "zone": "az-2" if reading.resource % 2 else "az-1"}
