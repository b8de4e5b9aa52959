"""Hashmap, scripts, modules and what is known of metrics, over HTTP, from a rule book."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.model.rules import (
    MappingCreated,
    MappingDeleted,
    MappingRule,
    MappingUpdated,
    ModuleSet,
    Script,
    ScriptCreated,
    ScriptDeleted,
    ThresholdCreated,
    ThresholdRule,
)
from rater.rating import RuleBook
from rater.reports import StoreView
from rater.store import Batch, migrate, write
from tests.unit.api.cloudkitty.world import World, serving
from tests.unit.rating.builders import applied, book_of, uid
from tests.unit.store.builders import HOUR, JANUARY, a_rework_alert, memory_store

H = "/v1/rating/module_config/hashmap"
S = "/v1/rating/module_config/pyscripts/scripts"
SERVICE, GROUP, FIELD = (uid(number) for number in (1, 2, 3))
DELETED, NAMED = uid(50), uid(51)
SCRIPT, GONE = uid(60), uid(61)


def rules() -> RuleBook:
    """A service with a field; mappings in a group, of a tenant, deleted; a threshold; two scripts, one deleted."""
    book = book_of("flavor=m1 flat 0.1 @size", "flavor=tiny rate 1.5 [A]", "svc flat 2", "thr svc>=50 rate 0.98 @size")
    named = MappingRule(
        NAMED, Decimal("1E-28"), service_id=SERVICE, name="night", description="At Night", start=1000, end=2000
    )
    book = applied(book, MappingCreated(MappingRule(DELETED, Decimal(3), service_id=SERVICE, group_id=GROUP)))
    book = applied(book, MappingDeleted(DELETED), author="eve", created_at=300)
    book = applied(book, MappingCreated(named), author="ann", created_at=200)
    book = applied(book, MappingUpdated(named), author="bob")
    book = applied(book, ThresholdCreated(ThresholdRule(uid(52), Decimal("1E-8"), Decimal(1), field_id=FIELD)))
    for script_id, name in ((SCRIPT, "a"), (GONE, "b")):
        book = applied(book, ScriptCreated(Script(script_id, name, "pass  # é")))
    book = applied(book, ScriptDeleted(GONE))
    return applied(book, ModuleSet("other", True, 7))


BOOK = rules()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with memory_store() as store:
        async with serving(StoreView(store), BOOK) as served:
            yield served


def ids(found: dict[str, Any], key: str) -> list[str]:
    return [item[f"{key}_id"] for item in found[f"{key}s"]]


async def test_services_fields_and_groups(world: World) -> None:
    assert await world.get(f"{H}/types/") == ["flat", "rate"]
    service = {"service_id": SERVICE, "name": "compute"}
    assert await world.get(f"{H}/services/") == {"services": [service]}
    assert await world.get(f"{H}/services/{SERVICE}") == service
    group, field = BOOK.group_named("size"), BOOK.field_named(SERVICE, "flavor")
    assert group is not None
    assert field is not None
    wanted = {"field_id": field.field_id, "name": "flavor", "service_id": SERVICE}
    assert await world.get(f"{H}/fields/", {"service_id": SERVICE}) == {"fields": [wanted]}
    assert await world.get(f"{H}/fields", {"service_id": "compute"}) == {"fields": []}
    assert await world.get(f"{H}/fields/{field.field_id}") == wanted
    assert await world.get(f"{H}/groups/") == {"groups": [{"group_id": group.group_id, "name": "size"}]}
    assert await world.get(f"{H}/groups/{group.group_id}") == {"group_id": group.group_id, "name": "size"}


async def test_a_mapping_has_every_field_and_28_decimals(world: World) -> None:
    assert await world.get(f"{H}/mappings/{NAMED}") == {
        "mapping_id": NAMED,
        "value": "",
        "type": "flat",
        "cost": "1E-28",
        "service_id": SERVICE,
        "field_id": None,
        "group_id": None,
        "tenant_id": None,
        "created_at": "1970-01-01T00:03:20",
        "start": "1970-01-01T00:16:40",
        "end": "1970-01-01T00:33:20",
        "name": "night",
        "description": "At Night",
        "deleted": None,
        "created_by": "ann",
        "updated_by": "bob",
        "deleted_by": None,
    }
    deleted = await world.get(f"{H}/mappings/{DELETED}")
    assert (deleted["deleted"], deleted["deleted_by"]) == ("1970-01-01T00:05:00", "eve")
    assert deleted["cost"] == "3.0000000000000000000000000000"


async def listed(world: World, **query: str) -> list[int]:
    """The last digits of the ids."""
    return [int(found[-4:], 16) for found in ids(await world.get(f"{H}/mappings/", query), "mapping")]


async def test_lists_of_mappings_are_filtered(world: World) -> None:
    everything = await listed(world)
    in_group = [int(m.rule.mapping_id[-4:], 16) for m in BOOK.mappings.values() if m.rule.group_id]
    deleted, named = int(DELETED[-4:], 16), int(NAMED[-4:], 16)
    assert deleted not in everything
    assert len(everything) == 4
    assert await listed(world, deleted="True") == [*everything[:3], deleted, named]
    of_service = await listed(world, service_id=SERVICE)
    assert of_service == everything[2:]
    field = BOOK.field_named(SERVICE, "flavor")
    assert field is not None
    assert await listed(world, field_id=field.field_id) == everything[:2]
    group_id = BOOK.group_named("size")
    assert group_id is not None
    assert await listed(world, group_id=group_id.group_id) == [n for n in in_group if n != deleted]
    assert await listed(world, no_group="true") == everything[1:]
    assert await listed(world, filter_tenant="True", tenant_id="A") == everything[1:2]
    assert await listed(world, filter_tenant="maybe") == [everything[0], *everything[2:]]
    assert await listed(world, tenant_id="A") == everything
    assert await listed(world, description="NIGHT") == [named]
    assert await listed(world, created_by="ann") == [named]
    assert await listed(world, updated_by="bob") == [named]
    assert await listed(world, deleted_by="eve", deleted="1") == [deleted]
    assert await listed(world, is_active="1") == everything[:3]
    assert await listed(world, start="1970-01-01T00:16:40") == [named]
    assert await listed(world, end="1970-01-01T00:33:21") == [named]
    assert await listed(world, end="1970-01-01T00:33:20") == []
    by_group = await world.get(f"{H}/groups/mappings", {"group_id": group_id.group_id})
    assert by_group == await world.get(f"{H}/groups/{group_id.group_id}/mappings/")
    assert len(by_group["mappings"]) == 1


async def test_arguments_come_from_path_query_or_body(world: World) -> None:
    by_path = await world.get(f"{H}/mappings/{DELETED}/group")

    assert by_path["name"] == "size"
    assert await world.get(f"{H}/mappings/group", {"mapping_id": DELETED}) == by_path
    assert await world.get(f"{H}/mappings/group/", json={"mapping_id": DELETED}) == by_path
    assert await world.get(f"{H}/fields", json={"service_id": SERVICE}) == await world.get(
        f"{H}/fields", {"service_id": SERVICE}
    )


async def test_thresholds(world: World) -> None:
    of_field = await world.get(f"{H}/thresholds/", {"field_id": BOOK.fields_of(SERVICE)[0].field_id})
    assert of_field == {
        "thresholds": [
            {
                "threshold_id": uid(52),
                "level": "1E-8",
                "type": "flat",
                "cost": "1.0000000000000000000000000000",
                "service_id": None,
                "field_id": BOOK.fields_of(SERVICE)[0].field_id,
                "group_id": None,
                "tenant_id": None,
            }
        ]
    }
    (of_service,) = (await world.get(f"{H}/thresholds", {"service_id": SERVICE}))["thresholds"]
    assert (of_service["level"], of_service["type"]) == ("50.00000000", "rate")
    assert await world.get(f"{H}/thresholds/{of_service['threshold_id']}") == of_service
    group = await world.get(f"{H}/thresholds/{of_service['threshold_id']}/group")
    assert group["name"] == "size"
    assert await world.get(f"{H}/groups/thresholds", {"group_id": group["group_id"]}) == {"thresholds": [of_service]}
    refused = await world.ask(f"{H}/thresholds")
    assert (refused.status, refused.body["faultcode"]) == (400, "Client")


@pytest.mark.parametrize(
    ("path", "status", "fault"),
    [
        (f"{H}/services/nope", 404, "No such service: None (UUID: nope)"),
        (f"{H}/fields/nope", 404, "No such field: nope"),
        (f"{H}/groups/nope", 404, "No such group: None (UUID: nope)"),
        (f"{H}/mappings/nope", 404, "No such mapping: nope"),
        (f"{H}/thresholds/nope", 404, "No such threshold: nope"),
        (f"{H}/mappings/{NAMED}/group", 404, f"Mapping has no group (UUID: {NAMED})"),
        (f"{H}/thresholds/{uid(52)}/group", 404, f"Threshold has no group (UUID: {uid(52)})"),
        (f"{H}/fields", 400, 'Missing argument: "service_id"'),
        (f"{H}/fields?service=1&x=2", 400, 'Unknown argument: "service"; Unknown argument: "x"; Missing argument'),
        (f"{H}/mappings?all=0", 400, "You must specify either service_uuid"),
        (f"{H}/mappings?start=soon&end=late", 400, "attribute start. Value: 'soon'. expected a time"),
        (f"{S}/{GONE}", 404, f"No such script: None (UUID: {GONE})"),
        ("/v1/rating/modules/nope", 404, "Module not found."),
        ("/v1/rating/module_config/noop", 409, "Module is not configurable"),
        ("/v1/collector/mappings/cpu", 404, "No mapping for service: cpu"),
        ("/v1/info/metrics/nope", 404, "nope"),
    ],
)
async def test_faults(world: World, path: str, status: int, fault: str) -> None:
    found = await world.ask(path)

    assert found.status == status
    assert set(found.body) == {"faultcode", "faultstring", "debuginfo"}
    assert found.body["faultcode"] == "Client"
    assert found.body["debuginfo"] is None
    assert fault in found.body["faultstring"]


async def test_scripts(world: World) -> None:
    found = await world.get(f"{S}/")
    assert ids(found, "script") == [SCRIPT]
    (script,) = found["scripts"]
    assert script["checksum"] == hashlib.sha512("pass  # é".encode()).hexdigest()
    assert list(script) == [
        "script_id", "name", "data", "checksum", "created_at", "start", "end", "description", "deleted",
        "created_by", "updated_by", "deleted_by",
    ]  # fmt: skip
    assert await world.get(f"{S}/{SCRIPT}") == script
    without = await world.get(f"{S}/", {"no_data": "True", "deleted": "1"})
    assert ids(without, "script") == [SCRIPT, GONE]
    assert "data" not in without["scripts"][0]


async def test_modules(world: World) -> None:
    hashmap = {"module_id": "hashmap", "description": "HashMap rating module.", "enabled": True, "priority": 1}
    names = ["hashmap", "noop", "other", "pyscripts"]

    old = await world.get("/v1/rating/modules/")
    new = await world.get("/v2/rating/modules")

    assert [module["module_id"] for module in old["modules"]] == names
    assert [module["module_id"] for module in new["modules"]] == names
    assert old["modules"][0] == {**hashmap, "hot-config": True}
    assert new["modules"][0] == {**hashmap, "hot_config": True}
    assert [module["enabled"] for module in new["modules"]] == [True, True, True, False]
    assert new["modules"][2]["priority"] == 7
    assert await world.get("/v1/billing/modules/hashmap", {"module_id": "hashmap"}) == {**hashmap, "hot-config": True}
    assert await world.get("/v2/rating/modules/hashmap") == {**hashmap, "hot_config": True}
    missing = await world.ask("/v2/rating/modules/nope")
    assert (missing.status, missing.body) == (404, {"message": "Module 'nope' not found"})
    reloaded = await world.ask("/v1/rating/reload_modules")
    assert (reloaded.status, reloaded.body) == (204, b"")


async def test_metrics_and_collectors(world: World) -> None:
    cpu = {"metric_id": "cpu", "metadata": ["flavor"], "unit": "core"}
    for name in ("metrics", "services"):
        found = await world.get(f"/v1/info/{name}/")
        assert found == {"metrics": [cpu, {"metric_id": "net/in", "metadata": [], "unit": "B"}]}
        assert await world.get(f"/v1/info/{name}/cpu") == cpu
    assert (await world.get("/v1/info/metrics/net%2Fin"))["metric_id"] == "net/in"
    assert await world.get("/v1/info/config/") == {"metrics": {"cpu": {"unit": "core"}}}
    assert await world.get("/v1/collector/mappings/", {"collector": "gnocchi"}) == {"mappings": []}
    state = {"name": "gnocchi", "enabled": False}
    assert await world.get("/v1/collector/states/", {"name": "gnocchi"}) == state
    assert await world.get("/v1/collector/gnocchi/states") == state


async def test_without_metrics_there_is_nothing_to_tell() -> None:
    with memory_store() as store:
        async with serving(StoreView(store), BOOK, metrics=()) as world:
            assert [(await world.ask(f"/v1/info/metrics{rest}")).status for rest in ("", "/", "/cpu")] == [405] * 3


async def test_reworks_are_shown_as_reprocessing_tasks() -> None:
    with memory_store() as store:
        migrate(store)
        batch = Batch()
        done = (("r2", JANUARY), ("r1", JANUARY + HOUR), ("r1", JANUARY + 3 * HOUR))
        for number, (rework_id, begin) in enumerate(done):
            alert = a_rework_alert(period_begin=begin, rework_id=rework_id)
            batch.add_alert(msgspec.structs.replace(alert, raised_at=JANUARY + number))
        write(store, batch)
        async with serving(StoreView(store), BOOK) as world:
            newest = await world.get("/v2/task/reprocesses", {"limit": "100", "order": "DESC"})
            oldest = await world.get("/v2/task/reprocesses", {"order": "asc", "limit": "1", "scope_ids": "alpha,x"})
            of_path = await world.get("/v2/task/reprocesses/alpha")
            others = await world.get("/v2/task/reprocesses/beta")
            refused = await world.ask("/v2/task/reprocesses", {"order": "up"})

    task = {"scope_id": "alpha", "reason": "new prices"}
    one = {"start_reprocess_time": "2026-01-01T00:00:00", "end_reprocess_time": "2026-01-01T00:00:00"}
    two = {"start_reprocess_time": "2026-01-01T01:00:00", "end_reprocess_time": "2026-01-01T03:00:00"}
    first = {**task, **one, "current_reprocess_time": "2026-01-01T00:00:00"}
    second = {**task, **two, "current_reprocess_time": "2026-01-01T03:00:00"}
    assert newest == of_path == {"results": [second, first]}
    assert oldest == {"results": [first]}
    assert others == {"results": []}
    assert refused.status == 400
