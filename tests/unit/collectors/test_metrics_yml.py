"""CloudKitty's metrics.yml: what is read and what is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from collectors.metrics_yml import _KEYS, Mutate, load, read
from collectors.prometheus.promql import read_extra_args
from collectors.skip_expression import Skip
from rater.model.document import DocumentError
from rater.model.metric import MetricSpec


def _faults(text: str) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        read(text, "metrics.yml")
    return str(refused.value).splitlines()


def test_a_whole_definition_is_read() -> None:
    text = """
metrics:
  volume.size:
    unit: GiB
    groupby: [id, project_id]
    metadata: [volume_type]
    factor: 1/1048576
    offset: -0.5
    alt_name: volume
    description: Volumes
    mutate: CEIL
    skip_datapoints_expression: "False"
    extra_args: {aggregation_method: max}
  cpu:
    - unit: instance
      alt_name: instance
      mutate: NUMBOOL
    - unit: vcpu
      groupby: [id]
      mutate: MAP
      mutate_map: {0: 1, 2.5: 4, -1: 0.1}
"""
    cpu, instance, volume = read(text, "metrics.yml").metrics

    assert [m.internal_key for m in (cpu, instance, volume)] == ["cpu", "cpu@#instance", "volume.size@#volume"]
    assert (volume.metric, volume.name, volume.unit, volume.mutate) == ("volume.size", "volume", "GiB", Mutate.CEIL)
    assert (volume.groupby, volume.metadata) == (("id", "project_id"), ("volume_type",))
    assert volume.extra_args == {"aggregation_method": "max"}
    assert volume.grouped_by("project_id") == ("id", "project_id")
    assert cpu.grouped_by("project_id") == ("id", "project_id")
    assert instance.grouped_by("project_id") == ("project_id",)
    assert [(entry.key.binary, entry.value) for entry in cpu.mutate_map] == [
        (Decimal(0), Decimal(1)),
        (Decimal("2.5"), Decimal(4)),
        (Decimal(-1), Decimal("0.1")),
    ]
    assert read(text, "metrics.yml").specs() == [
        MetricSpec("cpu", "vcpu"),
        MetricSpec("instance", "instance"),
        MetricSpec("volume", "GiB", description="Volumes"),
    ]


def test_the_example_of_the_documentation_is_faultless_and_shows_every_key() -> None:
    text = (Path(__file__).parents[3] / "docs" / "metrics-yml.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    (metric,) = read(example, "metrics.yml", read_extra_args).metrics

    assert all(f"    {key}:" in example for key in _KEYS)
    assert (metric.name, metric.mutate, metric.skip) == ("requests", Mutate.MAP, Skip('datapoint["vol"]["qty"] == 0'))


def test_every_fault_is_named_at_once_with_path_and_line() -> None:
    text = """metrics:
  a:
    unit: ''
    factor: x
    offset: 1/0
    colour: red
  b:
    unit: u
    mutate: MAP
    groupby: id
  c:
    unit: u
    mutate: ROUND
    mutate_map: {"0": 1}
    skip_datapoints_expression: "datapoint['qty'] == 0"
    extra_args: [1]
  d: []
  1: {unit: u}
  e: {alt_name: x}
