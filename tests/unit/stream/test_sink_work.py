"""What the sink makes of records of `usage` and `rated`: which rows, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from rater.kafka import Topic
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, encode_json, encode_msgpack
from rater.model.posted import PostedLine, PostedLines
from rater.model.usage import FrameForced
from rater.stream.sink_work import Work
from tests.unit.store.builders import JANUARY, a_collection, a_frame, a_line

TOPICS = {"usage": Topic.USAGE, "rated": Topic.RATED}
POSTED = PostedLines("alpha", "ab" * 16, [PostedLine(0, "cpu", JANUARY, JANUARY + 1, Decimal(1), Decimal(2))])


class Tables:
    """Knows no frame and takes nothing."""

    def revision_of(self, scope_id: str, period_begin: int) -> int | None:
        return None

    def write(self, batch: object, token: str) -> dict[str, int]:
        raise AssertionError

    def delete_superseded(self, older_than_seconds: int) -> int:
        raise AssertionError


def took(
    topic: str, *records: Any, key: bytes | None = None, form: str = JSON, written_at: int = 1, **settings: Any
) -> Work:
    work = Work(Tables(), TOPICS, lambda: 1.0, **settings)
    encode = encode_json if form == JSON else encode_msgpack
    for offset, record in enumerate(records):
        value = record if isinstance(record, bytes) else encode(record)
        own = key if key is not None or isinstance(record, bytes) else record.scope_id.encode()
        made: Any = SimpleNamespace(
            topic=topic,
            partition=0,
            offset=offset,
            timestamp=written_at,
            key=own,
            value=value,
            headers=[(CONTENT_TYPE, form.encode())],
        )
        work.put([made])
    work.absorb()
    assert list(work.offsets.values()) == [len(records)]
    return work


def rows(work: Work) -> dict[str, int]:
    return {table.name: len(columns[0].values) for table, _, columns in work.batch.blocks()}


@pytest.mark.parametrize("form", [JSON, MSGPACK])
@pytest.mark.parametrize(("keeps", "expected"), [(True, {"posted": 1, "usage": 2}), (False, {"posted": 1})])
def test_posted_lines_are_kept_whether_or_not_samples_are(form: str, keeps: bool, expected: dict[str, int]) -> None:
    forced = FrameForced("alpha", JANUARY, "kim", "")
    work = took("usage", POSTED, a_collection(), forced, POSTED, form=form, keeps_usage=keeps)
    assert rows(work) == {name: n * (2 if name == "posted" else 1) for name, n in expected.items()}
    assert not work.refused


def test_what_the_engine_refuses_is_not_kept() -> None:
    backwards = msgspec.structs.replace(POSTED, lines=[msgspec.structs.replace(POSTED.lines[0], end=JANUARY)])
    for keeps in (True, False):
        for work in (
            took("usage", backwards, keeps_usage=keeps),
            took("usage", POSTED, key=b"b", keeps_usage=keeps),
        ):
            assert not rows(work)
            assert len(work.refused) == 1
    assert len(took("usage", b"nonsense").refused) == 1
    assert not took("usage", b"nonsense", keeps_usage=False).refused  # the worker's to tell


def test_of_rated_the_frames_are_kept_and_posted_lines_are_not() -> None:
    work = took("rated", POSTED, a_frame(lines=[a_line(1)]))
    assert rows(work) == {"lines": 1, "frames": 1}
    assert not work.refused


def test_a_batch_of_a_topic_that_was_made_anew_has_a_name_of_its_own() -> None:
    """Its offsets are those of the old topic's first records, whose names the store remembers."""
    first, again, anew = (took("rated", a_frame(), written_at=at) for at in (1_000, 1_000, 2_000))
    assert first.token == again.token
    assert first.token != anew.token
