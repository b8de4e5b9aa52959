"""Constant load with known truth, straight to the topic and through the API, while versions are exchanged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from rater.client import AsyncClient, Collection, Plan, Value
from rater.kafka import KafkaSettings
from tests.chaos.content import HOUR, PRICES, START, Generator, Prices, TrueFrame

WEB_SCOPES = 6
WEB_METRIC = "requests"
SCRIPT_PRICE = Decimal("0.002")
RESOURCES = 4
HOURS = 4
"""Until holes are filled: longer than a frame waits, so that gaps open and are resolved."""
PAUSE = 0.1

RULES = f"""
modules:
  hashmap: {{priority: 2}}
  pyscripts: {{priority: 1}}
hashmap:
  services:
  - {{name: cpu, mappings: [{{cost: "{PRICES["cpu"]}"}}]}}
  - {{name: disk, mappings: [{{cost: "{PRICES["disk"]:f}"}}]}}
pyscripts:
  scripts:
  - {{name: by-request, file: by_request.py}}
"""
SCRIPT = f"""
from decimal import Decimal
for point in data["usage"].get("{WEB_METRIC}", []):
    point["rating"]["price"] = point["vol"]["qty"] * Decimal("{SCRIPT_PRICE}")
"""


class Always(dict[int, Prices]):
    """The same prices at every version of the rules."""

    def __missing__(self, _: int) -> Prices:
        return {**PRICES, WEB_METRIC: SCRIPT_PRICE}


@dataclass
class Load:
    """`sent` is what was pushed over HTTP, by scope and period: the truth that no log of ours had to keep."""

    kafka: KafkaSettings
    url: str
    token: str
    sent: dict[tuple[str, int], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    hours: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; all that was pushed is acknowledged then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._straight(stop))
            group.create_task(self._over_http(stop))

    async def _straight(self, stop: asyncio.Event) -> None:
        """With holes that are filled later, repetitions, better collections, several parts."""
        generator = Generator(self.kafka, seed=8, pause=PAUSE)
        try:
            while not stop.is_set():
                await generator.run(HOURS, first=self.hours)
                self.hours += HOURS
        finally:
            await generator.close()

    async def _over_http(self, stop: asyncio.Event) -> None:
        number = 0
        async with AsyncClient(
            self.url, source="web", token=self.token, max_delay=0.3, timeout=10, close_seconds=60
        ) as client:
            while not stop.is_set():
                for scope in range(WEB_SCOPES):
                    await self.push(client, f"web-{scope}", number)
                await client.flush()
                number += 1
                await asyncio.sleep(WEB_SCOPES * PAUSE)

    async def push(self, client: AsyncClient, scope: str, number: int) -> None:
        """The n-th hour of a scope."""
        begin = START + number * HOUR
        quantities = [Decimal(number * 100 + resource + 1).scaleb(-2) for resource in range(RESOURCES)]
        values = [Value(begin, qty, begin + HOUR, {"id": f"gw-{n}"}) for n, qty in enumerate(quantities)]
        whole = [(begin, begin + HOUR)]
        await client.push_plan(Plan(scope, begin, begin + HOUR, [WEB_METRIC]))
        await client.push_collection(Collection(scope, WEB_METRIC, begin, begin + HOUR, whole, 1, samples=values))
        self.sent[scope, begin] += sum(quantities)

    def differences(self, expected: dict[tuple[str, int], TrueFrame]) -> list[str]:
        """How what was acknowledged over HTTP differs from what the log means."""
        found = {key: sum(frame.quantities.values()) for key, frame in expected.items() if key[0].startswith("web-")}
        return [
            f"{key}: {found.get(key)} in the log, {self.sent.get(key)} were acknowledged"
            for key in sorted(found.keys() | self.sent.keys())
            if found.get(key) != self.sent.get(key)
        ]


__all__ = ["RULES", "SCRIPT", "WEB_METRIC", "Always", "Load"]
