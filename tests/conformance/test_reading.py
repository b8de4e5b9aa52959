"""The same GET to the real CloudKitty and to us: status and body are the same, but for what differs on purpose.

CloudKitty runs on its own default storage, a real InfluxDB, with the same points; our rule book is made of its rules.
Both are in Vienna, where a month does not begin when one does in UTC.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import yaml

from rater.api.cloudkitty.calls import MetricInfo
from rater.api.cloudkitty.times import calendar, zoned_text
from rater.model.rated import Line
from rater.model.rules import (
    Change,
    Field,
    FieldCreated,
    Group,
    GroupCreated,
    MappingCreated,
    MappingDeleted,
    MappingRule,
    ModuleSet,
    RuleType,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.rating import RuleBook
from rater.reports import PointRow, StoreView
from rater.store import Store
from tests.conformance.influx_server import influxdb, program
from tests.conformance.side import CloudKitty, Json, cloudkitty
from tests.unit.api.cloudkitty.world import filled_store, lines_of, serving
from tests.unit.rating.builders import applied
from tests.unit.store.builders import HOUR, JANUARY

H, S = "/v1/rating/module_config/hashmap", "/v1/rating/module_config/pyscripts/scripts"
ZONE = ZoneInfo("Europe/Vienna")
HOURS = 4
SPAN = "begin=2026-01-01T00:00:00&end=2026-02-01T00:00:00"
METRICS_YML = """\
metrics:
  cpu_seconds:
    unit: core
    alt_name: cpu
    groupby: [id, project_id]
    metadata: [flavor]
    extra_args: {resource_type: instance}
  net/in:
    unit: B
    groupby: [id, project_id]
    metadata: []
    extra_args: {resource_type: port}
"""
NUMBERS = frozenset({"qty", "price", "rate", "volume", "rating"})
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")
UNORDERED = frozenset({"cpu", "net/in", "resources"})
"""Lists of points, which CloudKitty gives as they come out of its storage."""
OF_SCOPES = frozenset({"state", "scope_activation_toggle_date"})
"""Ours has both names of a scope's state; when a scope was first seen says nothing of it."""


class Sides(NamedTuple):
    """CloudKitty's URL, the rules that it has by name, and what our service needs to have the same."""

    theirs: str
    ids: dict[str, str]
    book: RuleBook
    store: Store


class Found(NamedTuple):
    status: int
    form: str
    body: Any


def ask(url: str, method: str = "GET", body: Any = None) -> Found:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return _found(answer.status, answer.headers.get_content_type(), answer.read())
    except urllib.error.HTTPError as refused:
        return _found(refused.code, refused.headers.get_content_type(), refused.read())


def _found(status: int, form: str, body: bytes) -> Found:
    return Found(status, form, json.loads(body) if form == "application/json" and body else body.decode())


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]) -> Iterator[Sides]:
    if program() is None:
        pytest.skip("InfluxDB is not installed: make tools")
    directory = tmp_path_factory.mktemp("reading")
    (directory / "metrics.yml").write_text(METRICS_YML)
    port = unused_tcp_port_factory()
    with influxdb(directory, port, "cloudkitty"), cloudkitty(directory / "rules.sqlite", ZONE.key) as side:
        served = side.ask(
            "serve", storage="influxdb", port=port, database="cloudkitty", metrics_conf=str(directory / "metrics.yml")
        )
        url = f"http://127.0.0.1:{served['port']}"
        written(side)
        assert ask(f"{url}/v2/dataframes", "POST", {"dataframes": frames()}).status == 204
        side.ask("states", reached=dict.fromkeys("AB", JANUARY + (HOURS - 1) * HOUR))
        book, ids = book_of(url)
        with filled_store(HOURS) as store:
            yield Sides(url, ids, book, store)


