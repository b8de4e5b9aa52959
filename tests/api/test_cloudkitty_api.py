"""CloudKitty's client and `openstack rating` on the service as a process: what they read comes from Kafka.

Frames go by topic `rated` and the sink into a store that this process has open, rules by topic `rules`. `rater api`
asks the store by its socket. Each answer is compared with what CloudKitty's behaviour says, field by field.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.config import load_config
from rater.kafka import KafkaSettings
from rater.model.rules import (
    Field,
    FieldCreated,
    Group,
    GroupCreated,
    MappingCreated,
    MappingRule,
    ModuleSet,
    RuleEvent,
    RuleType,
    Script,
    ScriptCreated,
    Service,
    ServiceCreated,
    ThresholdCreated,
    ThresholdRule,
)
from rater.services import api_service, serve_sink
from rater.store import Store, counts
from rater.stream.rules_log import append_event
from tests.api.cloudkittyclient.client import Client, clients
from tests.integration.pushing import ApiProcess, serving
from tests.integration.sinks import own_topics, publish, until
from tests.unit.api.cloudkitty.world import ANN, BOSS, TOKENS, lines_of
from tests.unit.store.builders import HOUR, JANUARY, a_frame

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

METRICS_YML = """\
metrics:
  cpu_seconds:
    unit: core
    alt_name: cpu
    groupby: [id, project_id]
    metadata: [flavor]
  net/in: {unit: B}
