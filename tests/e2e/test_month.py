"""The short form of `make month`: 100 000 samples on real parts, every figure against the slow reference."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.month.content import HOURS, METRICS, Month
from tests.month.run import Pace, run_month

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

SEED = 2026


@contextmanager
def unseen(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def test_a_month_with_late_and_repeated_usage_and_three_outages_is_billed_to_the_last_digit(tmp_path: Path) -> None:
    # given
    month = Month.of(100_000, SEED)
    # when: whatever is not as it must be raises
    outcome = asyncio.run(run_month(tmp_path, month, Pace(workers=2, checkpoint=1.0), unseen))
    # then there was something of everything in it
    manifest = outcome.manifest
    assert manifest.samples > 90_000
    assert manifest.collections == len(month.scopes) * len(METRICS) * HOURS
    assert set(Counter(item.form for item in manifest.late)) == {"whole", "part", "wrong"}
    assert set(Counter(item.form for item in manifest.repeated)) == {"same", "again"}
    assert len(manifest.late) > 0.008 * manifest.collections
    assert len(manifest.repeated) > 0.008 * manifest.collections
    assert len(manifest.gaps) == outcome.recollected.published > 30
    assert outcome.lines > 35_000
