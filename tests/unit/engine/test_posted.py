"""Posted lines pass through the engine: told in `rated`, and of no effect on anything else."""

from __future__ import annotations

import msgspec

from rater.engine import OutboxItem, decide, encode_snapshot
from rater.model.codec import MSGPACK, encode_json
from tests.unit.engine.builders import HOUR, Bench, T, collection, full_bench, plan
from tests.unit.model.test_posted import line, posted

RECORDS = (plan("cpu"), collection(), collection(T + HOUR, T + 2 * HOUR))


def told(bench: Bench) -> list[tuple[str, bytes | None, bytes]]:
    return [(item.topic, item.key, item.value) for item in bench.state.outbox]


def test_they_are_passed_on_and_nothing_of_them_is_kept() -> None:
    # given
    bench = Bench()
    record = posted(line(), line(1))

    # when it comes in either form
    bench.take(record)
    bench.take(record, form=MSGPACK)

    # then each is told, in the same bytes, and nothing else is there
    assert told(bench) == [("rated", b"A", encode_json(record))] * 2
    assert not bench.state.scopes
    assert decide(bench.state, T + 100 * HOUR, bench.rules, bench.context) == 0


def run(*, with_posts: bool) -> tuple[bytes, list[OutboxItem]]:
    """State and output of some hours, with posted lines of the same and of other metrics between the records."""
    bench = Bench()
    for record in RECORDS:
        if with_posts:
            bench.take(posted(line(begin=T, end=T + HOUR)), posted(line(metric="nobody-knows-it")))
        bench.take(record)
    decide(bench.state, T + HOUR + 1, bench.rules, bench.context)
    if with_posts:
        bench.take(posted(line(begin=T, end=T + HOUR)), posted(line(begin=T + 3 * HOUR, end=T + 3 * HOUR + 1)))
    decide(bench.state, T + 6 * HOUR, bench.rules, bench.context)
    others = [item for item in bench.state.outbox if b'"posted_lines"' not in item.value]
    return encode_snapshot(msgspec.structs.replace(bench.state, outbox=[], next_offset=0)), others


def test_what_collectors_cover_is_neither_closed_nor_opened_again() -> None:
    with_posts, without = run(with_posts=True), run(with_posts=False)
    assert with_posts[1] == without[1]
    assert with_posts[0] == without[0]
    assert len(without[1]) > 3  # frames and gaps


def test_one_that_cannot_be_taken_goes_whole_to_rejected() -> None:
    bench = Bench()
    broken = posted(line(end=T))
    bench.take(broken)
    bench.take_raw(encode_json(posted()), key=b"B")
    assert told(bench) == [("rejected", b"A", encode_json(broken)), ("rejected", b"B", encode_json(posted()))]


def test_output_that_waits_is_left_as_it_is() -> None:
    bench = full_bench()
    before = told(bench)
    bench.take(posted())
    assert told(bench) == [*before, ("rated", b"A", encode_json(posted()))]
