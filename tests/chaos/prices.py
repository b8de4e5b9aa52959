"""The rules of a chaos run: a price per metric, changed under load; which prices each version of the rules has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rater.kafka import KafkaSettings
from rater.model.rules import MappingCreated, MappingRule, MappingUpdated, ModuleSet, RuleEvent, Service, ServiceCreated
from rater.stream.interfaces import StreamUnavailableError
from rater.stream.rules_log import RuleConflictError, append_event
from tests.chaos.content import PRICES, Prices

FIRST = {**PRICES, "instance": Decimal("0.25"), "volume": Decimal("0.0011")}
APPEND_SECONDS = 30.0


@dataclass
class PriceList:
    """The only writer of the rules."""

    kafka: KafkaSettings
    versions: dict[int, Prices] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self) -> None:
        """Version 1."""
        changes: list[Any] = [ModuleSet("hashmap", True)]
        for number, metric in enumerate(FIRST):
            service = f"00000000-0000-4000-8000-00000000000{number}"
            changes += [ServiceCreated(Service(service, metric)), MappingCreated(_mapping(number, FIRST[metric]))]
        await self._append(0, changes)
        self.versions[1] = FIRST

    async def change(self) -> None:
        """The next version: every price another."""
        async with self._turn:
            version = max(self.versions)
            prices = {metric: price * (version + 1) for metric, price in FIRST.items()}
            self.versions[version + 1] = prices  # it may count before we know
            await self._append(version, [MappingUpdated(_mapping(n, price)) for n, price in enumerate(prices.values())])

    async def _append(self, version: int, changes: list[Any]) -> None:
        """Until it stands; an event that was taken without an answer is refused as a conflict when sent again."""
        event = RuleEvent(expected_version=version, author="chaos", reason="", created_at=0, changes=changes)
        while True:
            try:
                async with asyncio.timeout(APPEND_SECONDS):
                    await append_event(self.kafka, event)
            except (StreamUnavailableError, TimeoutError):
                await asyncio.sleep(1)
            except RuleConflictError:
                return
            else:
                return


def _mapping(number: int, price: Decimal) -> MappingRule:
    service = f"00000000-0000-4000-8000-00000000000{number}"
    return MappingRule(f"10000000-0000-4000-8000-00000000000{number}", price, service_id=service)


__all__ = ["PriceList"]
