"""Where listeners to alerts go on, and what they hear; the real topic is in tests/api/test_v3.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from rater.kafka import KafkaSettings
from rater.model.codec import encode_json
from rater.stream.alert_feed import AlertFeed, FeedFullError, FeedPlaceError, Listening, _offsets, _partitions
from rater.stream.interfaces import StreamUnavailableError
from tests.unit.store.builders import a_gap_alert


class Records:
    """A consumer that has these batches: partition -> (offset, value)."""

    def __init__(self, *batches: dict[int, list[tuple[int, bytes]]]) -> None:
        self.batches = list(batches)
        self.stopped = 0

    async def getmany(self, **_: Any) -> Any:
        return {
            TopicPartition("alerts", partition): [
                SimpleNamespace(offset=offset, value=value, headers=()) for offset, value in records
            ]
            for partition, records in self.batches.pop(0).items()
        }

    async def stop(self) -> None:
        self.stopped += 1


def alert(scope_id: str) -> bytes:
    return encode_json(a_gap_alert(True, 0, scope_id=scope_id))


def listening(consumer: Records, scopes: tuple[str, ...] | None, left: list[int], *, lost: bool = False) -> Listening:
    return Listening(consumer, scopes, [5, 7], lambda: left.append(1), lost=lost)


async def test_each_alert_says_where_to_go_on_after_it() -> None:
    found = listening(Records({}, {0: [(5, alert("A")), (6, b"nonsense")], 1: [(7, alert("B"))]}), None, [])

    first, second = await anext(found), await anext(found)
    assert (first.place, first.kind) == ("6.7", "gap_opened")
    assert second.place == "7.8"
    assert b"\n" not in first.data


async def test_alerts_of_other_scopes_and_of_none_are_not_heard() -> None:
    records = Records({0: [(5, alert("B")), (6, alert("")), (7, alert("A"))]})
    found = listening(records, ("A",), [])

    assert (await anext(found)).place == "8.7"


async def test_what_is_gone_is_told_first() -> None:
    found = listening(Records({0: [(9, alert("A"))]}), None, [], lost=True)

    assert [(await anext(found)).kind for _ in range(2)] == ["lost", "gap_opened"]


async def test_who_leaves_makes_room_once() -> None:
    left: list[int] = []
    consumer = Records()
    found = listening(consumer, None, left)
    await found.aclose()
    await found.aclose()

    assert (left, consumer.stopped) == ([1], 1)


@pytest.mark.parametrize(
    ("place", "found"),
    [("", [5, 7, 2]), ("0.0.0", [0, 0, 0]), ("5.7.2", [5, 7, 2]), ("3.4", [3, 4, 0])],
)
def test_a_place_is_the_next_offset_of_each_partition(place: str, found: list[int]) -> None:
    assert _offsets(place, [5, 7, 2]) == found


@pytest.mark.parametrize("place", ["x", "1.2.3.4", "1..2", "-1", "6.7.2", "٣", "9" * 30, "1,2"])
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(FeedPlaceError):
        _offsets(place, [5, 7, 2])


def test_a_reader_reads_the_partitions_of_its_scopes_alone() -> None:
    assert _partitions(None, 4) == [0, 1, 2, 3]
    assert len(_partitions(("A",), 64)) == 1


async def test_there_are_no_more_listeners_than_allowed_and_a_failed_one_counts_no_longer() -> None:
    nobody = AlertFeed(KafkaSettings(bootstrap="127.0.0.1:1"), 0)
    with pytest.raises(FeedFullError, match="max_listeners"):
        await nobody.listen(None, "")
    feed = AlertFeed(KafkaSettings(bootstrap="127.0.0.1:1"), 1)
    with pytest.raises(StreamUnavailableError):
        await feed.listen(None, "")
    assert feed.listeners == 0
