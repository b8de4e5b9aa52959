"""Expressions that leave points out: what is let through, what is refused when read, and that nothing gets out."""

from __future__ import annotations

import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from collectors.metrics_yml import read
from collectors.service import open_source
from collectors.settings import CollectorSettings, PrometheusSettings
from collectors.skip_expression import MAX_LENGTH, Skip, SkipError, skip_fault
from collectors.skipping import without_skipped
from collectors.source import Answer
from rater.model.interval import Interval
from rater.model.usage import QuarantinedItem, Sample, Series

T = 1_767_571_200  # 2026-01-05T00:00:00Z, a Monday
P = 3600


def _skips(text: str, qty: str = "2.5", **metadata: object) -> bool:
    assert skip_fault(text) == ""
    return Skip(text).skips("GiB", Decimal(qty), {"id": "vm-1", "project_id": "p"}, metadata, T)


@pytest.mark.parametrize(
    ("text", "skipped"),
    [
        ("True", True),
        (" False ", False),
        ('datapoint.get("vol", {}).get("qty", 0) == 0', False),  # CloudKitty's own example
        ("datapoint['vol']['qty'] == 2.5", True),
        ("datapoint['vol']['qty'] * 2 - 1 > 3 and datapoint['vol']['unit'] == 'GiB'", True),
        ("datapoint['metadata']['flavor'] in ('m1', 'm2')", True),
        ("datapoint['metadata']['flavor'] not in ['m1', 'm2'] or not datapoint['groupby']['id']", False),
        ("datapoint['metadata'].get('flavor', '').startswith('m')", True),
        ("datapoint.get('metadata').get('nothing') is None", True),
        ("datapoint['groupby']['id'].split('-')[1] == '1'", True),
        ("'m1' in datapoint['metadata'].values()", True),
        ("float(datapoint['metadata']['size']) / 2 < 1.6 < 10 ** 2", True),
        ("int(round(datapoint['vol']['qty'])) % 2", False),
        ("'a' if datapoint['vol']['qty'] else ''", True),
        ("datapoint['vol']['qty'].is_zero()", False),
        ("(datapoint['groupby']['week_of_the_year'], datapoint['groupby']['day_of_the_year']) == ('01', '5')", True),
        ("datapoint['groupby']['month'] == '1' and datapoint['groupby']['year'] == '2026'", True),
        ("len(datapoint['metadata']) + len('ab' + 'c') == max(1, 5)", True),
        ("datapoint['metadata']", True),  # whatever it gives counts as Python would count it
        ("{'a': datapoint['vol']['qty']}['a'] // 1 == abs(-2) and {1, 2} != {1}", True),
    ],
)
def test_expressions(text: str, skipped: bool) -> None:
    assert _skips(text, flavor="m1", size="3") is skipped


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("datapoint['vol']['qty'] ==", "is no expression of Python: invalid syntax"),
        ("datapoint['vol'] = 1", "is no expression of Python"),
        ("import os", "is no expression of Python"),
        ("\0", "is no expression of Python"),
        ("(" * 300 + ")" * 300, "is no expression of Python"),
        ("not " * 100 + "True", "is nested more than 40 deep"),
        (f"'{'a' * MAX_LENGTH}'", f"has {MAX_LENGTH + 2} characters"),
        ("datapont['vol']['qty'] == 0", "names 'datapont', which is unknown: only datapoint is known"),
        ("self._tenant_id", "uses ._tenant_id, which is not allowed"),
        ("eval('1')", "calls eval(), which is unknown"),
        ("__import__('os').system('true')", "calls __import__(), which is unknown"),
        ("open", "names 'open'"),
        ("datapoint.__class__.__mro__", "uses .__mro__, which is not allowed"),
        ("datapoint['groupby'].get.__self__", "uses .__self__, which is not allowed"),
        ("datapoint['groupby'].get", "uses .get without calling it"),
        ("datapoint['groupby'].pop('id')", "uses .pop, which is not allowed"),
        ("'{0.__class__}'.format(1)", "uses .format, which is not allowed"),
        ("f'{datapoint}'", "uses JoinedStr, which is not allowed"),
        ("[x for x in (1, 2)]", "uses ListComp, which is not allowed"),
        ("(lambda: 1)()", "uses Lambda, which is not allowed"),
        ("(x := 1)", "uses NamedExpr, which is not allowed"),
        ("1 << 9", "uses LShift, which is not allowed"),
        ("max(*[1])", "uses Starred, which is not allowed"),
        ("max(**{'a': 1})", "unpacks a mapping with **"),
        ("{**{}}", "unpacks a mapping with **"),
        ("(1)(2)", "calls something that has no name"),
        ("b'a'", "holds b'a'"),
        ("datapoint['rating']['price'] == 0", "asks for the price, which is not known when usage is collected"),
        ("datapoint.get('rating', {}).get('price', 0) == 0", "asks for the price"),
        ("datapoint['volume'] == 0", "has to ask datapoint for one of vol, groupby, metadata"),
        ("len(datapoint)", "has to ask datapoint for one of"),
        ("'rating' in datapoint", "has to ask datapoint for one of"),
        ("datapoint['v' + 'ol']", "has to ask datapoint for one of"),
        ("datapoint.get('vol', {}).get('quantity', 0) == 0", "has to ask datapoint['vol'] for one of qty, unit"),
        ("datapoint['vol'] == 0", "has to ask datapoint['vol'] for one of qty, unit"),
    ],
)
def test_what_is_refused_when_it_is_read(text: str, fault: str) -> None:
    assert fault in skip_fault(text)


