"""A small cloud as Prometheus would have scraped it: targets, resources, and the times when something was dark.

What is dark is planted here, so that a test knows each hole. Times are seconds after T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rater.model.interval import Interval, subtract, union

T = 1_767_571_200  # 2026-01-05T00:00:00Z
STEP = 60
HOUR = 3600


class Span(NamedTuple):
    """`[begin, end)` in seconds after T."""

    begin: int
    end: int

    def holds(self, at: int) -> bool:
        """Whether the instant lies within."""
        return self.begin <= at < self.end


class Target(NamedTuple):
    """Something that is scraped. `down`: no scrape succeeds but Prometheus says so; `gone`: no scrape at all."""

    job: str
    instance: str
    life: Span
    offset: int = 0
    down: tuple[Span, ...] = ()
    gone: tuple[Span, ...] = ()


class Shown(NamedTuple):
    """A series that a target shows for some time."""

    metric: str
    target: Target
    life: Span
    labels: tuple[tuple[str, str], ...]
    value: str | Callable[[int], str] = "1"
    """Or what it is at an instant."""
    silent: tuple[Span, ...] = ()


def scrapes(target: Target) -> Iterator[int]:
    """When a target is scraped, in vain or not."""
    for at in range(target.life.begin + target.offset, target.life.end, STEP):
        if not any(span.holds(at) for span in target.gone):
            yield at


def answers(target: Target) -> Iterator[int]:
    """When a scrape of the target succeeds."""
    return (at for at in scrapes(target) if not any(span.holds(at) for span in target.down))


def missing(series: Iterable[Shown], metric: str, scope: str) -> list[Interval]:
    """The truth: when a resource of the scope lived and nobody that would have shown it answered.

    For more than 2.5 scrapes, in seconds since the epoch; computed from what was planted alone.
    """
    lives: dict[tuple[tuple[str, str], ...], list[Shown]] = {}
    for shown in series:
        if shown.metric == metric and ("project_id", scope) in shown.labels:
            lives.setdefault(shown.labels, []).append(shown)
    holes: list[Interval] = []
    for members in lives.values():
        life = union(Interval(shown.life.begin, shown.life.end) for shown in members)
        known = [
            Interval(at, at + STEP)
            for shown in members
            for at in answers(shown.target)
            if shown.life.holds(at) and not any(span.holds(at) for span in shown.silent)
        ]
        holes += [hole for hole in subtract(life, known) if hole.end - hole.begin > 1.5 * STEP]
    return union(Interval(T + hole.begin, T + hole.end) for hole in holes)


def openmetrics(
    targets: Iterable[Target], series: Iterable[Shown], within: Span | Sequence[Span] | None = None
) -> list[str]:
    """All samples, or those within a span or several, as OpenMetrics."""
    lines = ["# TYPE up gauge"]
    for target in targets:
        successes = set(answers(target))
        name = f'up{{job="{target.job}",instance="{target.instance}"}}'
        lines += [f"{name} {int(at in successes)} {T + at}" for at in scrapes(target) if _in(at, within)]
    by_metric: dict[str, list[Shown]] = {}
    for shown in series:
        by_metric.setdefault(shown.metric, []).append(shown)
    for metric, members in sorted(by_metric.items()):
        lines.append(f"# TYPE {metric} gauge")
        for shown in members:
            lines += _samples(shown, within)
    return lines


def _in(at: int, within: Span | Sequence[Span] | None) -> bool:
    spans = [within] if isinstance(within, Span) else within
    return spans is None or any(span.holds(at) for span in spans)


def _samples(shown: Shown, within: Span | Sequence[Span] | None) -> list[str]:
    labels = [("job", shown.target.job), ("instance", shown.target.instance), *shown.labels]
    matchers = ",".join(f'{key}="{value}"' for key, value in labels)
    name = f"{shown.metric}{{{matchers}}}"
    return [
        f"{name} {shown.value if isinstance(shown.value, str) else shown.value(at)} {T + at}"
        for at in answers(shown.target)
        if shown.life.holds(at) and _in(at, within) and not any(span.holds(at) for span in shown.silent)
    ]
