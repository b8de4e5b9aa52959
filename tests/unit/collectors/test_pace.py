"""The limit of a replay's speed."""

from __future__ import annotations

import asyncio

import pytest

from collectors.replay.pace import Pace


async def _slept(monkeypatch: pytest.MonkeyPatch, pace: Pace, *counts: int) -> list[float]:
    """How long each of these waits, if all ask at once."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 2))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for count in counts:
        before = len(waits)
        await pace.take(count)
        if len(waits) == before:
            waits.append(0.0)
    return waits


async def test_the_first_goes_at_once_and_each_waits_for_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _slept(monkeypatch, Pace(100), 50, 100, 1, 1) == [0.0, 0.5, 1.5, 1.51]


async def test_without_a_limit_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _slept(monkeypatch, Pace(None), 10**9, 10**9) == [0.0, 0.0]


async def test_time_that_was_not_used_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(10)
    await pace.take(1)
    await asyncio.sleep(0.3)

    assert await _slept(monkeypatch, pace, 10, 10) == [0.0, 1.0]
