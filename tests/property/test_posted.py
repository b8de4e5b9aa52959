"""Posted lines among any usage and any crashes: all else is as without them, and each that was taken is told."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rater.engine import OutboxItem, Record, encode_snapshot
from rater.model.amounts import amount_fault
from rater.model.codec import CONTENT_TYPE, JSON, MSGPACK, decode_usage, encode_json, encode_msgpack
from rater.model.posted import PostedLine, PostedLines
from tests.property.engine_logs import Cut, Fault, History, Shell, faults, histories, run
from tests.property.wire import labels, names, quantities
from tests.unit.engine.builders import HOUR, T

amounts = quantities.filter(lambda amount: not amount_fault(amount))
lines = st.builds(
    lambda n, metric, begin, length, qty, price, groupby: PostedLine(
        n, metric, begin, begin + length, qty, price, "u", groupby
    ),
    st.integers(0, 3),
    st.one_of(names, st.sampled_from(["cpu", "disk"])),
    st.integers(T, T + 5 * HOUR),
    st.integers(-1, HOUR),
    amounts,
    st.one_of(amounts, st.just(Decimal(0))),
    labels,
)
posts = st.builds(
    PostedLines, st.sampled_from("AB"), st.sampled_from(["0" * 32, "1" * 32]), st.lists(lines, min_size=1, max_size=3)
)
OF_OFFSETS = re.compile(rb'"alert_id":"\w+"')  # of alerts about late usage and plans
HEADERS = {encode_json: ((CONTENT_TYPE, JSON.encode()),), encode_msgpack: ((CONTENT_TYPE, MSGPACK.encode()),)}


@st.composite
def mixed(draw: st.DrawFn) -> tuple[History, History, list[Fault]]:
    """(a history, the same with posts between its records, crashes of that one)."""
    plain = draw(histories())
    log: list[Record] = []
    ends = [0]
    for record in plain.log:
        for post in draw(st.lists(posts, max_size=2)):
            encode = draw(st.sampled_from([encode_json, encode_msgpack]))
            made = Record(0, record.timestamp_ms, post.scope_id.encode(), encode(post), HEADERS[encode])
            log += [made] * draw(st.integers(1, 2))
        log.append(record)
        ends.append(len(log))
    log = [msgspec.structs.replace(record, offset=offset) for offset, record in enumerate(log)]
    history = History(log, [Cut(ends[cut.offset], cut.now) for cut in plain.cuts])
    return plain, history, draw(faults(history))


def is_posted(value: bytes) -> bool:
    return b"posted_lines" in value


def others(published: list[OutboxItem]) -> Counter[tuple[str, bytes]]:
    """All but posts, without what is made of a record's offset."""
    return Counter((item.topic, OF_OFFSETS.sub(b"", item.value)) for item in published if not is_posted(item.value))


# each example runs three histories, and drawing one may take long on a busy machine
@settings(max_examples=settings().max_examples * 3 // 10, suppress_health_check=list(HealthCheck))
@given(mixed())
def test_nothing_else_changes_and_each_is_told(case: tuple[History, History, list[Fault]]) -> None:
    # given
    plain, history, some = case
    without, calm = run(plain), run(history)

    # when
    stormy = Shell(history.log)
    for number, cut in enumerate(history.cuts):
        stormy.checkpoint_with(cut, [fault for fault in some if fault.cut == number])

    # then the state knows nothing of them, but for how many records were refused
    counts = without.state.counts
    bare = [msgspec.structs.replace(shell.state, next_offset=0, counts=counts) for shell in (without, calm, stormy)]
    assert encode_snapshot(bare[0]) == encode_snapshot(bare[1]) == encode_snapshot(bare[2])
    assert others(calm.published) == others(without.published)
    assert set(others(stormy.published)) == set(others(without.published))

    # and each is in `rated` as often as it came, or in `rejected`
    told = Counter(item.value for item in calm.published if item.topic == "rated" and is_posted(item.value))
    refused = Counter(item.value for item in calm.published if item.topic == "rejected" and is_posted(item.value))
    assert sum(calm.state.counts.rejected.values()) == sum(counts.rejected.values()) + refused.total()
    came = Counter(record.value for record in history.log if is_posted(record.value))
    taken = came - refused
    assert told == Counter(
        encode_json(decode_usage(value, form)) for value in taken.elements() for form in [_form(value)]
    )
    assert {item.value for item in stormy.published if item.topic == "rated" and is_posted(item.value)} == set(told)


def _form(value: bytes) -> str:
    return JSON if value.startswith(b"{") else MSGPACK
