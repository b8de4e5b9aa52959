"""The text of queries, compared with what CloudKitty was seen to send."""

from __future__ import annotations

import pytest

from collectors.metrics_yml import Metric, read
from collectors.prometheus.promql import (
    PrometheusArgs,
    among,
    names_in,
    quoted,
    read_extra_args,
    scopes_query,
    selector,
    usage_query,
)
from rater.model.document import DocumentError


def _metric(text: str) -> Metric:
    (metric,) = read(f"metrics:\n{text}", "metrics.yml", read_extra_args).metrics
    return metric


def _query(text: str, scope_id: str = "P1") -> str:
    metric = _metric(text)
    assert isinstance(metric.extra_args, PrometheusArgs)
    return usage_query(metric, metric.extra_args, "project_id", [scope_id], 3600)


@pytest.mark.parametrize(
    ("text", "query"),
    [  # the first three were run on CloudKitty
        (
            "  http_requests_total: {unit: u}",
            'max(max_over_time(http_requests_total{project_id="P1"}[3600s])) by (project_id)',
        ),
        (
            "  m: {unit: u, groupby: [id], metadata: [flavor], extra_args: {aggregation_method: avg}}",
            'avg(avg_over_time(m{project_id="P1"}[3600s])) by (id, project_id, flavor)',
        ),
        (
            "  m: {unit: u, groupby: [id], extra_args: {range_function: delta, query_function: abs, "
            "query_prefix: ceil, query_suffix: '* 2'}}",
            'ceil max(abs(delta(m{project_id="P1"}[3600s]))) by (id, project_id) * 2',
        ),
        (
            "  m: {unit: u, groupby: [project_id, id], extra_args: {aggregation_method: sum, range_function: rate, "
            "query_prefix: '', query_suffix: ''}}",
            'sum(rate(m{project_id="P1"}[3600s])) by (project_id, id)',
        ),
        (
            "  m: {unit: u, extra_args: {query_function: round}}",
            'max(round(max_over_time(m{project_id="P1"}[3600s]))) by (project_id)',
        ),
    ],
)
def test_usage_queries(text: str, query: str) -> None:
    assert _query(text) == query


def test_a_scope_cannot_break_out_of_its_matcher() -> None:
    assert _query("  m: {unit: u}", 'a"} or up{b="\\\n') == (
        'max(max_over_time(m{project_id="a\\"} or up{b=\\"\\\\\\n"}[3600s])) by (project_id)'
    )


def test_a_query_of_scopes() -> None:
    assert scopes_query("m", {}, "project_id", 300) == "max(max_over_time(m{}[300s])) by (project_id)"
    found = scopes_query("m", {"a": "x", "b": 'y"'}, "ns", 900)
    assert found == 'max(max_over_time(m{a="x", b="y\\""}[900s])) by (ns)'


def test_names_of_labels_that_need_quotes() -> None:
    assert [quoted(label) for label in ("_a1", "k8s.pod", "1a", 'x"y')] == ["_a1", '"k8s.pod"', '"1a"', '"x\\"y"']


def test_matchers() -> None:
    assert selector("m") == "m"
    assert selector("m", [among("a", ["x"]), among("b", ["z", "y.1", "y.1"])]) == 'm{a="x",b=~"y\\\\.1|z"}'
    assert among("a", ['"', "a|b"]) == 'a=~"\\"|a\\\\|b"'


@pytest.mark.parametrize(
    ("fragments", "names"),
    [
        (("ceil", "* 2"), []),
        (("", "* on (id) group_left (flavor) vm_info"), ["vm_info"]),
        (("", "* on(id) group_left(name, a) max by (id) (info{x=\"{y}\", z='w'}) > bool 0"), ["info"]),
        (("1.5 *", "unless on (id) (rate(off:total[5m] offset 1h) == inf)"), ["off:total"]),
        (("label_replace(", ', "a", "$1", "b", "(.*)") # remark other'), []),
        (("", "+ AVG WITHOUT (b) (m2) or m1 and `m3`"), ["m1", "m2"]),
    ],
)
def test_names_of_other_metrics_in_a_query(fragments: tuple[str, str], names: list[str]) -> None:
    assert names_in(*fragments) == names


def test_faults_of_extra_args_are_named_with_the_rest() -> None:
    with pytest.raises(DocumentError) as refused:
        _metric("  m:\n    extra_args:\n      aggregation_method: median\n      speed: 1\n      query_prefix: [1]\n")
    assert str(refused.value).splitlines() == [
        "metrics.yml:3: metrics.m: 'unit' is missing",
        "metrics.yml:4: metrics.m.extra_args.aggregation_method: expected one of avg, count, max, min, stddev, stdvar, "
        "sum, got text 'median'",
        "metrics.yml:5: metrics.m.extra_args.speed: unknown key 'speed': use aggregation_method, query_function, "
        "range_function, query_prefix, query_suffix",
        "metrics.yml:6: metrics.m.extra_args.query_prefix: expected text, got a list",
    ]
