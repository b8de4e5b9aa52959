"""The text of queries: CloudKitty's forms letter by letter, and the few that evidence is asked with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.metrics_yml import Metric
from rater.model.document import Node, Problems

__all__ = [
    "PrometheusArgs",
    "among",
    "each_scope_alone",
    "escaped",
    "is_metric_name",
    "names_in",
    "quoted",
    "read_extra_args",
    "scopes_query",
    "selector",
    "usage_query",
]

AGGREGATIONS = ("avg", "count", "max", "min", "stddev", "stdvar", "sum")
QUERY_FUNCTIONS = ("abs", "ceil", "exp", "floor", "ln", "log2", "log10", "round", "sqrt")
RANGE_FUNCTIONS = ("changes", "delta", "deriv", "idelta", "irange", "irate", "rate")

_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_BEFORE = re.compile(rf"\s*(?:{_NUMBER}\s*[*+/-]\s*)?")
_AFTER = re.compile(rf"\s*(?:(?:[*/+%^-]|[<>]=?|[=!]=)\s*{_NUMBER}\s*)*")
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPECIAL = re.compile(r"([\\^$.|?*+()\[\]{}\-])")


class PrometheusArgs(msgspec.Struct, frozen=True):
    """`extra_args` of a metric that Prometheus collects; CloudKitty's defaults."""

    aggregation_method: str = "max"
    query_function: str = ""
    range_function: str = ""
    query_prefix: str = ""
    query_suffix: str = ""


def read_extra_args(problems: Problems, node: Node | None) -> PrometheusArgs:
    """The `extra_args` of a metric, with CloudKitty's defaults."""
    if node is None or node.kind == "null":
        return PrometheusArgs()
    members = problems.members(node, PrometheusArgs.__struct_fields__)
    choices = {
        "aggregation_method": AGGREGATIONS,
        "query_function": QUERY_FUNCTIONS,
        "range_function": RANGE_FUNCTIONS,
    }
    read: dict[str, str] = {}
    for name, value in members.items():
        if name in choices:
            chosen = problems.choice(value, choices[name])
        elif value.kind == "str" and not value.text:
            chosen = ""
        else:
            chosen = problems.text(value, 10_000)
        if chosen is not None:
            read[name] = chosen
    return PrometheusArgs(**read)


def usage_query(
    metric: Metric, args: PrometheusArgs, scope_key: str, scopes: Iterable[str], period_seconds: int
) -> str:
    """CloudKitty's query for a period, to be asked as an instant query at its end; for one scope letter by letter.

    For several scopes only if `each_scope_alone`.
    """
    over = args.range_function or f"{args.aggregation_method}_over_time"
    inner = f"{over}({metric.metric}{{{among(scope_key, scopes)}}}[{period_seconds}s])"
    if args.query_function:
        inner = f"{args.query_function}({inner})"
    labels = ", ".join((*metric.grouped_by(scope_key), *metric.metadata))
    query = f"{args.aggregation_method}({inner}) by ({labels})"
    if args.query_prefix:
        query = f"{args.query_prefix} {query}"
    if args.query_suffix:
        query = f"{query} {args.query_suffix}"
    return query


def each_scope_alone(args: PrometheusArgs) -> bool:
    """Whether the query treats each series of its aggregation alone, so that many scopes may share one question.

    The scope key is among the labels it aggregates by. A prefix or suffix that is more than arithmetic with a number
    might mix scopes, or take their label away.
    """
    return _BEFORE.fullmatch(args.query_prefix) is not None and _AFTER.fullmatch(args.query_suffix) is not None


def scopes_query(metric: str, filters: Mapping[str, str], scope_attribute: str, looked_back: int) -> str:
    """The scopes that a metric named within so many seconds; CloudKitty asks for those of now only."""
    matchers = ", ".join(f'{label}="{escaped(value)}"' for label, value in filters.items())
    return f"max(max_over_time({metric}{{{matchers}}}[{looked_back}s])) by ({scope_attribute})"


def escaped(value: str) -> str:
    """A label value as it stands between double quotes in a query."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def selector(metric: str, matchers: Iterable[str] = ()) -> str:
    """`metric{a="b",c=~"d|e"}`, the metric alone without matchers."""
    inside = ",".join(matchers)
    return f"{metric}{{{inside}}}" if inside else metric


def quoted(label: str) -> str:
    """A label's name as it stands in a query: since Prometheus 3 it may have any characters, between quotes then."""
    return label if _LABEL_NAME.fullmatch(label) else f'"{escaped(label)}"'


def among(label: str, values: Iterable[str]) -> str:
    """A matcher for any of these values, whatever characters they are made of."""
    chosen = sorted(set(values))
    if len(chosen) == 1:
        return f'{label}="{escaped(chosen[0])}"'
    alternatives = "|".join(_SPECIAL.sub(r"\\\1", value) for value in chosen)
    return f'{label}=~"{escaped(alternatives)}"'


def is_metric_name(text: str) -> bool:
    """Whether the text is the name of a metric, and no expression."""
    return _METRIC_NAME.fullmatch(text) is not None


_WORD = re.compile(
    r"""
      "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*`      # text
    | \#[^\n]*                                              # remark
    | \{(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^}"'])*\}   # matchers
    | \[[^\]]*\]                                            # range
    | \d[\w.]*                                              # number or duration
    | [a-zA-Z_:][a-zA-Z0-9_:]*                              # name
    | \S
    """,
    re.VERBOSE,
)
_LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_AGGREGATORS = {*AGGREGATIONS, "group", "topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"}
_KEYWORDS = (
    {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"}
    | _LABEL_LISTS
    | _AGGREGATORS  # `max by (id) (…)`: no parenthesis follows the name
    | {*QUERY_FUNCTIONS}  # a prefix of one word
)


def names_in(*fragments: str) -> Sequence[str]:
    """The metrics that pieces of a query name, sorted: neither functions nor keywords nor labels."""
    found: set[str] = set()
    for fragment in fragments:
        words = [match.group() for match in _WORD.finditer(fragment)]
        inside_labels = False
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
            if word == "(" and before.lower() in _LABEL_LISTS:
                inside_labels = True
            elif word == ")":
                inside_labels = False
            elif is_metric_name(word) and word.lower() not in _KEYWORDS and not inside_labels and after != "(":
                found.add(word)
    return sorted(found)
