"""Rules written with CloudKitty's client, `openstack rating` and the dashboard's requests, on real Kafka.

Ends with the tutorial of hashmap: its rules rate usage that comes through Kafka, and the totals are right.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.config import Config, load_config
from rater.kafka import create_topics
from rater.model.interval import Interval
from rater.model.usage import Collection, Sample, Series
from rater.services import serve_sink
from rater.store import Store
from rater.stream.worker import Parts, Worker
from tests.api.cloudkittyclient.client import Client, clients
from tests.integration.pushing import ApiProcess, serving
from tests.integration.streams import HOUR, SETTINGS, collection, send

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 2}}
store: {{dsn: "chdb://clickhouse"}}
sink: {{max_delay: 0.1}}
api: {{listen: "127.0.0.1:0", auth: noauth, cloudkitty: {{}}}}
metrics: {{instance: {{unit: instance}}, volume.size: {{unit: GiB}}}}
"""
H = "/v1/rating/module_config/hashmap"
WAYS = (("cloudkitty", "1"), ("cloudkitty", "2"), ("openstack", "2"))
DAY = 24 * HOUR
OTHER = "2d5b39657dc542d4b2a14b685335304e"


class Place(NamedTuple):
    """The API as a process, and a client."""

    api: ApiProcess
    client: Client
    config: Config


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> AsyncIterator[Place]:
    path = tmp_path / "rater.yaml"
    path.write_text(CONFIG.format(bootstrap=kafka.bootstrap, prefix=f"rules-{uuid4().hex[:8]}."))
    config = load_config(path, {})
    await create_topics(config.settings.kafka)
    async with serving(path) as api:
        with clients(api.url) as client:
            yield Place(api, client, config)


async def test_rules_are_written_with_what_people_have(place: Place) -> None:
    await asyncio.to_thread(every_command_that_writes, place.client)
    await the_dashboard(place)
    await the_tutorial(place)


class Shell:
    """One of the two programs, with one version of the API."""

    def __init__(self, client: Client, name: str, version: str) -> None:
        self._client, self._name, self._version = client, name, version
        self._rating = "rating " if name == "openstack" else ""

    def show(self, words: str, *more: str) -> Any:
        """What a command shows; the one row where there is one."""
        found = self._client.json(self._name, self._rating + words, *more, version=self._version)
        return found[0] if len(found) == 1 else found

    def do(self, words: str, *more: str) -> None:
        """A command that shows nothing."""
        done = self._client.run(self._name, self._rating + words, *more, version=self._version)
        assert (done.status, done.out) == (0, ""), done

    def fails(self, said: str, words: str, *more: str) -> None:
        """A command that is refused."""
        done = self._client.run(self._name, self._rating + words, *more, version=self._version)
        assert done.status == 1, done
        assert said in done.err


def every_command_that_writes(client: Client) -> None:
    for number, (name, version) in enumerate(WAYS):
        shell = Shell(client, name, version)
        modules(shell, number)
        hashmap(shell, f"cpu{number}")
        scripts(shell)
        collectors(shell)


def modules(shell: Shell, number: int) -> None:
    state = {"Module": "hashmap", "Enabled": True, "Priority": number or 1}
    assert shell.show("module enable", "hashmap") == state
    assert shell.show("module set priority", "hashmap", str(number + 1)) == {**state, "Priority": number + 1}
    assert shell.show("module disable", "hashmap") == {**state, "Enabled": False, "Priority": number + 1}
    assert shell.show("module get", "hashmap") == {**state, "Enabled": False, "Priority": number + 1}
    assert shell.show("module disable", "noop") == {"Module": "noop", "Enabled": True, "Priority": 1}
    shell.fails("", "module enable", "nope")  # the client stumbles over its own message


def hashmap(shell: Shell, metric: str) -> None:
    service = shell.show("hashmap service create", metric)
    assert service == {"Name": metric, "Service ID": service["Service ID"]}
    shell.fails(f"Service {metric} already exists", "hashmap service create", metric)
    field = shell.show("hashmap field create", service["Service ID"], "flavor")
    assert field == {"Name": "flavor", "Field ID": field["Field ID"], "Service ID": service["Service ID"]}
    assert shell.show("hashmap field list", service["Service ID"]) == field
    group = shell.show("hashmap group create", "size")
    assert group == {"Name": "size", "Group ID": group["Group ID"]}
    mappings(shell, service["Service ID"], field["Field ID"], group["Group ID"])
    thresholds(shell, service["Service ID"], group["Group ID"])
    shell.do("hashmap group delete", "--recursive", group["Group ID"])
    assert shell.show("hashmap mapping list", "--field-id", field["Field ID"]) == []
    again = shell.show("hashmap group create", "size")
    shell.do("hashmap group delete", again["Group ID"])
    shell.do("hashmap field delete", field["Field ID"])
    shell.fails(f"No such field: {field['Field ID']}", "hashmap field delete", field["Field ID"])
    shell.do("hashmap service delete", service["Service ID"])
    shell.fails("No such service", "hashmap service get", service["Service ID"])


