"""The headers that make events of our records: the same for the same record, and CloudEvents by its rules."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from rater.engine import OutboxItem, decide, decode_outbox, encode_outbox
from rater.model.codec import CONTENT_TYPE, JSON, decode_alert, decode_rated_record, encode_json
from rater.model.events import EVENT_TYPES, event_headers, with_source
from rater.model.posted import PostedLine, PostedLines
from rater.model.rated import Alert, AlertKind
from tests.unit.engine.builders import HOUR, Bench, T, collection, full_bench, plan

ALERT = Alert("0" * 32, AlertKind.GAP_OPENED, "A", "cpu", "prom", T, T, T + HOUR, 0, T + 3 * HOUR)
POSTED = PostedLines("A", "f" * 32, [PostedLine(0, "cpu", T, T + HOUR, Decimal(1))])


def headers(record: Any, key: bytes = b"A") -> dict[str, str]:
    found = event_headers(record, key, encode_json(record))
    assert len({name for name, _ in found}) == len(found)
    return {name: value.decode() for name, value in found}


def test_an_alert_is_an_event_of_its_kind() -> None:
    assert headers(ALERT) == {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": "7cf52afd68ee0c45d7fe0deb5c481fa1",
        "ce_type": "rater.alert.gap_opened.v1",
        "ce_subject": "A",
        "ce_time": "2026-01-01T03:00:00Z",
    }


def test_posted_lines_are_an_event_without_a_time() -> None:
    found = headers(POSTED)
    assert found["ce_type"] == "rater.posted_lines.v1"
    assert "ce_time" not in found


def test_every_kind_of_record_has_a_type() -> None:
    found = {headers(msgspec.structs.replace(ALERT, kind=kind))["ce_type"] for kind in AlertKind}
    assert {*found, "rater.rated_frame.v1", "rater.posted_lines.v1"} == set(EVENT_TYPES)


def test_all_that_the_engine_publishes_for_others_is_an_event_made_of_the_record_alone() -> None:
    # given frames and alerts of most kinds, the frames in one part each
    items = [item for item in full_bench().state.outbox if item.topic != "rejected"]
    assert {item.topic for item in items} == {"rated", "alerts"}
    for item in items:
        # when the record is read back, then its headers follow from it
        read = decode_alert if item.topic == "alerts" else decode_rated_record
        record = read(item.value, JSON)
        assert item.headers == event_headers(record, item.key or b"", item.value)
        assert item.headers[0] == (CONTENT_TYPE, b"application/json")
    assert len({dict(item.headers)["ce_id"] for item in items}) == len(items)


def test_the_parts_of_a_revision_are_events_of_their_own() -> None:
    # given a frame that takes two messages
    bench = Bench()
    series = [msgspec.structs.replace(collection().series[0], groupby={"id": f"{n}-{'x' * 2000}"}) for n in range(600)]
    samples = [msgspec.structs.replace(collection().samples[0], series=n) for n in range(600)]
    bench.take(plan("cpu", until=T + HOUR), collection(series=series, samples=samples))
    # when it closes
    decide(bench.state, T + HOUR, bench.rules, bench.context)
    # then
    ids = [dict(item.headers)["ce_id"] for item in bench.state.outbox if item.topic == "rated"]
    assert len(ids) == len(set(ids)) == 2


def test_the_same_record_has_the_same_id_and_any_other_another() -> None:
    again = msgspec.structs.replace(ALERT)
    assert headers(ALERT) == headers(again)
    assert headers(ALERT)["ce_id"] != headers(msgspec.structs.replace(ALERT, reason="another"))["ce_id"]


@pytest.mark.parametrize("scope_id", ["a\nb", "a\x7f", "\x85", "\ufdd0", "\uffff", "\U0001fffe", ""])
def test_a_subject_that_no_event_may_have_is_left_out(scope_id: str) -> None:
    assert "ce_subject" not in headers(ALERT, scope_id.encode())


@pytest.mark.parametrize("scope_id", ["projA", "a b", "Büro 7", "\U0001f600", "\u00a0", "\ufffd"])
def test_any_other_scope_is_the_subject(scope_id: str) -> None:
    assert headers(ALERT, scope_id.encode())["ce_subject"] == scope_id


@pytest.mark.parametrize("second", [-1, 253_402_300_800])
def test_a_time_that_cannot_be_written_is_left_out(second: int) -> None:
    assert "ce_time" not in headers(msgspec.structs.replace(ALERT, raised_at=second))


def test_the_source_is_the_topic() -> None:
    found = with_source(event_headers(ALERT, b"A", encode_json(ALERT)), "rater.alerts")
    assert found[-1] == ("ce_source", b"/rater.alerts")


def test_what_an_older_release_left_in_its_outbox_is_published_as_it_was() -> None:
    # given the outbox of a snapshot from before there were events, and a refused record
    old = OutboxItem("alerts", b"A", encode_json(ALERT), ((CONTENT_TYPE, b"application/json"),))
    refused = OutboxItem("rejected", b"A", b"nonsense", (("reason", b"is no JSON"),))
    # when it is restored
    restored = decode_outbox(encode_outbox([old, refused]))
    # then
    assert [with_source(item.headers, "rater.alerts") for item in restored] == [old.headers, refused.headers]
