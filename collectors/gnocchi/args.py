"""`extra_args` of a metric that Gnocchi collects: CloudKitty's, with its defaults, and the operation that they make."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from collectors.gnocchi.settings import Combine
from rater.model.document import Node, Problems

__all__ = ["GnocchiArgs", "combination", "needed_methods", "operation", "read_extra_args"]

_AGAIN = ("mean", "sum", "last", "max", "min", "std", "median", "first", "count")
AGAIN = (*_AGAIN, *(f"rate:{method}" for method in _AGAIN))
"""What `re_aggregation_method` may be."""
_METHOD = re.compile(rf"(rate:)?({'|'.join(_AGAIN)}|[1-9]\d?pct)")
_METRIC_OF_QUERY = re.compile(r"\(\s*metric\s+[^\s()]+\s+([^\s()]+)\s*\)")
_COMBINED: dict[str, Combine] = {
    "sum": "sum", "count": "sum", "max": "max", "min": "min", "mean": "mean", "last": "last", "first": "first",
}  # fmt: skip
_LONGEST_PERIOD = 366 * 86400


class GnocchiArgs(msgspec.Struct, frozen=True):
    """What CloudKitty's schema makes of `extra_args`."""

    resource_type: str
    resource_key: str = "id"
    aggregation_method: str = "max"
    re_aggregation_method: str = "max"
    force_granularity: int = 3600
    """Seconds; 0: whatever the archive policy has."""
    use_all_resource_revisions: bool = True
    custom_query: str = ""

    @property
    def is_rate_of_groups(self) -> bool:
        """Whether Gnocchi takes differences of granules, and so needs one before the period."""
        return self.re_aggregation_method.startswith("rate:")


def read_extra_args(problems: Problems, node: Node | None) -> object:
    """The `extra_args` of a metric, which cannot do without; None after a fault."""
    assert node is not None, "metrics.yml gives the place where they would stand"
    if node.kind == "null":
        problems.add(node, "is missing: Gnocchi needs at least the resource_type")
        return None
    before = len(problems.found)
    members = problems.members(node, GnocchiArgs.__struct_fields__, required=("resource_type",))
    read: dict[str, Any] = {}
    for name, value in members.items():
        read[name] = _read(problems, name, value)
    return GnocchiArgs(**read) if len(problems.found) == before else None


def _read(problems: Problems, name: str, node: Node) -> object:
    match name:
        case "resource_type" | "resource_key":
            return problems.text(node)
        case "aggregation_method":
            if node.kind != "str" or not _METHOD.fullmatch(node.text):
                problems.add(node, f"expected one of {', '.join(_AGAIN)}, 1pct to 99pct, each also with rate: before")
            return node.text
        case "re_aggregation_method":
            return problems.choice(node, AGAIN)
        case "force_granularity":
            return problems.integer(node, 0, _LONGEST_PERIOD)
        case "use_all_resource_revisions":
            return problems.boolean(node)
    return problems.text(node, 10_000, empty=True)


def operation(name: str, args: GnocchiArgs) -> list[Any] | str:
    """What Gnocchi is asked to compute; CloudKitty's, with the three placeholders replaced in its order."""
    if not args.custom_query:
        return ["aggregate", args.re_aggregation_method, ["metric", name, args.aggregation_method]]
    return (
        args.custom_query.replace("RE_AGGREGATION_METHOD", args.re_aggregation_method)
        .replace("AGGREGATION_METHOD", args.aggregation_method)
        .replace("METRIC_NAME", name)
    )


def needed_methods(name: str, args: GnocchiArgs) -> list[str]:
    """The aggregation methods that an archive policy has to have for the operation."""
    if not args.custom_query:
        return [args.aggregation_method]
    text = str(operation(name, args))
    return sorted({found[1] for found in _METRIC_OF_QUERY.finditer(text)})


def combination(args: GnocchiArgs) -> Combine | None:
    """How the granules of a period become what one granule of the length of the period would say.

    Differences between granules add up to the difference over the period. None for what cannot be put together: the
    median of medians is no median, and nobody knows what a query of one's own means.
    """
    if args.custom_query:
        return None
    if args.is_rate_of_groups:
        return "sum"
    return _COMBINED.get(args.aggregation_method.removeprefix("rate:"))
