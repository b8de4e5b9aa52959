"""CloudKitty's metrics.yml: what is read, what is refused, and its arithmetic."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from collectors.metrics_yml import Metric, Mutate, load, read
from collectors.quantity import PROMETHEUS_CONTEXT, Numbers, QuantityError, quantity
from rater.model.document import DocumentError
from rater.model.metric import MetricSpec


def _only(definition: str) -> Metric:
    (metric,) = read(f"metrics:\n  m:\n    unit: u\n{definition}", "metrics.yml").metrics
    return metric


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
        'metrics.yml:15: metrics.c.skip_datapoints_expression: is not supported yet: take it out, or write "False"',
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


@pytest.mark.parametrize(
    ("definition", "raw", "expected"),
    [  # each of them was run on CloudKitty
        ("", "1.23456789012", "1.23456789"),
        ("", "123456789.5", "123456790"),
        ("    factor: 1/3\n", "10", "3.33333333"),
        ("    factor: 0.1\n", "3", "0.300000000"),
        ("    mutate: CEIL\n", "1.0000000001", "1"),
        ("    mutate: CEIL\n", "1.00000001", "2"),
        ("    mutate: FLOOR\n", "1.99999999", "1"),
        ("    mutate: FLOOR\n", "1.999999999", "2"),
        ("    mutate: NUMBOOL\n", "7", "1.0"),
        ("    mutate: NOTNUMBOOL\n", "7", "0.0"),
        ("    mutate: NOTNUMBOOL\n", "0", "1.0"),
        ("    offset: 5\n    factor: 2\n", "1", "7"),
        ("    mutate: MAP\n    mutate_map: {4: 2.5}\n", "4.0", "2.5"),
        ("    mutate: MAP\n    mutate_map: {4: 2.5}\n", "5", "0.0"),
        ("    mutate: MAP\n    mutate_map: {0.1: 1}\n", "0.1", "0.0"),  # the key is a binary float
    ],
)
def test_numbers_as_cloudkitty_has_them(definition: str, raw: str, expected: str) -> None:
    assert str(quantity(raw, _only(definition), "cloudkitty", PROMETHEUS_CONTEXT)) == expected


@pytest.mark.parametrize(
    ("definition", "raw", "expected"),
    [
        ("", "1.2345678901234567", "1.2345678901234567"),
        ("    factor: 0.1\n", "3", "0.3"),
        ("    factor: 1/1024\n", "1", "0.0009765625"),
        ("    factor: 1/3\n", "10", "3.333333333333333333333333333"),
        ("    offset: 0.25\n", "1e3", "1000.25"),
        ("    mutate: CEIL\n", "1.0000000001", "2"),
        ("    mutate: MAP\n    mutate_map: {0.1: 1}\n", "0.1", "1"),
    ],
)
def test_exact_numbers(definition: str, raw: str, expected: str) -> None:
    assert quantity(raw, _only(definition), "exact", PROMETHEUS_CONTEXT) == Decimal(expected)


@pytest.mark.parametrize("numbers", ["cloudkitty", "exact"])
@pytest.mark.parametrize("mutate", ["NONE", "NUMBOOL", "CEIL"])
@pytest.mark.parametrize("raw", ["NaN", "+Inf", "-Inf", "", "one", "1e31"])
def test_what_is_no_number_of_use_has_no_quantity(raw: str, mutate: str, numbers: Numbers) -> None:
    metric = _only(f"    mutate: {mutate}\n")
    if raw == "1e31" and mutate == "NUMBOOL":
        assert quantity(raw, metric, numbers, PROMETHEUS_CONTEXT) == 1
        return
    with pytest.raises(QuantityError):
        quantity(raw, metric, numbers, PROMETHEUS_CONTEXT)
