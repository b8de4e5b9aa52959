"""From what a source says to a quantity: CloudKitty's arithmetic to the last digit, or what the source said."""

from __future__ import annotations

from decimal import Decimal

import pytest

from collectors.metrics_yml import Metric, read
from collectors.quantity import GNOCCHI, PROMETHEUS, Numbers, QuantityError, quantity


def _only(definition: str) -> Metric:
    (metric,) = read(f"metrics:\n  m:\n    unit: u\n{definition}", "metrics.yml").metrics
    return metric


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
        ("    mutate: MAP\n    mutate_map: {true: 2.50, false: '3.0'}\n", "1", "2.5"),
        ("    mutate: MAP\n    mutate_map: {yes: true, no: false}\n", "1", "1"),
        ("    factor: 7\n", "1.000000005", "7.00000007"),  # rounded before and after: 7.000000035 would be …04
        ("    factor: '0.1'\n", "1000000005", "100000001"),
        ("    offset: '1e-3'\n", "1", "1.00100000"),
    ],
)
def test_numbers_as_cloudkitty_has_them(definition: str, raw: str, expected: str) -> None:
    assert str(quantity(raw, _only(definition), "cloudkitty", PROMETHEUS)) == expected


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
    assert quantity(raw, _only(definition), "exact", PROMETHEUS) == Decimal(expected)


@pytest.mark.parametrize("numbers", ["cloudkitty", "exact"])
@pytest.mark.parametrize("mutate", ["NONE", "NUMBOOL", "CEIL"])
@pytest.mark.parametrize("raw", ["NaN", "+Inf", "-Inf", "", "one", "1e31"])
def test_what_is_no_number_of_use_has_no_quantity(raw: str, mutate: str, numbers: Numbers) -> None:
    metric = _only(f"    mutate: {mutate}\n")
    if raw == "1e31" and mutate == "NUMBOOL":
        assert quantity(raw, metric, numbers, PROMETHEUS) == 1
        return
    with pytest.raises(QuantityError):
        quantity(raw, metric, numbers, PROMETHEUS)


@pytest.mark.parametrize(
    ("definition", "raw", "expected"),
    [
        ("", 0.1, "0.1000000000000000055511151231"),
        ("    factor: 1/3\n", 10.0, "3.333333333333333148296162562"),
        ("    factor: 1/1048576\n", 13287936.0, "12.67236328125"),
        ("    factor: 0.1\n", 3.0, "0.3000000000000000166533453694"),
        ("    factor: '0.1'\n", 3.0, "0.3000000000000000166533453694"),  # a quoted number is a fraction, so a float
        ("    offset: 0.1\n", 0.0, "0.1000000000000000055511151231"),
        ("    mutate: CEIL\n", 1.0000000000000002, "2"),
        ("    mutate: MAP\n    mutate_map: {0.1: 7}\n", 0.5, "0.0"),
        ("    mutate: MAP\n    mutate_map: {0.5: 7}\n", 0.5, "7"),
        ("    mutate: NUMBOOL\n", 1e-300, "1.0"),
        ("", 5, "5"),
    ],
)
def test_numbers_of_gnocchi_as_cloudkitty_has_them(definition: str, raw: float, expected: str) -> None:
    found = quantity(raw, _only(definition), "cloudkitty", GNOCCHI)

    assert found == Decimal(expected)
    assert quantity(repr(raw), _only(definition), "cloudkitty", GNOCCHI) == found  # from the text of its JSON


@pytest.mark.parametrize("raw", [0.1, 1e-7, 123456789.123456789, 5])
def test_exact_numbers_of_gnocchi_are_the_text_of_the_float(raw: float) -> None:
    assert str(quantity(raw, _only(""), "exact", GNOCCHI)) == str(Decimal(repr(raw)))


@pytest.mark.parametrize("numbers", ["cloudkitty", "exact"])
@pytest.mark.parametrize("raw", [float("nan"), float("inf"), "1e999"])
def test_what_is_no_number_of_gnocchi_has_no_quantity(raw: str | float, numbers: Numbers) -> None:
    with pytest.raises(QuantityError):
        quantity(raw, _only(""), numbers, GNOCCHI)
