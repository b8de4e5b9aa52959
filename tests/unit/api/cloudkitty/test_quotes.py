"""Prices asked for over HTTP, by the rules as they are: what CloudKitty answers, and what its dashboard sends."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from rater.model.rules import ModuleSet, Script, ScriptCreated
from rater.rating import RuleBook
from rater.reports import StoreView
from tests.unit.api.cloudkitty.world import ANN, METER, Found, World, serving
from tests.unit.rating.builders import applied, book_of, uid
from tests.unit.store.builders import memory_store

BOOK = book_of("svc flat 0.1", "flavor=m1 flat 2 @size", "flavor=m1 flat 1 @size [A]", "thr vcpus>=8 rate 0.5 @size")


async def quoted(resources: Any, book: RuleBook = BOOK, path: str = "/v1/rating/quote/", **changed: Any) -> Found:
    with memory_store() as store:
        async with serving(StoreView(store), book, **changed) as world:
            return await ask(world, resources, path)


async def ask(world: World, resources: Any, path: str = "/v1/rating/quote/", token: str = "") -> Found:
    return await world.ask(path, method="POST", token=token, json={"resources": resources})


def resource(volume: Any = "1", service: str = "compute", **desc: Any) -> Mapping[str, Any]:
    return {"service": service, "volume": volume, "desc": desc}


@pytest.mark.parametrize(
    ("resources", "price"),
    [
        ([], "0"),
        ([resource("3")], "0.3"),
        ([resource("3", service="other")], "0"),
        ([resource("1", groupby={"flavor": "m1"})], "2.1"),
        ([resource("1", metadata={"flavor": "m1"}, groupby={})], "2.1"),
        ([resource("1", flavor="m1", vcpus=8)], "1.1"),  # as the dashboard sends it
        ([resource("1", flavor="m2", metadata={"flavor": "m1"})], "2.1"),
        ([resource("3"), resource("1", flavor="m1")], "2.4"),
    ],
)
async def test_prices_are_those_of_rated_usage_by_the_rules_for_everybody(resources: Any, price: str) -> None:
    found = await quoted(resources)
    assert (found.status, type(found.body)) == (200, str)
    assert Decimal(found.body) == Decimal(price)


async def test_a_volume_that_is_a_json_number_is_a_float_unless_numbers_are_exact() -> None:
    as_float = await quoted([resource(0.1)])
    exact = await quoted([resource(0.1)], path="/v1/billing/quote", exact_numbers=True)
    assert Decimal(as_float.body) == Decimal("0.01000000000000000055511151231")
    assert Decimal(exact.body) == Decimal("0.01")


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ([{"service": "compute", "desc": {}}], "missing required field `volume` - at `$.resources[0]`"),
        ([{"service": "compute", "volume": 1}], "missing required field `desc` - at `$.resources[0]`"),
        ([{"volume": 1, "desc": {}}], "missing required field `service`"),
        (
            [resource("much"), resource("1e30"), resource(True)],
            'resources[0]: volume "much" is no number with at most 30 digits before the point; resources[1]: volume '
            '"1e30" is no number with at most 30 digits before the point; resources[2]: volume true is no number',
        ),
        ([resource("NaN")], "is no number"),
        ([resource("9" * 500)], "is no number"),
        (
            [resource("1", flavor={"name": "m1"}, groupby="m1")],
            "[0]: desc has flavor, groupby: groupby and metadata",
        ),
        ([resource("1", flavor=["m1"])], "got `array` - at `$.resources[0].desc"),
        ([resource("1", flavor=2**70)], "a label must be"),
        ([resource("1", vcpus="many")], "this cannot be rated: resources[0]:"),
        ("all", "Expected `array`, got `str`"),
    ],
)
async def test_what_cannot_be_quoted_is_refused_with_its_place(resources: Any, said: str) -> None:
    found = await quoted(resources)
    assert (found.status, found.body["faultcode"]) == (400, "Client")
    assert said in found.body["faultstring"]


SCRIPT = """
for points in data['usage'].values():
    for point in points:
        point['rating']['price'] /= point['vol']['qty'] - 1
"""


async def test_scripts_run_as_they_do_for_usage(tmp_path: Any) -> None:
    with memory_store() as store:
        script = ScriptCreated(Script(uid(90), "half", SCRIPT))
        book = applied(BOOK, script, ModuleSet("pyscripts", True), ModuleSet("hashmap", True, 5))
        async with serving(StoreView(store), book, tmp_path) as world:
            # whoever has a token may ask
            for token in (METER, ANN):
                assert Decimal((await ask(world, [resource("3")], token=token)).body) == Decimal("0.15")
            # and whoever is no administrator is not told what is wrong with a script
            assert (await ask(world, [resource("1")], token=ANN)).body["faultstring"] == "this cannot be rated"
            told = await ask(world, [resource("1")], token="the-token-of-the-boss-1")
            assert told.status == 400
            assert "script 'half', line 4: " in told.body["faultstring"]
