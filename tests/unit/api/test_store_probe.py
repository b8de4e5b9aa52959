"""What readiness says of the store."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from rater.api import store_probe
from rater.api.store_probe import StoreProbe
from rater.reports import StoreError, StoreView
from rater.store import migrate
from tests.unit.store.builders import memory_store


async def until_red(probe: StoreProbe, text: str) -> None:
    async with asyncio.timeout(10):
        while probe.red() != text:
            await asyncio.sleep(0.01)


async def test_a_store_that_goes_and_comes_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_probe, "PROBE_SECONDS", 0.01)
    away = [True]

    def ask() -> None:
        if away[0]:
            raise StoreError("connection refused")

    with ThreadPoolExecutor(1) as threads:
        probe = StoreProbe(ask, threads)
        assert probe.red() == "the store was not asked yet"
        running = asyncio.create_task(probe.run())
        await until_red(probe, "the store cannot be read: connection refused")
        away[0] = False
        await until_red(probe, "")
        away[0] = True
        await until_red(probe, "the store cannot be read: connection refused")
        running.cancel()


async def test_a_real_store_answers_the_question() -> None:
    with memory_store() as store, ThreadPoolExecutor(1) as threads:
        migrate(store)
        probe = StoreProbe.of(StoreView(store), threads)
        running = asyncio.create_task(probe.run())
        await until_red(probe, "")
        running.cancel()