def written(side: CloudKitty) -> None:
    """Rules of each kind, one of them deleted."""
    field = {"kind": "mapping", "type": "flat", "service": None, "field": 0}
    service = {"type": "rate", "service": 0, "field": None}
    mappings = [
        field | {"value": "m1", "cost": "0.1", "group": 0, "name": "tiny", "description": "At Night"},
        field | {"value": "m2", "cost": "0.9799999999999999822364316060", "tenant": "A", "start": JANUARY},
        field | {"value": "old", "cost": "7", "deleted": True, "start": JANUARY, "end": JANUARY + 31 * 24 * HOUR},
        service | {"kind": "mapping", "value": None, "cost": "1.5", "name": "all"},
        service | {"kind": "mapping", "value": "", "cost": "2", "group": 0, "tenant": "B", "name": "b"},
    ]
    thresholds = [
        service | {"kind": "threshold", "level": "50", "cost": "0.98", "group": 0},
        {"kind": "threshold", "type": "flat", "service": None, "field": 0, "level": "0.00000001", "cost": "3"},
    ]
    scripts = [{"name": "rebate", "data": "pass  # é", "description": "ten percent"}, {"name": "b", "data": ""}]
    answer = side.ask(
        "rules",
        services=["cpu", "net/in"],
        fields=[[0, "flavor"]],
        groups=["size", "unused"],
        rules=[*mappings, *thresholds],
        scripts=scripts,
        modules={"hashmap": [True, 3], "pyscripts": [False, 2]},
    )
    assert answer["refused"] == []


def book_of(url: str) -> tuple[RuleBook, dict[str, str]]:
    """Our book of CloudKitty's rules, with their ids; and these by the names of what they are."""
    services = ask(f"{url}{H}/services").body["services"]
    fields = [row for one in services for row in ask(f"{url}{H}/fields?service_id={one['service_id']}").body["fields"]]
    groups = ask(f"{url}{H}/groups").body["groups"]
    mappings = ask(f"{url}{H}/mappings?deleted=true").body["mappings"]
    parents = [f"service_id={services[0]['service_id']}", f"field_id={fields[0]['field_id']}"]
    thresholds = [row for of in parents for row in ask(f"{url}{H}/thresholds?{of}").body["thresholds"]]
    scripts = ask(f"{url}{S}").body["scripts"]
    changes: list[Change] = [ModuleSet("hashmap", True, 3), ModuleSet("pyscripts", False, 2)]
    changes += [ServiceCreated(Service(row["service_id"], row["name"])) for row in services]
    changes += [FieldCreated(Field(row["field_id"], row["service_id"], row["name"])) for row in fields]
    changes += [GroupCreated(Group(row["group_id"], row["name"])) for row in groups]
    changes += [MappingCreated(_mapping(row)) for row in mappings]
    changes += [ThresholdCreated(_threshold(row)) for row in thresholds]
    changes += [ScriptCreated(_script(row)) for row in scripts]
    changes += [MappingDeleted(row["mapping_id"]) for row in mappings if row["deleted"]]
    ids = {"service": services[0]["service_id"], "field": fields[0]["field_id"], "group": groups[0]["group_id"]}
    ids |= {f"mapping{row['value']}{row['tenant_id'] or ''}": row["mapping_id"] for row in mappings}
    ids |= {"unused": groups[1]["group_id"], "net": services[1]["service_id"]}
    ids |= {"threshold": thresholds[0]["threshold_id"], "bare": thresholds[1]["threshold_id"]}
    ids |= {"script": scripts[0]["script_id"], "unknown": "00000000-0000-0000-0000-000000000001"}
    return applied(RuleBook.empty(), *changes, author="x"), ids


def _common(row: Json) -> Json:
    return {"service_id": row["service_id"], "field_id": row["field_id"], "group_id": row["group_id"]}


def _mapping(row: Json) -> MappingRule:
    times = {name: _seconds(row[name]) for name in ("start", "end")}
    told = {name: row[name] for name in ("value", "tenant_id", "name", "description")}
    kind = RuleType(row["type"])
    return MappingRule(row["mapping_id"], Decimal(row["cost"]), kind, **_common(row), **told, **times)


def _threshold(row: Json) -> ThresholdRule:
    numbers = (Decimal(row["level"]), Decimal(row["cost"]))
    return ThresholdRule(
        row["threshold_id"], *numbers, RuleType(row["type"]), tenant_id=row["tenant_id"], **_common(row)
    )


def _script(row: Json) -> Script:
    return Script(row["script_id"], row["name"], row["data"], description=row["description"])


