"""What the selftest leaves out is sent in the end, also after a failure. The whole of it: tests/integration."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rater import selftest
from rater.model.usage import Collection, UsageRecord
from rater.stream.interfaces import StreamUnavailableError


async def test_the_gap_is_filled_though_kafka_does_not_answer_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "FILL_PAUSE_SECONDS", 0.0)
    tried: list[list[UsageRecord]] = []

    async def write(records: list[UsageRecord]) -> None:
        tried.append(records)
        if len(tried) < 4:
            raise StreamUnavailableError("away")

    config: Any = None  # of what is not reached
    alerts: Any = None
    usage = selftest._Usage("helm-test-1", "rater.selftest", 0, 3600, 1)
    steps = selftest._Steps(config, usage, write, alerts, lambda _: None, time.monotonic() + 5)
    with pytest.raises(StreamUnavailableError):
        await steps.run()

    filled = tried[-1][0]
    assert len(tried) == 4
    assert isinstance(filled, Collection)
    assert (filled.begin, filled.end) == (1800, 3600)
