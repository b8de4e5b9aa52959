"""What the tests of reworks share: topics of their own, a worker, a sink on an embedded store, and the commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from deploy.local.kafka import LaptopKafka
from rater.cli.app import _run
from rater.config import Config, load_config
from rater.kafka import create_topics
from rater.rating import parse, plan
from rater.reports import Selection, StoreView
from rater.services import serve_sink
from rater.store import FrameRow, LineRow, Store
from rater.stream.rules_log import append_event, read_rules
from rater.stream.worker import Worker
from tests.integration.streams import SETTINGS, T

SETTINGS_TEXT = """
kafka: {{bootstrap: "{bootstrap}", prefix: "{prefix}", partitions: 2}}
store: {{dsn: "chdb://{directory}/clickhouse"}}
engine: {{wait_periods: 1, settle: 10, late_horizon_periods: {kept}, gap_horizon_periods: {kept}}}
sink: {{max_delay: 0.1}}
rework: {{late_usage: {late}}}
metrics:
  cpu: {{unit: undefined}}
  net: {{unit: undefined, proof: samples}}
"""
RULES = """
hashmap:
  services:
    - name: cpu
      mappings: [{{cost: "{cpu}"}}]
    - name: net
      mappings: [{{cost: "0.01"}}]
"""


class Cloud(NamedTuple):
    """A running installation and its parts."""

    config: Config
    store: Store
    view: StoreView
    directory: Path

    def frames(self, scope_id: str = "A") -> list[FrameRow]:
        """Its frames, newest revisions."""
        return list(self.view.frames(Selection(scope_id)))

    def lines(self, scope_id: str = "A") -> list[LineRow]:
        """Their lines."""
        return list(self.view.lines(Selection(scope_id)))

    async def rater(self, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
        """Runs a command: exit status, stdout, stderr."""
        capfd.readouterr()
        status = await asyncio.to_thread(_run, ["--config", str(self.directory / "rater.yaml"), *arguments])
        told = capfd.readouterr()
        return status, told.out, told.err


async def apply_rules(config: Config, text: str) -> None:
    """Makes these rules the ones of now."""
    book = await read_rules(config.settings.kafka)
    changes = plan(book, parse(text, "rules.yaml"))
    assert changes, "the rules are to change"
    await append_event(config.settings.kafka, changes.event("test", "", T))


def write_settings(kafka: LaptopKafka, directory: Path, kept: int = 0, *, late: bool = True) -> Config:
    """Settings of an installation of one's own. `kept`: periods that closed frames stay in the state."""
    text = SETTINGS_TEXT.format(
        bootstrap=kafka.bootstrap,
        prefix=f"rework-{uuid4().hex[:8]}.",
        directory=directory,
        kept=kept,
        late=str(late).lower(),
    )
    (directory / "rater.yaml").write_text(text)
    return load_config(directory / "rater.yaml")


@asynccontextmanager
async def cloud(config: Config, directory: Path, *, rules: str = "", kind: type[Store] = Store) -> AsyncIterator[Cloud]:
    """Topics, rules, a worker and a sink that run until the end of the block. `kind` of store."""
    await create_topics(config.settings.kafka)
    if rules:
        await apply_rules(config, rules)
    stop = asyncio.Event()
    with kind(config.settings.store) as store:
        worker = Worker(config.settings.kafka, config.engine_context(), SETTINGS)
        async with serve_sink(config, store, CollectorRegistry()) as sink:
            running = [asyncio.create_task(worker.run(stop)), asyncio.create_task(sink.run(stop))]
            try:
                async with asyncio.timeout(60):
                    while (worker.red() or sink.red()) and not any(task.done() for task in running):
                        await asyncio.sleep(0.05)
                yield Cloud(config, store, StoreView(store), directory)
            finally:
                stop.set()
                await asyncio.gather(*running)


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits for a condition, asked in a thread of its own since it may read the store."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.1)
