"""Rules written through two replicas of the API at once, and through one that is killed, on real Kafka."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

from deploy.local.kafka import LaptopKafka
from rater.config import load_config
from rater.kafka import KafkaSettings, create_topics
from rater.model.rules import Change, ModuleSet, ServiceCreated, ServiceDeleted
from rater.rating import Applied, Ignored, IgnoredReason, RuleBook
from rater.stream.rules_history import read_events
from rater.stream.rules_log import read_rules
from tests.integration.pushing import ApiProcess, serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CONFIG = """\
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 1}}
store: {{dsn: "chdb://clickhouse"}}
api: {{listen: "127.0.0.1:0", auth: noauth, cloudkitty: {{}}}}
"""
SERVICES = "/v1/rating/module_config/hashmap/services"
NAMES = 12  # of services: everybody wants the same ones
AT_ONCE = 8  # who write to each replica


class Place(NamedTuple):
    """Topics of our own, and the settings of a replica."""

    kafka: KafkaSettings
    path: Path


@pytest.fixture
async def place(kafka: LaptopKafka, tmp_path: Path) -> Place:
    path = tmp_path / "rater.yaml"
    path.write_text(CONFIG.format(bootstrap=kafka.bootstrap, prefix=f"replicas-{uuid4().hex[:8]}."))
    settings = load_config(path, {}).settings.kafka
    await create_topics(settings)
    return Place(settings, path)


async def history(kafka: KafkaSettings) -> list[Change]:
    """What was changed, in order; whatever else stands in the log lost a race, and nothing but that."""
    changes: list[Change] = []
    async for record in read_events(kafka):
        assert record.event is not None, record.fault
        if isinstance(record.outcome, Ignored):
            assert record.outcome.reason is IgnoredReason.VERSION_CONFLICT, record
            continue
        assert isinstance(record.outcome, Applied)
        (change,) = record.event.changes
        changes.append(change)
        assert record.outcome.version == len(changes)
    return changes


class Writer:
    """Somebody who wants names that others want too, gives them back, and sets a priority that nobody else sets."""

    def __init__(self, number: int, here: aiohttp.ClientSession, there: aiohttp.ClientSession) -> None:
        self._chance = random.Random(number)
        self._number = number
        self._here, self._there = here, there
        self._mine: list[str] = []
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.priorities: list[int] = []
        self.refused: list[str] = []

    async def write(self, count: int) -> None:
        """So many changes, one after the other."""
        for step in range(count):
            what = self._chance.random()
            if what < 0.2:
                await self._set_priority(1 + self._number * 10_000 + step)
            elif what < 0.5 and self._mine:
                await self._delete(self._mine.pop())
            else:
                await self._create(f"metric{self._chance.randrange(NAMES)}")

    async def _create(self, name: str) -> None:
        async with self._here.post(SERVICES, json={"name": name}) as answer:
            body = await answer.json()
        assert answer.status in (201, 409), body
        if answer.status == 409:
            self.refused.append(body["faultstring"])
            return
        assert body["name"] == name
        self._mine.append(body["service_id"])
        self.created.append(body["service_id"])
        if self._chance.random() < 0.2:  # whoever asks the other replica then finds it
            async with self._there.get(f"{SERVICES}/{body['service_id']}") as found:
                assert await found.json() == body

    async def _delete(self, service_id: str) -> None:
        async with self._here.delete(f"{SERVICES}/{service_id}") as answer:
            assert answer.status == 204, await answer.text()
        self.deleted.append(service_id)

    async def _set_priority(self, priority: int) -> None:
        body = {"module_id": "pyscripts", "priority": priority}
        async with self._here.put("/v1/rating/modules", json=body, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
        self.priorities.append(priority)


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.long)])
async def test_of_changes_through_two_replicas_there_is_one_history(place: Place, count: int) -> None:
    # when two processes are asked for changes that stand against each other
    async with (
        serving(place.path) as one,
        serving(place.path) as two,
        aiohttp.ClientSession(one.url) as first,
        aiohttp.ClientSession(two.url) as second,
    ):
        sides = ((first, second), (second, first))
        writers = [Writer(number, *sides[number % 2]) for number in range(2 * AT_ONCE)]
        each, more = divmod(count, len(writers))
        await asyncio.gather(*(writer.write(each + (n < more)) for n, writer in enumerate(writers)))
        shown = []
        for http in (first, second):
            async with http.get(SERVICES) as answer:
                shown.append((await answer.json())["services"])
    # then what was accepted is in the log once, and nothing else is
    changes = await history(place.kafka)
    created = {
        change.service.service_id: change.service.name for change in changes if isinstance(change, ServiceCreated)
    }
    assert sorted(created) == sorted(id_ for writer in writers for id_ in writer.created)
    deleted = [change.service_id for change in changes if isinstance(change, ServiceDeleted)]
    assert sorted(deleted) == sorted(id_ for writer in writers for id_ in writer.deleted)
    priorities = [change.priority for change in changes if isinstance(change, ModuleSet)]
    assert sorted(priorities) == sorted(priority for writer in writers for priority in writer.priorities)
    assert len(created) + len(deleted) + len(priorities) == len(changes)
    # and who was refused was told of a service that had the name
    refused = [
        re.fullmatch(r"Service (\w+) already exists \(UUID: (\S+)\)", text) for w in writers for text in w.refused
    ]
    assert refused
    assert all(match is not None and created[match[2]] == match[1] for match in refused)
    assert len(changes) + len(refused) == count
    # and both replicas know the same
    book = await read_rules(place.kafka)
    left = [{"service_id": service.service_id, "name": service.name} for service in book.services.values()]
    assert shown == [left, left]
    print(f"{count} changes: {len(changes)} accepted, {len(refused)} refused")


async def test_what_was_acknowledged_is_there_after_a_kill(place: Place) -> None:
    answered: dict[str, str] = {}
    open_names: set[str] = set()
    chance = random.Random(5)
    async with serving(place.path) as api:
        for life in range(3):
            if life:
                await api.start()
            writing = [asyncio.create_task(create(api, f"{life}-{n}", answered, open_names)) for n in range(4)]
            until = len(answered) + chance.randrange(5, 30)
            async with asyncio.timeout(60):
                while len(answered) < until:
                    await asyncio.sleep(0.005)
            await api.end(signal.SIGKILL)
            for failed in await asyncio.gather(*writing, return_exceptions=True):
                assert isinstance(failed, aiohttp.ClientError), failed
        # then what was acknowledged is there, and each name once
        changes = await history(place.kafka)
        names = Counter(change.service.name for change in changes if isinstance(change, ServiceCreated))
        assert set(names.values()) == {1}
        book = await read_rules(place.kafka)
        assert all(named(book, name) == service_id for name, service_id in answered.items())
        # and whoever was not answered sends it again, to be told whether it had come through
        await api.start()
        async with aiohttp.ClientSession(api.url) as http:
            for name in open_names:
                async with http.post(SERVICES, json={"name": name}) as answer:
                    assert answer.status == (409 if name in names else 201)
    after = await read_rules(place.kafka)
    assert len(after.services) == len(answered) + len(open_names)


async def create(api: ApiProcess, writer: str, answered: dict[str, str], open_names: set[str]) -> None:
    """Creates services until the connection breaks, which it raises."""
    async with aiohttp.ClientSession(api.url) as http:
        for number in range(100_000):
            name = f"{writer}-{number}"
            open_names.add(name)
            async with http.post(SERVICES, json={"name": name}) as answer:
                body: Any = await answer.json()
                assert answer.status == 201, body
            answered[name] = body["service_id"]
            open_names.discard(name)


def named(book: RuleBook, name: str) -> str:
    """The id of a service."""
    found = book.service_named(name)
    return "" if found is None else found.service_id