def test_the_faults_of_an_expression_are_named_together() -> None:
    assert skip_fault("foo(datapoint['vol']['x'])").split("; ") == [
        "calls foo(), which is unknown: use abs, bool, float, int, len, max, min, round, str",
        "has to ask datapoint['vol'] for one of qty, unit",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("datapoint['metadata']['flavor'] == 'm1'", "KeyError: 'flavor'"),
        ("datapoint['vol']['qty'] / 0 > 1", "DivisionByZero"),
        ("datapoint['vol']['qty'] * 0.5 > 1", "TypeError"),  # of a Decimal, in Python as here
        ("datapoint['groupby']['id'] > 1", "TypeError"),
        ("datapoint['groupby']['id'].is_zero()", "FeatureNotAvailable"),
        ("datapoint['groupby']['nothing'].lower()", "KeyError"),
        ("datapoint['metadata'].get('nothing').lower()", "FeatureNotAvailable"),
        ("datapoint['groupby']['id'].split('-')[7]", "IndexError"),
        ("float(datapoint['groupby']['id'])", "ValueError"),
        ("'a' * 10", "TypeError: * is for two numbers, not str and int"),
        ("[0] * 9999999999", "TypeError"),
        ("'%99999999999d' % 1", "TypeError: % is for two numbers"),
        ("9 ** 9 ** 9", "ValueError: ** takes numbers up to 1000000"),
        ("round(5, -999999999)", "ValueError: round takes up to 100 digits"),
        ("int(1e999)", "OverflowError"),
    ],
)
def test_what_fails_for_a_point(text: str, reason: str) -> None:
    with pytest.raises(SkipError) as failed:
        _skips(text)

    assert str(failed.value).startswith(reason)


def test_the_dearest_expressions_end_soon() -> None:
    texts = [
        " * ".join(["1000000 ** 32"] * 100),
        " + ".join(["'" + "a" * 50 + "'"] * 35),
        "-".join(["datapoint['vol']['qty'] ** 32"] * 60),
    ]
    for text in texts:
        began = time.process_time()
        with suppress(SkipError):
            Skip(text).skips("u", Decimal("9" * 20), {}, {}, T)
        assert time.process_time() - began < 1.0


