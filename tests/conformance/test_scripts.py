"""Rating scripts: what CloudKitty's own PyScripts makes of a frame, in its process, our sandbox makes of it too."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from rater.model.rules import Script
from rater.rating import Failed, RatingFrame, RatingPoint, ScriptDone, ScriptJob
from rater.sandbox import Sandbox
from tests.conformance.side import CloudKitty, cloudkitty

BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z
EACH = "for metric, points in data['usage'].items():\n    for p in points:\n        "

# What becomes of each is that both sides agree, in every point and number, or that both fail.
HARMLESS = {
    "nothing": "pass",
    "price set": EACH + "p['rating']['price'] = p['vol']['qty'] * 2",
    "price added": EACH + "p['rating']['price'] += p['vol']['qty'] * 2",
    "price a float": EACH + "p['rating']['price'] = 0.1",
    "price a product of floats": EACH + "p['rating']['price'] = 3 * 0.1",
    "price a text": EACH + "p['rating']['price'] = '1.50'",
    "price an int": EACH + "p['rating']['price'] = 7",
    "price a decimal of many digits": "from decimal import Decimal\n" + EACH + "p['rating']['price'] = Decimal(1) / 3",
    "price an exponent": EACH + "p['rating']['price'] = '1e-7'",
    "price negative": EACH + "p['rating']['price'] = -p['vol']['qty']",
    "qty changed": EACH + "p['vol']['qty'] = 2.5",
    "qty a text": EACH + "p['vol']['qty'] = '3'",
    "unit changed": EACH + "p['vol']['unit'] = 'GiB'",
    "unit emptied": EACH + "p['vol']['unit'] = ''",
    "labels changed": EACH + "p['groupby']['tier'] = 'gold'\n        p['metadata'].pop('flavor', None)",
    "a label of each type": EACH + "p['metadata'].update(a=1, b=1.5, c=True, d=None, e='é')",
    "rating left out": EACH + "del p['rating']",
    "price left out": EACH + "p['rating'] = {}",
    "a metric dropped": "data['usage'].pop('storage', None)",
    "all dropped": "data['usage'] = {}",
    "points dropped": "data['usage']['compute'] = [p for p in data['usage']['compute'] if p['vol']['qty'] > 1]",
    "no points of a metric": "data['usage']['compute'] = []",
    "a point twice": "import copy\ndata['usage']['compute'] += copy.deepcopy(data['usage']['compute'][:1])",
    "a metric added": "data['usage']['a new one'] = [{'vol': {'unit': 'u', 'qty': 1}, 'groupby': {}, 'metadata': {}}]",
    "points in reverse": "data['usage']['compute'].reverse()",
    "data made anew": "data = {'period': data['period'], 'usage': {'storage': data['usage']['storage']}}",
    "the hour of the period": EACH + "p['rating']['price'] = data['period']['begin'].hour + 1",
    "the length of the period": EACH
    + "p['rating']['price'] = (data['period']['end'] - data['period']['begin']).total_seconds()",
    "the time zone of the period": EACH + "p['metadata']['offset'] = str(data['period']['begin'].utcoffset())",
    "what labels are": EACH
    + "p['metadata']['seen'] = repr(sorted((k, type(v).__name__) for k, v in p['groupby'].items()))",
    "what numbers are": EACH
    + "p['metadata']['seen'] = type(p['vol']['qty']).__name__ + type(p['rating']['price']).__name__",
    "which keys there are": EACH + "p['metadata']['seen'] = ' '.join(sorted(data) + sorted(p) + sorted(p['vol']))",
    "a function and globals": "k = 3\ndef f(x):\n    return x * k\n"
    + EACH
    + "p['rating']['price'] = f(p['vol']['qty'])",
    "a comprehension in a class": "class C:\n    r = [x for x in (1, 2)]\n" + EACH + "p['rating']['price'] = sum(C.r)",
    "main": "if __name__ == '__main__':\n    data['usage'] = {}",
    "printing": "print('hello')",
    "a division": EACH + "p['rating']['price'] = p['vol']['qty'] / 3",
    "rounding": "from decimal import ROUND_UP, Decimal\n"
    + EACH
    + "p['rating']['price'] = (p['vol']['qty'] / 7).quantize(Decimal('0.01'), ROUND_UP)",
}  # fmt: skip
FAILING = {
    "an exception": "1 / 0",
    "a name that is not there": "x = undefined",
    "an exception of its own": "class Bad(Exception):\n    pass\nraise Bad('no')",
    "data emptied": "data = None",
    "data deleted": "del data",
    "no usage": "data.pop('usage')",
    "no period": "data.pop('period')",
    "a key beside": "data['more'] = 1",
    "a key in a point": EACH + "p['desc'] = {}",
    "a key in vol": EACH + "p['vol']['more'] = 1",
    "a key in rating": EACH + "p['rating']['more'] = 1",
    "no qty": EACH + "del p['vol']['qty']",
    "no labels": EACH + "del p['groupby']",
    "unit a number": EACH + "p['vol']['unit'] = 1",
    "a metric that is no list": "data['usage']['compute'] = 3",
}


@pytest.fixture(scope="module")
def real() -> Iterator[CloudKitty]:
    with cloudkitty() as side:
        yield side


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


def points() -> list[RatingPoint]:
    return [
        RatingPoint(metric, "h", Decimal(qty), Decimal(price), {"id": f"i{number}", "n": 3, "x": 1.5}, labels, number)
        for number, (metric, qty, price, labels) in enumerate(
            [
                ("compute", "1", "0", {"flavor": "m1"}),
                ("compute", "2.50", "0.25", {"flavor": "m2", "ok": True}),
                ("compute", "1E+3", "0", {"none": None}),
                ("storage", "0.3333333333333333333333333333", "1.10", {}),
            ]
        )
    ]


def theirs(real: CloudKitty, *scripts: str) -> list[Any] | str:
    real.ask(
        "rules",
        services=[],
        fields=[],
        groups=[],
        rules=[],
        scripts=[{"name": f"script {number}", "data": text} for number, text in enumerate(scripts)],
    )
    given = [
        {"metric": p.metric, "unit": p.unit, "qty": str(p.qty), "price": str(p.price), "groupby": p.groupby,
         "metadata": p.metadata}
        for p in points()
    ]  # fmt: skip
    answer = real.ask("scripts", tenant="A", period_begin=BEGIN, points=given)
    if "error" in answer:
        return f"failed: {answer['error']}"
    return [
        (p["metric"], p["unit"], Decimal(p["qty"]), Decimal(p["price"]), p["groupby"], p["metadata"])
        for p in answer["points"]
    ]


def ours(sandbox: Sandbox, *scripts: str) -> list[Any] | str:
    stored = tuple(Script(f"{number}", f"script {number}", text) for number, text in enumerate(scripts))
    done = sandbox.run(ScriptJob(stored, RatingFrame("A", BEGIN, BEGIN + 3600, tuple(points()))))
    if isinstance(done, Failed):
        return f"failed: {done.text()}"
    assert isinstance(done, ScriptDone)
    return [(p.metric, p.unit, p.qty, p.price, p.groupby, p.metadata) for p in done.points]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_script_does_the_same(real: CloudKitty, sandbox: Sandbox, name: str) -> None:
    expected = theirs(real, HARMLESS[name])

    assert isinstance(expected, list), f"CloudKitty {expected}"
    assert ours(sandbox, HARMLESS[name]) == expected


@pytest.mark.parametrize("name", FAILING)
def test_a_script_that_fails_there_fails_here(real: CloudKitty, sandbox: Sandbox, name: str) -> None:
    assert str(theirs(real, FAILING[name])).startswith("failed: ")
    assert str(ours(sandbox, FAILING[name])).startswith("failed: ")


def test_scripts_see_what_the_one_before_left(real: CloudKitty, sandbox: Sandbox) -> None:
    chain = [HARMLESS[name] for name in ("price a text", "price added", "labels changed", "a point twice")]

    assert ours(sandbox, *chain) == theirs(real, *chain)