extra: 1
"""
    assert _faults(text) == [
        "metrics.yml:3: metrics.a.unit: is empty: give at least one character",
        "metrics.yml:4: metrics.a.factor: expected a number or a fraction such as \"1/1048576\", got 'x'",
        "metrics.yml:5: metrics.a.offset: '1/0' has no value: its denominator is 0 or it is too large",
        "metrics.yml:6: metrics.a.colour: unknown key 'colour': use unit, factor, offset, alt_name, description, "
        "groupby, metadata, mutate, mutate_map, skip_datapoints_expression, extra_args",
        "metrics.yml:9: metrics.b.mutate: MAP needs a `mutate_map`: without it every quantity would be 0",
        "metrics.yml:10: metrics.b.groupby: expected a list, got text 'id'",
        "metrics.yml:13: metrics.c.mutate: expected one of NONE, NUMBOOL, NOTNUMBOOL, FLOOR, CEIL, MAP, got text "
        "'ROUND'",
        "metrics.yml:14: metrics.c.mutate_map.0: '0' is no number: it would never match a quantity. Write it without "
        "quotes",
        "metrics.yml:15: metrics.c.skip_datapoints_expression: has to ask datapoint for one of vol, groupby, metadata, "
        "by ['…'] or .get('…')",
        "metrics.yml:16: metrics.c.extra_args: expected a mapping",
        "metrics.yml:17: metrics.d: is an empty list: give at least one definition",
        "metrics.yml:18: metrics.1: expected the name of a metric as text, got '1': put it in quotes",
        "metrics.yml:19: metrics.e: 'unit' is missing",
        "metrics.yml:20: extra: unknown key 'extra': use metrics",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "metrics:\n  a: {unit: u, alt_name: x}\n  b: {unit: u, alt_name: x}\n",
        "metrics:\n  x: {unit: u}\n  b:\n    {unit: u, alt_name: x}\n",
        "metrics:\n  x:\n    - {unit: u}\n    - {unit: v}\n",
    ],
)
def test_two_metrics_with_one_public_name_are_refused(text: str) -> None:
    (fault,) = _faults(text)

    assert "public name 'x' is taken by metrics." in fault
    assert "one of the two would be lost" in fault


@pytest.mark.parametrize("text", ["metrics: {}", "metrics: []", "metrics:", "{}"])
def test_a_file_without_metrics_is_refused(text: str) -> None:
    assert len(_faults(text)) == 1


def test_a_file_that_cannot_be_read_is_a_fault_of_the_document(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"none\.yml:1: cannot be read: No such file"):
        load(tmp_path / "none.yml")
    (tmp_path / "latin.yml").write_bytes(b"metrics: \xff")
    with pytest.raises(DocumentError, match="is not text in UTF-8"):
        load(tmp_path / "latin.yml")


def test_a_key_of_a_map_counts_once_whatever_it_looks_like() -> None:
    """Given 1, 1.0 and true, which are one number to Python; then only one of them could count."""
    faults = _faults("metrics:\n  m:\n    unit: u\n    mutate_map:\n      1: 2\n      1.0: 3\n      true: 4\n")

    assert [fault.partition(":")[2].partition(": ")[0] for fault in faults] == ["6", "7"]
    assert all("repeated: first on line 5" in fault for fault in faults)


def test_what_a_key_stands_for_is_a_number() -> None:
    assert _faults("metrics:\n  m:\n    unit: u\n    mutate_map: {1: x, 2: 1/2, 3: null, 4: [1]}\n") == [
        "metrics.yml:4: metrics.m.mutate_map.1: expected a decimal number, got text 'x'",
        "metrics.yml:4: metrics.m.mutate_map.2: expected a decimal number, got text '1/2'",
        "metrics.yml:4: metrics.m.mutate_map.3: expected a decimal number, got null",
        "metrics.yml:4: metrics.m.mutate_map.4: expected a decimal number, got a list",
    ]


@pytest.mark.parametrize("factor", ['"1e400"', "1/0", "2/3/4", "1//2", ".inf", "yes", "[1]", f'"{"1" * 101}"'])
def test_a_factor_that_is_no_finite_number_is_refused(factor: str) -> None:
    (fault,) = _faults(f"metrics:\n  m:\n    unit: u\n    factor: {factor}\n")

    assert fault.startswith("metrics.yml:4: metrics.m.factor: ")


def test_what_skips_points_is_the_own_expression_or_else_that_of_the_installation() -> None:
    text = """
metrics:
  a: {unit: u}
  b: {unit: u, skip_datapoints_expression: "False"}
  c: {unit: u, skip_datapoints_expression: false}
  d:
    - {unit: u, skip_datapoints_expression: "datapoint['vol']['qty'] == 0"}
    - {unit: u, alt_name: e}
"""
    zero, negative = "datapoint['vol']['qty'] == 0", "datapoint['vol']['qty'] < 0"
    without = {m.name: m.skip for m in read(text, "metrics.yml").metrics}
    with_default = {m.name: m.skip for m in read(text, "metrics.yml", skip=negative).metrics}

    assert without == {"a": None, "b": None, "c": None, "d": Skip(zero), "e": None}
    assert with_default == {"a": Skip(negative), "b": None, "c": None, "d": Skip(zero), "e": Skip(negative)}
