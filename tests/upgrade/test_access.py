"""docs/deploy.md gives rater's users as much as they need: a Kafka and a store that allow just that, and all roles."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.kafka import LaptopKafka
from rater.client import AsyncClient
from rater.kafka import KafkaSettings
from rater.store import Store, frames
from tests.chaos.content import START
from tests.upgrade import access, previous
from tests.upgrade.installation import PARTITIONS, TOKEN, Installation
from tests.upgrade.load import Load

pytestmark = pytest.mark.long

OPERATOR, PREFIX = "rater", "rater."
"""As on the page."""
ROLES = ("worker", "sink", "api")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LaptopKafka]:
    """A broker that knows the page's users."""
    broker = access.guarded(tmp_path / "kafka", list(access.users()))
    broker.start()
    yield broker
    broker.kill()


def _granted() -> list[str]:
    """The statements of the page, as the engine's settings take them: without a user."""
    page = access.PAGE.read_text()
    (block,) = re.findall(r"^```sql\n(CREATE DATABASE.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return re.findall(r"^(GRANT .*) TO rater;$", block, re.MULTILINE)


@pytest.fixture
async def installed(guarded: LaptopKafka, tmp_path: Path) -> AsyncIterator[Installation]:
    """All roles, each by its own user."""
    users = access.users()
    admin = KafkaSettings(
        bootstrap=guarded.bootstrap,
        prefix=PREFIX,
        partitions=PARTITIONS,
        **access.as_user(access.ADMIN, tmp_path),
    )
    await access.allow(admin, [rule for rules in users.values() for rule in rules])
    installation = Installation(tmp_path / "run", guarded.bootstrap, None, prefix=PREFIX, grants=_granted())
    installation.kafka_users = {"": access.as_user(OPERATOR, tmp_path)}
    installation.kafka_users |= {role: access.as_user(f"rater-{role}", tmp_path) for role in ROLES}
    async with installation:
        yield installation


async def test_each_role_may_do_all_that_it_does(installed: Installation, guarded: LaptopKafka) -> None:
    # given usage over HTTP
    load = Load(installed.kafka, installed.url, TOKEN)
    async with AsyncClient(installed.url, source="web", token=TOKEN, max_delay=0.3) as client:
        for number in range(3):
            await load.push(client, "web-0", number)
    # when it is rated and stored
    async with asyncio.timeout(90):
        while not await asyncio.to_thread(_stored, installed):
            await asyncio.sleep(0.5)
    # then all commands work, and nobody was refused anything on the way
    for command in (*installed.chart.tests, ("audit", "--topics"), ("topics", "list"), ("doctor",)):
        await installed.rater(*command, release=None)
    assert not (refused := access.denied(guarded)), "\n".join(refused)


def _stored(installed: Installation) -> bool:
    with Store(installed.store_settings) as store:
        return {frame.period_begin for frame in frames(store)} >= {START, START + 3600, START + 7200}


async def test_nobody_may_do_more(guarded: LaptopKafka, tmp_path: Path) -> None:
    """Else the test above would prove nothing: without rules the same broker refuses even to say what there is."""
    settings = KafkaSettings(
        bootstrap=guarded.bootstrap, prefix=PREFIX, partitions=PARTITIONS, **access.as_user(OPERATOR, tmp_path)
    )
    fields = {name: str(getattr(settings, name)) for name in settings.__struct_fields__ if getattr(settings, name)}
    variables = {f"RATER_KAFKA__{name.upper()}": text for name, text in fields.items()}
    done = await asyncio.create_subprocess_exec(
        str(previous.RATER),
        *("topics", "create"),
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env=previous.environment(None, **variables),
    )
    _, said = await done.communicate()

    assert done.returncode == 1, said
    assert b"Authorization" in said, said