"""
CONFIG = """\
kafka: {{bootstrap: {bootstrap}, prefix: {prefix}, partitions: {partitions}}}
store: {{dsn: "chdb://clickhouse"}}
sink: {{max_delay: 0.1}}
metrics_conf: metrics.yml
api: {{listen: "127.0.0.1:0", {api}}}
"""
SERVICE, FIELD, GROUP, MAPPING, THRESHOLD, SCRIPT = (f"00000000-0000-0000-0000-{number:012}" for number in range(1, 7))
BOUNDS = ("-b", "2026-01-01T00:00:00", "-e", "2026-02-01T00:00:00")
SHELLS = ("cloudkitty", "openstack")


class Place(NamedTuple):
    """The service and what stands behind it."""

    api: ApiProcess
    client: Client
    kafka: KafkaSettings
    directory: Path


def configured(directory: Path, kafka: KafkaSettings, api: str) -> Path:
    """A rater.yaml."""
    values = {"bootstrap": kafka.bootstrap, "prefix": kafka.prefix, "partitions": kafka.partitions, "api": api}
    (directory / "metrics.yml").write_text(METRICS_YML)
    (directory / "tokens.yaml").write_text(TOKENS)
    path = directory / f"rater-{len(list(directory.glob('rater-*')))}.yaml"
    path.write_text(CONFIG.format(**values))
    return path


def rules() -> RuleEvent:
    """A service, a field, a group, and one rule of each kind."""
    mapping = MappingRule(MAPPING, Decimal("0.01"), value="m1.tiny", field_id=FIELD, group_id=GROUP, start=JANUARY)
    threshold = ThresholdRule(THRESHOLD, Decimal(50), Decimal("0.98"), RuleType.RATE, service_id=SERVICE, tenant_id="A")
    return RuleEvent(
        0,
        "tester",
        "the tutorial",
        JANUARY,
        (
            ModuleSet("hashmap", True, 3),
            ServiceCreated(Service(SERVICE, "cpu")),
            FieldCreated(Field(FIELD, SERVICE, "flavor")),
            GroupCreated(Group(GROUP, "size")),
            MappingCreated(mapping),
            ThresholdCreated(threshold),
            ScriptCreated(Script(SCRIPT, "free", "pass", description="nothing")),
        ),
    )


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> AsyncIterator[Place]:
    topics = await own_topics(kafka)
    config = configured(tmp_path, topics, "cloudkitty: {collector: prometheus, fetcher: keystone}")
    loaded = load_config(config, {})
    frames = [a_frame(scope, JANUARY + hour * HOUR, lines=lines_of(scope, hour)) for scope in "AB" for hour in range(4)]
    stop = asyncio.Event()
    with Store(loaded.settings.store) as store:
        async with serve_sink(loaded, store, CollectorRegistry()) as sink:
            running = asyncio.create_task(sink.run(stop))
            await asyncio.gather(append_event(topics, rules()), publish(topics, *frames))
            try:
                async with serving(config) as api:
                    await until(lambda: counts(store) == (8, 14))
                    with clients(api.url) as client:
                        yield Place(api, client, topics, tmp_path)
            finally:
                stop.set()
                await running


async def test_every_command_that_reads(place: Place) -> None:
    # in a thread: the store's holder is this process, and has to answer meanwhile
    await asyncio.to_thread(everything, place.client)
    await rules_are_those_of_now(place)
    await another_service_with_tokens(place)


def everything(client: Client) -> None:
    for shell in SHELLS:
        rating = "rating " if shell == "openstack" else ""

        def both(words: str, *more: str, shell: str = shell, rating: str = rating) -> Any:
            """The same by both versions; `openstack` has one code for both, so one will do there."""
            found = client.json(shell, rating + words, *more, version="2")
            if shell == "cloudkitty":
                assert client.json(shell, rating + words, *more, version="1") == found
            return found

        modules(both)
        hashmap(both)
        scripts_and_metrics(both)
        reports(lambda words, *more, v="2", s=shell, r=rating: client.json(s, r + words, *more, version=v))
    assert client.run("cloudkitty", "module get nope").status == 1
    failed = client.run("cloudkitty", f"hashmap service get {MAPPING}")
    assert failed.status == 1
    assert f"No such service: None (UUID: {MAPPING})" in failed.err


def modules(both: Any) -> None:
    hashmap = {"Module": "hashmap", "Enabled": True, "Priority": 3}
    noop = {"Module": "noop", "Enabled": True, "Priority": 1}
    assert both("module list") == [hashmap, noop, {"Module": "pyscripts", "Enabled": False, "Priority": 1}]
    assert both("module get", "hashmap") == [hashmap]


def hashmap(both: Any) -> None:
    service = {"Name": "cpu", "Service ID": SERVICE}
    field = {"Name": "flavor", "Field ID": FIELD, "Service ID": SERVICE}
    assert [row["Mapping types"] for row in both("hashmap mapping-types list")] == ["flat", "rate"]
    assert both("hashmap service list") == [service]
    assert both("hashmap service get", SERVICE) == [service]
    assert both("hashmap field list", SERVICE) == [field]
    assert both("hashmap field get", FIELD) == [field]
    assert both("hashmap group list") == [{"Name": "size", "Group ID": GROUP}]
    mapping = {
        "Mapping ID": MAPPING,
        "Value": "m1.tiny",
        "Cost": "0.0100000000000000000000000000",
        "Type": "flat",
        "Field ID": FIELD,
        "Service ID": None,
        "Group ID": GROUP,
        "Project ID": None,
    }
    for words in (
        ("hashmap mapping get", MAPPING),
        ("hashmap mapping list", "--field-id", FIELD),
        ("hashmap mapping list", "-g", GROUP),
        ("hashmap mapping list", "-g", GROUP, "--filter-tenant"),
        ("hashmap group mappings get", GROUP),
    ):
        assert both(*words) == [mapping], words
    assert both("hashmap mapping list", "-s", SERVICE) == []
    assert both("hashmap mapping list", "--field-id", FIELD, "--no-group") == []
    assert both("hashmap mapping list", "-g", GROUP, "-p", "A", "--filter-tenant") == []
    threshold = {
        "Threshold ID": THRESHOLD,
        "Level": "50.00000000",
        "Cost": "0.9800000000000000000000000000",
        "Type": "rate",
        "Field ID": None,
        "Service ID": SERVICE,
        "Group ID": None,
        "Project ID": "A",
    }
    assert both("hashmap threshold get", THRESHOLD) == [threshold]
    assert both("hashmap threshold list", "-s", SERVICE) == [threshold]
    assert both("hashmap group thresholds get", GROUP) == []


def scripts_and_metrics(both: Any) -> None:
    script = {
        "Name": "free",
        "Script ID": SCRIPT,
        "Checksum": hashlib.sha512(b"pass").hexdigest(),
        "Data": "pass",
        "Script Start Date": "1970-01-01T00:00:00",
        "Script End Date": None,
        "Script Description": "nothing",
    }
    assert both("pyscript list") == [script]
    assert both("pyscript get", SCRIPT) == [script]
    assert both("pyscript list", "-n") == [script | {"Data": None}]
    cpu = {"Metric": "cpu", "Unit": "core", "Metadata": ["flavor"]}
    assert both("info metric list") == [cpu, {"Metric": "net/in", "Unit": "B", "Metadata": []}]
    assert both("info metric get", "cpu") == [cpu]
    (section,) = both("info config get")
    assert section["Section"] == "metrics"
    assert section["Value"]["cpu_seconds"]["alt_name"] == "cpu"
    assert both("collector-mapping list") == []
    assert both("collector state get", "gnocchi") == [{"Collector": "gnocchi", "State": False}]
    assert [row["Tenant ID"] for row in both("report tenant list")] == ["A", "B"]


def reports(show: Any) -> None:
    times = {"Begin": "2026-01-01T00:00:00+00:00", "End": "2026-02-01T00:00:00+00:00"}
    assert show("summary get", "-g", "project_id,type", *BOUNDS) == [
        {**times, "Qty": 12.0, "Rate": 1.2, "Project id": "A", "Type": "cpu"},
        {**times, "Qty": 3001.0, "Rate": 2.5e-05, "Project id": "A", "Type": "net/in"},
        {**times, "Qty": 16.0, "Rate": 1.3333333333333333, "Project id": "B", "Type": "cpu"},
    ]
    assert show("summary get", "--filter", "project_id:B", *BOUNDS)[0]["Rate"] == 1.3333333333333333
    assert show("summary get", "--filter", "type:nothing", *BOUNDS) == []
    points = show("dataframes get", *BOUNDS, "--limit", "5")
    assert len(points) == 5
    assert points[1] == {
        "Begin": "2026-01-01T00:00:00+00:00",
        "End": "2026-01-01T01:00:00+00:00",
        "Metric Type": "cpu",
        "Unit": "core",
        "Quantity": 2.0,
        "Price": 0.2,
        "Group By": 'week_of_the_year="00" day_of_the_year="1" month="1" year="2026" id="r2" az="y" project_id="A"',
        "Metadata": 'flavor="m1"',
    }
    scope = {"Scope Key": "project_id", "Collector": "prometheus", "Fetcher": "keystone"}
    state = scope | {"State": "2026-01-01T03:00:00+00:00"}
    assert show("scope state get") == [{"Scope ID": name, **state} for name in "AB"]
    assert show("tasks reprocessing get") == []
    assert show("total get", "-b", BOUNDS[1], "-e", BOUNDS[3], v="1") == {"Total": 2.533358333333333}
    old = show("summary get", "-g", "tenant_id,res_type", *BOUNDS, v="1")
    assert [(row["Tenant ID"], row["Resource Type"], row["Rate"]) for row in old] == [
        ("A", "cpu", "1.2"),
        ("A", "net/in", "3e-05"),
        ("B", "cpu", "1.33333"),
    ]
    frames = show("dataframes get", *BOUNDS, v="1")
    assert [(frame["Project ID"], frame["Resources"][0]["service"]) for frame in frames[:4]] == [
        ("A", "cpu"),
        ("B", "cpu"),
        ("A", "cpu"),
        ("A", "net/in"),
    ]
    assert (frames[1]["Resources"][0]["volume"], frames[1]["Resources"][0]["rating"]) == (
        "4",
        "0.3333333333333333333333333333",
    )


async def rules_are_those_of_now(place: Place) -> None:
    """Whoever has written a rule reads it back, at whichever replica."""
    async with aiohttp.ClientSession() as http:
        for number in range(3):
            created = ServiceCreated(Service(f"00000000-0000-0000-0000-{50 + number:012}", f"s{number}"))
            await append_event(place.kafka, RuleEvent(1 + number, "tester", "more", JANUARY, (created,)))
            async with http.get(f"{place.api.url}/v1/rating/module_config/hashmap/services/") as answer:
                names = [service["name"] for service in (await answer.json())["services"]]
                assert names == ["cpu", *(f"s{n}" for n in range(number + 1))]


async def another_service_with_tokens(place: Place) -> None:
    """As in `rater up`: in the process that has the store open; by tokens, in another time zone."""
    api, port = "token_file: tokens.yaml, cloudkitty: {time_zone: Europe/Berlin}", free_port()
    config = configured(place.directory, place.kafka, api)
    loaded = load_config(config, {"RATER_API__LISTEN": f"127.0.0.1:{port}"})
    stop = asyncio.Event()
    running = asyncio.create_task(api_service(loaded, CollectorRegistry(), holds_store=True).run(stop))
    try:
        client = place.client.at(f"http://127.0.0.1:{port}")
        await until(lambda: client.run("cloudkitty", "module list", token=BOSS).status == 0)
        await asyncio.to_thread(by_tokens, client)
    finally:
        stop.set()
        await running


def by_tokens(client: Client) -> None:
    begin = {"Begin": "2026-01-01T01:00:00+01:00", "End": "2026-02-01T01:00:00+01:00"}
    for shell, rating in (("cloudkitty", ""), ("openstack", "rating ")):
        own = client.json(shell, f"{rating}summary get", "-g", "project_id", *BOUNDS, token=ANN)
        assert own == [{**begin, "Qty": 3013.0, "Rate": 1.200025, "Project id": "A"}]
        refused = client.run(shell, f"{rating}hashmap service list", token=ANN)
        assert refused.status == 1
        assert "Policy doesn't allow rating:module_config to be performed." in refused.err
        unknown = client.run(shell, f"{rating}summary get", token="nobody-gave-this-to-me")
        assert unknown.status == 1
        assert "401" in unknown.err
    assert len(client.json("cloudkitty", "scope state get", token=BOSS)) == 2


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
