"""All parts of a chaos run: Kafka, ClickHouse and Prometheus behind proxies, rater's processes, and the pushers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, create_topics
from rater.store import StoreSettings
from tests.chaos import cloud
from tests.chaos.cloud import Cloud
from tests.chaos.disk import small_disk
from tests.chaos.offsets import Groups
from tests.chaos.prices import PriceList
from tests.chaos.proxy import Proxy
from tests.chaos.pushers import PERIOD, Pushers
from tests.chaos.roles import Roles
from tests.integration.clickhouse_http import PASSWORD, USER, Server
from tests.integration.prometheus.server import LaptopPrometheus

PARTITIONS = 4
PAST_SECONDS = 15 * 60
"""How much of the cloud's past the collector has to make up for when it starts."""
FUTURE_SECONDS = 30 * 60
"""How far Prometheus is filled beyond the faults: for the end of the run, on a slow machine too."""
PUSHED_A_MINUTE, PUSHED_AT_LEAST = 40, 200
"""More periods than the pushers get through."""
WANTED = {"worker": 3, "sink": 2, "collector": 2}
ENGINE = {"period": PERIOD, "wait_periods": 1, "settle": 3, "late_horizon_periods": 1}
SESSION = 6.0
METRICS = {"cpu": "undefined", "disk": "undefined", "instance": "instance", "volume": "GiB"}


@dataclass
class Sizes:
    """How long faults last. The short form is for CI."""

    short: bool

    @property
    def hold(self) -> tuple[float, float]:
        """Seconds that a fault lasts, least and most."""
        return (3, 7) if self.short else (5, 25)

    @property
    def down(self) -> float:
        """Seconds that a broker is down when it is down for long."""
        return 12 if self.short else 120

    @property
    def patience(self) -> float:
        """Seconds to wait for somebody to come to a named point."""
        return 15 if self.short else 40

    @property
    def freeze(self) -> float:
        """Seconds that a process is frozen: longer than its session."""
        return SESSION + 2.5


class Town:
    """`async with Town(directory, minutes, seed) as town`: everything runs; nothing is left afterwards."""

    def __init__(self, directory: Path, minutes: float, seed: int, *, short: bool) -> None:
        self.directory = directory
        self.sizes = Sizes(short)
        self.kafka_link, self.store_link, self.prometheus_link = Proxy(), Proxy(), Proxy()
        begin = int(time.time()) // PERIOD * PERIOD - PAST_SECONDS
        ahead = math.ceil(minutes) * PERIOD + FUTURE_SECONDS
        self.cloud = Cloud(begin, begin + PAST_SECONDS + ahead)
        self._seed = seed
        self._pushed_from = begin - math.ceil(PUSHED_A_MINUTE * minutes + PUSHED_AT_LEAST) * PERIOD
        self._stack = AsyncExitStack()
        self._begun: set[asyncio.Task[None]] = set()
        self._stack.callback(self._give_up)

    async def __aenter__(self) -> Town:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins what may have to wait until the broker is back."""
        self._begun.add(asyncio.create_task(work))

    async def all_done(self) -> None:
        """Waits for what was begun. Raises what it raised."""
        await asyncio.gather(*self._begun)

    def _give_up(self) -> None:
        for task in self._begun:
            task.cancel()

    async def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for link in (self.kafka_link, self.store_link, self.prometheus_link):
            await link.start()
            self._stack.push_async_callback(link.stop)
        await self._start_broker()
        await self._start_store()
        await self._start_prometheus()
        bootstrap = f"127.0.0.1:{self.kafka_link.port}"
        self.kafka = KafkaSettings(bootstrap=bootstrap, prefix="chaos.", partitions=PARTITIONS)
        await create_topics(self.kafka)
        self.groups = Groups(self.kafka)
        self.prices = PriceList(self.kafka)
        await self.prices.begin()
        self.pushers = Pushers(self.kafka, self._seed, self._pushed_from)
        self._stack.push_async_callback(self.pushers.close)
        self.roles = Roles(self.directory, self._options(), dict(WANTED))
        await self._stack.enter_async_context(self.roles)

    async def _start_broker(self) -> None:
        self.disk = small_disk(self.directory / "broker")
        self._stack.callback(self.disk.remove)
        self.broker = LaptopKafka(self.directory / "broker", advertised_port=self.kafka_link.port)
        self._stack.callback(self.broker.kill)
        await self.broker_up()

    async def broker_up(self) -> None:
        """Starts the broker if it does not run."""
        if not self.broker.running:
            self.broker.port = None  # a free one: while it was down another program may have taken the last
            await asyncio.to_thread(self.broker.start, 120)
        assert self.broker.port is not None, "it runs"
        self.kafka_link.target = self.broker.port

    async def _start_store(self) -> None:
        self.store = Server(self.directory / "clickhouse")
        self._stack.callback(self.store.kill)
        await self.store_up()
        (self.directory / "password").write_text(PASSWORD)
        dsn = f"http://127.0.0.1:{self.store_link.port}/rater"
        self.store_settings = StoreSettings(
            dsn, username=USER, password_file=str(self.directory / "password"), answer_timeout=20
        )

    async def store_up(self) -> None:
        """Starts ClickHouse if it does not run."""
        if not self.store.pid:
            self.store.kill()
            self.store.port = 0
            await asyncio.to_thread(self.store.start)
        self.store_link.target = self.store.port

    async def _start_prometheus(self) -> None:
        self.prometheus = LaptopPrometheus(self.directory / "prometheus")
        self._stack.callback(self.prometheus.stop)
        await asyncio.to_thread(self.prometheus.backfill, self.cloud.lines())
        await self.prometheus_up()

    async def prometheus_up(self) -> None:
        """Starts Prometheus if it does not run."""
        if not self.prometheus.running:
            self.prometheus.port = 0
            await asyncio.to_thread(self.prometheus.start)
        self.prometheus_link.target = self.prometheus.port

    def _options(self) -> dict[str, Any]:
        metrics_yml = self.directory / "metrics.yml"
        metrics_yml.write_text(cloud.METRICS_YML)
        return {
            "kafka": self.kafka,
            "engine": ENGINE,
            "metrics": METRICS,
            "worker": {"checkpoint_interval": 1.0, "session_timeout": SESSION},
            "store": self.store_settings,
            "metrics_conf": str(metrics_yml),
            "collect": {
                "name": cloud.SOURCE,
                "since": datetime.fromtimestamp(self.cloud.begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "prometheus": {"url": f"http://127.0.0.1:{self.prometheus_link.port}/api/v1", "timeout": 10},
                "static": {"scopes": list(cloud.SCOPES)},
                "completeness": {"lookback": 1200, "settle": 8, "scrape_interval": cloud.STEP},
            },
        }


__all__ = ["PARTITIONS", "WANTED", "Sizes", "Town"]