def test_the_expression_of_the_installation_is_checked_with_the_settings() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"skip_datapoints_expression calls foo\(\), which is unknown"):
        msgspec.convert({"skip_datapoints_expression": "foo()"}, CollectorSettings)
    assert msgspec.convert({"skip_datapoints_expression": "True"}, CollectorSettings).numbers == "exact"


async def test_the_expression_of_the_installation_reaches_the_metrics_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "metrics.yml").write_text("metrics: {m: {unit: u}, n: {unit: u, skip_datapoints_expression: 'False'}}")
    settings = CollectorSettings(
        prometheus=PrometheusSettings(url="http://127.0.0.1:1/api/v1"), skip_datapoints_expression="True"
    )
    async with open_source(settings, tmp_path / "metrics.yml", P) as (_, metrics):
        assert {metric.name: metric.skip for metric in metrics} == {"m": Skip("True"), "n": None}


# --- what becomes of an answer


def _answer(*flavors: str | None) -> Answer:
    series = [
        Series({"id": f"vm-{n}"}, {} if flavor is None else {"flavor": flavor}) for n, flavor in enumerate(flavors)
    ]
    samples = [Sample(n, T, T + P, Decimal(n)) for n in range(len(series))]
    return Answer([Interval(T, T + P)], series=series, samples=samples, note="Prometheus 3.0")


def _left(answer: Answer, expression: str) -> Answer:
    (metric,) = read(f"metrics:\n  m: {{unit: u, skip_datapoints_expression: {expression!r}}}", "metrics.yml").metrics
    return without_skipped(answer, metric, T)


def test_points_that_are_left_out_are_counted_and_noted() -> None:
    found = _left(_answer("a", "b", "a", "c"), "datapoint['metadata']['flavor'] == 'a'")

    assert found.series == [Series({"id": "vm-1"}, {"flavor": "b"}), Series({"id": "vm-3"}, {"flavor": "c"})]
    assert found.samples == [Sample(0, T, T + P, Decimal(1)), Sample(1, T, T + P, Decimal(3))]
    assert (found.skipped, found.quarantined) == (2, [])
    assert found.note == "Prometheus 3.0; 2 points left out by skip_datapoints_expression"
    assert found.covers == [Interval(T, T + P)]  # what was left out was seen


def test_a_point_that_the_expression_fails_for_is_put_aside_with_the_reason() -> None:
    earlier = QuarantinedItem("NaN", "its value is NaN: it must be a finite number")
    answer = Answer([], series=_answer("a", None).series, samples=_answer("a", None).samples, quarantined=[earlier])
    found = _left(answer, "datapoint['metadata']['flavor'] == 'b'")

    assert [sample.qty for sample in found.samples] == [Decimal(0)]
    assert found.quarantined == [
        earlier,
        QuarantinedItem("1", "skip_datapoints_expression failed with KeyError: 'flavor'", {"id": "vm-1"}),
    ]
    assert (found.skipped, found.note) == (0, "")


def test_without_an_expression_an_answer_stays_as_it_is() -> None:
    answer = _answer("a")

    assert _left(answer, "False") is answer


def test_several_samples_of_one_series_are_judged_one_by_one() -> None:
    answer = Answer(
        [], series=[Series(), Series({"id": "b"})], samples=[Sample(1, T, T + 60, Decimal(n)) for n in (0, 1, 0, 2)]
    )
    found = _left(answer, "datapoint['vol']['qty'] == 0")

    assert found.series == [Series({"id": "b"})]
    assert [(sample.series, sample.qty) for sample in found.samples] == [(0, 1), (0, 2)]
    assert found.skipped == 2


def test_the_remark_fits_into_a_full_note() -> None:
    answer = Answer([], series=[Series()], samples=[Sample(0, T, T + P, Decimal(0))], note="x" * 2000)
    found = _left(answer, "True")

    assert len(found.note) == 2000
    assert found.note.endswith("x; 1 points left out by skip_datapoints_expression")