def mappings(shell: Shell, service: str, field: str, group: str) -> None:
    made = shell.show(
        "hashmap mapping create", "0.01", "--field-id", field, "--value", "m1.tiny", "-g", group, "-t", "flat"
    )
    shown = {
        "Mapping ID": made["Mapping ID"],
        "Value": "m1.tiny",
        "Cost": "0.0100000000000000002081668171",
        "Type": "flat",
        "Field ID": field,
        "Service ID": None,
        "Group ID": group,
        "Project ID": None,
    }
    dates = {name: made[f"Mapping {name}"] for name in ("Name", "Start Date", "End Date", "Description")}
    assert made == {**shown, **{f"Mapping {name}": value for name, value in dates.items()}}
    assert (len(dates["Name"]), dates["End Date"]) == (24, None)
    assert shell.show("hashmap mapping get", made["Mapping ID"]) == shown
    shell.fails(
        f"Mapping 'm1.tiny' already exists for field '{field}', tenant: 'None'",
        *("hashmap mapping create", "0.02", "--field-id", field, "--value", "m1.tiny", "-g", group),
    )
    shell.fails(
        "Cannot create a rule with start in the past",
        *("hashmap mapping create", "1", "-s", service, "--start", "2020-01-01"),
    )
    # the end of what runs, which the client sends with all the rest, and 31 times
    started = datetime.fromisoformat(dates["Start Date"]).replace(tzinfo=UTC).timestamp()
    while time.time() <= started:  # times of rules are whole seconds, rounded up
        time.sleep(0.05)
    assert shell.show("hashmap mapping update", made["Mapping ID"], "--end", "2090-01-01") == shown
    shell.fails("a defined end date", "hashmap mapping update", made["Mapping ID"], "--end", "2091-01-01")
    later = shell.show(
        *("hashmap mapping create", "2", "-s", service, "-p", "A", "-t", "rate", "--name", "later"),
        *("--start", "2090-01-01T00:00:00", "--end", "2090-01-31", "--description", "soon"),
    )
    told = {"Mapping Name": "later", "Mapping Start Date": "2090-01-01T00:00:00", "Project ID": "A"}
    assert {name: later[name] for name in told} == told
    assert later["Mapping End Date"] == "2090-01-31T23:59:59"
    assert shell.show("hashmap mapping update", later["Mapping ID"], "--cost", "3")["Cost"] == f"3.{'0' * 28}"
    shell.do("hashmap mapping delete", later["Mapping ID"])
    shell.fails("No such mapping", "hashmap mapping delete", later["Mapping ID"])


def thresholds(shell: Shell, service: str, group: str) -> None:
    words = ("-s", service, "-t", "rate", "-g", group)
    made = shell.show("hashmap threshold create", "50", "0.98", *words)
    assert made == {
        "Threshold ID": made["Threshold ID"],
        "Level": "50.00000000",
        "Cost": "0.9799999999999999822364316060",
        "Type": "rate",
        "Field ID": None,
        "Service ID": service,
        "Group ID": group,
        "Project ID": None,
    }
    shell.fails("Threshold '50.00000000' already exists for service", "hashmap threshold create", "50", "0.9", *words)
    assert shell.show("hashmap threshold get", made["Threshold ID"]) == made
    changed = shell.show("hashmap threshold update", made["Threshold ID"], "--cost", "0.5", "-p", "A")
    assert changed == {**made, "Cost": f"0.5{'0' * 27}", "Project ID": "A"}
    extra = shell.show("hashmap threshold create", "60", "1", *words)
    shell.do("hashmap threshold delete", extra["Threshold ID"])
    shell.fails("No such threshold", "hashmap threshold get", extra["Threshold ID"])