def _seconds(text: str | None) -> int | None:
    return None if text is None else int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def frames() -> list[Json]:
    """The points of `filled_store` as data frames, with the attributes of time that the processor gives them."""
    return [_frame(scope, JANUARY + hour * HOUR, lines_of(scope, hour)) for hour in range(HOURS) for scope in "AB"]


def _frame(scope: str, begin: int, lines: list[Line]) -> Json:
    usage: Json = {}
    for one in lines:
        row = PointRow(scope, begin, begin + HOUR, one.metric, one.unit, one.qty, one.price, one.groupby, one.metadata)
        groupby = {**calendar(row, ZONE), **one.groupby, "project_id": scope}
        point = {"vol": {"unit": one.unit, "qty": str(one.qty)}, "rating": {"price": str(one.price)}}
        usage.setdefault(one.metric, []).append(point | {"groupby": groupby, "metadata": one.metadata})
    times = {name: zoned_text(at, ZONE) for name, at in (("begin", begin), ("end", begin + HOUR))}
    return {"period": times, "usage": usage}


PATHS = (
    "/",
    "/v1/info/metrics",
    "/v1/info/metrics/",
    "/v1/info/services",
    "/v1/info/metrics/cpu",
    "/v1/info/services/cpu",
    "/v1/info/metrics/nope",
    "/v1/info/config",
    "/v1/rating/modules",
    "/v1/rating/modules/",
    "/v1/billing/modules",
    "/v1/rating/modules/hashmap",
    "/v1/rating/modules/hashmap?module_id=hashmap",
    "/v1/rating/modules/noop",
    "/v1/rating/modules/nope",
    "/v1/collector/mappings",
    "/v1/collector/mappings/cpu",
    "/v1/collector/states?name=gnocchi",
    "/v1/collector/states/?name=gnocchi",
    "/v1/collector/gnocchi/states",
    "/v1/report/tenants",
    f"/v1/report/summary?{SPAN}&all_tenants=true",
    f"/v1/report/summary?{SPAN}&service=cpu&all_tenants=true&groupby=tenant_id",
    f"/v1/report/summary?{SPAN}&all_tenants=true&groupby=tenant_id,res_type",
    f"/v1/report/summary?{SPAN}&tenant_id=A&groupby=res_type",
    f"/v1/report/summary?{SPAN}&tenant_id=nobody&groupby=res_type",
    f"/v1/report/summary?{SPAN}&service=cpu&groupby=tenant_id",
    f"/v1/storage/dataframes?{SPAN}&tenant_id=A",
    f"/v1/storage/dataframes?{SPAN}&tenant_id=A&resource_type=cpu",
    f"/v1/storage/dataframes?{SPAN}&tenant_id=nobody",
    f"{H}/types",
    f"{H}/services",
    f"{H}/services/",
    f"{H}/services/{{service}}",
    f"{H}/services/{{unknown}}",
    f"{H}/fields",
    f"{H}/fields?service_id={{service}}",
    f"{H}/fields?service_id={{net}}",
    f"{H}/fields?service_id={{unknown}}",
    f"{H}/fields?service_id=cpu",
    f"{H}/fields/{{field}}",
    f"{H}/fields/{{unknown}}",
    f"{H}/groups",
    f"{H}/groups/{{group}}",
    f"{H}/groups/{{unknown}}",
    f"{H}/groups/{{group}}/mappings",
    f"{H}/groups/mappings?group_id={{group}}",
    f"{H}/groups/mappings?group_id={{unused}}",
    f"{H}/groups/mappings?group_id={{unknown}}",
    f"{H}/groups/{{group}}/thresholds",
    f"{H}/groups/thresholds?group_id={{group}}",
    f"{H}/mappings",
    f"{H}/mappings/",
    f"{H}/mappings?service_id={{service}}",
    f"{H}/mappings?field_id={{field}}",
    f"{H}/mappings?field_id={{field}}&deleted=true",
    f"{H}/mappings?field_id={{unknown}}",
    f"{H}/mappings?field_id=garbage",
    f"{H}/mappings?group_id={{group}}",
    f"{H}/mappings?field_id={{field}}&no_group=true",
    f"{H}/mappings?service_id={{service}}&no_group=true",
    f"{H}/mappings?field_id={{field}}&filter_tenant=true",
    f"{H}/mappings?field_id={{field}}&filter_tenant=true&tenant_id=A",
    f"{H}/mappings?field_id={{field}}&tenant_id=A",
    f"{H}/mappings?service_id={{service}}&filter_tenant=maybe&tenant_id=B",
    f"{H}/mappings?created_by=x",
    f"{H}/mappings?created_by=y",
    f"{H}/mappings?description=night",
    f"{H}/mappings?is_active=true",
    f"{H}/mappings?is_active=true&deleted=true",
    f"{H}/mappings?start=2025-06-01T00:00:00",
    f"{H}/mappings?deleted=true&end=2027-01-01T00:00:00",
    f"{H}/mappings/{{mappingm1}}",
    f"{H}/mappings/{{mappingm2A}}",
    f"{H}/mappings/{{mappingold}}",
    f"{H}/mappings/{{mappingNone}}",
    f"{H}/mappings/{{unknown}}",
    f"{H}/mappings/{{mappingm1}}/group",
    f"{H}/mappings/group?mapping_id={{mappingm1}}",
    f"{H}/mappings/{{mappingNone}}/group",
    f"{H}/thresholds?service_id={{service}}",
    f"{H}/thresholds?field_id={{field}}",
    f"{H}/thresholds?group_id={{group}}",
    f"{H}/thresholds?service_id={{service}}&no_group=true",
    f"{H}/thresholds?field_id={{unknown}}",
    f"{H}/thresholds/{{threshold}}",
    f"{H}/thresholds/{{unknown}}",
    f"{H}/thresholds/{{threshold}}/group",
    f"{H}/thresholds/{{bare}}/group",
    S,
    f"{S}?no_data=true",
    f"{S}?description=TEN",
    f"{S}?created_by=y",
    f"{S}/{{script}}",
    f"{S}/{{unknown}}",
    f"/v2/summary?{SPAN}",
    f"/v2/summary?{SPAN}&response_format=object",
    f"/v2/summary?{SPAN}&groupby=project_id,type",
    f"/v2/summary?{SPAN}&groupby=type&groupby=project_id&response_format=object",
    f"/v2/summary?{SPAN}&groupby=project_id,type&offset=1&limit=1",
    f"/v2/summary?{SPAN}&groupby=project_id&offset=9",
    f"/v2/summary?{SPAN}&groupby=az",
    f"/v2/summary?{SPAN}&groupby=nothing",
    f"/v2/summary?{SPAN}&groupby=time&filters=project_id:A&limit=5000",
    f"/v2/summary?{SPAN}&groupby=type,time&response_format=object&limit=5000",
    f"/v2/summary?{SPAN}&groupby=time-d,time-w,time-m,time-y",
    f"/v2/summary?{SPAN}&groupby=type&filters=project_id:A,project_id:B",
    f"/v2/summary?{SPAN}&groupby=type&filters=type:cpu&filters=az:y",
    f"/v2/summary?{SPAN}&filters=project_id:nobody",
    f"/v2/summary?{SPAN}&filters=project_id:nobody&groupby=type&response_format=object",
    f"/v2/summary?{SPAN}&limit=0",
    f"/v2/summary?{SPAN}&limit=x",
    f"/v2/summary?{SPAN}&filters=broken",
    f"/v2/summary?{SPAN}&nothing=1",
    f"/v2/summary?{SPAN}&begin=2026-01-01",
    "/v2/summary?begin=2026-01-01T01:00:00%2B00:00&end=2026-01-01T03:00:00%2B00:00&groupby=project_id",
    "/v2/summary?begin=20260101T010000Z&end=2026-01-01 03:00:00&groupby=project_id".replace(" ", "%20"),
    f"/v2/dataframes?{SPAN}",
    f"/v2/dataframes?{SPAN}&filters=project_id:A&limit=3",
    f"/v2/dataframes?{SPAN}&filters=project_id:A,type:cpu",
    f"/v2/dataframes?{SPAN}&offset=100",
    f"/v2/dataframes?{SPAN}&filters=project_id:nobody",
    f"/v2/dataframes?{SPAN}&filters=type:cpu,type:cpu",
    "/v2/scope",
    "/v2/scope?scope_id=A",
    "/v2/scope?scope_id=A,B&limit=1&offset=1",
    "/v2/scope?scope_id=nobody",
    "/v2/scope?scope_key=project_id&fetcher=keystone&collector=prometheus&active=1",
    "/v2/scope?active=0",
    "/v2/scope?active=x",
    "/v2/rating/modules",
    "/v2/rating/modules/hashmap",
    "/v2/rating/modules/nope",
    "/v2/task/reprocesses",
    "/v2/task/reprocesses?order=asc",
)


