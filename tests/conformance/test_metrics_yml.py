"""metrics.yml: what CloudKitty's own schema takes is read here as it is there, and what it refuses is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.metrics_yml import Metric, read
from collectors.prometheus.promql import PrometheusArgs, read_extra_args
from rater.model.document import DocumentError
from tests.conformance.side import CloudKitty, cloudkitty

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "prometheus" / "metrics.yml"

TAKEN = {
    "least": "metrics: {m: {unit: u}}",
    "all keys": """
metrics:
  m.x:
    unit: GiB
    factor: 1/1073741824
    offset: -3
    alt_name: a b
    description: What it is
    groupby: [id, "project_id"]
    metadata: [flavor, name]
    mutate: MAP
    mutate_map: {0: 1}
    skip_datapoints_expression: 'datapoint.get("vol", {}).get("qty", 0) == 0'
    extra_args:
      {aggregation_method: stdvar, query_function: ln, range_function: irange, query_prefix: "-", query_suffix: ""}
""",
    "a list": "metrics: {m: [{unit: u}, {unit: u, alt_name: b}, {unit: v, alt_name: a}], a.z: {unit: u}}",
    "numbers": "metrics: {m: {unit: u, factor: 1.5e+3, offset: '0.25'}, n: {unit: u, factor: 0x1F, offset: 1e-3}}",
    "more numbers": "metrics: {m: {unit: u, factor: -1/3, offset: .5}, n: {unit: u, factor: ' 3 ', offset: +12}}",
    "long numbers": "metrics: {m: {unit: u, factor: 123456789012345678901234567890, offset: '0.1234567890123456789'}}",
    "a folded expression": "metrics:\n  m:\n    unit: u\n    skip_datapoints_expression: >\n      1 and\n      0\n",
    "no arguments": "metrics: {m: {unit: u, extra_args: {}}}",
    "a map that nothing uses": "metrics: {m: {unit: u, mutate: CEIL, mutate_map: {1: 2}}}",
    "anchors": "metrics: {m: &m {unit: u, groupby: [id]}, n: {<<: *m, unit: v}}",
}
REFUSED = {
    "nothing": "{}",
    "no metric": "metrics: {}",
    "a list of metrics": "metrics: [{unit: u}]",
    "another section": "metrics: {m: {unit: u}}\nmore: 1",
    "no unit": "metrics: {m: {factor: 2}}",
    "an empty unit": "metrics: {m: {unit: ''}}",
    "an unknown key": "metrics: {m: {unit: u, units: v}}",
    "an empty alt_name": "metrics: {m: {unit: u, alt_name: ''}}",
    "an empty description": "metrics: {m: {unit: u, description: ''}}",
    "an empty label": "metrics: {m: {unit: u, groupby: ['']}}",
    "labels as text": "metrics: {m: {unit: u, metadata: flavor}}",
    "a factor in words": "metrics: {m: {unit: u, factor: two}}",
    "a factor without value": "metrics: {m: {unit: u, offset: 1/0}}",
    "a factor that is a list": "metrics: {m: {unit: u, factor: [1]}}",
    "an unknown mutation": "metrics: {m: {unit: u, mutate: ROUND}}",
    "a mutation in small letters": "metrics: {m: {unit: u, mutate: floor}}",
    "a map that is a list": "metrics: {m: {unit: u, mutate: MAP, mutate_map: [1]}}",
    "an empty expression": "metrics: {m: {unit: u, skip_datapoints_expression: ''}}",
    "an unknown argument": "metrics: {m: {unit: u, extra_args: {method: max}}}",
    "arguments as text": "metrics: {m: {unit: u, extra_args: max}}",
    "an unknown method": "metrics: {m: {unit: u, extra_args: {aggregation_method: median}}}",
    "an unknown function": "metrics: {m: {unit: u, extra_args: {query_function: sin}}}",
    "an unknown range function": "metrics: {m: {unit: u, extra_args: {range_function: increase}}}",
    "a suffix that is a number": "metrics: {m: {unit: u, extra_args: {query_suffix: [2]}}}",
    "one key twice": "metrics: {m: [{unit: u}, {unit: v}]}",
}
REFUSED_HERE = {  # docs/differences-from-cloudkitty.md, "Collecting"
    "one public name twice": "metrics: {m: {unit: u, alt_name: a}, n: {unit: u, alt_name: a}}",
    "MAP without map": "metrics: {m: {unit: u, mutate: MAP}}",
    "text as key of a map": "metrics: {m: {unit: u, mutate: MAP, mutate_map: {'1': 2}}}",
    "text in a map": "metrics: {m: {unit: u, mutate: MAP, mutate_map: {1: many}}}",
    "an expression with a typing error": "metrics: {m: {unit: u, skip_datapoints_expression: 'datapont == 1'}}",
    "an expression about the price": "metrics: {m: {unit: u, skip_datapoints_expression: 'datapoint[\"rating\"]'}}",
}  # fmt: skip


@pytest.fixture(scope="module")
def real() -> Iterator[CloudKitty]:
    with cloudkitty() as side:
        yield side


def _shown(metric: Metric) -> dict[str, Any]:
    """As CloudKitty shows it: what was not given is not there."""
    args = metric.extra_args
    assert isinstance(args, PrometheusArgs)
    extra = {
        key: value for key, value in msgspec.structs.asdict(args).items() if value or not key.endswith("_function")
    }
    found: dict[str, Any] = {
        "unit": metric.unit,
        "mutate": metric.mutate.value,
        "groupby": list(metric.grouped_by("project_id")),
        "metadata": list(metric.metadata),
        "extra_args": extra,
        "factor": str(metric.factor.binary),
        "offset": str(metric.offset.binary),
    }
    if metric.name != metric.metric:
        found["alt_name"] = metric.name
    return {**found, **({"description": metric.description} if metric.description else {})}


@pytest.mark.parametrize("name", [*TAKEN, "the example"])
def test_what_is_taken_is_read_alike(real: CloudKitty, name: str) -> None:
    text = TAKEN.get(name) or EXAMPLE.read_text(encoding="utf-8")
    metrics = read(text, "metrics.yml", read_extra_args).metrics

    assert {metric.internal_key: _shown(metric) for metric in metrics} == real.ask("definitions", metrics_yml=text)[
        "metrics"
    ]
    assert [m.internal_key for m in metrics] == sorted(m.internal_key for m in metrics)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_there_is_refused_here(real: CloudKitty, name: str) -> None:
    assert "refused" in real.ask("definitions", metrics_yml=REFUSED[name])
    with pytest.raises(DocumentError):
        read(REFUSED[name], "metrics.yml", read_extra_args)


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_what_is_taken_there_and_goes_wrong_is_refused_here(real: CloudKitty, name: str) -> None:
    assert "metrics" in real.ask("definitions", metrics_yml=REFUSED_HERE[name])
    with pytest.raises(DocumentError, match=r"metrics\.yml:1: metrics\.[mn]"):
        read(REFUSED_HERE[name], "metrics.yml", read_extra_args)