def scripts(shell: Shell) -> None:
    made = shell.show("pyscript create", "free", "pass", "--start", "2090-01-01T00:00:00", "--description", "nothing")
    assert made == {
        "Name": "free",
        "Script ID": made["Script ID"],
        "Checksum": hashlib.sha512(b"pass").hexdigest(),
        "Data": "pass",
        "Script Start Date": "2090-01-01T00:00:00",
        "Script End Date": None,
        "Script Description": "nothing",
    }
    shell.fails("Script free already exists", "pyscript create", "free", "pass")
    shell.fails("does not compile: line 1", "pyscript create", "broken", "if")
    changed = shell.show("pyscript update", made["Script ID"], "-d", "x = 1", "--end", "2090-02-01T00:00:00")
    checksum = hashlib.sha512(b"x = 1").hexdigest()
    assert changed == {**made, "Data": "x = 1", "Checksum": checksum, "Script End Date": "2090-02-01T00:00:00"}
    assert shell.show("pyscript get", made["Script ID"]) == changed
    shell.do("pyscript delete", made["Script ID"])
    shell.fails("No such script", "pyscript get", made["Script ID"])


def collectors(shell: Shell) -> None:
    noted = {"Service": "cpu", "Collector": "gnocchi"}
    assert shell.show("collector-mapping create", "cpu", "gnocchi") == noted
    assert shell.show("collector-mapping get", "cpu") == noted
    assert shell.show("collector-mapping list") == noted
    shell.do("collector-mapping delete", "cpu")
    shell.fails("No mapping for service: cpu", "collector-mapping get", "cpu")
    assert shell.show("collector enable", "gnocchi") == {"Collector": "gnocchi", "State": True}
    assert shell.show("collector disable", "gnocchi") == {"Collector": "gnocchi", "State": False}


async def the_dashboard(place: Place) -> None:
    """What its panels of rating send, as requests: numbers are JSON floats, what is empty is left out."""
    async with aiohttp.ClientSession(place.api.url) as http:

        async def ask(method: str, path: str, body: Any = None, status: int = 200) -> Any:
            async with http.request(method, path, json=body, allow_redirects=False) as answer:
                text = await answer.text()
                assert answer.status == status, (path, text)
                return await answer.json() if text else None

        assert {module["module_id"] for module in (await ask("GET", "/v1/rating/modules/"))["modules"]} >= {"hashmap"}
        module = await ask("GET", "/v1/rating/modules/hashmap")
        await ask("PUT", "/v1/rating/modules/hashmap", {**module, "enabled": True, "priority": 5}, 302)
        assert (await ask("GET", "/v1/rating/modules/hashmap"))["priority"] == 5
        metrics = (await ask("GET", "/v1/info/metrics/"))["metrics"]
        assert [metric["metric_id"] for metric in metrics] == ["instance", "volume.size"]
        assert "instance" in (await ask("GET", "/v1/info/config/"))["metrics"]
        await ask("GET", "/v1/info/metrics/nothing", status=404)
        service = (await ask("POST", f"{H}/services/", {"name": "instance"}, 201))["service_id"]
        assert (await ask("GET", f"{H}/fields/?service_id=instance"))["fields"] == []
        field = (await ask("POST", f"{H}/fields/", {"name": "flavor", "service_id": service}, 201))["field_id"]
        group = (await ask("POST", f"{H}/groups/", {"name": "size"}, 201))["group_id"]
        body = {"type": "flat", "cost": 0.1, "value": "m1", "field_id": field, "group_id": group}
        mapping = await ask("POST", f"{H}/mappings/", body, 201)
        level = {"type": "rate", "cost": 0.5, "level": 4.0, "service_id": service, "group_id": group}
        threshold = await ask("POST", f"{H}/thresholds/", level, 201)
        assert (await ask("GET", f"{H}/mappings/?field_id={field}"))["mappings"] == [mapping]
        assert (await ask("GET", f"{H}/thresholds/?service_id={service}"))["thresholds"] == [threshold]
        # the price beside the button that launches an instance
        desc = {
            "flavor": "m1", "source_type": "image", "source_val": "5", "vcpus": 2, "disk": 20, "ephemeral": 0,
            "disk_total": 20, "disk_total_display": "20", "ram": 2048, "image_id": "5",
        }  # fmt: skip
        for volume, price in ((1, 0.1), (4, 0.2)):
            asked = {"resources": [{"service": "instance", "volume": volume, "desc": desc}]}
            assert float(await ask("POST", "/v1/rating/quote/", asked)) == pytest.approx(price, rel=1e-12)
        await ask("DELETE", f"{H}/mappings/", {"mapping_id": mapping["mapping_id"]}, 204)
        await ask("DELETE", f"{H}/services/", {"service_id": service}, 204)
        await ask("DELETE", f"{H}/groups/", {"group_id": group, "recursive": False}, 204)