def told(found: Found, url: str) -> Any:
    """An answer without what differs by its nature.

    That is: times at which rules were made, the order of points, the last digits of CloudKitty's sums of floats, `1.0`
    in place of `1`, periods without points, which InfluxDB fills up to the end of the range, and the host.
    """
    return found.status, found.form, _plain(found.body, url)


def _plain(value: Any, url: str, name: str = "") -> Any:
    if isinstance(value, dict):
        if "total" in value and "results" in value:
            value = _without_empty(value)
        return {key: _plain(member, url, key) for key, member in value.items() if key not in OF_SCOPES}
    if isinstance(value, list):
        members = [_plain(member, url, name) for member in value]
        return sorted(members, key=repr) if name in UNORDERED or members == ["rate", "flat"] else members
    if name in ("created_at", "deleted") and value is not None:
        assert MOMENT.fullmatch(value), value
        return "a moment"
    if isinstance(value, float) or (name in NUMBERS and isinstance(value, str)):
        return f"{float(value):.9g}"
    return value.replace(url, "URL") if isinstance(value, str) else value


def _without_empty(page: Json) -> Json:
    left = [row for row in page["results"] if None not in (row.values() if isinstance(row, dict) else row)]
    return page | {"results": left, "total": page["total"] - len(page["results"]) + len(left)}


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two values differ, by path."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key, "nothing"), other.get(key, "nothing"), f"{where}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}[{number}]")
    elif one != other or type(one) is not type(other):
        yield f"{where}: {one!s:.300} there, {other!s:.300} here"


