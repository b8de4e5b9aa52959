"""Rules changed over HTTP: what CloudKitty answers for each write, and what is refused, on a rule book in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rater.rating import RuleBook
from rater.reports import StoreView
from tests.unit.api.cloudkitty.world import ANN, BOSS, Found, World, serving
from tests.unit.store.builders import memory_store

H = "/v1/rating/module_config/hashmap"
S = "/v1/rating/module_config/pyscripts/scripts"
NOBODY = "00000000-0000-0000-0000-00000000dead"
MISSING = "Invalid input for field/attribute name. Value: 'None'. Mandatory field missing."
PAST, SOON, LATER = "2020-01-01T00:00:00", "2090-01-01T00:00:00", "2090-02-01T00:00:00"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with memory_store() as store:
        async with serving(StoreView(store), RuleBook.empty()) as served:
            yield served


async def post(world: World, path: str, **body: Any) -> Any:
    """What was created."""
    found = await world.ask(path, method="POST", json=body)
    assert found.status == 201, found
    return found.body


async def put(world: World, path: str, body: Any) -> Found:
    return await world.ask(path, method="PUT", json=body, allow_redirects=False)


async def service_of(world: World, name: str = "compute") -> str:
    return str((await post(world, f"{H}/services", name=name))["service_id"])


async def field_of(world: World, name: str = "flavor") -> str:
    return str((await post(world, f"{H}/fields/", name=name, service_id=await service_of(world)))["field_id"])


def fault(found: Found) -> str:
    """The text of a refusal of version 1."""
    assert set(found.body) == {"faultcode", "faultstring", "debuginfo"}, found
    assert found.body["faultcode"] == "Client"
    return str(found.body["faultstring"])


async def test_services_fields_and_groups_are_created_and_deleted(world: World) -> None:
    # with and without the slash at the end, which is in the Location as it was asked for
    made = await world.ask(f"{H}/services/", method="POST", json={"name": "compute"})
    service_id = made.body["service_id"]
    assert (made.status, made.body) == (201, {"service_id": service_id, "name": "compute"})
    assert made.headers["Location"] == f"{world.url}{H}/services/{service_id}"
    assert await world.get(f"{H}/services/{service_id}") == made.body
    field = await post(world, f"{H}/fields", name="flavor", service_id=service_id)
    assert field == {"field_id": field["field_id"], "name": "flavor", "service_id": service_id}
    made = await world.ask(f"{H}/groups", method="POST", json={"name": "size"})
    assert made.body == {"group_id": made.body["group_id"], "name": "size"}
    assert made.headers["Location"] == f"{world.url}{H}/groups/{made.body['group_id']}"
    # by the path, by the query and by the body
    for path, query, body in (
        (f"{H}/fields/{field['field_id']}", None, None),
        (f"{H}/groups", {"group_id": made.body["group_id"]}, None),
        (f"{H}/services/", None, {"service_id": service_id}),
    ):
        gone = await world.ask(path, query, method="DELETE", json=body)
        assert (gone.status, gone.body) == (204, b""), path
        again = await world.ask(path, query, method="DELETE", json=body)
        assert again.status == 404, path
    assert await world.get(f"{H}/services") == {"services": []}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("services", {"name": "compute"}, 409, "Service compute already exists (UUID: {service})"),
        ("fields", {"name": "flavor", "service_id": "{service}"}, 409, "Field flavor already exists (UUID: {field})"),
        ("groups", {"name": "size"}, 409, "Group size already exists (UUID: {group})"),
        ("fields", {"name": "x", "service_id": NOBODY}, 400, f"No such service: None (UUID: {NOBODY})"),
        ("services", {}, 400, MISSING),
        (
            "services",
            {"name": None},
            400,
            "Invalid input for field/attribute name. Value: 'None'. Mandatory field missing.",
        ),
        ("services", {"name": ""}, 400, "name is empty: give at least one character"),
        ("services", {"name": "x" * 256}, 400, "name has 256 characters: at most 255 are taken"),
        ("services", {"name": 5}, 400, "Invalid input for field/attribute name. Value: '5'. expected text in quotes"),
        (
            "groups",
            {"name": "x", "size": 1, "color": 2},
            400,
            "Unknown attribute for argument group_data: size, color",
        ),
    ],
)
async def test_what_is_refused_of_services_fields_and_groups(
    world: World, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    service = await service_of(world)
    field = (await post(world, f"{H}/fields", name="flavor", service_id=service))["field_id"]
    ids = {"service": service, "field": field, "group": (await post(world, f"{H}/groups", name="size"))["group_id"]}
    sent = {name: value.format(**ids) if isinstance(value, str) else value for name, value in body.items()}
    found = await world.ask(f"{H}/{path}", method="POST", json=sent)
    assert (found.status, fault(found)) == (status, said.format(**ids))


async def test_a_mapping_is_answered_whole(world: World) -> None:
    field_id = await field_of(world)
    sent = {"cost": "0.01", "value": "m1.tiny", "field_id": field_id, "service_id": None, "group_id": None}
    found = await world.ask(f"{H}/mappings/", method="POST", json={**sent, "type": "flat", "tenant_id": None})
    mapping = found.body
    assert found.headers["Location"] == f"{world.url}{H}/mappings/{mapping['mapping_id']}"
    assert mapping == {
        "mapping_id": mapping["mapping_id"],
        "value": "m1.tiny",
        "type": "flat",
        "cost": "0.0100000000000000000000000000",
        "service_id": None,
        "field_id": field_id,
        "group_id": None,
        "tenant_id": None,
        "created_at": mapping["created_at"],
        "start": mapping["created_at"],
        "end": None,
        "name": mapping["mapping_id"].replace("-", ""),
        "description": None,
        "deleted": None,
        "created_by": "unknown",
        "updated_by": None,
        "deleted_by": None,
    }
    assert list(mapping)[:4] == ["mapping_id", "value", "type", "cost"]
    age = datetime.now(UTC) - datetime.fromisoformat(mapping["created_at"]).replace(tzinfo=UTC)
    assert abs(age) < timedelta(minutes=1)
    assert await world.get(f"{H}/mappings/{mapping['mapping_id']}") == mapping


@pytest.mark.parametrize(
    ("raw", "shown", "exact"),
    [
        ("0.98", "0.9799999999999999822364316060", "0.9800000000000000000000000000"),
        ("0.1", "0.1000000000000000055511151231", "0.1000000000000000000000000000"),
        ('"0.1"', "0.1000000000000000000000000000", "0.1000000000000000000000000000"),
        ("2", "2.0000000000000000000000000000", "2.0000000000000000000000000000"),
        ("1e-28", "1E-28", "1E-28"),
        ("-3", "-3.0000000000000000000000000000", "-3.0000000000000000000000000000"),
    ],
)
async def test_a_json_number_is_a_binary_float_unless_numbers_are_exact(raw: str, shown: str, exact: str) -> None:
    for exact_numbers, cost in ((False, shown), (True, exact)):
        with memory_store() as store:
            async with serving(StoreView(store), RuleBook.empty(), exact_numbers=exact_numbers) as world:
                service_id = await service_of(world)
                body = f'{{"cost": {raw}, "service_id": "{service_id}"}}'
                headers = {"Content-Type": "application/json"}
                found = await world.ask(f"{H}/mappings", method="POST", data=body, headers=headers)
                assert (found.status, found.body["cost"]) == (201, cost)


MAPPING = {"cost": "1", "value": "v", "field_id": "{field}"}
TAKEN = "Mapping 'v' already exists for field '{field}', tenant: 'None'"


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"cost": None}, 400, "Invalid input for field/attribute cost. Value: 'None'. Mandatory field missing."),
        ({"cost": "dear"}, 400, "the cost 'dear' is no number with at most 12 digits before the point"),
        ({"cost": True}, 400, "Invalid input for field/attribute cost. Value: 'True'. expected a number"),
        ({"cost": 1e15}, 400, "the cost '1000000000000000.0' is no number with at most 12 digits before the point"),
        (
            {"type": "tax"},
            400,
            "attribute type. Value: 'tax'. Value should be one of: flat, rate",
        ),
        ({"start": PAST}, 400, "Cannot create a rule with start in the past: 2020-01-01T00:00:00Z lies before"),
        (
            {"start": LATER, "end": SOON},
            400,
            "Cannot create a rule with start after end: 2090-02-01T00:00:00Z",
        ),
        ({"end": PAST}, 400, "Cannot create a rule with start after end"),
        ({"end": "soon"}, 400, "'soon' is no time: write it as 2026-01-01T00:00:00"),
        ({"service_id": "{service}"}, 400, "You can only specify one parent."),
        ({"field_id": None}, 400, "You must specify one parent."),
        ({"field_id": None, "service_id": "{service}"}, 400, "You can't specify a value and a service_id."),
        ({"value": None}, 400, "You must specify a value for a field mapping."),
        ({"field_id": NOBODY}, 400, f"No such field: {NOBODY}"),
        ({"group_id": NOBODY}, 400, f"No such group: None (UUID: {NOBODY})"),
        ({"name": "x" * 33}, 400, "name has 33 characters: at most 32 are taken"),
        ({}, 409, TAKEN),
        (
            {"name": "first", "value": "w"},
            409,
            "Mapping 'w' already exists for field '{field}', tenant: 'None': there is one",
        ),
        ({"start": SOON}, 409, TAKEN),
        ({"price": 5}, 400, "Unknown attribute for argument mapping_data: price"),
        (
            {"cost": "x", "type": "y", "group_id": NOBODY, "start": PAST},
            400,
            "the cost 'x' is no number with at most 12 digits before the point; "
            "Invalid input for field/attribute type. Value: 'y'. Value should be one of: "
            "flat, rate; Cannot create a rule with start in the past",
        ),
    ],
)
async def test_a_mapping_is_refused_with_every_reason(
    world: World, changed: dict[str, Any], status: int, said: str
) -> None:
    service = await service_of(world)
    field = (await post(world, f"{H}/fields", name="flavor", service_id=service))["field_id"]
    ids = {"service": service, "field": field}
    first = {name: value.format(**ids) for name, value in MAPPING.items()}
    await post(world, f"{H}/mappings", **first, name="first")
    sent = {name: value.format(**ids) if isinstance(value, str) else value for name, value in changed.items()}
    found = await world.ask(f"{H}/mappings", method="POST", json={**first, **sent})
    assert found.status == status
    assert said.format(**ids) in fault(found)


async def test_a_mapping_may_begin_in_the_past_if_that_is_said(world: World) -> None:
    body = {"cost": 1, "service_id": await service_of(world), "start": PAST, "end": "2020-01-31"}
    found = await world.ask(f"{H}/mappings?force=True", method="POST", json=body)
    assert (found.status, found.body["start"], found.body["end"]) == (201, PAST, "2020-01-31T23:59:59")


async def test_of_a_mapping_that_runs_the_end_is_set_however_often_that_is_sent(world: World) -> None:
    body = {"cost": "0.1", "service_id": await service_of(world), "start": PAST}
    mapping = (await world.ask(f"{H}/mappings?force=1", method="POST", json=body)).body
    # as the client sends it: the whole of it, the id in the body, 31 times
    for path in (f"{H}/mappings/", f"{H}/mappings/{mapping['mapping_id']}"):
        found = await put(world, path, {**mapping, "end": LATER})
        assert (found.status, found.body, found.headers["Location"]) == (302, b"", world.url + path)
    after = await world.get(f"{H}/mappings/{mapping['mapping_id']}")
    assert after == {**mapping, "end": LATER, "updated_by": "unknown"}
    # and nothing else
    for changed, said in (
        ({"end": SOON}, "Cannot update a rule that was already processed and has a defined end date."),
        ({"end": LATER, "cost": "2"}, "Cannot update a rule that was already processed"),
    ):
        found = await put(world, f"{H}/mappings/", {**mapping, **changed})
        assert found.status == 400
        assert said in fault(found)
    missing = await put(world, f"{H}/mappings/{NOBODY}", {"cost": 1})
    assert (missing.status, fault(missing)) == (404, f"No such mapping: {NOBODY}")
    without = await put(world, f"{H}/mappings/", {"cost": 1})
    assert (without.status, "mapping_id" in fault(without)) == (400, True)


async def test_of_a_mapping_that_runs_nothing_but_the_end_changes(world: World) -> None:
    body = {"cost": "0.1", "service_id": await service_of(world), "start": PAST}
    mapping = (await world.ask(f"{H}/mappings?force=1", method="POST", json=body)).body
    for changed, said in (
        ({"cost": "2", "type": "rate"}, "You are allowed to update only the attribute [end]"),
        ({"end": PAST}, "Cannot end a rule in the past"),
    ):
        found = await put(world, f"{H}/mappings/", {**mapping, **changed})
        assert found.status == 400
        assert said in fault(found)


async def test_a_mapping_to_come_is_replaced(world: World) -> None:
    body = {"cost": "0.1", "service_id": await service_of(world), "start": SOON, "end": LATER, "description": "new"}
    mapping = await post(world, f"{H}/mappings", **body)
    found = await put(world, f"{H}/mappings/{mapping['mapping_id']}", {"cost": "0.2", "value": "ignored"})
    assert found.status == 302
    after = await world.get(f"{H}/mappings/{mapping['mapping_id']}")
    changed = {"cost": "0.2000000000000000000000000000", "end": None, "description": None, "updated_by": "unknown"}
    assert after == {**mapping, **changed}


async def test_a_deleted_mapping_is_kept(world: World, tmp_path: Path) -> None:
    mapping = await post(world, f"{H}/mappings", cost=1, service_id=await service_of(world))
    by_id = f"{H}/mappings/{mapping['mapping_id']}"
    assert (
        await world.ask(f"{H}/mappings/", method="DELETE", json={"mapping_id": mapping["mapping_id"]})
    ).status == 204
    assert await world.get(f"{H}/mappings") == {"mappings": []}
    (kept,) = (await world.get(f"{H}/mappings", {"deleted": "true"}))["mappings"]
    assert kept == {**mapping, "deleted": kept["deleted"], "deleted_by": "unknown"}
    assert kept["deleted"] is not None
    assert await world.get(by_id) == kept
    assert (await world.ask(by_id, method="DELETE")).status == 404
    assert (await put(world, by_id, {"end": LATER})).status == 404


async def test_who_changed_a_rule_is_kept(tmp_path: Path) -> None:
    with memory_store() as store:
        async with serving(StoreView(store), RuleBook.empty(), tmp_path) as world:
            service = await world.ask(f"{H}/services", method="POST", token=BOSS, json={"name": "compute"})
            body = {"cost": 1, "service_id": service.body["service_id"], "created_by": "mallory"}
            mapping = (await world.ask(f"{H}/mappings", method="POST", token=BOSS, json=body)).body
            assert mapping["created_by"] == "boss"
            refused = await world.ask(f"{H}/services", method="POST", token=ANN, json={"name": "other"})
            assert refused.status == 403
            for method, path in (
                ("PUT", "/v1/rating/modules/hashmap"),
                ("PUT", "/v2/rating/modules/hashmap"),
                ("POST", S),
                ("DELETE", f"{H}/mappings/{mapping['mapping_id']}"),
                ("POST", "/v1/collector/mappings/gnocchi/cpu"),
            ):
                assert (await world.ask(path, method=method, token=ANN, json={})).status == 403, path


async def test_thresholds(world: World) -> None:
    service_id, group = await service_of(world), await post(world, f"{H}/groups", name="volume")
    sent = {"cost": 0.98, "level": "50", "service_id": service_id, "type": "rate", "group_id": group["group_id"]}
    found = await world.ask(f"{H}/thresholds/", method="POST", json={**sent, "tenant_id": "A"})
    threshold = found.body
    assert found.headers["Location"] == f"{world.url}{H}/thresholds/{threshold['threshold_id']}"
    assert threshold == {
        "threshold_id": threshold["threshold_id"],
        "level": "50.00000000",
        "type": "rate",
        "cost": "0.9799999999999999822364316060",
        "service_id": service_id,
        "field_id": None,
        "group_id": group["group_id"],
        "tenant_id": "A",
    }
    # what is left out is flat and for everybody; the group stays
    updated = await put(world, f"{H}/thresholds/", {**sent, "threshold_id": threshold["threshold_id"], "cost": "2"})
    assert (updated.status, updated.headers["Location"]) == (302, f"{world.url}{H}/thresholds/")
    by_id = f"{H}/thresholds/{threshold['threshold_id']}"
    assert (await put(world, by_id, {"level": 60, "cost": "2"})).status == 302
    after = {"level": "60.00000000", "type": "flat", "cost": "2.0000000000000000000000000000", "tenant_id": None}
    assert await world.get(by_id) == {**threshold, **after}
    again = await world.ask(f"{H}/thresholds", method="POST", json={**sent, "level": 60, "type": "flat"})
    taken = f"Threshold '60.00000000' already exists for service '{service_id}', tenant: 'None'"
    assert (again.status, fault(again)) == (409, taken)
    empty = await world.ask(f"{H}/thresholds", method="POST", json={})
    missing = f"{MISSING.replace('name', 'level')}; {MISSING.replace('name', 'cost')}; You must specify one parent."
    assert (empty.status, fault(empty)) == (400, missing)
    assert (await world.ask(by_id, method="DELETE")).status == 204
    gone = await world.ask(f"{H}/thresholds", method="DELETE", json={"threshold_id": threshold["threshold_id"]})
    assert (gone.status, fault(gone)) == (404, f"No such threshold: {threshold['threshold_id']}")
    assert (await put(world, by_id, {"level": 60, "cost": "2"})).status == 404


async def test_a_group_goes_with_its_rules_or_without(world: World) -> None:
    service_id = await service_of(world)
    one, two = [(await post(world, f"{H}/groups", name=name))["group_id"] for name in ("one", "two")]
    await post(world, f"{H}/mappings", cost=1, service_id=service_id, group_id=one)
    kept = await post(world, f"{H}/mappings", cost=2, service_id=service_id, group_id=two)
    assert (await world.ask(f"{H}/groups/", method="DELETE", json={"group_id": one, "recursive": True})).status == 204
    assert (await world.ask(f"{H}/groups/{two}?recursive=false", method="DELETE")).status == 204
    (left,) = (await world.get(f"{H}/mappings"))["mappings"]
    assert left == {**kept, "group_id": None}
    # unless two would then be alike
    three = (await post(world, f"{H}/groups", name="three"))["group_id"]
    await post(world, f"{H}/mappings", cost=3, service_id=service_id, group_id=three)
    refused = await world.ask(f"{H}/groups/{three}", method="DELETE")
    assert refused.status == 409
    assert "would be alike without the group" in fault(refused)


async def test_scripts(world: World) -> None:
    found = await world.ask(f"{S}/", method="POST", json={"name": "free", "data": "pass", "start": SOON, "end": None})
    script = found.body
    assert (found.status, found.headers["Location"]) == (201, f"{world.url}{S}/{script['script_id']}")
    assert list(script) == [
        "script_id", "name", "data", "checksum", "created_at", "start", "end", "description", "deleted",
        "created_by", "updated_by", "deleted_by",
    ]  # fmt: skip
    assert (script["start"], script["created_by"], len(script["checksum"])) == (SOON, "unknown", 128)
    # as the client sends it: the whole object without its checksum
    whole = {name: value for name, value in script.items() if name != "checksum"}
    by_id = f"{S}/{script['script_id']}"
    changed = await put(world, by_id, {**whole, "data": "x = 1", "name": "ignored"})
    assert (changed.status, changed.headers["Location"]) == (201, world.url + by_id)
    assert (changed.body["data"], changed.body["name"], changed.body["updated_by"]) == ("x = 1", "free", "unknown")
    assert await world.get(by_id) == changed.body
    by_body = await put(world, S, {"script_id": script["script_id"], "data": "x = 2"})
    assert (by_body.status, by_body.headers["Location"]) == (201, world.url + by_id)
    for body, status, said in (
        ({"name": "free", "data": "pass"}, 409, f"Script free already exists (UUID: {script['script_id']})"),
        ({"name": "x"}, 400, MISSING.replace("name", "data")),
        ({"name": "x", "data": "a = ("}, 400, "script 'x' does not compile: line 1: '(' was never closed"),
        ({"name": "x", "data": 5}, 400, "Invalid input for field/attribute data. Value: '5'. expected text in quotes"),
        ({"data": "pass"}, 400, MISSING),
    ):
        refused = await world.ask(S, method="POST", json=body)
        assert (refused.status, fault(refused)) == (status, said)
    assert (await world.ask(by_id, method="DELETE")).status == 204
    gone = await world.ask(by_id, method="DELETE")
    assert (gone.status, fault(gone)) == (404, f"No such script: None (UUID: {script['script_id']})")
    (kept,) = (await world.get(S, {"deleted": "1"}))["scripts"]
    assert kept["deleted_by"] == "unknown"
    long = await world.ask(S, method="POST", json={"name": "long", "data": "#" * 5000})
    assert (long.status, len(long.body["data"])) == (201, 5000)


async def test_modules_are_switched_and_given_priority(world: World) -> None:
    module = await world.get("/v1/rating/modules/hashmap")
    found = await put(world, "/v1/rating/modules/hashmap", {**module, "enabled": True})
    assert (found.status, found.body) == (302, None)
    assert found.headers["Location"] == f"{world.url}/v1/rating/modules/hashmap"
    assert (await world.get("/v2/rating/modules/hashmap"))["enabled"] is True
    found = await put(world, "/v2/rating/modules/hashmap", {"priority": 7})
    assert (found.status, found.body) == (204, b"")
    assert await world.get("/v1/rating/modules/hashmap") == {**module, "enabled": True, "priority": 7}
    assert (await put(world, "/v1/billing/modules/", {"module_id": "hashmap", "enabled": False})).status == 302
    assert (await put(world, "/v2/rating/modules/hashmap", {"priority": 0})).status == 204
    assert await world.get("/v1/rating/modules/hashmap") == {**module, "enabled": False, "priority": 1}
    assert (await put(world, "/v1/rating/modules/hashmap", {"priority": 2})).status == 302
    assert (await world.get("/v2/rating/modules/hashmap"))["priority"] == 2
    # noop is on, whatever is said
    assert (await put(world, "/v2/rating/modules/noop", {"enabled": False})).status == 204
    assert (await world.get("/v2/rating/modules/noop"))["enabled"] is True
    missing = await put(world, "/v1/rating/modules/nope", {"enabled": True})
    assert (missing.status, fault(missing)) == (404, "Module not found.")
    missing = await put(world, "/v2/rating/modules/nope", {"enabled": True})
    assert (missing.status, missing.body) == (404, {"message": "Module 'nope' not found"})
    for body, said in (
        ({"priority": "high", "color": 1}, "expected int (path: '['priority']')"),
        ({"priority": -1}, "priority -1: 0 to 1000000 are taken"),
    ):
        refused = await put(world, "/v2/rating/modules/hashmap", body)
        assert refused.status == 400
        assert said in refused.body["message"]
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert (await world.ask("/v1/rating/module_config/noop", method=method)).status == 409


async def test_collectors_are_noted(world: World) -> None:
    mappings, states = "/v1/collector/mappings", "/v1/collector/states"
    cpu = {"service": "cpu", "collector": "gnocchi"}
    made = await world.ask(f"{mappings}/", method="POST", json=cpu)
    assert (made.status, made.body) == (200, cpu)
    assert (await world.ask(f"{mappings}/monasca/net", method="POST")).body == {
        "service": "net",
        "collector": "monasca",
    }
    assert await world.get(f"{mappings}/", {"collector": "gnocchi"}) == {"mappings": [cpu]}
    assert len((await world.get(mappings))["mappings"]) == 2
    assert await world.get(f"{mappings}/cpu") == cpu
    assert (await world.ask(f"{mappings}/cpu", method="DELETE")).status == 204
    gone = await world.ask(mappings, method="DELETE", json={"service": "cpu"})
    assert (gone.status, fault(gone)) == (404, "No mapping for service: cpu")
    on = {"name": "gnocchi", "enabled": True}
    switched = await put(world, f"{states}/", on)
    assert (switched.status, switched.body) == (200, on)
    assert await world.get(states, {"name": "gnocchi"}) == on
    assert (await put(world, "/v1/collector/gnocchi/states", {"enabled": False})).body == {**on, "enabled": False}
    refused = await world.ask(mappings, method="POST", json={"service": "", "x": 1})
    assert refused.status == 400
    assert 'Unknown argument: "x"' in fault(refused)
    assert 'Missing argument: "collector"' in fault(refused)


async def test_a_body_is_json_and_says_so(world: World) -> None:
    for data, form, status in (
        (b'{"name": "x"}', "text/plain", 415),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b'{"name": ', "application/json", 400),
        (b'["name"]', "application/json", 400),
        (b'{"name": {"a": 1}}', "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b"[" * 5000, "application/json", 400),
    ):
        found = await world.ask(f"{H}/services", method="POST", data=data, headers={"Content-Type": form})
        assert found.status == status, (data, found)
    assert await world.get(f"{H}/services") == {"services": []}
