"""A state that the previous release left when it was killed is gone on from, with the same words and numbers."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import msgspec
import pytest

from rater.engine import OutboxItem
from rater.model.codec import JSON, decode_alert, decode_rated
from rater.stream.interfaces import Committed
from tests.upgrade import previous
from tests.upgrade.keep_state import CUT, END, Kept, Memory, lived


@pytest.fixture(scope="module")
def kept() -> Kept:
    """The state of the previous release, as `make upgrade-previous` wrote it."""
    return msgspec.msgpack.decode(gzip.decompress(previous.state().read_bytes()), type=Kept)


def _restorable(kept: Kept) -> Memory:
    memory = Memory()
    memory.chunks = {name: list(chunks) for name, chunks in kept.chunks.items()}
    memory.committed = Committed(kept.offset, kept.metadata)
    return memory


def test_it_is_of_the_release_whose_wheel_is_kept(kept: Kept) -> None:
    assert previous.wheel().name.split("-")[1] == kept.release
    assert 0 < kept.offset < len(kept.log)
    assert {item.topic for item in kept.outbox} == {"rated", "alerts", "rejected"}


async def test_its_output_that_was_not_published_is_published_as_it_is(kept: Kept) -> None:
    memory = _restorable(kept)

    await lived(memory, kept.log[: kept.offset], CUT)

    assert [_bytes(item) for item in memory.published] == [_bytes(item) for item in kept.outbox]


async def test_what_comes_after_it_is_what_the_previous_release_would_have_said(kept: Kept) -> None:
    memory = _restorable(kept)

    await lived(memory, kept.log, END)

    then = memory.published[len(kept.outbox) :]
    assert _frames(then) == _frames(kept.then)
    assert _alerts(then) == _alerts(kept.then)
    assert _refused(then) == _refused(kept.then)
    assert any(revision == 1 for _, _, revision, *_ in _frames(then)), "a hole from before the end was filled"


def _bytes(item: OutboxItem) -> tuple[str, bytes | None, bytes]:
    """Headers may be added: readers pass over those that they do not know."""
    return item.topic, item.key, item.value


def _frames(items: Iterable[OutboxItem]) -> list[tuple[object, ...]]:
    parts = (decode_rated(item.value, JSON) for item in items if item.topic == "rated")
    return [
        (
            frame.scope_id,
            frame.period_begin,
            frame.revision,
            frame.status,
            frame.gaps,
            [(line.line_id, line.qty, line.price) for line in frame.lines],
        )
        for frame in parts
    ]


def _alerts(items: Iterable[OutboxItem]) -> list[tuple[object, ...]]:
    found = (decode_alert(item.value, JSON) for item in items if item.topic == "alerts")
    return [(one.alert_id, one.kind, one.begin, one.end, one.revision) for one in found]


def _refused(items: Iterable[OutboxItem]) -> list[tuple[bytes, bytes]]:
    return [(dict(item.headers)["origin-offset"], item.value) for item in items if item.topic == "rejected"]
