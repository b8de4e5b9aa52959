"""Counter or gauge: whether what is asked of a metric of Prometheus fits what it is. Pure functions."""

from __future__ import annotations

from typing import Any

from collectors.checking import Code, Finding
from collectors.metrics_yml import Metric, Mutate
from collectors.prometheus.promql import PrometheusArgs

__all__ = ["declared_type", "function_findings", "only_rises", "rate_finding"]

_MIN_CHANGES = 10  # of a metric that changed less nobody can say what kind it is
_COUNTER_FALLS = 0.2  # no counter is reset so often: more than this share of its changes
_FEWEST_FALLS = 3


def only_rises(changes: float, falls: float) -> bool:
    """Whether a metric behaves as counters do, by how often its series changed and how often they fell."""
    return changes >= _MIN_CHANGES and not falls


def rate_finding(function: str, kind: str, changes: float, falls: float) -> Finding | None:
    """What is to be said of a metric under a function that is made for counters."""
    todo = "take range_function out of metrics.yml, or use delta"
    often = falls > _COUNTER_FALLS * changes and falls >= _FEWEST_FALLS
    if kind == "gauge" and not only_rises(changes, falls):
        what = f"it is a gauge, and {function} is for counters: what it gives is no usage"
        return Finding(Code.GAUGE_AS_COUNTER, "fail", what, todo, passing=not falls)
    if often:
        what = f"it falls like a gauge ({falls:g} of {changes:g} changes), and {function} is for counters"
        return Finding(Code.GAUGE_AS_COUNTER, "fail", what, todo)
    if kind == "gauge":
        what = f"its exporter calls it a gauge, but it only rises, as {function} needs it"
        return Finding(Code.GAUGE_AS_COUNTER, "warn", what, "see what it is")
    if only_rises(changes, falls):
        return None
    what = f"whether it is a counter, which {function} needs, is not known: it hardly changed"
    return Finding(Code.GAUGE_AS_COUNTER, "warn", what, "see what it is")


def function_findings(metric: Metric, args: PrometheusArgs, kind: str) -> list[Finding]:
    """Whether what is asked of a counter is the usage of a period."""
    found = []
    function = args.range_function
    if kind == "counter" and function in ("delta", "idelta", "deriv"):
        what = (
            f"it is a counter, and {function} is for gauges: when it starts anew, the period is too low or below zero"
        )
        todo = "use range_function rate and a factor of as many seconds as the period has"
        found.append(Finding(Code.COUNTER_DELTA, "warn", what, todo))
    is_flag = metric.mutate in (Mutate.NUMBOOL, Mutate.NOTNUMBOOL)
    if kind == "counter" and not function and args.aggregation_method != "count" and not is_flag:
        what = (
            f"it is a counter: its {args.aggregation_method} is what was used since it began, billed again each period"
        )
        todo = "use range_function rate and a factor of as many seconds as the period has"
        found.append(Finding(Code.COUNTER_AS_GAUGE, "warn", what, todo))
    if function in ("irate", "idelta"):
        what = f"{function} looks at the last two samples of a period only"
        found.append(Finding(Code.TWO_SAMPLES, "warn", what, f"use {function.removeprefix('i')}"))
    return found


def declared_type(answer: Any, family: str) -> str:
    """The type in an answer of the metadata endpoint; '' if it is not there or targets disagree."""
    entries = answer.get(family) if isinstance(answer, dict) else None
    types = {entry.get("type") for entry in entries or () if isinstance(entry, dict)}
    return str(types.pop()) if len(types) == 1 else ""
