"""Where revisions of a frame are looked for in topic `rated`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rater.kafka import KafkaSettings, Topic
from rater.model.codec import CONTENT_TYPE, JSON, encode_json
from rater.model.partition import partition_of
from rater.model.rated import ClosedBy, FrameStatus, RatedFrame
from rater.stream import rework_log

T = 1_767_225_600
USAGE, RATED = 4, 12


async def test_revisions_are_read_from_the_partition_that_the_worker_writes_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a topic `rated` of more partitions than `usage`, with a scope that would lie elsewhere there
    scope_id = next(
        f"s{n}" for n in range(99) if len({partition_of(b"s%d" % n, count) for count in (USAGE, RATED)}) > 1
    )
    home = partition_of(scope_id.encode(), USAGE)
    head = RatedFrame(
        scope_id, T, T + 3600, 0, FrameStatus.EMPTY, ClosedBy.COMPLETE, False, 1, T, 0, 1, [], [], [], [], []
    )
    record = SimpleNamespace(key=scope_id.encode(), value=encode_json(head), headers=[(CONTENT_TYPE, JSON.encode())])

    async def counts(*_: object) -> dict[Topic, int]:
        return {Topic.USAGE: USAGE, Topic.RATED: RATED}

    async def read(_: object, __: Topic, numbers: Sequence[int], ___: int, take: Callable[[Any], None]) -> None:
        if home in numbers:
            take(record)

    monkeypatch.setattr(rework_log, "_counts", counts)
    monkeypatch.setattr(rework_log, "_read", read)

    # when, then
    assert set(await rework_log.read_revisions(KafkaSettings(), scope_id, T, [0])) == {0}