async def the_tutorial(place: Place) -> None:
    """Instances by flavor, volumes by size with a discount: as the manual types it, and with its prices at the end."""
    await asyncio.to_thread(typed, place.client)
    begin = int(time.time()) // HOUR * HOUR + HOUR  # rules start when they are typed: usage is of the next hour
    async with rating(place.config):
        await send(place.config.settings.kafka, *(each for scope in ("mine", OTHER) for each in used(scope, begin)))
        bounds = ("-b", _text(begin), "-e", _text(begin + HOUR))
        wanted = {
            ("mine", "instance"): (2.0, 0.01),
            ("mine", "volume.size"): (400.0, 0.3849),
            (OTHER, "instance"): (2.0, 0.01),
            (OTHER, "volume.size"): (400.0, 0.3836),
        }
        async with asyncio.timeout(60):
            while len(found := await asyncio.to_thread(summary, place.client, bounds)) < len(wanted):
                await asyncio.sleep(0.3)
        assert found == wanted
        total = await asyncio.to_thread(place.client.json, "openstack", "rating total get", *bounds, version="1")
        assert total["Total"] == pytest.approx(0.7885, rel=1e-12)


def summary(client: Client, bounds: tuple[str, ...]) -> dict[tuple[str, str], tuple[float, float]]:
    """Quantity and rate by project and type; nothing while the store is not there yet."""
    done = client.run("cloudkitty", "summary get", "-g", "project_id,type", *bounds, "-f", "json")
    rows = json.loads(done.out) if done.status == 0 else []
    return {(row["Project id"], row["Type"]): (row["Qty"], round(row["Rate"], 12)) for row in rows}


def typed(client: Client) -> None:
    shell = Shell(client, "cloudkitty", "2")
    shell.show("module enable", "hashmap")
    group = shell.show("hashmap group create", "instance_uptime_flavor_id")["Group ID"]
    service = shell.show("hashmap service create", "instance")["Service ID"]
    field = shell.show("hashmap field create", service, "flavor_id")["Field ID"]
    shell.show("hashmap mapping create", "0.01", "--field-id", field, "--value", "m1.tiny", "-g", group, "-t", "flat")
    volumes = shell.show("hashmap group create", "volume_thresholds")["Group ID"]
    assert {group["Name"] for group in shell.show("hashmap group list")} == {
        "instance_uptime_flavor_id",
        "volume_thresholds",
    }
    size = shell.show("hashmap service create", "volume.size")["Service ID"]
    shell.show("hashmap mapping create", "0.001", "-s", size, "-t", "flat", "-g", volumes)
    for level, cost, *project in (("50", "0.98"), ("50", "0.97", "-p", OTHER), ("200", "0.95")):
        shell.show("hashmap threshold create", level, cost, "-s", size, "-t", "rate", "-g", volumes, *project)


def used(scope: str, begin: int) -> list[Collection]:
    """A tiny machine and one of a flavor without a price; volumes of 20, 50, 80 and 250 GiB."""
    end = begin + HOUR
    whole = {"begin": begin, "end": end, "covers": [Interval(begin, end)]}
    machines = [Series({"id": flavor}, {"flavor_id": flavor}) for flavor in ("m1.tiny", "m1.huge")]
    volumes = [Series({"id": f"v{number}"}, {}) for number in range(4)]
    sizes = [Sample(number, begin, end, Decimal(size)) for number, size in enumerate((20, 50, 80, 250))]
    running = [Sample(number, begin, end, Decimal(1)) for number in range(2)]
    instance = {"metric": "instance", "unit": "instance", "series": machines, "samples": running}
    volume = {"metric": "volume.size", "unit": "GiB", "series": volumes, "samples": sizes}
    return [
        collection(scope, **whole, **metric, collection_id=f"{scope}-{metric['metric']}")
        for metric in (instance, volume)
    ]


@asynccontextmanager
async def rating(config: Config) -> AsyncIterator[None]:
    """A worker, to which it is tomorrow, and a sink, while the block runs."""
    kafka, stop = config.settings.kafka, asyncio.Event()
    parts = Parts(kafka, clock=lambda: time.time() + DAY)
    worker = Worker(kafka, config.engine_context(), SETTINGS, parts=parts)
    with Store(config.settings.store) as store:
        async with serve_sink(config, store, CollectorRegistry()) as sink:
            running = [asyncio.create_task(service.run(stop)) for service in (worker, sink)]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*running)


def _text(instant: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(instant))