async def test_the_same_question_has_the_same_answer(sides: Sides) -> None:
    metrics = (MetricInfo("cpu", ("flavor",), "core"), MetricInfo("net/in", (), "B"))
    conf = yaml.safe_load(METRICS_YML)
    different, refused = [], set()
    async with serving(StoreView(sides.store), sides.book, metrics=metrics, metrics_conf=conf, zone=ZONE.key) as world:
        for pattern in PATHS:
            path = pattern.format(**sides.ids)
            theirs = await asyncio.to_thread(ask, sides.theirs + path)
            ours = await asyncio.to_thread(ask, world.url + path)
            refused |= {theirs.status} - {200}
            found = differences(told(theirs, sides.theirs), told(ours, world.url))
            different += [f"{pattern}{where}" for where in found]
    assert different == []
    assert refused == {400, 404}, "both kinds of refusals must be among the questions"


async def test_what_is_said_otherwise_on_purpose(sides: Sides) -> None:
    async with serving(StoreView(sides.store), sides.book) as world:

        async def both(path: str) -> tuple[Found, Found]:
            return await asyncio.to_thread(ask, sides.theirs + path), await asyncio.to_thread(ask, world.url + path)

        # paths that there are not: pecan says 405 where it has a controller, v2 gives a page whatever is accepted
        for path, statuses in {
            "/v1/rating/nope": (405, 404),
            "/v2/nope": (404, 404),
            "/v2/summary/": (404, 404),
        }.items():
            theirs, ours = await both(path)
            assert (theirs.status, ours.status) == statuses, path
        # the same fault in other words
        theirs, ours = await both("/v2/task/reprocesses?order=sideways")
        assert (theirs.status, ours.status) == (400, 400)
        # a row for each period of the range, although only four have points
        theirs, ours = await both(f"/v2/summary?{SPAN}&groupby=time&filters=project_id:A")
        assert theirs.body["total"] == 31 * 24
        assert theirs.body["results"][HOURS][2:] == [None, None]
        assert ours.body["total"] == HOURS
